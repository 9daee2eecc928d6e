"""What tests share: servers that end with the test, and programs that may be missing."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from bench.serverprocess import ServerProcess

settings.register_profile("wirebench", deadline=None)  # how long an example takes is a matter of what else runs
settings.load_profile("wirebench")

_BROUGHT_BY = {
    "nginx": "the Debian package nginx-light",
    "nghttpd": "the Debian package nghttp2-server",
    "h2load": "the Debian package nghttp2-client",
    "ping": "the Debian package iputils-ping",
    "wstest": "the Python package autobahntestsuite, which needs Python 2.7",
}
"""What brings a program, where that is not the Debian package of its name."""


@pytest.fixture
def serve() -> Iterator[Callable[..., ServerProcess]]:
    """Starts servers: `serve(protocol="http1", execution="single", workers=1, **options)`, options as in ServerProcess.

    They are stopped when the test ends; a server that failed fails the test.
    """
    with contextlib.ExitStack() as stack:

        def start(protocol: str = "http1", execution: str = "single", workers: int = 1, **kw: Any) -> ServerProcess:
            return stack.enter_context(ServerProcess(protocol, execution, workers, **kw))

        yield start


@pytest.fixture(scope="session")
def need() -> Callable[[str], str]:
    """`need("curl")` gives the program's path, or skips the test and says what to install."""

    def path(program: str) -> str:
        found = shutil.which(program) or shutil.which(program, path="/usr/sbin")
        if found is None:
            pytest.skip(
                f"{program} is not installed; {_BROUGHT_BY.get(program, f'the Debian package {program}')} brings it"
            )
        return found

    return path
