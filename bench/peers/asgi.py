"""Servers of others that run the ASGI echo application: one worker, no access log, no lifespan."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.contract import Opcode, pattern
from bench.load.spec import Request
from bench.peers.process import serving
from bench.peers.programs import GRANIAN, UVICORN, Program
from bench.peers.target import Target, verify

_APPLICATION = "bench.peers.echo_app:app"

_ARGUMENTS: dict[Program, tuple[str, ...]] = {
    UVICORN: (
        *("--http", "httptools", "--loop", "uvloop", "--workers", "1", "--lifespan", "off"),
        *("--no-access-log", "--log-level", "error", "--host", "127.0.0.1"),
    ),
    GRANIAN: (
        *("--interface", "asginl", "--http", "1", "--loop", "uvloop", "--workers", "1", "--no-ws"),
        *("--no-access-log", "--log-level", "error", "--host", "127.0.0.1"),
    ),
}


@contextmanager
def asgi_server(program: Program, size_bytes: int, cpus: Sequence[int]) -> Iterator[Target]:
    """An echo of that size from uvicorn or granian. Raises VoidError."""
    with tempfile.TemporaryDirectory(prefix="wirebench-") as name:

        def command(port: int) -> list[str]:
            return [*program.command(), *_ARGUMENTS[program], "--port", str(port), _APPLICATION]

        with serving(program.name, command, cpus, Path(name)) as port:
            target = Target("http1", "127.0.0.1", port, Request(Opcode.ECHO, size_bytes), pattern(size_bytes))
            verify(target)
            yield target
