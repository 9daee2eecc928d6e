"""Where a broker is: an option, the environment, or one of our own, which does not outlive whoever started it."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench import brokers
from bench.doctor.brokers import brokers as broker_checks
from bench.doctor.check import Check
from bench.errors import UnsupportedError, UsageError

ROOT = Path(__file__).parents[2]
_PATIENCE_S = 30.0


def checks() -> dict[str, Check]:
    return {check.name: check for check in broker_checks()}


def test_an_option_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = brokers.choose("redis")
    monkeypatch.delenv("WIREBENCH_REDIS", raising=False)
    assert brokers.address_of(kind, None) is None
    monkeypatch.setenv("WIREBENCH_REDIS", "redis://one:1")
    assert brokers.address_of(kind, None) == "redis://one:1"
    assert brokers.address_of(kind, "redis://two:2") == "redis://two:2"
    with brokers.running("redis") as broker:
        assert (broker.address, broker.pids) == ("redis://one:1", ())


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "amqp://127.0.0.1", "redis://"])
def test_an_address_of_another_kind_is_refused_with_its_source(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = brokers.choose("redis")
    with pytest.raises(UsageError, match="--broker-address"):
        brokers.address_of(kind, address)
    monkeypatch.setenv("WIREBENCH_REDIS", address)
    with pytest.raises(UsageError, match="WIREBENCH_REDIS"):
        brokers.address_of(kind, None)
    assert checks()["redis"].state == "warn"


def test_an_unknown_broker_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean rabbitmq"):
        brokers.choose("rabbitmk")


def test_what_is_not_installed_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.peers.programs.shutil.which", lambda *_args, **_options: None)
    monkeypatch.delenv("WIREBENCH_NATS", raising=False)
    with pytest.raises(UnsupportedError, match=r"apt-get install nats-server.*WIREBENCH_NATS"), brokers.running("nats"):
        pass
    found = checks()["nats"]
    assert (found.state, found.found) == ("warn", "not installed")
    assert "WIREBENCH_NATS" in found.fix
    assert checks()["embedded"].state == "ok"


def test_doctor_says_which_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        monkeypatch.setenv("WIREBENCH_RABBITMQ", f"amqp://user:secret@127.0.0.1:{port}/")
        found = checks()["rabbitmq"]
        assert found.state == "ok"
        assert f"127.0.0.1:{port}" in found.found
        assert "secret" not in found.found
    found = checks()["rabbitmq"]
    assert found.state == "warn"
    assert "WIREBENCH_RABBITMQ" in found.fix


@pytest.mark.parametrize("name", ["embedded", "redis"])
def test_a_broker_does_not_outlive_whoever_started_it(name: str) -> None:
    if not brokers.choose(name).can_start():
        pytest.skip(f"{name} is not installed")
    code = (
        "import json; from bench import brokers\n"
        f"with brokers.running({name!r}) as broker: print(json.dumps(broker.pids), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        pids = json.loads(starter.stdout.readline())
        assert all(psutil.pid_exists(pid) for pid in pids)
        starter.kill()
    until = time.monotonic() + _PATIENCE_S
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < until
        time.sleep(0.01)
