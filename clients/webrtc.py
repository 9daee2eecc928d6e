"""The clients of WebRTC data channels: each request and each answer is a frame in a message (see
`bench.wire.webrtc_signalling`)."""

import asyncio
import ssl
from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import islice
from typing import ClassVar, Literal, cast

from aiortc import RTCDataChannel, RTCDataChannelParameters

from bench.contract import Exchange, Security, SessionLink
from bench.errors import ErrorKind, ProtocolError, UnsupportedError
from bench.wire.frames import HEADER_BYTES, ID, OK, SUBPROTOCOL, decode_datagram, frame_ids, is_status, shape_of
from bench.wire.http1 import ResponseReader, encode_request
from bench.wire.webrtc_peer import Peer
from bench.wire.webrtc_signalling import (
    MAX_DESCRIPTION_BYTES,
    MAX_PAYLOAD_BYTES,
    PATH,
    Description,
    decode_description,
)

_IN_FLIGHT_BYTES = 16 * 1024 * 1024
"""What may be under way either way: data channels do not push back, so the number of exchanges has to."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class WebrtcClient:
    """One connection with one data channel, ordered and reliable."""

    transport_kind: ClassVar[Literal["session"]] = "session"
    channel_parameters: ClassVar = RTCDataChannelParameters(label=SUBPROTOCOL, protocol=SUBPROTOCOL)

    def __init__(self, exchange: Exchange, authority: str, check_content: bool) -> None:
        """Raises UnsupportedError if the request or its answer cannot fit into a message."""
        largest = max(len(exchange.body), len(exchange.answer))
        if largest > MAX_PAYLOAD_BYTES:
            raise UnsupportedError(
                f"webrtc carries each request and each answer in one message, with a payload of at most"
                f" {MAX_PAYLOAD_BYTES} bytes; choose a smaller --payload, or websocket"
            )
        self.max_in_flight = max(1, min(1 << 16, _IN_FLIGHT_BYTES // (HEADER_BYTES + largest)))
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._authority = authority
        self._around_request = shape_of(exchange.opcode, exchange.body, exchange.a, exchange.b).around
        self._around_answer = shape_of(OK, exchange.answer).around
        self._expected = exchange.answer if check_content else None
        self._ids = frame_ids()
        self._waiting: set[bytes] = set()
        self._channel: RTCDataChannel
        self._link: SessionLink
        self._life: asyncio.Task[None]
        self._opened: asyncio.Future[None]
        self._ended = asyncio.Event()
        self._error: Exception | None = None

    # Session

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        """`security` is that of the signalling; data channels have their own, with the certificates whose fingerprints
        are signalled."""
        self._link = link
        loop = asyncio.get_running_loop()
        self._opened = loop.create_future()
        self._life = loop.create_task(self._live(host, port, security))
        try:
            await self._opened
        except BaseException:
            self._ended.set()  # for a cancellation can get lost (in the wait_for of Python 3.11)
            if not self.closing:
                self._life.cancel()
            raise

    def request(self, count: int) -> tuple[Sequence[Hashable], list[bytes]]:
        around = self._around_request
        if count == 1:
            frame_id = next(self._ids)
            self._waiting.add(frame_id)
            self._send(frame_id.join(around))
            return (frame_id,), []
        ids = list(islice(self._ids, count))
        self._waiting.update(ids)
        for frame_id in ids:
            self._send(frame_id.join(around))
        return ids, []

    def abandon(self, exchange_id: Hashable) -> bool:
        self._waiting.discard(cast(bytes, exchange_id))
        return True

    def close(self) -> None:
        self._ended.set()

    # The life of the connection

    async def _live(self, host: str, port: int, security: Security | None) -> None:
        """Signal, connect, and wait for the end. What goes wrong before the channel is open is what `connect` raises;
        the end of an open one is told to the link."""
        ended, opened = self._ended, self._opened
        peer: Peer | None = None
        try:
            signalling = await _Signalling.connect(host, port, security)
            try:
                peer = Peer(signalling.address, True, RTCDataChannel.close)
                offer = await peer.gather()
                answer = await signalling.ask(self._authority, offer)
            finally:
                signalling.close()
            await peer.connect(answer, ended.set)
            self._channel = channel = RTCDataChannel(peer.sctp, self.channel_parameters)
            channel.on("message", self._received)
            channel.on("close", ended.set)
            channel.on("open", self._channel_open)
            await ended.wait()
            if not opened.done():
                raise ProtocolError("the connection ended before its data channel was open")
        except (OSError, ProtocolError) as error:
            if not opened.done():
                opened.set_exception(error)
        finally:
            self.closing = True
            if peer is not None:
                await peer.stop()
            if opened.done() and not opened.cancelled() and opened.exception() is None:
                self._link.lost(self._error)

    def _channel_open(self) -> None:
        if not self._opened.done():
            self._opened.set_result(None)

    def _send(self, message: bytes) -> None:
        # A channel that the server is closing takes nothing: the request fails when it is closed.
        if self._channel.readyState == "open":
            self._channel.send(message)

    def _received(self, message: bytes | str) -> None:
        if isinstance(message, bytes):
            frame_id = message[ID]
            if frame_id in self._waiting and frame_id.join(self._around_answer) == message:
                self._waiting.remove(frame_id)
                self._link.answered((frame_id,))
                return
        try:
            self._look_closer(message)
        except ProtocolError as error:
            self._error = error
            self._ended.set()

    def _look_closer(self, message: bytes | str) -> None:
        """An answer that is not the one expected, nor waited for."""
        if isinstance(message, str):
            raise ProtocolError("a text message is no frame")
        status, _, _, frame_id, payload = decode_datagram(message)
        if not is_status(status):
            raise ProtocolError("not an answer")
        if frame_id not in self._waiting:
            return
        self._waiting.remove(frame_id)
        if status != OK:
            self.failures.append((frame_id, "status"))
        elif self._expected is not None and payload != self._expected:
            self.failures.append((frame_id, "content"))
        else:
            self._link.answered((frame_id,))
            return
        self._link.answered(())


class UnreliableWebrtcClient(WebrtcClient):
    """One connection with one data channel, unordered and without retransmission: a lost message is an exchange that
    the engine gives up on."""

    channel_parameters: ClassVar = RTCDataChannelParameters(
        label=SUBPROTOCOL, protocol=SUBPROTOCOL, ordered=False, maxRetransmits=0
    )


class _Signalling(ResponseReader):
    """The HTTP connection for one offer and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__()
        self._reader = reader
        self._writer = writer
        self._body = bytearray()
        self._status = 0
        self.address: str = writer.get_extra_info("sockname")[0]
        """The IP address that this end of the connection has."""

    @classmethod
    async def connect(cls, host: str, port: int, security: Security | None) -> "_Signalling":
        if security is None:
            return cls(*await asyncio.open_connection(host, port))
        return cls(
            *await asyncio.open_connection(
                host, port, ssl=_context(security), server_hostname=security.server_name or host
            )
        )

    async def ask(self, authority: str, offer: Description) -> Description:
        """The answer to an offer. Raises ProtocolError if there is none."""
        fields = b"content-type: application/json\r\n"
        self._writer.write(encode_request("POST", PATH, authority, offer.encode("offer"), fields))
        while not self._status:
            data = await self._reader.read(65536)
            if data:
                self.parse(data)
            elif not self.parse_eof():
                raise ConnectionResetError("the server closed the connection instead of answering the offer")
        if self._status != 200:
            lines = self._body.decode(errors="replace").splitlines()
            raise ProtocolError(f"the server refused the offer with {self._status}: {lines[0] if lines else ''}")
        return decode_description(bytes(self._body), "answer")

    def close(self) -> None:
        self._writer.close()

    # ResponseReader

    def body_received(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_DESCRIPTION_BYTES:
            raise ProtocolError(f"an answer of more than {MAX_DESCRIPTION_BYTES} bytes to the offer")

    def response_received(self, status: int) -> None:
        self._status = status


@lru_cache(maxsize=4)
def _context(security: Security) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=security.authorities or None)
    if security.tls:
        context.minimum_version = context.maximum_version = _VERSIONS[security.tls]
    if security.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
