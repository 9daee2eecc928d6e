"""One connection of the engine: a client that speaks the protocol, its socket, and the exchanges in flight."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

from bench.contract import Security
from bench.errors import ErrorKind, ProtocolError
from bench.load.client import Client, Session
from bench.load.fast_open import open_fast, went_with_syn
from bench.load.security import LINES, SecuredLine
from bench.wire.prompt_writing import prompt_writer

if TYPE_CHECKING:
    from bench.load.engine import Engine

_clock = time.monotonic_ns


def _nothing(_data: bytes) -> Sequence[Hashable]:
    """What a session is fed: it reads by itself."""
    return ()


class Line(asyncio.Protocol, asyncio.DatagramProtocol):
    """A client's way to the server. Whoever inherits from it takes what arrives (`data_received`) and hears of the end
    (`lost`)."""

    def __init__(self, client: Any, in_flight: int) -> None:
        self.client = client
        self.opened = False
        self.limit = 0
        """How many exchanges may be in flight now."""
        self._in_flight = in_flight
        self._is_stream = client.transport_kind == "stream"
        self._transport: Any = None
        self._abort: Callable[[], None]
        self._write: Callable[[bytes], object]
        self._usable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connect(self, host: str, port: int, security: Security | None, fast_open: bool = False) -> None:
        """Open the connection; on return, exchanges may be sent. With `fast_open` a connection of TCP may begin with
        what is sent first. Raises OSError and ProtocolError."""
        loop = asyncio.get_running_loop()
        client = self.client
        if client.transport_kind == "session":
            self._abort = self._close_session
            await client.connect(host, port, security, self)
            self.opened = True
            self.limit = min(self._in_flight, client.max_in_flight)
            return
        transport: asyncio.Transport | asyncio.DatagramTransport
        if self._is_stream:
            protocol: asyncio.Protocol = self
            if security is not None:
                protocol = LINES[security.handshake](self, (host, port), security, client.alpn, self._refuse)
            if fast_open:
                sock = await open_fast(host, port)
                transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            else:
                transport, _ = await loop.create_connection(lambda: protocol, host, port)
        else:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, remote_addr=(host, port))
        try:
            await self._usable
        except BaseException:
            transport.abort()
            raise

    def shortfall(self, fast_open: bool) -> ErrorKind | None:
        """How the opening of the connection, once an answer is there, was less than what was asked for."""
        if self._transport is None:
            return getattr(self.client, "shortfall", None)
        if fast_open and not went_with_syn(self._transport.get_extra_info("socket")):
            return "not-fast-open"
        return self._transport.shortfall if isinstance(self._transport, SecuredLine) else None

    def abort(self) -> None:
        """Cut the connection."""
        self._abort()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
        elif self.opened:
            self._abort()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._abort = self._transport.abort
        if self._is_stream:
            # What counts as sent is with the kernel, and not in a queue of the loop's.
            if isinstance(transport, SecuredLine):
                transport.send = prompt_writer(transport.lower)
                self._write = transport.write
            else:
                self._write = prompt_writer(self._transport)
        self.opened = True
        self.client.open()
        self._send_outgoing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost(exc)

    def lost(self, error: Exception | None) -> None:
        """The connection has ended. May be told more than once."""
        was_open, self.opened = self.opened, False
        if self._transport is not None:
            self._refuse(error or ConnectionResetError("the server closed the connection"))
        if was_open:
            self.ended()

    def ended(self) -> None:
        """A connection that stood has ended."""

    def _close_session(self) -> None:
        self.client.close()
        asyncio.get_running_loop().call_soon(self.lost, None)

    def _refuse(self, error: Exception) -> None:
        """The connection cannot be used, if nobody has used it yet."""
        if not self._usable.done():
            self._usable.set_exception(error)

    def _send_outgoing(self) -> None:
        # What changes the limit (the peer's SETTINGS) is always acknowledged, so it is looked at here alone.
        self.limit = min(self._in_flight, self.client.max_in_flight)
        if self.limit and not self._usable.done():
            self._usable.set_result(None)
        outgoing = self.client.outgoing
        if outgoing:
            if self._is_stream:
                self._write(b"".join(outgoing))
            else:
                for piece in outgoing:
                    self._transport.sendto(piece)
            outgoing.clear()


class FedLine(Line):
    """A connection whose client is fed what arrives, and says what that means to whoever inherits from it. A session
    has no `feed`: it says so itself."""

    def __init__(self, client: Any, in_flight: int) -> None:
        super().__init__(client, in_flight)
        self._feed: Any = getattr(client, "feed", None)
        self.arrived_ns = 0
        """When what is taken now arrived."""

    def take(self, said: Any) -> None:
        """Take what the client has said."""
        raise NotImplementedError

    def broken(self, error: ProtocolError) -> None:
        """The server has broken the protocol; the connection is about to be cut."""

    # asyncio

    def data_received(self, data: bytes) -> None:
        self.arrived_ns = _clock()
        try:
            said = self._feed(data)
        except ProtocolError as error:
            self._refuse(error)
            self.broken(error)
            self._abort()
            return
        self.take(said)
        if self.client.outgoing or not self.limit:
            self._send_outgoing()

    def eof_received(self) -> bool:
        self.arrived_ns = _clock()
        try:
            said = self.client.feed_eof()
        except ProtocolError as error:
            self.broken(error)
        else:
            self.take(said)
        return False


class Link(Line):
    """A connection. `sent` and `intended` map the exchanges in flight to nanoseconds, oldest first; for closed loads
    they are one and the same dict."""

    def __init__(self, engine: "Engine", client: Client | Session, in_flight: int) -> None:
        super().__init__(client, in_flight)
        self.sent: dict[Hashable, int] = {}
        self.intended: dict[Hashable, int] = self.sent if engine.is_closed else {}
        self._engine = engine
        self._ready = engine.ready
        self._answer_again: bytes | None = None
        self._request_again: Callable[[], bytes] = bytes
        self._exchange_again: Hashable = None
        self._request = client.request
        self._feed: Callable[[bytes], Sequence[Hashable]] = getattr(client, "feed", _nothing)
        self._is_closed = engine.is_closed
        recorder = engine.recorder
        self._record_intended = recorder.intended.append
        self._record_sent = recorder.sent.append
        self._record_done = recorder.done.append

    # asyncio

    def data_received(self, data: bytes) -> None:
        now = _clock()
        if data == self._answer_again:
            # The one exchange of a closed load, over and over: see Client.again.
            sent, exchange_id = self.sent, self._exchange_again
            self._record_sent(sent[exchange_id])
            self._record_done(now)
            if now < self._engine.end_ns:
                sent[exchange_id] = now
                self._write(self._request_again())
            else:
                self._answer_again = None
                sent.clear()
            return
        try:
            ids = self._feed(data)
        except ProtocolError as error:
            self.fail_all("protocol")
            if not self._usable.done():
                self._usable.set_exception(error)
            self._transport.abort()
            return
        client = self.client
        if ids:
            self._complete(ids, now)
        if client.failures:
            self._fail(now)
        if client.outgoing or not self.limit:
            self._send_outgoing()
        if client.closing and not self.sent:
            self._transport.close()
        if self._is_closed and self._in_flight == 1 and len(self.sent) == 1:
            self._answer_again, self._request_again = client.again() or (None, bytes)
            (self._exchange_again,) = self.sent

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.data_received(data)

    def error_received(self, exc: Exception) -> None:
        # ICMP says that nobody listens. What is in flight is lost; the endpoint lives on.
        self.fail_all("refused")

    def eof_received(self) -> bool:
        now = _clock()
        ids = self.client.feed_eof()
        if ids:
            self._complete(ids, now)
        if self.client.failures:
            self._fail(now)
        return False

    # SessionLink

    def answered(self, ids: Sequence[Hashable]) -> None:
        client = self.client
        self.limit = min(self._in_flight, client.max_in_flight)
        now = _clock()
        if ids:
            self._complete(ids, now)
        if client.failures:
            self._fail(now)
        if client.closing and not self.sent:
            self._abort()

    def ended(self) -> None:
        self.fail_all("closed")
        self._engine.lost(self)

    # Exchanges

    def send(self, count: int, intended_ns: int, now_ns: int) -> None:
        """Start `count` exchanges."""
        ids, pieces = self._request(count)
        if count == 1:
            self.sent[ids[0]] = now_ns
            if not self._is_closed:
                self.intended[ids[0]] = intended_ns
        else:
            self.sent.update(zip(ids, repeat(now_ns)))
            if not self._is_closed:
                self.intended.update(zip(ids, repeat(intended_ns)))
        if not self._is_stream:
            for piece in pieces:
                self._transport.sendto(piece)
        elif len(pieces) == 1:
            self._write(pieces[0])
        elif pieces:
            self._write(b"".join(pieces))

    def room(self) -> int:
        """How many more exchanges the connection takes now."""
        return 0 if self.client.closing else self.limit - len(self.sent)

    def expire(self, before_ns: int, now_ns: int) -> None:
        """Give up on the exchanges that were sent before `before_ns`."""
        expired = []
        for exchange_id, sent_ns in self.sent.items():
            if sent_ns >= before_ns:
                break
            expired.append(exchange_id)
        if not expired:
            return
        self._answer_again = None
        usable = True
        for exchange_id in expired:
            usable = self.client.abandon(exchange_id) and usable
            self._forget(exchange_id, "timeout", now_ns)
        if not usable:
            self._abort()
        else:
            if self._transport is not None:
                self._send_outgoing()
            self._ready(self, len(expired), now_ns)

    def fail_all(self, kind: str) -> None:
        """Whatever is in flight has failed."""
        self._answer_again = None
        now = _clock()
        for exchange_id in list(self.sent):
            self._forget(exchange_id, kind, now)

    def _complete(self, ids: Sequence[Hashable], now: int) -> None:
        count = len(ids)
        if count == 1:
            exchange_id = ids[0]
            if not self._is_closed:
                self._record_intended(self.intended.pop(exchange_id))
            self._record_sent(self.sent.pop(exchange_id))
            self._record_done(now)
        else:
            recorder = self._engine.recorder
            if not self._is_closed:
                recorder.intended.extend(map(self.intended.pop, ids))
            recorder.sent.extend(map(self.sent.pop, ids))
            recorder.done.extend(repeat(now, count))
        self._ready(self, count, now)

    def _fail(self, now: int) -> None:
        failures = self.client.failures[:]
        self.client.failures.clear()
        unprocessed = 0
        for exchange_id, kind in failures:
            if kind == "unprocessed":
                unprocessed += 1
                self._return(exchange_id, now)
            else:
                self._forget(exchange_id, kind, now)
        self._ready(self, len(failures) - unprocessed, now)

    def _return(self, exchange_id: Hashable, now: int) -> None:
        """The exchange has not begun for the server, so it may be sent again (RFC 9113, section 8.7)."""
        sent_ns = self.sent.pop(exchange_id, None)
        if sent_ns is not None:
            intended_ns = sent_ns if self.intended is self.sent else self.intended.pop(exchange_id)
            self._engine.unprocessed(intended_ns, now)

    def _forget(self, exchange_id: Hashable, kind: str, now: int) -> None:
        sent_ns = self.sent.pop(exchange_id, None)
        if sent_ns is not None:
            intended_ns = sent_ns if self.intended is self.sent else self.intended.pop(exchange_id)
            self._engine.recorder.error(kind, intended_ns, now)
