"""What a TLS 1.3 handshake costs either end, by the kind of the certificate's key, and when it is resumed. Both ends
are in this process, joined by memory, so nothing but the handshake is measured."""

import datetime
import ssl
import tempfile
import time
from pathlib import Path
from statistics import median

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_HANDSHAKES = 60
_NAME = "localhost"


def measure(key: str, resumed: str = "no") -> dict[str, float]:
    """The CPU time of each end, the median of many handshakes."""
    with tempfile.TemporaryDirectory(prefix="wirebench-handshakes-") as folder:
        certificate, private = _certificate(Path(folder), key)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(certificate, private)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.load_verify_locations(certificate)
        server.minimum_version = client.minimum_version = ssl.TLSVersion.TLSv1_3
        session, _ = _handshake(client, server, None)
        took = [_handshake(client, server, session if resumed == "yes" else None)[1] for _ in range(_HANDSHAKES)]
    client_ns, server_ns = (median(each) for each in zip(*took, strict=True))
    return {"client_cpu_ns": client_ns, "server_cpu_ns": server_ns}


def _certificate(folder: Path, kind: str) -> tuple[Path, Path]:
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa-2048" else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


def _handshake(
    client_context: ssl.SSLContext, server_context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, tuple[int, int]]:
    """One handshake: the client's session for the next, and the nanoseconds of CPU of client and server."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=_NAME, session=session)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    spent = [0, 0]
    open_ends = [(0, client), (1, server)]
    while open_ends:
        for end in list(open_ends):
            begun_ns = time.thread_time_ns()
            try:
                end[1].do_handshake()
                open_ends.remove(end)
            except ssl.SSLWantReadError:
                pass
            finally:
                spent[end[0]] += time.thread_time_ns() - begun_ns
    server.write(b"!")
    client.read(1)  # with what comes before it: the ticket for the next
    if session is not None and not client.session_reused:
        raise AssertionError("the handshake was not resumed")
    return client.session, (spent[0], spent[1])
