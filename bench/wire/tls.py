"""TLS (RFC 8446, RFC 5246) between a transport and a protocol of asyncio's, for either end.

A `TlsTransport` is the protocol of the transport below it, and the transport of the protocol above it. It does no
input or output of its own, so the transport below may be that of an event loop or of a blocking socket. Unlike the TLS
transports of event loops it can end one direction: what was sent is closed by close_notify, and reading goes on
(RFC 8446, section 6.1). An end of the stream without close_notify is an error, since anybody could have cut it there.

What does the cryptography is a `TlsEnd`: an object of Python's ssl, or one of `bench.wire.openssl`, which has the early
data that Python's ssl has not.
"""

import asyncio
import contextlib
import ssl
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, cast

from bench.errors import ProtocolError

_RECORD_BYTES = 16 * 1024
"""The most that one record carries (RFC 8446, section 5.1)."""


class Bio(Protocol):
    """Encrypted bytes on their way, as `ssl.MemoryBIO` holds them."""

    @property
    def pending(self) -> int:
        """How many bytes there are to take; what is behind them is told by a further call."""

    def write(self, data: bytes, /) -> object:
        """Put bytes in."""

    def read(self) -> bytes:
        """Take all bytes out."""


class TlsObject(Protocol):
    """What is needed of `ssl.SSLObject`. Each method raises ssl.SSLError, and SSLWantReadError until more has
    arrived."""

    @property
    def context(self) -> Any:
        """What it was made from."""

    def do_handshake(self) -> None:
        """On return, data may be read and written."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes that were decrypted; none at the end that the peer has announced."""

    def write(self, data: Any, /) -> int:
        """How many bytes of the data were encrypted."""

    def unwrap(self) -> object:
        """Announce the end."""

    def selected_alpn_protocol(self) -> str | None:
        """By its name of ALPN (RFC 7301)."""

    def cipher(self) -> tuple[str, str, int] | None:
        """Name, version and secret bits."""


class TlsEnd(NamedTuple):
    """One end of a connection, with the bytes that have arrived and those that are to be sent."""

    tls: TlsObject
    incoming: Bio
    outgoing: Bio


def python_end(
    context: ssl.SSLContext, server_name: str | None = None, session: ssl.SSLSession | None = None
) -> TlsEnd:
    """An end by Python's ssl. `server_name` is the name or address that the server's certificate must be for, on the
    client's side; it is sent where it is a name (SNI, RFC 6066, section 3). A client may go on with a session that the
    same context has had. Raises ValueError for what cannot be a name."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(
        incoming, outgoing, server_side=server_name is None, server_hostname=server_name, session=session
    )
    # What Python's object wraps is called without the wrapper: that is a tenth of what an exchange takes.
    core = getattr(tls, "_sslobj", tls)
    tls.read, tls.write = core.read, core.write  # type: ignore[method-assign]
    return TlsEnd(tls, incoming, outgoing)


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """One connection. `established` says who is above; until then it has no protocol, and nothing is to be written."""

    def __init__(self, end: TlsEnd) -> None:
        super().__init__()
        self._tls, self._incoming, self._outgoing = end
        self._protocol: asyncio.Protocol | None = None
        self._error: Exception | None = None
        self._ended = False
        """Nothing is sent any more."""
        self._peer_ended = False
        self.lower: asyncio.Transport
        """The transport below."""
        self.send: Callable[[bytes], object]
        """Takes the encrypted bytes: `write` of the transport below, unless something else is put here."""
        self._receive = self._incoming.write
        self._decrypt = self._tls.read
        self._encrypt = self._tls.write
        self._encrypted = self._outgoing.read
        self._deliver: Callable[[bytes], None]

    # What the two ends differ in

    @abstractmethod
    def established(self, selected: str | None) -> asyncio.Protocol:
        """The handshake is over, and this was selected by ALPN (RFC 7301). Gives the protocol above, whose
        `connection_made` is called next. Raises ProtocolError if there is to be none."""

    def failed(self, error: Exception) -> None:
        """The connection is gone before the handshake was over."""

    # The protocol of the transport below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.lower = cast(asyncio.Transport, transport)
        self.send = self.lower.write
        self.shake_hands(b"")

    def data_received(self, data: bytes) -> None:
        if self._protocol is None:
            self.shake_hands(data)
            return
        if self._peer_ended:
            return
        self._receive(data)
        try:
            data = self._decrypt(_RECORD_BYTES)
            if data and self._incoming.pending:
                data = self._read_on(data)
        except ssl.SSLWantReadError:
            self._flush()  # it may have been a message of TLS itself, and have an answer
            return
        except ssl.SSLZeroReturnError:  # once our own end is announced, this is how the other's is told
            data = b""
        except ssl.SSLError as error:
            self.fail(error)
            return
        if data:
            self._deliver(data)
        if self._peer_ended or not data:
            self._end_received()

    def eof_received(self) -> bool:
        if self._peer_ended:
            return True  # and it was asked then whether to go on
        self._error = self._error or ssl.SSLEOFError("the connection was cut: its end was not announced")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        error = self._error or exc
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            del self._deliver  # the last reference in a circle: what OpenSSL holds is freed without the collector
            protocol.connection_lost(error)
        else:
            self.failed(error or ConnectionResetError("the connection was closed during the TLS handshake"))

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # The transport of the protocol above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._ended or not data:
            return
        while (taken := self._encrypt(data)) < len(data):
            data = memoryview(data)[taken:]
        self.send(self._encrypted())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._announce_end()
        self.lower.write_eof()

    def can_write_eof(self) -> bool:
        return self.lower.can_write_eof()

    def close(self) -> None:
        self._announce_end()
        self.lower.close()

    def abort(self) -> None:
        self._ended = True
        self.lower.abort()

    def is_closing(self) -> bool:
        return self.lower.is_closing()

    def pause_reading(self) -> None:
        self.lower.pause_reading()

    def resume_reading(self) -> None:
        self.lower.resume_reading()

    def is_reading(self) -> bool:
        return self.lower.is_reading()

    def get_write_buffer_size(self) -> int:
        return self.lower.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.lower.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.lower.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "ssl_object":
                return self._tls
            case "sslcontext":
                return self._tls.context
            case "cipher":
                return self._tls.cipher()
        return self.lower.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)
        self._deliver = self._protocol.data_received

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol or self

    # TLS

    def shake_hands(self, data: bytes) -> None:
        """Take what has arrived of the handshake, and go on with it."""
        self._receive(data)
        try:
            self._tls.do_handshake()
            self._flush()
            protocol = self.established(self._tls.selected_alpn_protocol())
        except ssl.SSLWantReadError:
            self._flush()
        except (ssl.SSLError, ProtocolError) as error:
            self.fail(error)
        else:
            self.set_protocol(protocol)
            protocol.connection_made(self)
            if self._incoming.pending:
                self.data_received(b"")

    def fail(self, error: Exception) -> None:
        """Close the connection, with the alert that TLS may have for the error."""
        self._error = error
        self._ended = True
        if self.lower.get_write_buffer_size():
            self.lower.abort()  # the peer does not read
        else:
            self._flush()
            self.lower.close()

    def _read_on(self, data: bytes) -> bytes:
        """All that can be decrypted, behind what has been, in one piece."""
        pieces = [data]
        try:
            while self._incoming.pending and (data := self._decrypt(_RECORD_BYTES)):
                pieces.append(data)
            self._peer_ended = not data
        except ssl.SSLWantReadError:
            pass  # the rest is part of a record, or a message of TLS itself
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
        return b"".join(pieces)

    def _end_received(self) -> None:
        """close_notify has come. What follows it is ignored."""
        self._peer_ended = True
        protocol = self._protocol
        if protocol is not None and not self.is_closing() and not protocol.eof_received():
            self.close()

    def _announce_end(self) -> None:
        if not self._ended:
            self._ended = True
            if self._protocol is not None:
                with contextlib.suppress(ssl.SSLError):  # that the peer has not announced its own end
                    self._tls.unwrap()
                self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.send(self._encrypted())
