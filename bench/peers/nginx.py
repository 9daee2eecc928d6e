"""nginx with one worker that answers from its configuration: the least a server can do, so that generators differ."""

import grp
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.certificates import certificates
from bench.load.spec import Request
from bench.peers.own import security
from bench.peers.process import serving
from bench.peers.programs import NGINX
from bench.peers.target import Target, verify

_CONFIGURATION = """\
{user}
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    server {{
        listen 127.0.0.1:{port} backlog=4096{tls};
        location = / {{ return 200 {body}; }}
    }}
}}
"""


_TLS = """\
 ssl;
        ssl_protocols TLSv{version};
        ssl_certificate {certificate};
        ssl_certificate_key {private_key}"""


@contextmanager
def nginx(size_bytes: int, cpus: Sequence[int], tls: str = "off") -> Iterator[Target]:
    """A GET that is answered with a body of that size. Raises VoidError."""
    # Started by root, its worker would become a user who may not look into a private folder.
    user = f"user root {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
    with tempfile.TemporaryDirectory(prefix="wirebench-") as name:
        folder = Path(name)
        body = "x" * size_bytes

        def command(port: int) -> list[str]:
            configuration = _CONFIGURATION.format(user=user, port=port, tls=_secured(tls), body=body)
            (folder / "nginx.conf").write_text(configuration, encoding="ascii")
            return [*NGINX.command(), "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]

        with serving("nginx", command, cpus, folder) as port:
            request = Request(foreign=("GET", "/"), answer=body)
            target = Target("http1", "127.0.0.1", port, request, body.encode(), security(tls))
            verify(target)
            yield target


def _secured(tls: str) -> str:
    if tls == "off":
        return ""
    made = certificates()
    return _TLS.format(version=tls, certificate=made.certificate, private_key=made.private_key)
