"""The TLS of QUIC for clients: whom to trust, and what a handshake that fails means."""

import ssl
from pathlib import Path

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from bench.contract import Security
from bench.errors import ProtocolError

_OF_CERTIFICATES = {
    AlertDescription.bad_certificate,
    AlertDescription.unsupported_certificate,
    AlertDescription.certificate_revoked,
    AlertDescription.certificate_expired,
    AlertDescription.certificate_unknown,
    AlertDescription.unknown_ca,
}


def configure(host: str, security: Security | None) -> QuicConfiguration:
    """The configuration of a client that speaks HTTP/3. Raises OSError if the authorities cannot be read."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], server_name=host)
    if security is not None:
        configuration.server_name = security.server_name or host
        if security.insecure:
            configuration.verify_mode = ssl.CERT_NONE
        if security.authorities:
            configuration.load_verify_locations(cadata=Path(security.authorities).read_bytes())
    return configuration


def connection_error(event: ConnectionTerminated | None) -> Exception:
    """Why a connection has ended. A TLS alert is an error code of the transport from 0x100 (RFC 9001, section 4.8)."""
    if event is None:
        return ConnectionResetError("the QUIC connection ended")
    reason = f": {event.reason_phrase}" if event.reason_phrase else ""
    alert = event.error_code - QuicErrorCode.CRYPTO_ERROR
    if event.frame_type is None or not 0 <= alert <= 0xFF:  # no frame: an error of HTTP/3, whose codes overlap
        return ProtocolError(f"the QUIC connection ended with error {event.error_code:#x}{reason}", event.error_code)
    if alert == AlertDescription.no_application_protocol:
        return ProtocolError("the server speaks no HTTP/3: no_application_protocol", event.error_code)
    try:
        name = AlertDescription(alert).name
    except ValueError:
        name = f"alert {alert}"
    error = ssl.SSLCertVerificationError if alert in _OF_CERTIFICATES else ssl.SSLError
    return error(f"the TLS handshake failed with {name}{reason}")
