"""The harness's side of a server process: what it says of failures, and that it leaves nothing behind."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import registry
from bench.contract import Opcode, exchange
from bench.errors import ServerFailedError, UsageError
from bench.serverprocess import Death, ServerProcess, WorkerCounts
from tests.servers.execution_helpers import Talker, alive, doomed, fails, until

Serve = Callable[..., ServerProcess]

HEALTH = exchange(Opcode.HEALTH)


def test_address_counts_and_processes(serve: Serve) -> None:
    server = serve("http1", "prefork", workers=2)
    assert server.address == f"127.0.0.1:{server.port}"
    with Talker(server, HEALTH) as talker:
        talker.exchange(1)
    counts, deaths = server.stats()
    assert {type(each) for each in counts} == {WorkerCounts}
    assert [each.worker for each in counts] == [0, 1]
    assert deaths == server.events == []
    main, *workers = server.pids()
    assert main == server.pid
    assert set(workers) == {each.pid for each in counts}
    assert [psutil.Process(pid).ppid() for pid in (main, *workers)] == [os.getpid(), server.pid, server.pid]


def test_ipv6(serve: Serve) -> None:
    server = serve(host="::1")
    assert server.address == f"[::1]:{server.port}"
    with Talker(server, HEALTH) as talker:
        talker.exchange(1)


def test_starts_from_any_directory(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "servers").mkdir()  # not ours, and first on the path of a `python -m` that is run there
    (tmp_path / "servers" / "__init__.py").touch()
    (tmp_path / "servers" / "__main__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Talker(serve(), HEALTH) as talker:
        talker.exchange(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "http9"}, "protocol: 'http9' is unknown; allowed are http1, .*; did you mean http1?"),
        ({"protocol": "http1", "execution": "thread"}, "execution: 'thread' is unknown; .*; did you mean threads?"),
    ],
)
def test_unknown_names(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ServerProcess(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": "192.0.2.1"}, "cannot listen on 192.0.2.1 port 0: Cannot assign requested address; "),
        ({"host": "nowhere.invalid"}, "cannot listen on nowhere.invalid port 0: "),
        ({"port": 70_000}, "cannot listen on 127.0.0.1 port 70000: a port is 0 to 65535; "),
    ],
)
def test_addresses_that_cannot_be_had(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        ServerProcess("http1", **options).__enter__()
    assert "\n" not in str(raised.value)


def test_a_server_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.STACKS["lean"].servers, "http1", "servers.nowhere:Nothing")
    monkeypatch.setattr(registry, "unsupported", lambda protocol, execution, stack: None)
    with pytest.raises(ServerFailedError, match=r"exit status 1: .*No module named 'servers\.nowhere'"):
        ServerProcess("http1").__enter__()


def test_a_server_that_is_killed() -> None:
    with doomed("http1", "single") as server:
        os.kill(server.pid, signal.SIGKILL)
        fails(server, r"the http1 server \(single\) was killed by SIGKILL: it wrote nothing to standard error")
        with pytest.raises(ServerFailedError, match="does not run"):
            server.stats()
        with pytest.raises(ServerFailedError, match="does not run"):
            server.pids()
        assert server.events == []


def test_leaving_says_that_the_server_failed() -> None:
    with pytest.raises(ServerFailedError, match="was killed by SIGKILL"), ServerProcess("http1") as server:
        os.kill(server.pid, signal.SIGKILL)


def test_a_failed_server_explains_the_error_of_its_client() -> None:
    with pytest.raises(ServerFailedError) as raised, ServerProcess("http1") as server:  # noqa: PT012  a context's end
        os.kill(server.pid, signal.SIGKILL)
        raise ConnectionResetError
    assert isinstance(raised.value.__context__, ConnectionResetError)


def test_an_interrupt_stays_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), ServerProcess("http1") as server:  # noqa: PT012  a context's end
        os.kill(server.pid, signal.SIGKILL)
        raise KeyboardInterrupt


def test_a_server_that_does_not_stop_is_killed_with_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.serverprocess.STOP_MARGIN_S", 0.1)
    with doomed("http1", "prefork", workers=2, grace_s=0.0) as server:
        pids = server.pids()
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(ServerFailedError, match=r"gave no answer for 0\.1 s \(waited for: stopped\)"):
            server.stop()
        until(lambda: not any(map(alive, pids)), "all have ended")


def test_stop_twice_and_what_can_be_read_afterwards() -> None:
    with doomed("http1", "prefork", workers=1) as server:
        os.kill(server.stats()[0][0].pid, signal.SIGKILL)
        until(lambda: server.events, "the death is reported")
        server.stop()
        server.stop()
        assert server.events == [Death(0, "killed by SIGKILL", restarted=True)]
        assert server.stderr == ""


def test_a_server_is_of_the_checkout_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "__init__.py").touch()
    (tmp_path / "servers" / "__main__.py").write_text(
        'import json, os\nprint(json.dumps({"event": "ready", "host": "elsewhere", "port": 1, "pid": os.getpid()}))\n'
        'input()\ninput()\nprint(json.dumps({"event": "stopped"}))\n',
        encoding="utf-8",
    )
    with ServerProcess("http1", root=tmp_path) as server:
        assert server.host == "elsewhere"
