"""The server of WebRTC data channels: signalling over the lean HTTP/1.1 server, and the peers that come of it.

`POST /webrtc/offer` is answered with this end's description (see `bench.wire.webrtc_signalling`); all else is served as
HTTP/1.1. A peer outlives the connection that it was signalled over.
"""

from functools import partial
from typing import ClassVar

from bench.errors import ProtocolError
from bench.wire.webrtc_signalling import MAX_DESCRIPTION_BYTES, PATH, Description, decode_description
from servers.http1 import Http1Connection, Refusal
from servers.httpdate import http_date
from servers.service import Route, Service
from servers.webrtc_peer import WebrtcPeer
from servers.worker import Connection, Lives, Worker

_TARGET = PATH.encode()

_OFFER: Route = Service().route(b"/echo")
"""Stands for an offer among the requests of a connection: a route whose body is kept whole, and which is nobody
else's."""

_LAST = 4  # of a token: this answer is the connection's last (see `servers.http1`)


class WebrtcConnection(Http1Connection):
    """One client's signalling."""

    lives: ClassVar[Lives] = "loop"

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._run = self._run_or_meet

    def head_received(self, method: bytes, target: bytes) -> None:
        if target != _TARGET:
            super().head_received(method, target)
            return
        self._flags = 0
        self._route = None
        if method != b"POST":
            self._refuse(Refusal(405, "allowed here: POST", b"allow: POST\r\n"))
        elif self.content_length > MAX_DESCRIPTION_BYTES:
            self._refuse(Refusal(413, f"an offer is at most {MAX_DESCRIPTION_BYTES} bytes long"))
        else:
            self._route = _OFFER
            if self.expects_continue:
                self._continue()

    def _run_or_meet(self, connection: Connection, token: int, route: Route, body: bytes) -> None:
        if route is not _OFFER:
            self._worker.run(connection, token, route, body)
            return
        try:
            offer = decode_description(body, "offer")
        except ProtocolError as error:
            self._reply(Refusal(error.code, str(error)).encode(token))
            return
        # At the address that the client has found already.
        address = self._transport.get_extra_info("sockname")[0]
        WebrtcPeer(self._worker, address, offer, partial(self._met, token))

    def _met(self, token: int, answer: Description | None) -> None:
        if answer is None:
            self._reply(Refusal(503, "no UDP socket can be had for a peer").encode(token))
            return
        body = answer.encode("answer")
        head = b"HTTP/1.1 200 OK\r\ndate: %b\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n" % (
            http_date(),
            b"connection: close\r\n" if token & _LAST else b"",
            len(body),
        )
        self._reply(head + body)

    def _reply(self, data: bytes) -> None:
        if self._closed:
            return
        self._running = False
        self._send(data)
        if not self._collecting:
            self._run_waiting()
