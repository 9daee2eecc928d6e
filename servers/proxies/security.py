"""TLS on either side of the layer 7 proxy, which ends it: only so can it see requests."""

import asyncio
import ssl
from typing import TYPE_CHECKING, TypeVar

from bench.errors import ProtocolError
from bench.wire.tls import TlsEnd, TlsTransport
from servers.proxies.http1_client import Http1Client
from servers.proxies.spec import ProxySpec, SpecError

if TYPE_CHECKING:
    from servers.proxies.layer7 import Layer7

_HANDSHAKE_TIMEOUT_S = 10.0
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_ALPN = {"1.1": "http/1.1", "2": "h2", "3": "h3"}

P = TypeVar("P", bound=asyncio.Protocol)


def client_side(spec: ProxySpec) -> ssl.SSLContext | None:
    """The context for clients over TCP; None without TLS. Raises SpecError for files that cannot be used, over QUIC
    too."""
    if spec.tls == "off":
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; HTTP/2 forbids nearly all others (RFC 9113, 9.2.2)
    try:
        context.load_cert_chain(spec.certificate, spec.private_key)
    except OSError as error:
        raise SpecError(f"the certificate {spec.certificate} cannot be used: {error}") from None
    return _settled(context, spec.tls, spec.http)


def upstream_side(spec: ProxySpec) -> ssl.SSLContext | None:
    """The context for upstreams over TCP; None without TLS. Raises SpecError for files that cannot be used, over QUIC
    too."""
    if spec.upstream_tls == "off":
        return None
    try:
        context = ssl.create_default_context(cafile=spec.authorities or None)
    except OSError as error:
        raise SpecError(f"the authorities {spec.authorities} cannot be used: {error}") from None
    return _settled(context, spec.upstream_tls, spec.upstream_http)


def _settled(context: ssl.SSLContext, version: str, http: str) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = _VERSIONS[version]
    context.set_alpn_protocols([_ALPN[http]])
    return context


class SecuredClient(TlsTransport):
    """A client that has its handshake to do, and then a connection above."""

    def __init__(self, proxy: "Layer7", end: TlsEnd) -> None:
        super().__init__(end)
        self._proxy = proxy
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._timer = self._proxy.loop.call_later(_HANDSHAKE_TIMEOUT_S, self.abort)
        self._proxy.clients.add(self)
        super().connection_made(transport)

    def established(self, selected: str | None) -> asyncio.Protocol:
        self._settle()
        if self._proxy.spec.http == "2":
            if selected != _ALPN["2"]:
                raise ProtocolError("the client does not offer h2 (ALPN)")
            from servers.proxies.http2_client import Http2Client

            return Http2Client(self._proxy)
        return Http1Client(self._proxy)

    def failed(self, error: Exception) -> None:
        self._settle()

    def _settle(self) -> None:
        self._timer.cancel()
        self._proxy.clients.discard(self)


class SecuredUpstream(TlsTransport):
    """An upstream that the proxy has its handshake to do with; `ready` has what is above once that is over, or the
    error."""

    def __init__(self, end: TlsEnd, above: asyncio.Protocol, http: str) -> None:
        super().__init__(end)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._above = above
        self._http = http

    def established(self, selected: str | None) -> asyncio.Protocol:
        if selected != _ALPN[self._http] and self._http == "2":
            raise ProtocolError("the upstream does not speak h2 (ALPN)")
        if not self.ready.done():
            self.ready.set_result(None)
        return self._above

    def failed(self, error: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(str(error)))
