"""TLS 1.3 with early data (0-RTT: RFC 8446, sections 2.3, 4.2.10 and 8), which Python's ssl does not have.

It is the OpenSSL that the package `cryptography` brings, by way of pyOpenSSL; the functions for early data, which that
leaves out, are called directly. Nothing outside of this file knows of either. Both ends look like objects of Python's
ssl (`bench.wire.tls.TlsEnd`), with one liberty: their `do_handshake` returns as soon as early data may be written, or
has arrived, and the rest of the handshake is done while reading. `is_complete` says whether it is over.

A server accepts early data once for each ticket: OpenSSL remembers the tickets that it has given (in memory, so in one
process) and forgets each when it is used (RFC 8446, section 8.1). So a first flight that is sent twice is acted upon
once; the second time it gets a full handshake, and what it carried is not read.
"""

import functools
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

from bench.errors import UnsupportedError
from bench.wire.tls import TlsEnd

MAX_EARLY_BYTES = 16 * 1024
"""The most early data that a server takes on a connection, which it says in its tickets."""

_FUNCTIONS = (
    "SSL_CTX_set_max_early_data",
    "SSL_SESSION_get_max_early_data",
    "SSL_read_early_data",
    "SSL_write_early_data",
    "SSL_CTX_set1_curves_list",
    "BIO_get_mem_data",
    "X509_VERIFY_PARAM_set1_host",
    "X509_VERIFY_PARAM_set1_ip",
)
_HOW = "install the pyOpenSSL and cryptography that requirements.lock names"

_GROUPS = b"X25519:P-256:X448:P-521:P-384"
"""Key exchange as the OpenSSL 3.0 of Python's ssl has it. Newer ones begin with ML-KEM, whose share of 1,184 bytes
makes a ClientHello longer than what a SYN carries, which takes a round trip more (TCP Fast Open)."""

_READ_ERROR, _READ_SUCCESS = 0, 1  # SSL_read_early_data(3)
_CHUNK_BYTES = 16 * 1024

_ACCEPTED = b"TLSv1.3 write end of early data"
"""A state that a client passes only if the server took its early data (RFC 8446, section 4.5)."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


@functools.cache
def _libraries() -> tuple[Any, Any, Any]:
    """pyOpenSSL's SSL module, OpenSSL's functions, and what makes C's data. Raises UnsupportedError."""
    try:
        from cryptography.hazmat.bindings.openssl.binding import Binding
        from OpenSSL import SSL
    except ImportError as error:
        raise UnsupportedError(f"no early data here: {error.name or error} is missing; {_HOW}") from None
    lib = Binding.lib
    missing = next((name for name in _FUNCTIONS if not hasattr(lib, name)), None)
    if missing is not None:
        raise UnsupportedError(f"no early data here: cryptography has no {missing}; {_HOW}")
    return SSL, lib, Binding.ffi


def require_early_data() -> None:
    """Raises UnsupportedError where early data cannot be spoken."""
    _libraries()


def _as_ssl(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """The call, with pyOpenSSL's errors as those of Python's ssl."""

    @functools.wraps(call)
    def translated(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        library = _libraries()[0]
        try:
            return call(*args, **kwargs)
        except library.WantReadError:
            raise ssl.SSLWantReadError from None
        except library.ZeroReturnError:
            raise ssl.SSLZeroReturnError from None
        except library.SysCallError:
            raise ssl.SSLEOFError("the connection was cut") from None
        except library.Error as error:
            raise _translated(error) from None

    return translated


def _translated(error: Exception) -> ssl.SSLError:
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = "; ".join(reason for _, _, reason in reasons) or "an error without a reason"
    kind = ssl.SSLCertVerificationError if "certificate verify failed" in text else ssl.SSLError
    return kind(text)


class _Incoming:
    """What has arrived."""

    def __init__(self, connection: Any) -> None:
        _, self._lib, ffi = _libraries()
        self._connection = connection
        self._at = ffi.new("char **")
        self.early_bytes = 0
        """Early data that was decrypted and not read yet: it is pending like what was not decrypted."""

    @property
    def pending(self) -> int:
        held: int = self._lib.BIO_get_mem_data(self._connection._into_ssl, self._at)
        return held + self.early_bytes

    def write(self, data: bytes, /) -> None:
        if data:
            self._connection.bio_write(data)

    def read(self) -> bytes:
        raise NotImplementedError("OpenSSL reads it")


class _Outgoing:
    """What is to be sent."""

    def __init__(self, connection: Any) -> None:
        _, self._lib, ffi = _libraries()
        self._connection = connection
        self._at = ffi.new("char **")

    @property
    def pending(self) -> int:
        held: int = self._lib.BIO_get_mem_data(self._connection._from_ssl, self._at)
        return held

    def write(self, data: bytes, /) -> None:
        raise NotImplementedError("OpenSSL writes it")

    def read(self) -> bytes:
        size = self.pending
        taken: bytes = self._connection.bio_read(size) if size else b""
        return taken


class _End:
    """What both ends have in common."""

    def __init__(self, connection: Any) -> None:
        self.is_complete = False
        """The handshake is over, so what has arrived is no replay."""
        self._connection = connection
        self._ssl = connection._ssl
        self._library, self._lib, self._ffi = _libraries()
        self._moved = self._ffi.new("size_t *")
        self._incoming = _Incoming(connection)

    def end(self) -> TlsEnd:
        """As transports take it."""
        return TlsEnd(self, self._incoming, _Outgoing(self._connection))  # type: ignore[arg-type]  # of the two ends

    @property
    def context(self) -> Any:
        return self._connection.get_context()

    @property
    def session_reused(self) -> bool:
        """The handshake went on from a ticket."""
        return bool(self._lib.SSL_session_reused(self._ssl))

    def selected_alpn_protocol(self) -> str | None:
        return self._connection.get_alpn_proto_negotiated().decode("ascii") or None

    def cipher(self) -> tuple[str, str, int] | None:
        name = self._connection.get_cipher_name()
        if name is None:
            return None
        return name, self._connection.get_cipher_version(), self._connection.get_cipher_bits()

    @_as_ssl
    def unwrap(self) -> None:
        self._connection.shutdown()

    def _write_early(self, data: bytes) -> None:
        """Early data of a client; or of a server what it says before the client's handshake is over."""
        result = self._lib.SSL_write_early_data(self._ssl, self._ffi.from_buffer(data), len(data), self._moved)
        self._connection._raise_ssl_error(self._ssl, result)

    def _shake_hands(self) -> None:
        self._connection.do_handshake()
        self.is_complete = True


class ServerContext:
    """What all connections of a server share: its certificate, and the tickets it has given."""

    def __init__(self, certificate: str, private_key: str, alpn: Sequence[str]) -> None:
        """Files in PEM form, and what is spoken, the best first. Raises UnsupportedError."""
        library, lib, _ = _libraries()
        self._context = context = library.Context(library.TLS_SERVER_METHOD)
        context.set_min_proto_version(library.TLS1_3_VERSION)
        context.set_max_proto_version(library.TLS1_3_VERSION)
        context.use_certificate_chain_file(certificate)
        context.use_privatekey_file(private_key)
        context.set_session_id(b"wirebench")
        lib.SSL_CTX_set_max_early_data(context._context, MAX_EARLY_BYTES)
        if alpn:
            spoken = [name.encode("ascii") for name in alpn]

            def select(_connection: Any, offered: list[bytes]) -> Any:
                return next((name for name in spoken if name in offered), library.NO_OVERLAPPING_PROTOCOLS)

            context.set_alpn_select_callback(select)

    def end(self) -> TlsEnd:
        """The server's end of a new connection; its TLS object is a ServerTls."""
        connection = _libraries()[0].Connection(self._context, None)
        connection.set_accept_state()
        return ServerTls(connection).end()


class ServerTls(_End):
    """The server's end of a connection."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._buffer = self._ffi.new("char[]", _CHUNK_BYTES)
        self._is_reading_early = True
        self._early = b""

    @_as_ssl
    def do_handshake(self) -> None:
        self._go_on()

    @_as_ssl
    def read(self, size: int, /) -> bytes:
        if not (self.is_complete or self._early):
            self._go_on()
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            self._incoming.early_bytes = len(self._early)
            return data
        received: bytes = self._connection.recv(size)
        return received

    @_as_ssl
    def write(self, data: Any, /) -> int:
        if self.is_complete:
            sent: int = self._connection.send(data)
            return sent
        self._write_early(bytes(data))
        return len(data)

    def _go_on(self) -> None:
        """Go on with the handshake until it is over, or until there is early data."""
        if self._is_reading_early:
            result = self._lib.SSL_read_early_data(self._ssl, self._buffer, _CHUNK_BYTES, self._moved)
            if result == _READ_ERROR:
                self._connection._raise_ssl_error(self._ssl, result)
            elif result == _READ_SUCCESS:
                self._early = self._ffi.buffer(self._buffer, self._moved[0])[:]
                self._incoming.early_bytes = len(self._early)
                return
            else:
                self._is_reading_early = False
        self._shake_hands()


class ClientContext:
    """What all connections of a load share: whom to trust, and what is spoken."""

    def __init__(self, authorities: str, insecure: bool, alpn: Sequence[str]) -> None:
        """A file of certificates (PEM), or nothing for those of the system. Raises UnsupportedError, and ssl.SSLError
        for a file that cannot be used."""
        library, lib, _ = _libraries()
        self._context = context = library.Context(library.TLS_CLIENT_METHOD)
        context.set_min_proto_version(library.TLS1_3_VERSION)
        context.set_max_proto_version(library.TLS1_3_VERSION)
        context.set_info_callback(_note_state)
        lib.SSL_CTX_set1_curves_list(context._context, _GROUPS)
        self._insecure = insecure
        if not insecure:
            context.set_verify(library.VERIFY_PEER)
            if authorities:
                _load_authorities(context, authorities)
            else:
                context.set_default_verify_paths()
        if alpn:
            context.set_alpn_protos([name.encode("ascii") for name in alpn])

    def client(self, server_name: str, session: Any) -> "ClientTls":
        """The client's end of a new connection, which goes on with a session that a connection of this context has
        given, if it is not None. Raises ValueError for what cannot be a name."""
        library, lib, _ = _libraries()
        connection = library.Connection(self._context, None)
        connection.set_connect_state()
        parameters = lib.SSL_get0_param(connection._ssl)
        try:
            address = ipaddress.ip_address(server_name).packed
        except ValueError:
            name = server_name.encode("idna")  # raises UnicodeError, which is a ValueError
            connection.set_tlsext_host_name(name)
            if not self._insecure:
                lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
        else:
            if not self._insecure:
                lib.X509_VERIFY_PARAM_set1_ip(parameters, address, len(address))
        if session is not None:
            connection.set_session(session)
        return ClientTls(connection, session)


@_as_ssl
def _load_authorities(context: Any, path: str) -> None:
    context.load_verify_locations(path)


def _note_state(connection: Any, _where: int, _result: int) -> None:
    if connection.get_state_string() == _ACCEPTED:
        connection.set_app_data(True)


class ClientTls(_End):
    """The client's end of a connection. With a session whose ticket allows early data, the handshake begins with the
    first write, whose bytes go with it."""

    def __init__(self, connection: Any, session: Any) -> None:
        super().__init__(connection)
        self._room = self._lib.SSL_SESSION_get_max_early_data(session._session) if session is not None else 0
        self.is_early = self._room > 0
        """Whether it may say something with its first flight."""
        self._early = b""
        self._rest: list[bytes] = []
        self._session_at_end: Any = None  # held, or another session could have its address

    @property
    def early_data_accepted(self) -> bool:
        """The server has read what came with the first flight."""
        return self._connection.get_app_data() is True

    @property
    def ticket(self) -> Any:
        """What a later connection may go on with; None as long as the server has given nothing new."""
        if not self.is_complete or self._lib.SSL_get_session(self._ssl) == self._session_at_end._session:
            return None
        return self._connection.get_session()

    @_as_ssl
    def do_handshake(self) -> None:
        if not self.is_early:
            self._finish()

    @_as_ssl
    def read(self, size: int, /) -> bytes:
        if not self.is_complete:
            self._finish()
        data: bytes = self._connection.recv(size)
        return data

    @_as_ssl
    def write(self, data: Any, /) -> int:
        if self.is_complete:
            sent: int = self._connection.send(data)
            return sent
        early, rest = bytes(data[: self._room]), bytes(data[self._room :])
        if early:
            self._write_early(early)
            self._early += early
            self._room -= len(early)
        if rest:
            self._rest.append(rest)
        return len(data)

    def _finish(self) -> None:
        """Go on with the handshake until it is over, and then say what did not go with it."""
        self._shake_hands()
        self._session_at_end = self._connection.get_session()
        if self._early and not self.early_data_accepted:
            self._connection.sendall(self._early)  # RFC 8446, section 4.2.10: it was not read, so it is said again
        for piece in self._rest:
            self._connection.sendall(piece)
        self._rest.clear()
