"""Sessions in a real Redis: shared, forgotten in time, and what becomes of requests when it goes down."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from bench import brokerprocesses, registry, stores
from bench.brokers import RunningBroker
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.serverprocess import ServerProcess

Serve = Callable[..., ServerProcess]

S = 1_000_000_000
DEADLINE_S = 10.0


@pytest.fixture
def store(need: Callable[[str], str]) -> Iterator[RunningBroker]:
    need("redis-server")
    with brokerprocesses.redis_store(()) as started:
        yield started


def ask(server: ServerProcess, method: str, path: str, body: str = "") -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if answer.status == 200 and method == "POST" else text
    finally:
        connection.close()


def log_in(server: ServerProcess, life_ms: int = 60_000) -> dict[str, Any]:
    status, session = ask(server, "POST", f"/sessions?kept=redis&life_ms={life_ms}")
    assert (status, session["visits"]) == (200, 0)
    assert isinstance(session, dict)
    return session


def visit(server: ServerProcess, session: str) -> tuple[int, Any]:
    return ask(server, "POST", "/sessions/visits?kept=redis", json.dumps({"session": session}))


@pytest.mark.parametrize("execution", ["reuseport", "thread-per-connection"])
def test_servers_share_sessions_and_they_outlive_them(serve: Serve, store: RunningBroker, execution: str) -> None:
    servers = [serve("http1", execution, workers=2, redis=store.address) for _ in range(2)]
    session = log_in(servers[0])["session"]
    for visits in range(1, 7):
        assert visit(servers[visits % 2], session) == (200, {"session": session, "visits": visits})
    servers[0].restart()
    assert visit(servers[0], session) == (200, {"session": session, "visits": 7})
    with Redis.from_url(store.address) as redis:
        (key,) = redis.keys()
        assert redis.get(key) == b"7"
        assert 50_000 < redis.pttl(key) <= 60_000


def test_sessions_that_are_unknown_or_over(serve: Serve, store: RunningBroker) -> None:
    server = serve("http1", redis=store.address)
    for wrong in ("", "a", "ä", "a" * 10_000):
        status, why = visit(server, wrong)
        assert (status, "not known" in why) == (401, True)
    session = log_in(server, life_ms=0)["session"]
    until_s = time.monotonic() + DEADLINE_S
    while visit(server, session)[0] == 200:
        assert time.monotonic() < until_s
    assert visit(server, session)[0] == 401
    with Redis.from_url(store.address) as redis:
        assert redis.keys() == []  # asking has made none


def test_a_server_without_one_says_so(serve: Serve) -> None:
    status, why = ask(serve("http1"), "POST", "/sessions?kept=redis")
    assert (status, why) == (400, "sessions are kept in memory, sqlite, token, not in redis\n")


def test_a_store_that_runs_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIREBENCH_REDIS", "redis://one:1")
    with stores.running("redis") as store:
        assert (store.address, store.pids) == ("redis://one:1", ())
    with stores.running("sqlite") as store:
        assert (store.address, store.pids) == ("", ())


def test_a_store_is_started_with_the_promise_of_a_store(
    need: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("redis-server")
    monkeypatch.delenv("WIREBENCH_REDIS", raising=False)
    with stores.running("redis") as store, Redis.from_url(store.address) as redis:
        assert redis.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert redis.info("server")["process_id"] == store.pids[0]


def test_redis_that_hangs_keeps_nobody_else_waiting(serve: Serve, store: RunningBroker) -> None:
    server = serve("http1", redis=store.address)
    session = log_in(server)["session"]
    os.kill(store.pids[0], signal.SIGSTOP)
    try:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=DEADLINE_S)
        connection.request("POST", "/sessions/visits?kept=redis", json.dumps({"session": session}))
        begun_s = time.monotonic()
        assert ask(server, "GET", "/health") == (200, "ok")
        assert time.monotonic() - begun_s < 1
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:20]) == (503, b"the sessions' Redis:")
        connection.close()
    finally:
        os.kill(store.pids[0], signal.SIGCONT)
    assert visit(server, session)[0] == 200


def test_redis_that_goes_down_in_mid_run_is_counted_as_errors(serve: Serve, store: RunningBroker) -> None:
    server = serve("http1", redis=store.address)
    spec = LoadSpec(
        protocol="http1",
        client=registry.client("http1", pattern="session"),
        pattern="session:kept=redis",
        topic="",
        host=server.host,
        port=server.port,
        request=Request(opcode=1, payload_bytes=64),
        load="closed:4",
        connections="4",
        warmup_ns=S // 10,
        duration_ns=S,
        timeout_ns=5 * S,
        queue_limit=100,
        intervals=10,
        seed=1,
        process=0,
        processes=1,
    )
    with LoadProcesses(1, lambda progress: None) as load:
        load.connect([spec])
        window = load.release()
        load.watch(window.measure_ns + S // 3)
        os.kill(store.pids[0], signal.SIGKILL)
        begun_s = time.monotonic()
        result = merge(load.results())
        assert time.monotonic() - begun_s < 5
        load.leave()
    assert result["completed"] > 0
    assert set(result["errors"]) == {"status"}
    assert ask(server, "GET", "/health") == (200, "ok")
