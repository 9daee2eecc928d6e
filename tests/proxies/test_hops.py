"""Hops in the path of a trial: `--via`, with this project's proxies and those of others."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import cli
from bench.errors import ServerFailedError, UsageError
from bench.plan import expand
from bench.proxies import HOPS, Leg, hops_of, parse_via, why_unsupported
from bench.proxyprocess import EmbeddedProxy, Place, running_hops
from bench.reporting import run_summary
from bench.serverprocess import ServerProcess
from tests.lab.conftest import links  # noqa: F401  a fixture
from tests.run_file import read_run_file

ROOT = Path(__file__).resolve().parents[2]
SHORT = ("--rounds", "1", "--warmup", "50ms")
Serve = Callable[..., ServerProcess]


def require(name: str) -> None:
    program = HOPS[name].program
    if program is not None and program.find() is None:
        pytest.skip(f"{program.name} is not installed ({program.get})")


def gone(pids: Sequence[int]) -> bool:
    """Whether none of them runs, after a moment: what lost its parent is waited for by another."""
    processes = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    return not psutil.wait_procs(processes, timeout=20)[1]


def run(tmp_path: Path, *options: str, load: str = "closed:4", duration: str = "300ms") -> tuple[dict[str, Any], Path]:
    """The one trial of a run with these options, and its file."""
    path = tmp_path / "run.json"
    assert cli.main(["run", *SHORT, "--load", load, "--duration", duration, *options, "--out", str(path)]) in (
        0,
        3,
    )  # 3: too busy a machine for such a trial
    (trial,) = read_run_file(path)["trials"]
    assert trial["error"] is None
    return trial, path


@pytest.mark.parametrize(
    ("via", "spelled"),
    [
        ("none", "none"),
        (" l4 , l7", "l4,l7"),
        ("sidecar,sidecar", "sidecar,sidecar"),
        ("lossy:10.0%", "lossy:10%"),
        ("sidecar:http3, sidecar", "sidecar:http3,sidecar"),
    ],
)
def test_paths_have_one_spelling(via: str, spelled: str) -> None:
    assert parse_via(via, "here") == spelled
    assert parse_via(spelled, "here") == spelled


@pytest.mark.parametrize(
    ("via", "words"),
    [
        ("l8", "'l8' is unknown"),
        ("l4,,l7", "'' is unknown"),
        ("sidcar", "did you mean sidecar?"),
        ("lossy", "like lossy:10%"),
        ("lossy:2", "'2' is not a share"),
        ("l4:10%", "the hop l4 takes no words"),
        ("sidecar:quic", "'quic' is unknown"),
        (",".join(["l4"] * 9), "9 hops, and a path has 8"),
    ],
)
def test_a_path_that_is_none_is_refused(
    via: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="--via: "):
        parse_via(via, "--via")
    assert cli.main(["run", "--via", via, "--out", str(tmp_path / "run.json")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"protocol": "webrtc", "via": "l4"}, "goes past all hops"),
        ({"protocol": "http3", "via": "haproxy-tcp"}, "TCP alone"),
        ({"protocol": "udp", "via": "l7"}, "udp is no HTTP"),
        ({"protocol": "http3", "via": "nginx-http"}, "http3 is HTTP/3"),
        ({"protocol": "http3", "via": "caddy"}, "what is behind it HTTP/3"),
        ({"protocol": "http1", "via": "sidecar:http3,l7,caddy,sidecar:http3,sidecar", "tls": "1.3"}, "without TLS"),
        ({"protocol": "grpc", "via": "sidecar:http3,caddy"}, "loses the bodies"),
        ({"protocol": "http1", "via": "sidecar:http3"}, "ends in HTTP/3"),
        ({"protocol": "http1", "via": "sidecar:http3,l4"}, "ends in HTTP/3"),
        ({"protocol": "http1", "via": "sidecar:http3,nginx-tcp,sidecar"}, "TCP alone"),
        ({"protocol": "http1", "via": "sidecar:http3,haproxy-http"}, "what comes to it is HTTP/3"),
        ({"protocol": "websocket", "via": "sidecar:http2,sidecar"}, "makes a connection of HTTP/1.1 its own"),
        ({"protocol": "grpc", "via": "sidecar:http1,sidecar"}, "ends with trailers"),
        (
            {"protocol": "http3", "pattern": "connect", "handshake": "early-data", "operation": "health", "via": "l7"},
            "takes no early data",
        ),
        ({"protocol": "tcp", "via": "l7"}, "tcp is no HTTP"),
        ({"protocol": "http2-upgrade", "via": "l7"}, "choose a hop of layer 4"),
        ({"protocol": "http1", "tls": "1.3", "via": "haproxy-http"}, "without TLS"),
        (
            {"protocol": "http1", "tls": "1.3", "pattern": "connect", "handshake": "early-data", "via": "l7"},
            "takes no early data",
        ),
        ({"protocol": "http1", "pattern": "connect", "fast_open": "on", "via": "l4"}, "TCP Fast Open"),
    ],
)
def test_what_a_hop_cannot_pass_on_is_unsupported_and_says_why(values: dict[str, str], words: str) -> None:
    (scenario,) = expand({"load": "closed:1", **values}, "here", "run")
    why = why_unsupported(scenario)
    assert why is not None
    assert words in why


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("bench.peers.programs._DIRECTORIES", "/nowhere")
    (scenario,) = expand({"protocol": "http1", "load": "closed:1", "via": "haproxy-http"}, "here", "run")
    why = why_unsupported(scenario)
    assert why is not None
    assert "apt-get install haproxy" in why


@pytest.mark.parametrize("name", HOPS)
def test_every_hop_passes_requests_on(name: str, serve: Serve) -> None:
    require(name)
    server = serve("http1")
    via = f"{name}:0%" if name == "lossy" else name
    with running_hops(hops_of(via), Place(server.host, server.port, Leg("1.1"))) as (hop,):
        assert all(psutil.pid_exists(pid) for pid in hop.pids)
        connection = http.client.HTTPConnection(hop.host, hop.port, timeout=10)
        for body in (b"hello", b"x" * 300_000):
            connection.request("POST", "/echo", body)
            assert connection.getresponse().read() == body
        connection.close()
    assert gone(hop.pids)


@pytest.mark.parametrize(
    ("protocol", "via"),
    [
        pytest.param("http1", "l4", marks=pytest.mark.long),
        ("http1", "sidecar,sidecar"),
        ("http1", "l4,l7,l4"),
        ("websocket", "l7"),
        pytest.param("tcp", "l4,l4", marks=pytest.mark.long),
        pytest.param("http2", "l4", marks=pytest.mark.long),
        pytest.param("grpc", "l4", marks=pytest.mark.long),
        pytest.param("http2", "l7", marks=pytest.mark.long),
        ("grpc", "sidecar,sidecar"),
        ("http1", "haproxy-tcp,nginx-http"),
        ("http2", "haproxy-http"),
        ("grpc", "caddy"),
        ("http1", "sidecar:http3,sidecar"),
        ("http1", "sidecar:http3,caddy"),
        pytest.param("http1", "sidecar:http2,haproxy-http", marks=pytest.mark.long),
        pytest.param("http2", "sidecar:http3,l4,sidecar", marks=pytest.mark.long),
        pytest.param("grpc", "sidecar:http3,sidecar", marks=pytest.mark.long),
        pytest.param("http3", "l4", marks=pytest.mark.long),
        pytest.param("http3", "l7", marks=pytest.mark.long),
        pytest.param("http3", "sidecar:http1,sidecar", marks=pytest.mark.long),
        pytest.param("udp", "l4", marks=pytest.mark.long),
    ],
)
def test_a_run_goes_through_its_hops(protocol: str, via: str, tmp_path: Path) -> None:
    names = [name.partition(":")[0] for name in via.split(",")]
    for name in names:
        require(name)
    trial, path = run(tmp_path, "--protocol", protocol, "--via", via)
    assert trial["scenario"]["via"] == via
    assert f"via {via}" in trial["scenario"]["name"]
    assert [hop["kind"] for hop in trial["hops"]] == via.split(",")
    assert trial["counts"]["completed"] > 0
    assert trial["counts"]["errors"] == {}
    for hop in trial["hops"]:
        assert hop["cpu_user_s"] + hop["cpu_system_s"] > 0
        assert hop["rss_bytes"] > 1_000_000
        assert (hop["added_latency_ns"] is None) == (protocol == "grpc" and ":" in via)  # there is no gRPC to ask with
    shown = run_summary(path, 1000)
    for number in range(len(names)):
        assert f"hop {number + 1} CPU a request" in shown
        assert protocol == "grpc" or f"hop {number + 1} adds" in shown


def test_without_hops_there_is_no_column_of_theirs(tmp_path: Path) -> None:
    trial, path = run(tmp_path)
    assert trial["hops"] == []
    assert trial["scenario"]["via"] == "none"
    assert "hop" not in run_summary(path, 1000)


@pytest.mark.parametrize(
    ("protocol", "tls", "via"),
    [
        ("http1", "1.3", "l4"),
        ("http1", "1.2", "l7"),
        ("http1", "1.3", "sidecar,sidecar"),
        ("http2", "1.3", "l7"),
        ("websocket", "1.3", "l7"),
        ("grpc", "1.3", "l4,l7"),
        pytest.param("http1", "1.3", "haproxy-tcp", marks=pytest.mark.long),
    ],
)
def test_tls_goes_through_layer_4_unseen_and_is_ended_by_layer_7(
    protocol: str, tls: str, via: str, tmp_path: Path
) -> None:
    for name in via.split(","):
        require(name)
    trial, _ = run(tmp_path, "--protocol", protocol, "--tls", tls, "--via", via)
    assert trial["counts"]["errors"] == {}
    assert trial["counts"]["completed"] > 0


@pytest.mark.parametrize("protocol", ["sse", "sse-http2", pytest.param("sse-http3", marks=pytest.mark.long)])
def test_pushed_events_go_through_and_no_latency_is_made_up(protocol: str, tmp_path: Path) -> None:
    options = ("--protocol", protocol, "--pattern", "push", "--connections", "4", "--via", "l7")
    trial, _ = run(tmp_path, *options, load="open:50/s")
    assert trial["delivery"]["reach"] == 1
    assert trial["hops"][0]["added_latency_ns"] is None  # sse answers no requests that could be timed


def test_a_lossy_hop_loses_a_share_and_the_server_has_acted(tmp_path: Path) -> None:
    trial, _ = run(tmp_path, "--protocol", "http1", "--via", "lossy:20%", duration="1s")
    errors, completed = trial["counts"]["errors"], trial["counts"]["completed"]
    lost = sum(errors.values())
    assert set(errors) <= {"closed", "reset"}
    assert 0.05 < lost / (lost + completed) < 0.4
    assert trial["hops"][0]["added_latency_ns"] is not None  # nothing is lost before the load begins


def test_comments_with_a_key_survive_lost_answers(tmp_path: Path) -> None:
    """What the lossy hop is for: a client that asks again, with an idempotency key or without."""
    outcomes = {}
    for key in ("yes", "no"):
        folder = tmp_path / key
        folder.mkdir()
        options = ("--protocol", "http1", "--pattern", f"comment:key={key}", "--via", "lossy:30%")
        trial, _ = run(folder, *options, duration="1s")
        outcomes[key] = trial["tally"]
        assert trial["tally"]["retries"] > 0
    assert not outcomes["yes"].get("duplicates")
    assert outcomes["no"]["duplicates"] > 0


@pytest.mark.usefixtures("links")
def test_over_a_link_hops_stand_beside_the_server(tmp_path: Path) -> None:
    trial, _ = run(tmp_path, "--protocol", "http1", "--via", "l4", "--link", "rtt=20ms")
    assert trial["latency_ns"]["p50"] > 19_000_000
    assert trial["hops"][0]["added_latency_ns"] < 15_000_000  # the link is no part of it


def test_a_hop_that_dies_ends_the_trial_with_its_reason(serve: Serve) -> None:
    server = serve("http1")
    (hop,) = hops_of("l7")
    with (
        pytest.raises(ServerFailedError, match="the hop l7 was killed by SIGKILL"),
        EmbeddedProxy(hop, Place(server.host, server.port, Leg("1.1"))) as proxy,
    ):
        os.kill(proxy.running.pids[0], signal.SIGKILL)


@pytest.mark.parametrize("name", ["l4", "haproxy-http", "nginx-http", "caddy"])
def test_nothing_is_left_of_a_starter_that_was_killed(name: str, serve: Serve) -> None:
    require(name)
    server = serve("http1")
    code = (
        "import sys; from bench.proxies import Leg, hops_of; from bench.proxyprocess import Place, running_hops\n"
        f"with running_hops(hops_of({name!r}), Place({server.host!r}, {server.port}, Leg('1.1'))) as (hop,):\n"
        "    print(*hop.pids, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert starter.stdout is not None
    assert starter.stdin is not None
    processes = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
    assert processes
    starter.kill()
    starter.wait()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
    starter.stdin.close()
    starter.stdout.close()
