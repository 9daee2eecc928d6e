"""TLS of the load side."""

import asyncio
import ssl
from collections.abc import Callable
from functools import lru_cache

from bench.contract import Security
from bench.errors import ProtocolError, TargetError
from bench.wire.tls import TlsTransport

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_OPTIONAL = "http/1.1"
"""What a server speaks that knows nothing of ALPN."""

_MEANING = {
    "wrong version number": "it answers with something that is not TLS",
    "alert protocol version": "it does not speak this version of TLS",
    "alert handshake failure": "it shares no cipher with us, or wants a certificate of ours",
    "alert no application protocol": "it does not speak this protocol (ALPN)",
    "unrecognized name": "it does not know the name that it was called by (SNI)",
}
"""By what OpenSSL says; Python's ssl does not know the names of all its reasons."""


@lru_cache(maxsize=4)
def client_context(security: Security, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """The context of all connections of a load: certificates are checked, unless asked not to. Each connection does its
    whole handshake: no session is resumed. Raises TargetError for authorities that cannot be read."""
    try:
        context = ssl.create_default_context(cafile=security.authorities or None)
    except OSError as error:
        raise TargetError(f"no certificates of authorities in {security.authorities}: {error.strerror}") from None
    if security.tls:
        context.minimum_version = context.maximum_version = _VERSIONS[security.tls]
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if security.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class SecuredLine(TlsTransport):
    """The client's end of a connection that is protected."""

    def __init__(
        self,
        line: asyncio.Protocol,
        security: Security,
        alpn: tuple[str, ...],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """`line` gets the connection once its handshake is over; if that fails, `on_failure` gets the reason. Raises
        TargetError for a server name that cannot be one, and for authorities that cannot be read."""
        try:
            super().__init__(client_context(security, alpn), security.server_name)
        except ValueError as error:
            raise TargetError(f"{security.server_name!r} cannot be the name in a certificate: {error}") from None
        self._line = line
        self._alpn = alpn
        self._on_failure = on_failure

    def established(self, selected: str | None) -> asyncio.Protocol:
        if self._alpn and (selected or _OPTIONAL) not in self._alpn:
            raise ProtocolError(f"it does not speak {self._alpn[0]} (ALPN)")
        return self._line

    def failed(self, error: Exception) -> None:
        self._on_failure(error)


def describe(error: ssl.SSLError) -> str:
    """Why a connection could not be protected, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = getattr(error, "verify_message", str(error))  # only OpenSSL's errors have one; QUIC's do not
        return f"its certificate is not good: {reason}; --insecure takes any certificate"
    if isinstance(error, ssl.SSLEOFError):
        return "it closed the connection during the handshake"
    reason = str(error)
    return next((meaning for words, meaning in _MEANING.items() if words in reason), reason)
