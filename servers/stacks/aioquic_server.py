"""HTTP/3 as aioquic's examples serve it: its own asyncio server, protocol and HTTP/3 layer, used plainly."""

import asyncio
import socket
from functools import partial
from typing import Any, ClassVar

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, ProtocolNegotiated, QuicEvent, StreamReset

from bench.contract import MAX_BODY_BYTES
from servers.counters import ACCEPTS, REQUESTS
from servers.http2_messages import TOO_LARGE, Refusal, Request
from servers.httpdate import http_date
from servers.service import Collect, Refused, Route, Upload
from servers.worker import Lives, TransportKind, Worker


class _Stream:
    """A request that is on its way."""

    __slots__ = ("received_bytes", "receiver", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.receiver: Collect | Upload | None = None
        self.received_bytes = 0


class _Connection(QuicConnectionProtocol):
    """One client."""

    transport_kind: ClassVar[TransportKind] = "quic"
    lives: ClassVar[Lives] = "loop"
    alpn: ClassVar[tuple[str, ...]] = ("h3",)

    def __init__(self, worker: Worker, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._worker = worker
        self._http: H3Connection | None = None
        self._requests: dict[int, _Stream] = {}
        self._running: dict[int, Request] = {}
        self._receiving = False

    # QuicConnectionProtocol

    def datagram_received(self, data: bytes | str, addr: Any) -> None:
        self._receiving = True
        super().datagram_received(data, addr)
        self._receiving = False

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ProtocolNegotiated):
            self._http = H3Connection(self._quic)
        elif isinstance(event, HandshakeCompleted):
            self._worker.counts[ACCEPTS] += 1
        elif isinstance(event, StreamReset):
            self._requests.pop(event.stream_id, None)
        if self._http is not None:
            for http_event in self._http.handle_event(event):
                self._http_event_received(http_event)

    # servers.worker.Connection

    def answer(self, token: int, route: Route, answer: bytes) -> None:
        request = self._running.pop(token)
        if isinstance(answer, Refused):
            self._refuse(token, Refusal(answer.status, answer.decode()))
        else:
            last = request.head_only or not answer
            self._send_head(token, 200, route.content_type, None if route.in_pieces else len(answer), [], last)
            if not last:
                *pieces, end = route.pieces(answer) if route.in_pieces else [answer]
                for piece in pieces:
                    self._send(token, piece, last=False)
                self._send(token, end, last=True)
        if not self._receiving:
            self.transmit()

    def drain(self) -> None:
        """aioquic has no GOAWAY to send."""

    def abort(self) -> None:
        self.close(ErrorCode.H3_NO_ERROR)

    @property
    def is_idle(self) -> bool:
        return not (self._requests or self._running)

    # Requests

    def _http_event_received(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            if event.stream_id not in self._requests:
                self._begin(event.stream_id, Request(self._worker.service, event.headers))
        elif isinstance(event, DataReceived):
            stream = self._requests.get(event.stream_id)
            if stream is not None:
                stream.received_bytes += len(event.data)
                if stream.received_bytes > MAX_BODY_BYTES:
                    stream.request.outcome = TOO_LARGE
                elif stream.receiver is not None:
                    stream.receiver.feed(event.data)
        else:
            return
        if event.stream_ended:
            self._complete(event.stream_id)

    def _begin(self, stream_id: int, request: Request) -> None:
        stream = self._requests[stream_id] = _Stream(request)
        if isinstance(request.outcome, Route):
            stream.receiver = request.outcome.receiver()

    def _complete(self, stream_id: int) -> None:
        stream = self._requests.pop(stream_id, None)
        if stream is None:
            return
        request = stream.request
        if request.malformed or request.is_trailers:
            self._quic.reset_stream(stream_id, ErrorCode.H3_MESSAGE_ERROR)
        elif isinstance(request.outcome, Refusal):
            self._worker.counts[REQUESTS] += 1
            self._refuse(stream_id, request.outcome)
        elif request.outcome.topic is not None:
            self._refuse(stream_id, Refusal(501, "this stack has no streams of events"))
        else:
            assert stream.receiver is not None
            self._worker.counts[REQUESTS] += 1
            self._running[stream_id] = request
            self._worker.run(self, stream_id, request.outcome, stream.receiver.finish())

    def _refuse(self, stream_id: int, refusal: Refusal) -> None:
        self._send_head(stream_id, refusal.status, b"text/plain", len(refusal.body), list(refusal.fields))
        self._send(stream_id, refusal.body, last=True)

    def _send_head(
        self,
        stream_id: int,
        status: int,
        content_type: bytes,
        size: int | None,
        fields: list[tuple[bytes, bytes]],
        last: bool = False,
    ) -> None:
        assert self._http is not None
        head = [(b":status", b"%d" % status), (b"date", http_date()), (b"content-type", content_type), *fields]
        if size is not None:
            head.append((b"content-length", b"%d" % size))
        try:
            self._http.send_headers(stream_id, head, end_stream=last)
        except (RuntimeError, ValueError):
            return  # the client has reset the stream

    def _send(self, stream_id: int, data: bytes, last: bool) -> None:
        assert self._http is not None
        try:
            self._http.send_data(stream_id, data, last)
        except (RuntimeError, ValueError):
            return  # the client has reset the stream


class AioquicServer:
    """One socket, and so all clients of a worker."""

    transport_kind: ClassVar[TransportKind] = "quic"
    lives: ClassVar[Lives] = "listener"
    alpn: ClassVar[tuple[str, ...]] = ("h3",)

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._connections: set[_Connection] = set()
        self._server: QuicServer

    async def start(self, sock: socket.socket, backlog: int) -> None:
        configuration = QuicConfiguration(is_client=False, alpn_protocols=list(self.alpn))
        configuration.load_cert_chain(self._worker.spec.certificate, self._worker.spec.private_key)
        make_server = partial(QuicServer, configuration=configuration, create_protocol=self._make)
        _, self._server = await asyncio.get_running_loop().create_datagram_endpoint(make_server, sock=sock)

    async def stop(self, grace_s: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        while any(not connection.is_idle for connection in self._connections) and loop.time() < until:
            await asyncio.sleep(0.005)
        self._server.close()
        await asyncio.sleep(0)

    def _make(self, *args: Any, **options: Any) -> _Connection:
        connection = _Connection(self._worker, *args, **options)
        self._connections.add(connection)
        return connection
