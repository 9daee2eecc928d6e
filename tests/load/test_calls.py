"""Calls on real connections: answers find their calls, turns are kept, and what fails says how."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvloop

from bench import contract, registry
from bench.contract import Opcode
from bench.conversation import Reply
from bench.errors import CallError
from bench.load.calls import CallLine
from bench.protocols import PROTOCOLS
from bench.serverprocess import ServerProcess
from bench.wire.webrtc_signalling import MAX_PAYLOAD_BYTES
from tests.load.test_tls_load import security

SECURED = {"http3"}
CALLED = {facts.caller: name for name, facts in reversed(PROTOCOLS.items()) if facts.caller}
PROTOCOLS_WITH_CALLS = sorted(CALLED.values())
"""A protocol for each caller: the first that it is the caller of."""


def serving(protocol: str, grace_s: float = 5.0) -> ServerProcess:
    return ServerProcess(protocol, tls="1.3" if protocol in SECURED else "off", grace_s=grace_s)


def with_line(protocol: str, host: str, port: int, use: Callable[[CallLine], Awaitable[Any]]) -> Any:
    """What `use` gives, with a connection to that server."""

    async def run() -> Any:
        secured = protocol in SECURED
        make = registry.load(str(PROTOCOLS[protocol].caller))
        line = CallLine(make(f"{host}:{port}", "https" if secured else "http"))
        await line.connect(host, port, security() if secured else None)
        try:
            return await use(line)
        finally:
            line.abort()

    return uvloop.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("protocol", PROTOCOLS_WITH_CALLS)
def test_many_calls_at_once_keep_apart(protocol: str) -> None:
    largest = MAX_PAYLOAD_BYTES - 100 if protocol == "webrtc" else 1_000_000
    sizes = [0, 1, 100, 70_000, largest, 5, 64] * 8

    async def use(line: CallLine) -> list[Reply]:
        asked = [contract.exchange(Opcode.ECHO, size) for size in sizes]
        return await asyncio.gather(*(line.call(exchange, 20) for exchange in asked))

    with serving(protocol) as server:
        replies = with_line(protocol, server.host, server.port, use)
    assert [(reply.status, reply.body) for reply in replies] == [(200, contract.pattern(size)) for size in sizes]


@pytest.mark.parametrize("protocol", PROTOCOLS_WITH_CALLS)
def test_a_refusal_is_an_answer(protocol: str) -> None:
    with serving(protocol) as server:
        asked = contract.foreign_exchange("GET", "/nothing")
        reply = with_line(protocol, server.host, server.port, lambda line: line.call(asked, 20))
    assert reply.status == 404
    assert b"/nothing" in reply.body


@pytest.mark.parametrize("protocol", PROTOCOLS_WITH_CALLS)
def test_a_server_that_dies_fails_every_call(protocol: str) -> None:
    async def use(line: CallLine) -> list[str]:
        slow = contract.exchange(Opcode.WORK, 0, 0, 20_000)
        calls = [asyncio.ensure_future(line.call(slow, 25)) for _ in range(3)]
        await line.call(contract.exchange(Opcode.HEALTH), 20) if protocol != "http1" else await asyncio.sleep(0)
        server.stop()
        kinds = []
        for call in calls:
            with pytest.raises(CallError) as failed:
                await call
            kinds.append(failed.value.kind)
        with pytest.raises(CallError):
            await line.call(slow, 1)
        assert not line.opened
        return kinds

    with serving(protocol, grace_s=0.2) as server:
        kinds = with_line(protocol, server.host, server.port, use)
    assert kinds == ["closed"] * 3


def test_a_call_without_an_answer_ends_the_connection() -> None:
    async def use(line: CallLine) -> None:
        with pytest.raises(CallError) as failed:
            await line.call(contract.exchange(Opcode.HEALTH), 0.05)
        assert failed.value.kind == "timeout"
        assert not line.opened

    with socket.create_server(("127.0.0.1", 0)) as silent:
        with_line("http1", *silent.getsockname(), use)


class Foreign(BaseHTTPRequestHandler):
    """Python's own server: chunks, an answer before the answer, and a connection that it closes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/chunks":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        else:
            self.send_response_only(100)
            self.end_headers()
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b"until the end")
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def test_a_server_of_somebody_else() -> None:
    async def use(line: CallLine) -> list[Reply]:
        chunks = await line.call(contract.foreign_exchange("GET", "/chunks"), 20)
        last = await line.call(contract.foreign_exchange("GET", "/last"), 20)
        with pytest.raises(CallError):
            await line.call(contract.foreign_exchange("GET", "/chunks"), 20)
        return [chunks, last]

    server = ThreadingHTTPServer(("127.0.0.1", 0), Foreign)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        replies = with_line("http1", "127.0.0.1", server.server_address[1], use)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert replies == [Reply(200, b"abcde"), Reply(200, b"until the end")]
