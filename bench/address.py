"""The address of a server that runs already: which protocol its scheme stands for, where it is, and how far its TLS is
to be trusted."""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from bench import registry
from bench.contract import Security
from bench.errors import UsageError
from bench.protocols import CERTIFIED


@dataclass(frozen=True)
class Scheme:
    """What the first word of an address says."""

    protocol: str
    tls: bool = False
    """Whether TLS is spoken whose certificate can be checked."""
    default_port: int | None = None
    """None where the address must have a port."""
    has_path: bool = True


SCHEMES = {
    "http": Scheme("http1", default_port=80),
    "https": Scheme("http1", tls=True, default_port=443),
    "h2c": Scheme("http2", default_port=80),
    "http+h2c": Scheme("http2-upgrade", default_port=80),
    "h2": Scheme("http2", tls=True, default_port=443),
    "h3": Scheme("http3", tls=True, default_port=443),
    "ws": Scheme("websocket", default_port=80),
    "wss": Scheme("websocket", tls=True, default_port=443),
    "grpc": Scheme("grpc", has_path=False),
    "grpcs": Scheme("grpc", tls=True, has_path=False),
    "sse+http": Scheme("sse", default_port=80),
    "sse+https": Scheme("sse", tls=True, default_port=443),
    "sse+h2c": Scheme("sse-http2", default_port=80),
    "sse+h2": Scheme("sse-http2", tls=True, default_port=443),
    "sse+h3": Scheme("sse-http3", tls=True, default_port=443),
    "webrtc+http": Scheme("webrtc", default_port=80, has_path=False),
    "webrtc-unreliable+http": Scheme("webrtc-unreliable", default_port=80, has_path=False),
    "tcp": Scheme("tcp", has_path=False),
    "tcps": Scheme("tcp", tls=True, has_path=False),
    "udp": Scheme("udp", has_path=False),
}
"""What `wirebench load` can be pointed at."""

ANY_TLS = "1.2 or later"
"""What records say of TLS whose version was left to both ends."""

_ALLOWED = ", ".join(f"{scheme}://" for scheme in SCHEMES)


@dataclass(frozen=True)
class Address:
    """An address in its parts. `authority` is what requests call the server, `host` what to connect to; `path` holds
    the query too, and is "/" where the address has none."""

    url: str
    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @property
    def protocol(self) -> str:
        return SCHEMES[self.scheme].protocol


def scheme_of(protocol: str, tls: str) -> str:
    """The scheme of a protocol's addresses with that version of TLS."""
    known = [name for name, scheme in SCHEMES.items() if scheme.protocol == protocol]
    return next((name for name in known if SCHEMES[name].tls == (tls in CERTIFIED)), known[0])


def parse_address(url: str) -> Address:
    """Reads an address like https://127.0.0.1:8080/path or tcp://host:port. Raises UsageError."""
    if "://" not in url:
        raise UsageError(
            f"{url}: there is no scheme in it; allowed are {_ALLOWED}, like http://{url or '127.0.0.1:8080'}"
        )
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{url}: not an address: {error}") from None
    name = parts.scheme
    if name not in SCHEMES:
        raise UsageError(f"{url}: the scheme {name}:// is not one of those allowed: {_ALLOWED}")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{url}: a user or password in the address is not supported")
    scheme, host = SCHEMES[name], parts.hostname
    if not scheme.has_path and (parts.path not in ("", "/") or parts.query):
        raise UsageError(f"{url}: {name} addresses have no path; write {name}://host:port")
    if not host or re.search(r"[\s\x00-\x1f\x7f]", parts.netloc):
        raise UsageError(f"{url}: there is no host in it; write one like {name}://127.0.0.1:8080")
    try:
        port = parts.port or scheme.default_port
    except ValueError:
        raise UsageError(f"{url}: the port is not a number from 1 to 65535") from None
    if not port:
        raise UsageError(f"{url}: there is no port in it; write {name}://{host}:PORT")
    spelled = f"[{host}]" if ":" in host else host
    authority = spelled if port == scheme.default_port else f"{spelled}:{port}"
    path = (quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/") + (
        f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    )
    return Address(url, name, host, port, authority, path)


def parse_security(address: Address, insecure: bool, cacert: str | None, tls: str | None) -> Security | None:
    """How connections to an address are protected, from the options --insecure, --cacert and --tls; None if they are
    not. Raises UsageError."""
    given = {"--insecure": insecure, "--cacert": cacert is not None, "--tls": tls is not None}
    if not SCHEMES[address.scheme].tls:
        for option, is_given in given.items():
            if is_given:
                secure = ", ".join(f"{name}://" for name, scheme in SCHEMES.items() if scheme.tls)
                raise UsageError(f"{option}: there is no TLS to set up over {address.scheme}://; only over {secure}")
        return None
    if insecure and cacert is not None:
        raise UsageError("--insecure takes any certificate, so --cacert means nothing; leave one of them out")
    if cacert is not None:
        _check_authorities(cacert)
    if tls is not None:
        registry.choose(tls, CERTIFIED, "--tls")
    if address.protocol == "http3":
        if tls == "1.2":
            raise UsageError("--tls: HTTP/3 speaks TLS 1.3 only (RFC 9001, section 4.2)")
        tls = "1.3"
    authorities = "" if cacert is None else str(Path(cacert).resolve())
    return Security(tls or "", authorities, server_name=address.host, insecure=insecure)


def _check_authorities(path: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise UsageError(f"--cacert: {path} holds no certificate in PEM form") from None
    except OSError as error:
        raise UsageError(f"--cacert: cannot read {path}: {error.strerror}") from None


def parse_place(text: str, where: str, default_port: int) -> tuple[str, int]:
    """Reads "HOST" or "HOST:PORT"; IPv6 addresses stand in brackets. Raises UsageError."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+)(?::(\d{1,5}))?", text.strip())
    port = int(match[2]) if match and match[2] else default_port
    if match is None or port > 65535:
        raise UsageError(f"{where}: {text!r:.200} is no address; write HOST or HOST:PORT, like 10.0.0.5:{default_port}")
    return match[1].strip("[]"), port
