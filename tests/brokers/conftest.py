"""Brokers that tests share: each starts once for a process of tests, if its program is installed."""

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator

import pytest

from bench import brokers
from bench.brokers import RunningBroker


@pytest.fixture(scope="session")
def start_once() -> Iterator[Callable[[str], RunningBroker]]:
    """Starts a broker, or gives the one that was started before."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda name: stack.enter_context(brokers.running(name)))


@pytest.fixture(params=list(brokers.BROKERS))
def broker(request: pytest.FixtureRequest, start_once: Callable[[str], RunningBroker]) -> RunningBroker:
    """Each broker in turn, or a skip with what to install."""
    kind = brokers.choose(request.param)
    if not kind.can_start():
        assert kind.program is not None
        pytest.skip(f"{kind.program.name} is not installed ({kind.program.get})")
    return start_once(kind.name)


@pytest.fixture
def unused_tcp_port() -> int:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
