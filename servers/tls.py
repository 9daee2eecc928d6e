"""TLS of the servers: the context, and a connection's handshake, which says what the connection speaks.

Where a server speaks several protocols, ALPN (RFC 7301) selects: http1 and http2 share a port. A client that offers
none speaks HTTP/1.1, if that is spoken at all; one that offers none of ours is refused with the alert
no_application_protocol. A name (SNI) that the certificate is not for is no reason to refuse: whether the certificate is
good enough is the client's to say, and RFC 6066, section 3, leaves the choice.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from bench.errors import ProtocolError
from bench.wire.openssl import ServerContext
from bench.wire.tls import TlsEnd, TlsTransport, python_end
from bench.wire.tls_hello import NO_APPLICATION_PROTOCOL, offered_protocols
from servers.control import ServerSpec
from servers.http1 import Http1Connection
from servers.worker import Worker

HANDSHAKE_TIMEOUT_S = 10.0
"""How long a client may take for its TLS handshake."""

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_HTTP1 = Http1Connection.alpn[0]


@lru_cache(maxsize=8)
def server_context(spec: ServerSpec, alpn: tuple[str, ...]) -> ssl.SSLContext | ServerContext | None:
    """The context of a server that offers these protocols; None without TLS. Clients may resume sessions by ticket.

    Each context has a key of its own for tickets: threads use one context, and processes that of before they were
    forked (see `prepare`), so that a client may resume at any of them. Raises UnsupportedError.
    """
    if spec.tls == "off":
        return None
    if spec.early_data:
        return ServerContext(spec.certificate, spec.private_key, alpn)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = _VERSIONS[spec.tls]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; HTTP/2 forbids nearly all others (RFC 9113, 9.2.2)
    context.load_cert_chain(spec.certificate, spec.private_key)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def prepare(spec: ServerSpec, connection: type[Any]) -> None:
    """Make the context of a server before it has threads or processes. Raises UnsupportedError."""
    if connection.transport_kind == "stream" and connection.lives in ("thread", "loop"):
        server_context(spec, connection.alpn)


def secured_connection(
    worker: Worker,
    connection: type[Any],
    context: ssl.SSLContext | ServerContext,
    later: Callable[[float, Callable[[], None]], "Timer"],
) -> "SecuredConnection":
    """What takes a new client. `later` calls back on the thread that the connection lives on."""
    if isinstance(context, ServerContext):
        return EarlyConnection(worker, connection, context.end(), later)
    return SecuredConnection(worker, connection, python_end(context), later)


class Timer(Protocol):
    """Something that will happen, unless it is cancelled."""

    def cancel(self) -> None: ...


class SecuredConnection(TlsTransport):
    """A client that has its TLS handshake to do, and then a connection above. Among the worker's connections until it
    has made way for that."""

    def __init__(
        self,
        worker: Worker,
        connection: type[Any],
        end: TlsEnd,
        later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        super().__init__(end)
        self._worker = worker
        self._class = connection
        self._hello = b""
        self._hello_is_read = not connection.alpn
        self._later = later
        self._timer: Timer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._timer = self._later(HANDSHAKE_TIMEOUT_S, self.abort)
        self._worker.connections.add(self)
        super().connection_made(transport)

    def established(self, selected: str | None) -> asyncio.Protocol:
        self._settled()
        known = selected or _HTTP1
        is_other = known == _HTTP1 and self._class.alpn and self._class.alpn[0] != _HTTP1
        protocol: asyncio.Protocol = (Http1Connection if is_other else self._class)(self._worker)
        return protocol

    def failed(self, error: Exception) -> None:
        self._settled()

    def shake_hands(self, data: bytes) -> None:
        if not self._hello_is_read:
            self._hello += data
            offered = offered_protocols(self._hello)
            if offered is None:
                return
            self._hello_is_read = True
            data, self._hello = self._hello, b""
            alpn = self._class.alpn
            if not set(alpn).intersection(offered or (_HTTP1,)):
                self.send(NO_APPLICATION_PROTOCOL)
                self.fail(ProtocolError(f"the client does not offer {' or '.join(alpn)} (ALPN)"))
                return
        super().shake_hands(data)

    # servers.worker.Connection

    def drain(self) -> None:
        connection: Any = self._protocol
        if connection is not None:
            connection.drain()
        else:
            self.abort()  # it has not asked for anything

    def _settled(self) -> None:
        self._timer.cancel()
        self._worker.connections.discard(self)


class EarlyConnection(SecuredConnection):
    """A client that may send requests with its first flight (0-RTT). Until its handshake is over, what it has sent may
    be the replay of another client's, and the connection above is told so: it has `early_data_received` beside
    `data_received`."""

    _is_closing = False

    @property
    def _is_complete(self) -> bool:
        """The handshake is over."""
        tls: Any = self._tls
        over: bool = tls.is_complete
        return over

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        super().set_protocol(protocol)
        self._deliver = self._deliver_early

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._flush()  # the tickets that follow the handshake, which may have ended with data
        if self._is_closing and self._is_complete:
            super().close()

    def close(self) -> None:
        # Closed before the client's end of the handshake has come, the connection would be reset by it, and the answer
        # lost with that; and an end that is to be announced needs the handshake to be over.
        self._is_closing = True
        if self._is_complete:
            super().close()

    def _deliver_early(self, data: bytes) -> None:
        protocol: Any = self._protocol
        if self._is_complete:
            self._deliver = protocol.data_received
            self._deliver(data)
        else:
            protocol.early_data_received(data)
