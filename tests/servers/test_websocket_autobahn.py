"""The Autobahn test suite against the lean WebSocket server, and against the client's side of the codec.

It runs where its program `wstest` is installed (the Python package autobahntestsuite, on Python 2.7).
"""

import contextlib
import json
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire.permessage_deflate import OFFER, Deflate, Inflate, read_answer
from bench.wire.websocket import FIN, RSV1, encode_close, encode_frame
from clients.websocket import ClientEnd

Serve = Callable[..., ServerProcess]

DEADLINE_S = 30.0

# All but the measurements of speed and the many sizes of compressed messages, of which there are a few.
CASES = [
    *(f"{number}.*" for number in (1, 2, 3, 4, 5, 6, 7, 10)),
    *("9.1.1", "9.2.1", "9.3.1", "9.4.1", "9.5.1", "9.6.1", "9.7.1", "9.8.1"),
    *(f"12.{kind}.{size}" for kind in range(1, 6) for size in (1, 5, 9)),
    *(f"13.{kind}.{size}" for kind in range(1, 8) for size in (1, 5, 9)),
]
FINE = {"OK", "INFORMATIONAL", "UNIMPLEMENTED"}
"""Unimplemented are parameters of compression that our side does not agree to."""


def judge(folder: Path) -> None:
    (cases,) = json.loads((folder / "index.json").read_text()).values()
    assert len(cases) > 280
    failed = {number: case for number, case in cases.items() if not {case["behavior"], case["behaviorClose"]} <= FINE}
    assert failed == {}
    assert sum(case["behavior"] == "UNIMPLEMENTED" for case in cases.values()) < 40


@pytest.mark.long
def test_the_server(serve: Serve, need: Callable[[str], str], tmp_path: Path) -> None:
    wstest = need("wstest")
    server = serve("websocket")
    spec = {
        "outdir": str(tmp_path / "found"),
        "servers": [{"agent": "wirebench", "url": f"ws://{server.address}/echo"}],
        "cases": CASES,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [wstest, "--mode", "fuzzingclient", "--spec", str(tmp_path / "spec.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    judge(tmp_path / "found")
    assert server.stderr == ""


class Echo(ClientEnd):
    """Sends every message back."""

    offer = OFFER

    def __init__(self, target: str, authority: str, offer: bytes) -> None:
        self.offer = offer  # type: ignore[misc]
        super().__init__(target, authority)
        self.received: list[bytes] = []
        self._deflate: Deflate | None = None
        self._kind = 0
        self._pieces: list[bytes] = []

    def opened(self, extensions: bytes) -> int:
        if extensions:
            agreement = read_answer(extensions)
            self.inflate = Inflate(agreement.server_max_window_bits, agreement.server_no_context_takeover)
            self._deflate = Deflate(agreement.client_max_window_bits, no_context_takeover=True)
        return 1

    def message_begun(self, opcode: int) -> None:
        self._kind = opcode

    def payload_received(self, data: bytes) -> None:
        self._pieces.append(data)

    def message_received(self) -> None:
        message = b"".join(self._pieces)
        self._pieces.clear()
        self.received.append(message)
        first = FIN | self._kind
        if self._deflate is not None:
            first, message = first | RSV1, self._deflate.compress(message)
        self.outgoing.append(encode_frame(first, message, secrets.token_bytes(4)))


def talk(port: int, target: str, offer: bytes = b"") -> list[bytes]:
    """Echo until the server closes. Gives what it sent."""
    client = Echo(target, f"127.0.0.1:{port}", offer)
    client.open()
    # Some cases end with a reset.
    with (
        socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock,
        contextlib.suppress(ConnectionResetError, BrokenPipeError),
    ):
        data = b"not empty"
        while data:
            sock.sendall(b"".join(client.outgoing))
            client.outgoing.clear()
            data = sock.recv(1 << 16)
            try:
                client.take(data)
            except ProtocolError as error:
                sock.sendall(b"".join(client.outgoing) + encode_close(error.code, key=secrets.token_bytes(4)))
                break
    return client.received


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


@pytest.mark.long
def test_the_client(need: Callable[[str], str], tmp_path: Path) -> None:
    wstest = need("wstest")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spec: dict[str, Any] = {
        "url": f"ws://127.0.0.1:{port}",
        "outdir": str(tmp_path / "found"),
        "cases": CASES,
        "exclude-cases": [],
        "exclude-agent-cases": {},
        "options": {"failByDrop": False},
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [wstest, "--mode", "fuzzingserver", "--webport", "0", "--spec", str(tmp_path / "spec.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(port, process)
            (count,) = talk(port, "/getCaseCount")
            for number in range(1, int(count) + 1):
                talk(port, f"/runCase?case={number}&agent=wirebench", OFFER)
            talk(port, "/updateReports?agent=wirebench")
        finally:
            process.terminate()
    judge(tmp_path / "found")
