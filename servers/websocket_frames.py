"""Frames in the messages of a WebSocket (see `bench.wire.frames`): any number of requests of one connection at a time,
each for whatever the service can do."""

import asyncio
from collections.abc import Callable
from typing import cast

from bench.errors import ProtocolError
from bench.wire.prompt_writing import prompt_writer
from bench.wire.websocket import BINARY, FIN, PONG, CloseCode, MessageReader, encode_close, encode_frame
from servers.tcp import TcpConnection
from servers.worker import Worker

LINGER_S = 1.0
"""How long a client may take for its half of the closing handshake before the connection is cut."""


class WebsocketFrames(MessageReader, asyncio.Protocol):
    """One client, from the end of the opening handshake on: a connection of frames, and messages around them."""

    peer_masks = True

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._later = worker.later
        self._frames = TcpConnection(worker)
        self._messages: _Messages

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._messages = _Messages(cast(asyncio.Transport, transport), self._later)
        self._frames.connection_made(self._messages)

    def connection_lost(self, exc: Exception | None) -> None:
        self._frames.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        try:
            self.parse(data)
        except ProtocolError as error:
            self.peer_closed = True
            self._messages.fail(error.code, str(error))

    def eof_received(self) -> bool:
        return self._frames.eof_received()

    def pause_writing(self) -> None:
        self._frames.pause_writing()

    def resume_writing(self) -> None:
        self._frames.resume_writing()

    # Connection

    def drain(self) -> None:
        self._frames.drain()

    # MessageReader

    def message_begun(self, opcode: int) -> None:
        if opcode != BINARY:
            raise ProtocolError("frames are binary", CloseCode.UNSUPPORTED_DATA)

    def payload_received(self, data: bytes) -> None:
        self._frames.data_received(data)

    def ping_received(self, payload: bytes) -> None:
        self._messages.pong(payload)

    def close_received(self, code: int) -> None:
        self._messages.peer_closed(code)
        self._frames.eof_received()  # it may still wait for answers


class _Messages(asyncio.Transport):
    """What frames are written to: what is written at a time is a message, and the end is a closing handshake."""

    def __init__(self, transport: asyncio.Transport, later: Callable[[float, Callable[[], None]], object]) -> None:
        super().__init__()
        self._transport = transport
        self._write = prompt_writer(transport)
        self._later = later
        self._code = 0
        """The client's own, once it has closed."""
        self._ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._ended:
            self._write(encode_frame(FIN | BINARY, bytes(data)))

    def pong(self, payload: bytes) -> None:
        """Answer a ping."""
        if not self._ended:
            self._write(encode_frame(FIN | PONG, payload))

    def peer_closed(self, code: int) -> None:
        """The client has closed with that code."""
        self._code = code
        if self._ended:
            self._transport.close()

    def end(self, code: int, reason: str = "") -> None:
        """Close with that code, and wait a while for the client to do so too, unless it has been done."""
        if self._ended:
            return
        self._ended = True
        self._write(encode_close(code, reason))
        if self._code:
            self._transport.close()
        else:
            self._later(LINGER_S, self._transport.abort)

    def fail(self, code: int, reason: str) -> None:
        """Close with that code, and take nothing more from the client."""
        self.end(code, reason)
        if self._transport.can_write_eof():
            self._transport.write_eof()

    # asyncio.Transport

    def write_eof(self) -> None:
        self.end(CloseCode.POLICY_VIOLATION)

    def close(self) -> None:
        self.end(self._code or CloseCode.GOING_AWAY)

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._ended or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
