"""kill -9 of the embedded broker, of its publisher and of its reader, in the middle of everything: nothing confirmed
is lost."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.brokerprocesses import embedded_at
from bench.brokers import RunningBroker
from bench.wire.brokers import Topic
from clients.brokers.embedded import connect

VICTIMS = Path(__file__).with_name("kill_victims.py")
ROOT = Path(__file__).parents[2]
_PATIENCE_S = 30.0


@contextlib.contextmanager
def victim(role: str, broker: RunningBroker, name: str, folder: Path) -> Iterator[int]:
    """A publisher or reader, until it is killed."""
    command = [sys.executable, str(VICTIMS), role, broker.address, name, str(folder)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}) as process:
        try:
            yield process.pid
        finally:
            assert process.poll() is None, "it ended by itself"
            process.kill()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.005)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


async def declare(address: str) -> None:
    user = await connect(address)
    await user.declare(Topic("t", ("one",), max_deliveries=10_000))
    await user.close()


@pytest.mark.parametrize("kills", [9, pytest.param(200, marks=pytest.mark.long)])
def test_nothing_confirmed_is_lost_by_kills(tmp_path: Path, kills: int) -> None:
    """Each kill comes when messages have been confirmed and read since the one before it."""
    chance = random.Random(kills)
    names = map(str, itertools.count())
    sent, confirmed, read = (tmp_path / name for name in ("sent", "confirmed", "read"))
    with contextlib.ExitStack() as last:
        running = last.enter_context(contextlib.ExitStack())
        broker = running.enter_context(embedded_at(tmp_path))
        port = int(broker.address.rpartition(":")[2])
        asyncio.run(declare(broker.address))
        clients = {role: last.enter_context(contextlib.ExitStack()) for role in ("publish", "read")}
        for role, stack in clients.items():
            stack.enter_context(victim(role, broker, next(names), tmp_path))
        for kill in range(kills):
            before = size(confirmed), size(read)
            wait_until(lambda before=before: size(confirmed) > before[0], f"nothing confirmed after kill {kill}")
            wait_until(lambda before=before: size(read) > before[1], f"nothing read after kill {kill}")
            time.sleep(chance.random() / 50)  # somewhere in the middle of its work
            match kill % 3:
                case 0:
                    os.kill(broker.pids[0], signal.SIGKILL)
                    running.close()
                    broker = running.enter_context(embedded_at(tmp_path, port=port))
                case 1:
                    clients["publish"].close()
                    clients["publish"].enter_context(victim("publish", broker, next(names), tmp_path))
                case _:
                    clients["read"].close()
                    clients["read"].enter_context(victim("read", broker, next(names), tmp_path))
        clients["publish"].close()
        promised = set(lines(confirmed))
        wait_until(lambda: promised <= set(lines(read)), "a message that was confirmed has not been read")
    assert promised
    # Every message that was read is one that was sent; those that were sent and not confirmed may be there or not.
    assert set(lines(read)) <= set(lines(sent))
