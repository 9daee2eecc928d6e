"""Mixes in the engine: what is drawn, and what is recorded by name."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest

from bench.certificates import certificates
from bench.contract import Security, foreign_exchange
from bench.errors import TargetError
from bench.load.mixing import Asks, MixRecorder
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, merge
from bench.mix import Checks, Mix, NamedRequest, Order, encode_mix
from bench.protocols import PROTOCOLS
from bench.serverprocess import ServerProcess

MS = 1_000_000
GET = foreign_exchange("GET", "/")


def drawn(mix: Mix, rows: list[list[str]], seed: int, process: int, count: int) -> list[tuple[int, str]]:
    asks: Asks[str] = Asks(mix, rows, seed, process)
    return [next(asks) for _ in range(count)]


def test_requests_are_drawn_by_weight_and_seed() -> None:
    mix = tuple(NamedRequest(name, (GET,), weight=weight) for name, weight in (("a", 6.0), ("b", 3.0), ("c", 1.0)))
    rows = [["a"], ["b"], ["c"]]
    first = drawn(mix, rows, 1, 0, 20_000)
    counts = Counter(number for number, _ in first)
    for number, share in ((0, 0.6), (1, 0.3), (2, 0.1)):
        assert counts[number] / 20_000 == pytest.approx(share, abs=0.015)  # over four standard deviations
    assert first == drawn(mix, rows, 1, 0, 20_000)
    assert first[:100] != drawn(mix, rows, 1, 1, 100) != drawn(mix, rows, 2, 0, 100)


@pytest.mark.parametrize("order", ["round-robin", "random"])
def test_rows_follow_each_other(order: Order) -> None:
    rows = [[f"row {number}" for number in range(10)]]
    mix = (NamedRequest("a", (GET,) * 10, order=order),)
    got = [row for _, row in drawn(mix, rows, 1, 0, 1000)]
    if order == "round-robin":
        assert got == rows[0] * 100
        assert next(iter(drawn(mix, rows, 1, 1, 1)))[1] != "row 0"
    else:
        assert set(got) == set(rows[0])
        assert got[:10] != rows[0]
        assert got == [row for _, row in drawn(mix, rows, 1, 0, 1000)]


def test_what_is_recorded_by_name_adds_up() -> None:
    recorder = MixRecorder(is_open=True, names=["a", "b"])
    recorder.set_window(1000 * MS, 2000 * MS, 10)
    for number, intended in islice(enumerate(range(900 * MS, 2100 * MS, 10 * MS)), 200):
        recorder.intended.append(intended)
        recorder.sent.append(intended)
        recorder.done.append(intended + (1 + number % 2) * MS)
        recorder.numbers.append(number % 2)
    recorder.failed(1, "status", "status 500, not 200", 1500 * MS)
    recorder.failed(1, "timeout", None, 1500 * MS)
    recorder.failed(0, "status", "of the warm-up", 900 * MS)
    result = recorder.result()
    assert result["completed"] == 100
    by_name = result["requests"]
    assert [by_name[name]["completed"] for name in "ab"] == [50, 50]
    assert by_name["b"]["errors"] == {"status": 1, "timeout": 1}
    assert (by_name["a"]["errors"], by_name["a"]["complaint"]) == ({}, None)
    assert by_name["b"]["complaint"] == "status 500, not 200"
    assert np.flatnonzero(recorder._by_name[0].counts).size == 1


def spec(
    server: ServerProcess, mix: Mix, process: int = 0, processes: int = 1, protocol: str = "http1", **changes: Any
) -> LoadSpec:
    values: dict[str, Any] = {
        "protocol": protocol,
        "client": PROTOCOLS[protocol].mixed_client,
        "host": "127.0.0.1",
        "port": server.port,
        "request": Request(),
        "load": "closed:4",
        "connections": "4",
        "warmup_ns": 100 * MS,
        "duration_ns": 300 * MS,
        "timeout_ns": 1000 * MS,
        "queue_limit": 100,
        "intervals": 10,
        "seed": 1,
        "process": process,
        "processes": processes,
        "pattern": "mix",
        "mix": encode_mix(mix),
    }
    return LoadSpec(**{**values, **changes})


def health(name: str, **checks: str) -> NamedRequest:
    return NamedRequest(name, (foreign_exchange("GET", "/health"),), Checks(contains=tuple(checks.values())))


def test_several_processes_send_one_mix(serve: Callable[..., ServerProcess]) -> None:
    server = serve("http1")
    mix = (health("a", text="ok"), health("b"))
    with LoadProcesses(2, lambda progress: None) as load:
        load.connect([spec(server, mix, process, 2) for process in range(2)])
        load.release()
        merged = merge(load.results())
    by_name = merged["requests"]
    assert sum(found["completed"] for found in by_name.values()) == merged["completed"] > 0
    assert merged["errors"] == {}
    assert sum(found["latency"].total_count for found in by_name.values()) == merged["latency"].total_count
    assert min(found["completed"] for found in by_name.values()) > 0


RIGHT = (foreign_exchange("POST", "/echo", b'{"a": 1}'), Checks(json=(("a", 1),)))
SHORT = (foreign_exchange("GET", "/health"), Checks(contains=("ok",), fields=(("content-length", "2"),)))
CALL = foreign_exchange("POST", "/wirebench.v1.Wirebench/Health")
MIXES = {
    "http1": (RIGHT, SHORT),
    "http2": (RIGHT, SHORT),
    "http3": (RIGHT, SHORT),
    "websocket": ((foreign_exchange("GET", "/echo", b'{"a": 1}'), Checks(max_bytes=8)), (RIGHT[0], Checks())),
    "grpc": ((CALL, Checks()), (CALL, Checks(max_bytes=9))),
}


def test_every_protocol_that_carries_mixes_is_tried() -> None:
    assert set(MIXES) == {name for name, protocol in PROTOCOLS.items() if protocol.mixed_client}


@pytest.mark.parametrize("protocol", [name for name in MIXES if name != "http1"])
def test_mixes_over_every_protocol(serve: Callable[..., ServerProcess], protocol: str) -> None:
    is_quic = PROTOCOLS[protocol].transport_kind == "quic"
    server = serve(protocol, tls="1.3" if is_quic else None)
    security = Security("1.3", str(certificates().authority), "127.0.0.1", insecure=False) if is_quic else None
    mix = tuple(NamedRequest(str(n), (asked,), checks) for n, (asked, checks) in enumerate(MIXES[protocol]))
    with LoadProcesses(1, lambda progress: None) as load:
        load.connect([spec(server, mix, protocol=protocol, security=security, load="closed:2x4")])
        load.release()
        merged = merge(load.results())
        load.leave()
    assert merged["errors"] == {}
    assert min(found["completed"] for found in merged["requests"].values()) > 0


def test_a_request_that_is_answered_wrongly_stops_the_load(serve: Callable[..., ServerProcess]) -> None:
    server = serve("http1")
    with LoadProcesses(1, lambda progress: None) as load, pytest.raises(TargetError) as refused:
        load.connect([spec(server, (health("a"), health("b", text="nope")))])
    assert f"request 'b': 127.0.0.1 port {server.port} answered with" in str(refused.value)
    assert "the body does not contain 'nope'" in str(refused.value)
