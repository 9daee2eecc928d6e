"""Certificates for the servers that are started here: made when the first is needed, gone when the process ends.

An authority of this process's own signs a certificate for loopback and for the server of a lab. Clients are told to
trust that authority, so that every handshake checks the certificate as it would elsewhere.
"""

import atexit
import datetime
import ipaddress
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.lab.topology import SERVER_ADDRESS

NAMES = ("localhost", "wirebench.test")
ADDRESSES = ("127.0.0.1", "::1", SERVER_ADDRESS)
_VALID = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form."""

    authority: Path
    """The certificate that clients are to trust."""
    certificate: Path
    """The server's certificate, for NAMES and ADDRESSES, P-256."""
    private_key: Path


@lru_cache(maxsize=1)
def certificates() -> Certificates:
    """This process's certificates."""
    folder = Path(tempfile.mkdtemp(prefix="wirebench-certificates-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_certificates(folder)


def make_certificates(
    folder: Path,
    names: tuple[str, ...] = NAMES,
    addresses: tuple[str, ...] = ADDRESSES,
    not_before: datetime.datetime | None = None,
) -> Certificates:
    """New certificates in a folder, good for two days from `not_before` (an hour ago if not given)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    begin = not_before or datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wirebench authority")])

    def build(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + _VALID)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
        )

    authority = (
        build(authority_name, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False),
            critical=True,
        )
        .sign(authority_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0] if names else addresses[0])])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        build(subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    made = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    made.private_key.touch(mode=0o600)
    made.private_key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made
