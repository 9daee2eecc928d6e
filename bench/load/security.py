"""TLS of the load side, and the ways that its handshakes begin.

A ticket lets one later connection resume (RFC 8446, section C.4, and servers that take early data insist), and each
connection brings a new one; so tickets lie in a store, are taken by connections as they begin, and come back with them.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from bench.contract import TICKET_TIMEOUT_S, Security
from bench.errors import ErrorKind, ProtocolError, TargetError
from bench.wire import openssl
from bench.wire.tls import TlsEnd, TlsTransport, python_end

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
    """The context of all connections of a load: certificates are checked, unless asked not to. Raises TargetError for
    authorities that cannot be read."""
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


@lru_cache(maxsize=4)
def _early_context(security: Security, alpn: tuple[str, ...]) -> openssl.ClientContext:
    """As `client_context`, with early data. Raises UnsupportedError too."""
    try:
        return openssl.ClientContext(security.authorities, security.insecure, alpn)
    except ssl.SSLError as error:
        raise TargetError(f"no certificates of authorities in {security.authorities}: {error}") from None


@lru_cache(maxsize=4)
def tickets(address: tuple[str, int], security: Security, alpn: tuple[str, ...]) -> deque[Any]:
    """The tickets (sessions) that servers there have given and no connection has taken, the newest last."""
    return deque(maxlen=4096)


class SecuredLine(TlsTransport):
    """The client's end of a connection that is protected, by a full handshake."""

    shortfall: ErrorKind | None = None
    """How the handshake, once it is over, was less than what was asked for."""

    def __init__(
        self,
        line: asyncio.Protocol,
        address: tuple[str, int],
        security: Security,
        alpn: tuple[str, ...],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """`line` gets the connection once it can be used; if that is never, `on_failure` gets the reason. Raises
        TargetError for a server name that cannot be one, and for authorities that cannot be read."""
        try:
            super().__init__(self._make_end(address, security, alpn))
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

    def _make_end(self, address: tuple[str, int], security: Security, alpn: tuple[str, ...]) -> TlsEnd:
        return python_end(client_context(security, alpn), security.server_name)


class ResumingLine(SecuredLine):
    """One that resumes an earlier connection, if there is a ticket for it."""

    def _make_end(self, address: tuple[str, int], security: Security, alpn: tuple[str, ...]) -> TlsEnd:
        self._tickets = tickets(address, security, alpn)
        session = self._tickets.pop() if self._tickets else None
        end = python_end(client_context(security, alpn), security.server_name, session)
        self._ssl: Any = end.tls
        return end

    @property
    def shortfall(self) -> ErrorKind | None:  # type: ignore[override]  # it is looked up
        return None if self._ssl.session_reused else "not-resumed"

    def close(self) -> None:
        if self.is_closing():
            return
        session = self._ssl.session  # of TLS 1.3 the ticket comes after the handshake, before the first answer
        if session is not None and session.has_ticket:
            self._tickets.append(session)
        super().close()


class EarlyLine(SecuredLine):
    """One whose first bytes go with its first flight, if there is a ticket that allows it.

    Here the answer may come before the ticket for the next connection does: closed, it stays until the ticket is there.
    """

    def _make_end(self, address: tuple[str, int], security: Security, alpn: tuple[str, ...]) -> TlsEnd:
        self._tickets = tickets(address, security, alpn)
        session = self._tickets.pop() if self._tickets else None
        self._client = _early_context(security, alpn).client(security.server_name, session)
        self._giving_up: asyncio.TimerHandle | None = None
        return self._client.end()

    @property
    def shortfall(self) -> ErrorKind | None:  # type: ignore[override]  # it is looked up
        if self._client.early_data_accepted:
            return None
        return "not-early" if self._client.session_reused else "not-resumed"

    def established(self, selected: str | None) -> asyncio.Protocol:
        # What the server selects is not known yet where early data may be sent. It must be what the ticket came with
        # (RFC 8446, section 4.2.10), or there is no early data; and there is one protocol here to select.
        return self._line if self._client.is_early else super().established(selected)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._flush()  # the end of the handshake, which may have come with data
        if self._giving_up is not None and self._keep_ticket():
            super().close()

    def close(self) -> None:
        if self._giving_up is not None or self.is_closing():
            return
        if self._keep_ticket():
            super().close()
        else:
            self._giving_up = asyncio.get_running_loop().call_later(TICKET_TIMEOUT_S, super().close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
        super().connection_lost(exc)

    def _keep_ticket(self) -> bool:
        """Whether a ticket has come."""
        ticket = self._client.ticket
        if ticket is not None:
            self._tickets.append(ticket)
        return ticket is not None


LINES: dict[str, type[SecuredLine]] = {"full": SecuredLine, "resumed": ResumingLine, "early-data": EarlyLine}
"""By how their handshakes begin."""


def describe(error: ssl.SSLError) -> str:
    """Why a connection could not be protected, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = getattr(error, "verify_message", str(error))  # only OpenSSL's errors have one; QUIC's do not
        return f"its certificate is not good: {reason}; --insecure takes any certificate"
    if isinstance(error, ssl.SSLEOFError):
        return "it closed the connection during the handshake"
    reason = str(error)
    return next((meaning for words, meaning in _MEANING.items() if words in reason), reason)
