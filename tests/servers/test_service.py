"""The service: every operation's answer, every bad argument's refusal, and routes that are made once."""

import hashlib
import time

import pytest

from bench.contract import (
    MAX_BODY_BYTES,
    MAX_WORK_CPU_US,
    MAX_WORK_WAIT_MS,
    Exchange,
    Opcode,
    exchange,
    pattern,
    upload_receipt,
)
from servers.service import Collect, Route, Service, Upload
from servers.service_error import ServiceError

EXCHANGES = [
    exchange(Opcode.HEALTH),
    exchange(Opcode.ECHO),
    exchange(Opcode.ECHO, 1000),
    exchange(Opcode.BYTES),
    exchange(Opcode.BYTES, 1000),
    exchange(Opcode.BYTES, 1000, b=7),
    exchange(Opcode.UPLOAD),
    exchange(Opcode.UPLOAD, 1000),
    exchange(Opcode.WORK),
    exchange(Opcode.WORK, a=10, b=1),
]


def run(route: Route, *pieces: bytes) -> bytes:
    receiver = route.receiver()
    for piece in pieces:
        receiver.feed(piece)
    return route.execute(receiver.finish())


@pytest.mark.parametrize("each", EXCHANGES, ids=lambda each: each.path)
def test_paths_and_numbers_give_the_contracts_answers(each: Exchange) -> None:
    service = Service()
    for route in (service.route(each.path.encode()), service.operation(each.opcode, each.a, each.b)):
        assert route.opcode is each.opcode
        assert run(route, each.body[:300], each.body[300:]) == each.answer
        assert route.wait_s == (each.b / 1000 if each.opcode is Opcode.WORK else 0)
        assert route.chunk_bytes == (each.b if each.opcode is Opcode.BYTES else 0)
    assert each.method.encode() in service.route(each.path.encode()).methods


def test_bodies_that_are_not_looked_at() -> None:
    assert run(Service().route(b"/health"), b"anything") == b"ok"


def test_an_upload_is_not_kept() -> None:
    route = Service().route(b"/upload")
    assert route.receiver is Upload
    pieces = [pattern(size) for size in (1, 0, 1000)]
    data = b"".join(pieces)
    assert run(route, *pieces) == upload_receipt(len(data), hashlib.sha256(data).digest())
    assert Service().route(b"/echo").receiver is Collect


def test_work_is_cpu_time_of_its_thread() -> None:
    route = Service().route(b"/work?cpu_us=20000&wait_ms=5")
    before_ns = time.thread_time_ns()
    assert run(route) == b"done"
    assert 20_000_000 <= time.thread_time_ns() - before_ns < 200_000_000
    assert route.wait_s == 0.005


def test_a_route_is_made_once() -> None:
    service = Service()
    assert service.route(b"/bytes/5") is service.route(b"/bytes/5")
    assert service.operation(2, 5, 0) is service.operation(2, 5, 0)


def test_clients_cannot_fill_the_memory_with_routes() -> None:
    service = Service()
    for number in range(10_000):
        service.route(b"/bytes/%d" % number)
        service.operation(Opcode.BYTES, number, 0)
    assert len(service.known) + len(service._opcodes) < 10_000
    assert run(service.route(b"/bytes/9999")) == pattern(9999)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/", 404),
        (b"", 404),
        (b"*", 404),
        (b"/bytes5", 404),
        (b"/Health", 404),
        (b"/health/5", 404),
        (b"/echo/", 200),
        (b"/\xff", 404),
        (b"/bytes", 400),
        (b"/bytes/", 400),
        (b"/bytes/1.5", 400),
        (b"/bytes/5/6", 400),
        (b"/bytes/-1", 400),
        (b"/bytes/%d" % (MAX_BODY_BYTES + 1), 400),
        (b"/bytes/5?chunk=x", 400),
        (b"/bytes/5?chunk=-1", 400),
        (b"/bytes/5?other=x", 200),
        (b"/work?cpu_us=x", 400),
        (b"/work?cpu_us=-1", 400),
        (b"/work?cpu_us=%d" % (MAX_WORK_CPU_US + 1), 400),
        (b"/work?wait_ms=%d" % (MAX_WORK_WAIT_MS + 1), 400),
    ],
)
def test_targets_that_are_refused(target: bytes, status: int) -> None:
    if status == 200:
        Service().route(target)
        return
    with pytest.raises(ServiceError) as raised:
        Service().route(target)
    assert raised.value.status == status
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("opcode", "a", "b", "status"),
    [
        (5, 0, 0, 404),
        (-1, 0, 0, 404),
        (2, MAX_BODY_BYTES + 1, 0, 400),
        (2, 0, MAX_BODY_BYTES + 1, 400),
        (4, MAX_WORK_CPU_US + 1, 0, 400),
        (4, 0, MAX_WORK_WAIT_MS + 1, 400),
    ],
)
def test_numbers_that_are_refused(opcode: int, a: int, b: int, status: int) -> None:
    with pytest.raises(ServiceError) as raised:
        Service().operation(opcode, a, b)
    assert raised.value.status == status
