"""The lean HTTP/2 server as a process, against real clients."""

import asyncio
import hashlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from http2_harness import (
    GET,
    HELLO,
    goaways,
    headers,
    parse,
)

from bench.contract import pattern, upload_receipt
from bench.serverprocess import ServerProcess
from bench.wire.http2_frames import ErrorCode


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One server for all tests with real clients."""
    with ServerProcess("http2") as server:
        yield server
        server.stop()
        assert server.stderr == ""


@pytest.fixture
def curl(server: ServerProcess, need: Callable[[str], str]) -> Callable[..., bytes]:
    program = need("curl")

    def run(path: str, *options: str, stdin: bytes = b"") -> bytes:
        url = f"http://{server.host}:{server.port}{path}"
        command = [program, "--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "20", *options, url]
        return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout

    return run


class TestCurl:
    def test_echo(self, curl: Callable[..., bytes]) -> None:
        assert curl("/echo", "--data-binary", "@-", stdin=pattern(3_000_000)) == pattern(3_000_000)

    def test_download(self, curl: Callable[..., bytes]) -> None:
        assert hashlib.sha256(curl("/bytes/67108864")).digest() == hashlib.sha256(pattern(64 << 20)).digest()

    def test_pieces(self, curl: Callable[..., bytes]) -> None:
        assert curl("/bytes/300000?chunk=999") == pattern(300_000)

    def test_upload_without_a_length(self, curl: Callable[..., bytes]) -> None:
        receipt = upload_receipt(300_000, hashlib.sha256(pattern(300_000)).digest())
        assert curl("/upload", "--upload-file", "-", stdin=pattern(300_000)) == receipt

    def test_expect(self, curl: Callable[..., bytes]) -> None:
        answer = curl("/echo", "--header", "expect: 100-continue", "--data", "abc", "--include")
        assert answer.startswith(b"HTTP/2 100 \r\n")
        assert answer.endswith(b"\r\n\r\nabc")

    def test_head(self, curl: Callable[..., bytes]) -> None:
        head = curl("/bytes/5", "--head")
        assert head.startswith(b"HTTP/2 200 \r\n")
        assert b"content-length: 5\r\n" in head

    def test_refusals(self, curl: Callable[..., bytes]) -> None:
        status = ("--write-out", "%{http_code}", "--output", "/dev/null")
        assert curl("/nothing", *status, "--upload-file", "-", stdin=pattern(3_000_000)) == b"404"
        assert curl("/bytes/9", *status, "--data", "x") == b"405"
        assert curl("/bytes/-1", *status) == b"400"
        assert curl("/health", *status, "--header", "x: " + "y" * 40_000) == b"431"
        assert curl("/upload", *status, "--upload-file", "-", stdin=bytes((64 << 20) + 1)) == b"413"


def test_h2load(server: ServerProcess, need: Callable[[str], str]) -> None:
    for path, options in (("/health", ["-n5000"]), ("/bytes/40000", ["-n200"]), ("/work?wait_ms=5", ["-n200"])):
        url = f"http://{server.host}:{server.port}{path}"
        out = subprocess.run(
            [need("h2load"), *options, "-c4", "-m20", url], stdout=subprocess.PIPE, text=True, check=True, timeout=30
        ).stdout
        total = options[0][2:]
        assert f"{total} succeeded, 0 failed, 0 errored, 0 timeout" in out, out


def test_httpx(server: ServerProcess) -> None:
    async def exchange() -> None:
        base = f"http://{server.host}:{server.port}"
        async with httpx.AsyncClient(http1=False, http2=True, base_url=base, timeout=20) as client:
            answers = await asyncio.gather(
                *(client.get(f"/bytes/{n * 1000}") for n in range(50)),
                *(client.post("/echo", content=pattern(n * 1000)) for n in range(50)),
            )
            for number, answer in enumerate(answers):
                assert answer.http_version == "HTTP/2"
                assert answer.content == pattern(number % 50 * 1000)

    asyncio.run(exchange())


def test_a_client_of_another_protocol_is_told_so(server: ServerProcess) -> None:
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
        received = b""
        while piece := sock.recv(65536):
            received += piece
        assert goaways(parse(received)) == [ErrorCode.PROTOCOL_ERROR]


def test_stopping_in_the_middle(serve: Callable[..., ServerProcess]) -> None:
    server = serve("http2")
    with socket.create_connection((server.host, server.port), 10) as sock:
        sock.sendall(HELLO + headers(1, [*GET[:3], (b":path", b"/work?wait_ms=300")]).serialize())
        received = b""
        while not any(frame.stream_id == 0 and "ACK" in frame.flags for frame in parse_whole(received)):
            received += sock.recv(65536)
        server.stop()
        while piece := sock.recv(65536):
            received += piece
    frames = parse(received)
    assert goaways(frames) == [ErrorCode.NO_ERROR]
    assert frames[-1].data == b"done"


def parse_whole(data: bytes) -> list[Any]:
    """The frames that are there whole."""
    at = 0
    while at + 9 <= len(data) and at + 9 + int.from_bytes(data[at : at + 3], "big") <= len(data):
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return parse(data[:at])
