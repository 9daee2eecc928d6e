"""Brokers as child processes, each in a temporary folder, on loopback and on ports that the kernel names."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from bench.brokers import BROKERS, RunningBroker
from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import ServerFailedError
from bench.peers.process import pinned

_HOST = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_DEBIAN_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's program in the PATH changes to a user of its own, which can't use a folder of ours; this one doesn't."""


@contextlib.contextmanager
def embedded(cpus: Sequence[int]) -> Iterator[RunningBroker]:
    """The embedded broker. Raises ServerFailedError."""
    with tempfile.TemporaryDirectory(prefix="wirebench-broker-") as folder, embedded_at(Path(folder), cpus) as broker:
        yield broker


@contextlib.contextmanager
def embedded_at(
    folder: Path, cpus: Sequence[int] = (), port: int = 0, within: Sequence[str] = ()
) -> Iterator[RunningBroker]:
    """The embedded broker with its log in that folder, which it goes on with. `within` as for ChildProcess. Raises
    ServerFailedError."""
    with pinned(cpus):
        child = ChildProcess("servers.broker", within)
    try:
        child.send({"path": str(folder / "log.db"), "host": _HOST, "port": port})
        event = child.next_event(_START_TIMEOUT_S)
        if event is None or event["event"] != "ready":
            reason = "did not start in time" if event is None else event["message"]
            raise ServerFailedError(f"the embedded broker: {reason}")
        yield RunningBroker("embedded", f"wirebench://{_HOST}:{event['port']}", (child.pid,))
        os.kill(child.pid, signal.SIGTERM)  # not waited for so far: the pid is the child's, dead or alive
        child.wait(_STOP_TIMEOUT_S)
    except ChildEndedError as error:
        raise ServerFailedError(f"the embedded broker {error}") from None
    finally:
        child.kill()


def redis(cpus: Sequence[int]) -> AbstractContextManager[RunningBroker]:
    """A Redis that syncs its file before it answers. Raises ServerFailedError."""
    return _redis(cpus, "always")


def redis_store(cpus: Sequence[int]) -> AbstractContextManager[RunningBroker]:
    """A Redis that promises as much as the server's own store does: what it has answered outlives a process that is
    killed, and not a power failure. Raises ServerFailedError."""
    return _redis(cpus, "everysec")


@contextlib.contextmanager
def _redis(cpus: Sequence[int], sync: str) -> Iterator[RunningBroker]:
    with tempfile.TemporaryDirectory(prefix="wirebench-redis-") as folder:
        port = _free_port()
        options = {"port": port, "bind": _HOST, "dir": folder, "appendonly": "yes", "appendfsync": sync, "save": ""}
        command = [_program("redis"), *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        with _child("redis-server", command, Path(folder), cpus, {}, lambda: _answers(port)) as pid:
            yield RunningBroker("redis", f"redis://{_HOST}:{port}/0", (pid,))


@contextlib.contextmanager
def nats(cpus: Sequence[int]) -> Iterator[RunningBroker]:
    """A NATS with JetStream. Raises ServerFailedError."""
    with tempfile.TemporaryDirectory(prefix="wirebench-nats-") as folder:
        port = _free_port()
        command = [_program("nats"), "-a", _HOST, "-p", str(port), "-js", "-sd", folder]
        with _child("nats-server", command, Path(folder), cpus, {}, lambda: _answers(port)) as pid:
            yield RunningBroker("nats", f"nats://{_HOST}:{port}", (pid,))


@contextlib.contextmanager
def rabbitmq(cpus: Sequence[int]) -> Iterator[RunningBroker]:
    """A RabbitMQ node with a name, a cookie and a port mapper (epmd) of its own. Raises ServerFailedError."""
    with tempfile.TemporaryDirectory(prefix="wirebench-rabbitmq-") as name:
        folder = Path(name)
        port, distribution_port, mapper_port = _free_port(), _free_port(), _free_port()
        output = folder / "server.out"
        for file in ("plugins", "rabbitmq.conf", "env.conf"):
            (folder / file).touch()
        environment = {
            "HOME": name,
            "ERL_EPMD_PORT": str(mapper_port),
            "ERL_EPMD_ADDRESS": _HOST,
            "RABBITMQ_NODENAME": f"wirebench{secrets.token_hex(4)}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": _HOST,
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        server = str(_DEBIAN_RABBITMQ) if _DEBIAN_RABBITMQ.exists() else _program("rabbitmq")
        # RabbitMQ would start the mapper itself, as a daemon that nobody ends.
        mapper = ["epmd", "-address", _HOST, "-port", str(mapper_port)]
        with (
            _child("epmd", mapper, folder, (), environment, lambda: _answers(mapper_port)),
            _child(
                "rabbitmq-server",
                [server],
                folder,
                cpus,
                environment,
                lambda: b"Server startup complete" in output.read_bytes(),
                output,
            ) as pid,
        ):
            yield RunningBroker("rabbitmq", f"amqp://guest:guest@{_HOST}:{port}/", (pid, *_children(pid)))


@contextlib.contextmanager
def _child(
    name: str,
    command: Sequence[str],
    folder: Path,
    cpus: Sequence[int],
    environment: Mapping[str, str],
    answers: Callable[[], bool],
    output: Path | None = None,
) -> Iterator[int]:
    """A program that runs while the context lasts, in a process group of its own. Gives its pid once it answers."""
    output = output or folder / f"{name}.out"
    with output.open("wb") as file, pinned(cpus):
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            process_group=0,
        )
    try:
        until = time.monotonic() + _START_TIMEOUT_S
        while not answers():
            if process.poll() is not None or time.monotonic() > until:
                lines = output.read_text(errors="replace").split("\n")
                said = " | ".join([line.strip() for line in lines if line.strip()][-3:])
                raise ServerFailedError(f"{name} did not start: {said or 'it said nothing'}")
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        # Without reaping it, so that the group's id stays its own until the rest of the group is ended.
        until = time.monotonic() + _STOP_TIMEOUT_S
        while process.returncode is None and time.monotonic() < until:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.02)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _children(pid: int) -> list[int]:
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def _program(name: str) -> str:
    program = BROKERS[name].program
    assert program is not None
    return program.command()[0]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1.0):
        return True
    return False


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
