"""`wirebench serve` and `wirebench load`, one against the other and against servers of others."""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.load_results import load_run
from bench.serverprocess import ServerProcess
from tests.commands.conftest import DEADLINE_S, Command
from tests.run_file import read_run_file

SHORT = ("--load", "closed:4", "--warmup", "20ms", "--duration", "200ms")
SCHEMES = {"http1": "http", "http2": "h2c", "tcp": "tcp", "udp": "udp"}


@contextmanager
def serving(wirebench: Command, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running `wirebench serve` and the address that it named."""
    process = wirebench.start("serve", *arguments, "--port", "0")
    assert process.stderr is not None
    greeting = re.search(r" on (\S+:\d+); Ctrl-C stops it", process.stderr.readline())
    assert greeting
    yield process, greeting[1]


def test_serve_until_interrupted(wirebench: Command, tmp_path: Path) -> None:
    options = ("--execution", "prefork", "--workers", "2", "--json", "w.json")
    with serving(wirebench, "http1", *options) as (server, address):
        children = psutil.Process(server.pid).children(recursive=True)
        done = wirebench("load", f"http://{address}", "--operation", "echo", *SHORT, "--json", "l.json")
        assert done.returncode in (0, 3), done.stderr
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=DEADLINE_S)
    assert server.returncode == 0, err
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert out.splitlines()[0].split() == ["worker", "accepts", "requests", "CPU"]
    outcome = json.loads((tmp_path / "w.json").read_text())
    trial = json.loads((tmp_path / "l.json").read_text())["trials"][0]
    assert sum(worker["requests"] for worker in outcome["workers"]) >= trial["counts"]["completed"] > 0
    assert sum(worker["accepts"] for worker in outcome["workers"]) == 4


def test_a_worker_that_dies_is_told(wirebench: Command) -> None:
    with serving(wirebench, "tcp", "--execution", "prefork", "--workers", "2", "--json", "-") as (server, _):
        assert server.stderr is not None
        (main,) = psutil.Process(server.pid).children()
        main.children()[0].kill()
        told = next(line for line in server.stderr if "SIGKILL" in line)
        assert re.fullmatch(r"wirebench: worker \d .*SIGKILL.*; another took its place\n", told)
        server.send_signal(signal.SIGTERM)
        out, _ = server.communicate(timeout=DEADLINE_S)
    assert server.returncode == 0
    assert [death["restarted"] for death in json.loads(out)["deaths"]] == [True]


def test_a_server_that_dies_is_an_error(wirebench: Command) -> None:
    with serving(wirebench, "tcp") as (server, _):
        psutil.Process(server.pid).children()[0].kill()
        _, err = server.communicate(timeout=DEADLINE_S)
    assert server.returncode == 3
    assert err.splitlines()[-1].startswith("wirebench: error: the tcp server (single) was killed by SIGKILL")


@pytest.mark.parametrize("protocol", SCHEMES)
def test_load_on_every_protocol(
    serve: Callable[..., ServerProcess], wirebench: Command, tmp_path: Path, protocol: str
) -> None:
    server = serve(protocol)
    path = tmp_path / "load.json"
    operation = ("--operation", "echo") if protocol.startswith("http") else ()
    done = wirebench(
        "load", f"{SCHEMES[protocol]}://{server.address}", *operation, "--payload", "100B",
        "--load", "poisson:500/s", "--warmup", "0s", "--duration", "400ms", "--json", str(path),
    )  # fmt: skip
    assert done.returncode in (0, 3), done.stderr  # 3: a machine that is too busy for 500 a second
    for words in ("from intended", "from sent", "p99.9", "offered", "errors", "sent late by", "how many took how long"):
        assert words in done.stdout
    data = read_run_file(path)
    (trial,) = data["trials"]
    assert trial["server"] is None
    assert trial["counts"]["completed"] == trial["counts"]["offered"] > 100
    assert trial["scenario"]["payload_bytes"] == 100
    assert trial["scenario"]["execution"] == "not known"
    (read,) = load_run(path).trials
    assert read.scenario.load == "poisson:500/s"


def test_the_json_of_load_is_a_run_for_report(
    serve: Callable[..., ServerProcess], wirebench: Command, tmp_path: Path
) -> None:
    load = wirebench("load", f"http://{serve().address}/health", *SHORT, "--json", "-")
    assert load.returncode in (0, 3), load.stderr
    (tmp_path / "load.json").write_text(load.stdout)
    report = wirebench("report", "load.json", "-o", "out", "--svg", "--json", "-")
    assert report.returncode == 0, report.stderr
    answer = json.loads(report.stdout)
    assert answer["runs"] == ["load.json"]
    assert (tmp_path / answer["report"]).parent == tmp_path / "out"
    assert list((tmp_path / "out").rglob("*.svg"))


@contextmanager
def foreign(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server of somebody else's: Python's own. Gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Callable[[], None]:
            if not name.startswith("do_"):
                raise AttributeError(name)
            return lambda: answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ok(handler: BaseHTTPRequestHandler) -> None:
    body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.mark.parametrize(
    ("options", "method", "length"),
    [((), "GET", 0), (("--body", "33B"), "POST", 33), (("--method", "PATCH", "--payload", "5B"), "PATCH", 5)],
)
def test_a_server_of_somebody_else(wirebench: Command, options: tuple[str, ...], method: str, length: int) -> None:
    seen: set[tuple[str, ...]] = set()

    def note(handler: BaseHTTPRequestHandler) -> None:
        headers = handler.headers
        seen.add((handler.command, handler.path, headers["Host"], headers.get("Content-Length", "0")))
        ok(handler)

    with foreign(note) as address:
        done = wirebench("load", f"http://{address}/caf\N{LATIN SMALL LETTER E WITH ACUTE}?a=1&b", *options, *SHORT)
    assert done.returncode in (0, 3), done.stderr
    assert seen == {(method, "/caf%C3%A9?a=1&b", address, str(length))}
    assert re.search(r"answered +\d", done.stdout)


def test_errors_are_counted_by_kind_and_make_a_trial_invalid(wirebench: Command) -> None:
    served = 0

    def first_good(handler: BaseHTTPRequestHandler) -> None:
        nonlocal served
        served += 1
        if served == 1:
            ok(handler)
        else:
            handler.send_error(503)

    with foreign(first_good) as address:
        done = wirebench("load", f"http://{address}/", *SHORT)
    assert done.returncode == 3
    assert re.search(r"errors +[\d,]+ status", done.stdout)
    assert "no request was answered, so there is no latency" in done.stdout
    assert "doubt (fatal): requests failed" in done.stdout


def test_interrupted_load_leaves_nothing(serve: Callable[..., ServerProcess], wirebench: Command) -> None:
    server = serve()
    process = wirebench.start("load", f"http://{server.address}/health", "--duration", "60s", "--json", "x.json")
    while server.stats()[0][0].requests < 2:
        assert process.poll() is None
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, err) == (130, "wirebench: interrupted\n")
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert not (wirebench.folder / "x.json").exists()


def test_python_m_bench_is_the_same_as_wirebench(wirebench: Command) -> None:
    installed = Path(sys.executable).with_name("wirebench")
    if not installed.exists():
        pytest.skip("the package is not installed")
    done = subprocess.run([installed, "list", "stacks"], capture_output=True, text=True, check=True)
    assert done.stdout == wirebench("list", "stacks").stdout
