"""The lean server of HTTP/2 that begins as HTTP/1.1 (RFC 7540, section 3.2; RFC 9113 has dropped it).

The head of a connection's first request says what the connection is: HTTP/2 from then on, if it asks for that in the
right way; HTTP/1.1 if not, or if it says it wrongly. A client that knows beforehand may begin with the preface of
HTTP/2, as everywhere (RFC 9113, section 3.3).
"""

import asyncio
import re
from typing import Any, ClassVar, Final, TypeVar, cast

from bench.errors import ProtocolError
from bench.wire.http1_heads import HEAD_END, MAX_HEAD_BYTES
from bench.wire.http2_upgrade import PREFACE_HEAD, SWITCH, Upgrade, read_upgrade
from servers.counters import ACCEPTS
from servers.http1 import Http1Connection
from servers.http2 import Http2Connection
from servers.service import Route
from servers.worker import Lives, TransportKind, Worker

_METHOD: Final = re.compile(rb"[A-Z]{1,16}(?: |\Z)")
"""What the bytes of a request begin with, if not all of it has come. Else its head is not waited for."""

C = TypeVar("C", Http1Connection, Http2Connection)


class Http2UpgradeConnection(asyncio.Protocol):
    """One client, until the head of its first request is there; then it hands on to the connection that it becomes."""

    transport_kind: ClassVar[TransportKind] = "stream"
    lives: ClassVar[Lives] = "thread"
    alpn: ClassVar[tuple[str, ...]] = ("http/1.1",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._transport: asyncio.Transport
        self._head = b""
        # It takes its calls from here, not from the transport: not every transport changes hands.
        self._became: Http1Connection | Http2Connection | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._worker.counts[ACCEPTS] += 1
        self._worker.connections.add(self)
        if self._worker.draining:
            self._become(Http1Connection(self._worker))

    def connection_lost(self, exc: Exception | None) -> None:
        self._worker.connections.discard(self)
        if self._became is not None:
            self._became.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._became is not None:
            self._became.data_received(data)
            return
        self._head = data = self._head + data
        end = data.find(HEAD_END) + len(HEAD_END)
        if end >= len(HEAD_END) or len(data) > MAX_HEAD_BYTES or not _METHOD.match(data):
            self._head = b""
            self._begin(data, end)

    def eof_received(self) -> bool | None:
        return self._as_http1().eof_received() if self._became is None else self._became.eof_received()

    def pause_writing(self) -> None:
        if self._became is not None:
            self._became.pause_writing()

    def resume_writing(self) -> None:
        if self._became is not None:
            self._became.resume_writing()

    # Connection

    def answer(self, token: Any, route: Route, answer: bytes) -> None:
        raise AssertionError("requests are of the connection that this one becomes")

    def drain(self) -> None:
        if self._became is None:
            self._as_http1().drain()

    def abort(self) -> None:
        self._transport.abort()

    # The head of the first request

    def _begin(self, data: bytes, end: int) -> None:
        """The head is `data` up to `end`, or there is none."""
        head = data[:end]
        if head == PREFACE_HEAD:
            self._become(Http2Connection(self._worker)).data_received(data)
            return
        upgrade = read_upgrade(head) if self._worker.spec.tls == "off" else None  # TLS has ALPN for that
        if upgrade is None or not self._change(upgrade, data[end:]):
            self._become(Http1Connection(self._worker)).data_received(data)

    def _change(self, upgrade: Upgrade, rest: bytes) -> bool:
        """Go on as HTTP/2. False if the request cannot be one of HTTP/2, so that nothing is done."""
        http2 = Http2Connection(self._worker)
        request = http2.read_request(upgrade.fields)
        try:
            http2.begin_with(upgrade.settings)
        except ProtocolError:
            return False
        if request.malformed:
            return False
        self._transport.write(SWITCH)
        self._become(http2)
        http2.begin_with_request(request)
        if rest:
            http2.data_received(rest)
        return True

    def _as_http1(self) -> Http1Connection:
        """Leave the decision at what has come so far."""
        http1 = self._become(Http1Connection(self._worker))
        if self._head:
            http1.data_received(self._head)
        return http1

    def _become(self, connection: C) -> C:
        self._became = connection
        self._worker.connections.discard(self)
        self._worker.counts[ACCEPTS] -= 1  # it is about to be counted once more
        connection.connection_made(self._transport)
        return connection
