"""A client's connection over HTTP/3: each of its streams is an exchange."""

import socket
from typing import TYPE_CHECKING

from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

from bench.errors import ProtocolError
from bench.wire.header_blocks import Head
from bench.wire.http3 import ErrorCode
from bench.wire.quic_tickets import ServerTickets
from servers.proxies.exchange import Exchange
from servers.proxies.field_sections import answer_section, exchange_of, is_request, lower, refusal
from servers.proxies.fields import Fields
from servers.proxies.http3_end import Http3End, RelayedStream
from servers.proxies.splice import End
from servers.quic_endpoint import QuicEndpoint
from servers.strain import Strain

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_MAX_STREAMS = 256


class Http3Endpoint(QuicEndpoint["Http3Client"]):
    """The proxy's socket for clients of HTTP/3."""

    def __init__(self, proxy: "Layer7", sock: socket.socket) -> None:
        """`sock` is bound. Raises OSError or ValueError for a certificate that cannot be used."""
        super().__init__(proxy.spec.certificate, proxy.spec.private_key, proxy.quic_idle_timeout_s)
        self.proxy = proxy
        self.tickets = ServerTickets(takes_early_data=False)
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self.begin(sock)

    def make_connection(self, original_destination_id: bytes) -> "Http3Client":
        return Http3Client(self, original_destination_id)

    def close(self) -> None:
        """Read no more. The connections are cut by the proxy."""
        self.datagrams.close()
        self._sock.close()


class Http3Client(Http3End):
    """What one client asks for."""

    def __init__(self, endpoint: Http3Endpoint, original_destination_id: bytes) -> None:
        super().__init__(endpoint.proxy, endpoint.configuration, original_destination_id, endpoint.tickets)
        self.quic.allow_streams(_MAX_STREAMS)
        self.cids = {original_destination_id, self.quic.host_cid}
        self._endpoint = endpoint
        self._datagram_socket = endpoint.datagrams
        self._strain = Strain()
        self._begun: dict[RelayedStream, None] = {}
        """Streams with something to send, which has not been given to QUIC."""
        self._ignored: set[int] = set()
        """Streams that are of no use any more, and that the client has not ended."""

    def abort(self) -> None:
        """Let go of the connection."""
        self._proxy.watch.members.discard(self)
        self.quic.close(error_code=ErrorCode.NO_ERROR)
        self.touch()

    # Http3Session

    def message_received(self, stream_id: int, data: bytes, is_end: bool) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id in self._ignored:
                if is_end:
                    self._ignored.remove(stream_id)
                return
            stream = self.streams[stream_id] = RelayedStream(stream_id, None, is_answer=False)
        had_exchange = stream.exchange is not None
        is_there = self.read(stream, data, is_end)
        if is_end:
            self._ignored.discard(stream_id)
            if is_there:
                self._request_ended(stream)
        exchange = stream.exchange
        if exchange is not None and not had_exchange and not exchange.is_over:
            exchange.has_body = not (exchange.is_complete and stream.reader.received_bytes == 0)
            self._proxy.begin(exchange)

    def message_reset(self, stream_id: int, event: StreamReset | StopSendingReceived) -> None:
        if isinstance(event, StreamReset):
            self._ignored.discard(stream_id)
        stream = self.streams.get(stream_id)
        if stream is not None:
            if self._strain.is_too_much():
                raise ProtocolError("too much work for nothing", ErrorCode.EXCESSIVE_LOAD)
            self._give_up(stream, ErrorCode.REQUEST_CANCELLED)
            if isinstance(event, StreamReset):
                self._ignored.discard(stream_id)

    def event_received(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self._proxy.counts.accepted += 1
            self._proxy.clients.add(self)
            self._proxy.watch.members.add(self)
            self.control.open()
        elif isinstance(event, ConnectionIdIssued):
            self._endpoint.add(event.connection_id, self)
        elif isinstance(event, ConnectionIdRetired):
            self._endpoint.remove(event.connection_id, self)

    def control_received(self) -> None:
        """A client's GOAWAY is about pushes, of which there are none."""

    def fail(self, error: ProtocolError) -> None:
        super().fail(error)
        self._abandon_all()

    def connection_ended(self, event: ConnectionTerminated) -> None:
        self._proxy.clients.discard(self)
        self._proxy.watch.members.discard(self)
        self._abandon_all()
        self._endpoint.forget(self)

    def _abandon_all(self) -> None:
        self._begun.clear()
        for stream in list(self.streams.values()):
            self.drop(stream)
            if stream.exchange is not None:
                stream.exchange.abandon()

    # Http3End

    def head_received(self, stream: RelayedStream, head: Head | None) -> None:
        if stream.reader.has_trailers:  # which are not passed on (RFC 9110, section 6.5.1)
            if head is None or head.pseudo:
                self.malformed(stream)
            return
        if head is None or not is_request(head):
            self.malformed(stream)
            return
        exchange = exchange_of(self._proxy, self, head, True, stream.id)
        if exchange.authority:
            stream.exchange = exchange
        else:
            self.malformed(stream)  # section 4.3.1: one of :authority and host must be there

    def body_received(self, stream: RelayedStream, data: bytes) -> None:
        exchange = stream.exchange
        assert exchange is not None
        if exchange.length is not None and stream.reader.received_bytes > exchange.length:
            self.malformed(stream)
            return
        self._proxy.counts.bytes_up += len(data)
        exchange.body(data)

    def _request_ended(self, stream: RelayedStream) -> None:
        exchange = stream.exchange
        if exchange is None:
            self._give_up(stream, ErrorCode.REQUEST_INCOMPLETE)
        elif exchange.length not in (None, stream.reader.received_bytes):
            self.malformed(stream)  # the next server would wait for the rest, or take it for a request
        else:
            exchange.end()

    def malformed(self, stream: RelayedStream) -> None:
        self._give_up(stream, ErrorCode.MESSAGE_ERROR)

    def _give_up(self, stream: RelayedStream, code: ErrorCode) -> None:
        """Nothing more is read or sent on a stream."""
        self.quic.cancel(stream.id, code)
        self._drop(stream)
        if stream.exchange is not None:
            stream.exchange.abandon()
        self.touch()

    def _drop(self, stream: RelayedStream) -> None:
        self.drop(stream)
        self._begun.pop(stream, None)
        if stream.exchange is None or not stream.exchange.is_complete:
            self._ignored.add(stream.id)

    def tell_room(self, stream: RelayedStream, has_room: bool) -> None:
        exchange = stream.exchange
        if exchange is not None and exchange.upward is not None:
            exchange.upward.room(exchange, has_room)

    def touch(self) -> None:
        self._endpoint.touch(self)

    # Downstream

    def interim(self, exchange: Exchange, status: int, fields: Fields) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.begin(stream, [(b":status", b"%d" % status), *lower(fields)])
            self.push(stream)
            self.touch()

    def answer_head(self, exchange: Exchange, status: int, fields: Fields, length: int | None) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.begin(stream, answer_section(status, fields, self._proxy.answer_via))
            self._begun[stream] = None

    def answer_piece(self, exchange: Exchange, data: bytes) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None and data:
            stream.pieces.append(data)
            self._begun[stream] = None

    def answer_end(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.quiet = 0
            self.finish(stream, exchange.trailers)
            if not exchange.is_complete:
                self.quic.stop(stream.id, ErrorCode.NO_ERROR)  # the rest of the request is not wanted (section 4.1)
            self._drop(stream)
            self.touch()

    def answer_flush(self) -> None:
        begun, self._begun = self._begun, {}
        for stream in begun:
            self.push(stream)
        self.touch()

    def failed(self, exchange: Exchange, status: int, message: str) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is None:
            return
        if exchange.answered and stream.has_begun:
            self._give_up(stream, ErrorCode.INTERNAL_ERROR)
            return
        section, text = refusal(status, message, self._proxy.answer_via)
        stream.out.clear()
        stream.pieces.clear()
        self.begin(stream, section)
        if exchange.method != b"HEAD":
            stream.pieces.append(text)
        exchange.trailers = []
        self.answer_end(exchange)

    def cut(self, exchange: Exchange) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self._give_up(stream, ErrorCode.INTERNAL_ERROR)

    def switched(self, exchange: Exchange, fields: Fields, upgrade: bytes, upward: End, rest: bytes) -> None:
        raise AssertionError("no request of HTTP/3 changes the protocol")

    def connected(self, exchange: Exchange, upward: End) -> None:
        raise AssertionError("tunnels are not offered to clients of HTTP/3")

    def room(self, exchange: Exchange, has_room: bool) -> None:
        stream = self.streams.get(exchange.stream)
        if stream is not None:
            self.hold(stream, has_room)

    # Watched

    def looked_at(self, looks: int) -> None:
        if self.quiet > looks and not any(s.exchange and s.exchange.is_complete for s in self.streams.values()):
            self._proxy.counts.idle_closed += 1
            self.abort()
