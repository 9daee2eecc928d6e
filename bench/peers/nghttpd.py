"""nghttpd: HTTP/2, one worker, one small static file."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.certificates import certificates
from bench.contract import pattern
from bench.load.spec import Request
from bench.peers.own import security
from bench.peers.process import serving
from bench.peers.programs import NGHTTPD
from bench.peers.target import Target


@contextmanager
def nghttpd(size_bytes: int, cpus: Sequence[int], tls: str = "off") -> Iterator[Target]:
    """A GET of a file of that size, over HTTP/2: with prior knowledge, or over TLS, of which it takes the client's
    highest version. Raises VoidError."""
    with tempfile.TemporaryDirectory(prefix="wirebench-") as name:
        folder = Path(name)
        (folder / "index.html").write_bytes(pattern(size_bytes))

        def command(port: int) -> list[str]:
            options = ["-n1", "-a", "127.0.0.1", "-d", name]
            if tls == "off":
                return [*NGHTTPD.command(), "--no-tls", *options, str(port)]
            made = certificates()
            return [*NGHTTPD.command(), *options, str(port), str(made.private_key), str(made.certificate)]

        with serving("nghttpd", command, cpus, folder) as port:
            answer = pattern(size_bytes)
            request = Request(foreign=("GET", "/index.html"), answer=answer.decode("latin-1"))
            yield Target("http2", "127.0.0.1", port, request, answer, security(tls))
