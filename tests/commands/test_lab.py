"""`wirebench lab`, and links on `run` and `load`, with programs of others behind the link."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from bench.errors import UnsupportedError
from bench.lab.lab import Lab
from bench.lab.link import Link
from bench.lab.topology import two_ends
from tests.commands.conftest import DEADLINE_S, ROOT, Command


def _why_no_links() -> str | None:
    try:
        with Lab(two_ends(Link())):
            return None
    except UnsupportedError as error:
        return str(error)


WHY = _why_no_links()
pytestmark = [
    pytest.mark.skipif(WHY is not None, reason=f"links cannot be had: {WHY}"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed: apt-get install curl"),
]


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def host_port() -> Iterator[int]:
    """A server on the host's loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("url", ["http://10.77.0.2/health", "https://10.77.0.2/health"])
def test_curl_behind_a_link_reaches_our_servers(wirebench: Command, tmp_path: Path, url: str) -> None:
    times = "%{time_connect} %{time_total}"
    done = wirebench("lab", "--rtt", "60ms", "--seed", "1", "--json", "lab.json", "--", "curl", "-sS", "-w", times, url)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")
    connect_s, total_s = map(float, done.stdout.removeprefix("ok").split())
    round_trips = 2 if url.startswith("http:") else 3
    assert connect_s >= 0.06
    assert total_s >= 0.06 * round_trips
    record = json.loads((tmp_path / "lab.json").read_text())
    assert (record["link"], record["exit_status"]) == ("rtt=60ms", 0)
    span = record["account"]["spans"][0]
    assert span["up"]["offered"] >= 5
    assert span["up"]["offered_bytes"] > 200
    assert record["account"]["nodes"]["client"]["tcp_connects"] == 1
    assert "client → server: " in done.stderr


def test_the_far_end_can_be_anybodys(wirebench: Command, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("a page")
    server = f"{sys.executable} -m http.server 8000"
    done = wirebench("lab", "--link", "rtt=20ms", "--server", server, "--", "curl", "-sS", "http://10.77.0.2:8000/page")
    assert (done.returncode, done.stdout) == (0, "a page"), done.stderr


def test_the_far_end_can_stand_for_a_server_on_the_host(wirebench: Command, host_port: int) -> None:
    url = f"http://10.77.0.2:{host_port}/"
    done = wirebench("lab", "--rtt", "20ms", "--reach", str(host_port), "--", "curl", "-sS", url)
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


def test_nothing_else_can_be_reached(wirebench: Command, host_port: int) -> None:
    done = wirebench("lab", "--", "curl", "-sS", "--max-time", "5", f"http://127.0.0.1:{host_port}/")
    assert done.returncode == 7, done.stderr  # curl: failed to connect


def test_the_status_is_the_programs_own(wirebench: Command) -> None:
    assert wirebench("lab", "--reach", "9", "--", "sh", "-c", "exit 42").returncode == 42
    assert wirebench("lab", "--reach", "9", "--", "no-such-program").returncode == 127


def test_captures_are_read_by_others(wirebench: Command, tmp_path: Path) -> None:
    tcpdump = shutil.which("tcpdump")
    if tcpdump is None:
        pytest.skip("tcpdump is not installed: apt-get install tcpdump")
    done = wirebench("lab", "--rtt", "20ms", "--pcap", "pcap", "--", "curl", "-sS", "http://10.77.0.2/health")
    assert done.returncode == 0, done.stderr
    for end in ("client", "server"):
        read = subprocess.run(
            [tcpdump, "-nr", str(tmp_path / "pcap" / f"{end}.pcap")], capture_output=True, text=True, check=True
        )
        assert "Flags [S]" in read.stdout
        assert "HTTP" in read.stdout


def test_interrupted_it_leaves_nothing(wirebench: Command) -> None:
    process = wirebench.start(
        "lab", "--rtt", "1ms", "--reach", "9", "--", "sh", "-c", "echo up; exec sleep 100", process_group=0
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    os.killpg(process.pid, signal.SIGINT)  # as a terminal's Ctrl-C does
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert "client → server" in err
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rtt", "40", "--", "true"], ["--link: rtt: '40' is not a duration"]),
        (["--rtt", "40ms", "--link", "rtt=20ms", "--", "true"], ["--rtt: --link says rtt too"]),
        (["--reach", "http", "--", "true"], ["--reach: 'http' is not a port"]),
        (["--kernel", "x", "--", "true"], ["--kernel: 'x' is not a kernel parameter"]),
        (["--kernel", "tcp_congestion_control=nonsense", "--reach", "9", "--", "true"], ["nonsense", "reno"]),
        (["--kernel", "tcp_no_such_thing=1", "--reach", "9", "--", "true"], ["tcp_no_such_thing=1"]),
        (["--server", "", "--", "true"], ["--server: the command is empty"]),
        ([], ["COMMAND"]),
    ],
)
def test_bad_input(wirebench: Command, arguments: list[str], words: list[str]) -> None:
    done = wirebench("lab", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr


def test_a_server_that_ends(wirebench: Command) -> None:
    done = wirebench("lab", "--server", "false", "--", "true")
    assert done.returncode == 3
    assert "--server: false ended with exit status 1 before it served" in done.stderr


def test_run_over_a_link(wirebench: Command, tmp_path: Path) -> None:
    options = ("--load", "open:100/s", "--duration", "500ms", "--warmup", "50ms", "--rounds", "1", "--json", "run.json")
    done = wirebench("run", "--protocol", "http1,udp", "--link", "rtt=20ms", "--link", "loopback", *options)
    assert done.returncode in (0, 3), done.stderr  # 3: a busy machine
    trials = json.loads((tmp_path / "run.json").read_text())["trials"]
    assert len(trials) == 4
    for trial in trials:
        if trial["scenario"]["link"] == "loopback":
            assert trial["wire"] is None
        else:
            assert trial["latency_ns"]["p50"] >= 20_000_000
            assert trial["wire"]["up"]["offered"] >= trial["counts"]["completed"] * 0.9  # the window's ends are apart
            assert trial["wire"]["kernel"]["client"]["net.ipv4.tcp_congestion_control"] != ""
        if trial["scenario"]["protocol"] == "udp" and trial["wire"]:
            # A header of 20 bytes and 64 of payload, with 28 of IP and UDP, once each way.
            assert trial["wire"]["up"]["offered_bytes"] / trial["wire"]["up"]["offered"] == 20 + 64 + 28


def test_load_over_a_link(wirebench: Command, tmp_path: Path, host_port: int) -> None:
    options = ("--load", "open:50/s", "--duration", "500ms", "--warmup", "50ms", "--json", "load.json")
    done = wirebench("load", f"http://127.0.0.1:{host_port}/", "--link", "rtt=20ms", *options)
    assert done.returncode in (0, 3), done.stderr
    (trial,) = json.loads((tmp_path / "load.json").read_text())["trials"]
    assert trial["latency_ns"]["p50"] >= 20_000_000
    assert trial["wire"]["down"]["delivered"] > 0
    assert "packets sent" in done.stdout


def test_root_without_its_capabilities_has_a_user_namespace(wirebench: Command, tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed: apt-get install util-linux")
    # The one that is left lets root map itself (user_namespaces(7)); other users need none for that.
    drop = [setpriv, "--bounding-set=-all,+setfcap", "--inh-caps=-all", sys.executable, "-m", "bench"]
    link = ["--rtt", "10ms", "--kernel", "tcp_congestion_control=cubic,initcwnd=4", "--json", "lab.json"]
    done = subprocess.run(
        [*drop, "lab", *link, "--", "curl", "-sS", "https://10.77.0.2/health"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=DEADLINE_S,
        check=False,
    )
    if "allows us no user namespace" in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stdout) == (0, "ok"), done.stderr
    kernel = json.loads((tmp_path / "lab.json").read_text())["kernel"]["client"]
    assert kernel["net.ipv4.tcp_congestion_control"] == "cubic"
    assert kernel["initcwnd"] == "4"
