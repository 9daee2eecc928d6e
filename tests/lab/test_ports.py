"""What a load says of ports of its own machine that are used up: in a lab, whose kernel has few of them."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cli

PORTS = 40


class _Closing(http.server.BaseHTTPRequestHandler):
    """Each connection is for one answer, and the client's to close: so it is the client's port that stays taken."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def closing() -> Iterator[str]:
    """The address of a server that has every connection closed."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Closing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize(("connections", "status"), [(4, 3), (PORTS + 1, 2)])
def test_a_load_that_has_no_ports_left_says_so(
    closing: str, connections: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--link", "rtt=1ms", "--kernel", f"ip_local_port_range=40000 {40000 + PORTS - 1}"]
    several = ["--load", f"closed:{connections}", "--warmup", "0s", "--duration", "500ms"]
    result = tmp_path / "load.json"
    assert cli.main(["load", closing, *few, *several, "--json", str(result)]) == status
    if status == 2:
        assert "this machine has no port (net.ipv4.ip_local_port_range)" in capsys.readouterr().err
        return
    (trial,) = json.loads(result.read_text())["trials"]
    assert trial["counts"]["errors"].keys() == {"no-port"}
    assert 0 < trial["counts"]["completed"] <= PORTS
    assert "no-ports" in [doubt["kind"] for doubt in trial["doubts"] if doubt["fatal"]]
