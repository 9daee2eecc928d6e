"""A connection with an upstream over HTTP/3: many exchanges at a time."""

from typing import TYPE_CHECKING

from aioquic.quic.events import StopSendingReceived, StreamReset

from bench.contract import Security
from bench.wire.header_blocks import Head
from bench.wire.http3 import ErrorCode
from bench.wire.quic_client import Http3ClientSession
from bench.wire.quic_security import configure
from servers.proxies.exchange import Downstream, Exchange
from servers.proxies.field_sections import request_section, status_of
from servers.proxies.http3_end import Http3End, RelayedStream
from servers.proxies.upstreams import Upstream

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_MAX_STREAMS = 100
"""Of a connection, where the upstream allows more."""


class Http3Upstream(Http3End, Http3ClientSession[Head | None]):
    """What clients' requests are sent to."""

    def __init__(self, proxy: "Layer7", upstream: Upstream) -> None:
        security = Security("1.3", proxy.spec.authorities, server_name="", insecure=False)
        configuration = configure(upstream.host, security)
        configuration.idle_timeout = proxy.quic_idle_timeout_s
        super().__init__(proxy, configuration)
        self._upstream = upstream
        self._told: set[Downstream] = set()
        """Who was told something of an answer since the last flush."""

    @property
    def has_room(self) -> bool:
        """Whether it takes one more exchange."""
        if self.ended or self.quic.is_closing or self.control.goaway_id is not None:
            return False
        return len(self.streams) < _MAX_STREAMS and self.quic.free_streams > 0

    async def connect(self) -> None:
        """Returns when the upstream takes exchanges. Raises OSError, ProtocolError."""
        await self.dial(self._upstream.host, self._upstream.port)
        await self.shake_hands()
        self._proxy.upward.add(self)
        self._proxy.answers.members.add(self)

    def abort(self) -> None:
        """Let go of the connection."""
        self.close_now()
        self._break_all("the proxy has let go of the connection")

    # Upward

    def send_request(self, exchange: Exchange) -> None:
        stream = RelayedStream(-1, exchange, is_answer=True)
        self.begin(stream, request_section(exchange, True, self._proxy.request_via))
        stream.pieces += exchange.pieces
        stream.has_begun = True
        data = stream.take([])
        if exchange.is_complete:
            stream.id = self.quic.open_with(data)
        else:
            stream.id = self.quic.get_next_available_stream_id()
            self.quic.send_stream_data(stream.id, data)
        exchange.upward_stream = stream.id
        self.streams[stream.id] = stream
        self.put_back()
        self.touch()

    def send_piece(self, exchange: Exchange, data: bytes) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None and data:
            stream.quiet = 0
            stream.pieces.append(data)
            self.push(stream)
            self.touch()

    def send_end(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None:
            stream.quiet = 0
            self.finish(stream, [])
            self.touch()

    def leave(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None:
            self.quic.cancel(stream.id, ErrorCode.REQUEST_CANCELLED)
            self.drop(stream)
            self.touch()

    def room(self, exchange: Exchange, has_room: bool) -> None:
        stream = self.streams.get(exchange.upward_stream)
        if stream is not None:
            self.hold(stream, has_room)

    def put_back(self) -> None:
        """Be among those that wait for exchanges, if there is room."""
        idle = self._upstream.idle
        if self.has_room != (self in idle):
            if self.has_room:
                idle.append(self)
            else:
                idle.remove(self)

    # Http3Session

    def message_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is not None and self.read(stream, data, is_end) and is_end:
            self._answer_ended(stream)

    def message_reset(self, stream_id: int, event: StreamReset | StopSendingReceived) -> None:
        # To want no more of the request is fine (section 4.1.1): the answer may come all the same.
        stream = self.streams.get(stream_id)
        if stream is not None and isinstance(event, StreamReset):
            self._break(stream, "the upstream gave the request up")

    def control_received(self) -> None:
        first_id = self.control.goaway_id
        if first_id is not None:
            self.put_back()
            for stream in [stream for stream in self.streams.values() if stream.id >= first_id]:
                self._break(stream, "the upstream goes away")

    def lost(self, error: Exception) -> None:
        self._break_all("the upstream's connection ended before its answer was complete")

    def all_read(self, now: float) -> None:
        self._tell()
        self.put_back()
        if self.control.goaway_id is not None and not self.streams:
            self.abort()

    def _tell(self) -> None:
        told, self._told = self._told, set()
        for down in told:
            down.answer_flush()

    def _break(self, stream: RelayedStream, reason: str) -> None:
        self.drop(stream)
        assert stream.exchange is not None
        stream.exchange.broken(reason)

    def _break_all(self, reason: str) -> None:
        self._proxy.upward.discard(self)
        self._proxy.answers.members.discard(self)
        self.put_back()
        self._tell()
        for stream in list(self.streams.values()):
            self._break(stream, reason)

    # Http3End

    def head_received(self, stream: RelayedStream, head: Head | None) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if stream.reader.has_trailers:
            if head is None or head.pseudo:
                self.malformed(stream)
            else:
                exchange.trailers = head.fields
            return
        status = None if head is None else status_of(head)
        if head is None or status is None:
            self.malformed(stream)
        elif status < 200:
            stream.reader.head_again()
            exchange.down.interim(exchange, status, head.fields)
        else:
            self._told.add(exchange.down)
            exchange.head(status, head.fields, head.content_length)

    def body_received(self, stream: RelayedStream, data: bytes) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if not exchange.fits(len(data)):
            self.malformed(stream)
            return
        self._proxy.counts.bytes_down += len(data)
        self._told.add(exchange.down)
        exchange.down.answer_piece(exchange, data)

    def _answer_ended(self, stream: RelayedStream) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if not exchange.answered or exchange.is_short:
            self.malformed(stream)
            return
        if not exchange.is_complete:
            self.quic.cancel(stream.id, ErrorCode.REQUEST_CANCELLED)  # the rest of the request is not wanted
        self.drop(stream)
        exchange.answer_ended()

    def malformed(self, stream: RelayedStream) -> None:
        super().malformed(stream)
        assert stream.exchange is not None
        stream.exchange.broken("the upstream's answer is malformed")

    def tell_room(self, stream: RelayedStream, has_room: bool) -> None:
        if stream.exchange is not None:
            stream.exchange.down.room(stream.exchange, has_room)

    def touch(self) -> None:
        self.flush_after_reading()

    # Watched

    def looked_at(self, looks: int) -> None:
        if not self.streams:
            if self.quiet > looks:
                self.abort()
            return
        is_waiting = False
        for stream in list(self.streams.values()):
            exchange = stream.exchange
            stream.quiet += 1
            if exchange is not None and exchange.is_complete and not stream.is_held:
                is_waiting = True
                if stream.quiet > looks:
                    exchange.timed_out()
        if is_waiting and not self.quic.expects_acknowledgement:
            self.quic.send_ping(0)  # so that a host that is gone is found out before its time is over
            self.touch()
