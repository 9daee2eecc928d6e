"""The client's end of a WebRTC connection with one data channel, on which each message is a frame (see
`bench.wire.webrtc_signalling`)."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import lru_cache
from typing import ClassVar, Literal

from aiortc import RTCDataChannel, RTCDataChannelParameters

from bench.contract import Security, SessionLink
from bench.errors import ErrorKind, ProtocolError
from bench.wire.frames import SUBPROTOCOL
from bench.wire.http1 import ResponseReader, encode_request
from bench.wire.webrtc_peer import Peer
from bench.wire.webrtc_signalling import MAX_DESCRIPTION_BYTES, PATH, Description, decode_description

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class FrameChannel(ABC):
    """One connection with one data channel, ordered and reliable: what all its clients have in common (see
    `bench.load.client.Session`)."""

    transport_kind: ClassVar[Literal["session"]] = "session"
    alpn: ClassVar[tuple[str, ...]] = ()
    channel_parameters: ClassVar = RTCDataChannelParameters(label=SUBPROTOCOL, protocol=SUBPROTOCOL)

    def __init__(self, authority: str) -> None:
        self.closing = False
        self.failures: list[tuple[Hashable, ErrorKind]] = []
        self._authority = authority
        self._channel: RTCDataChannel
        self._link: SessionLink
        self._life: asyncio.Task[None]
        self._usable: asyncio.Future[None]
        self._ended = asyncio.Event()
        self._error: Exception | None = None

    # Session

    async def connect(self, host: str, port: int, security: Security | None, link: SessionLink) -> None:
        """`security` is that of the signalling; data channels have their own, with the certificates whose fingerprints
        are signalled."""
        self._link = link
        loop = asyncio.get_running_loop()
        self._usable = loop.create_future()
        self._life = loop.create_task(self._live(host, port, security))
        try:
            await self._usable
        except BaseException:
            self._ended.set()  # for a cancellation can get lost (in the wait_for of Python 3.11)
            if not self.closing:
                self._life.cancel()
            raise

    def close(self) -> None:
        self._ended.set()

    # What each kind does

    def _channel_open(self) -> None:
        """The channel is open."""
        self._set_usable()

    @abstractmethod
    def _take(self, message: bytes | str) -> None:
        """A message has arrived. Raises ProtocolError, which ends the connection."""

    def _set_usable(self) -> None:
        """Exchanges may be sent."""
        if not self._usable.done():
            self._usable.set_result(None)

    # The life of the connection

    async def _live(self, host: str, port: int, security: Security | None) -> None:
        """Signal, connect, and wait for the end. What goes wrong before the client is usable is what `connect` raises;
        the end of a usable one is told to the link."""
        ended, usable = self._ended, self._usable
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
            if not usable.done():
                raise self._error or ProtocolError("the connection ended before its data channel was open")
        except (OSError, ProtocolError) as error:
            if not usable.done():
                usable.set_exception(error)
        finally:
            self.closing = True
            if peer is not None:
                await peer.stop()
            if usable.done() and not usable.cancelled() and usable.exception() is None:
                self._link.lost(self._error)

    def _send(self, message: bytes) -> None:
        # A channel that the server is closing takes nothing: the request fails when it is closed.
        if self._channel.readyState == "open":
            self._channel.send(message)

    def _received(self, message: bytes | str) -> None:
        try:
            self._take(message)
        except ProtocolError as error:
            self._error = error
            self._ended.set()


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
