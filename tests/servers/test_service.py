"""The service: every operation's answer, every bad argument's refusal, and routes that are made once."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest

from bench.contract import (
    BY_PATH,
    MAX_BODY_BYTES,
    MAX_READ_BYTES,
    MAX_WORK_CPU_US,
    MAX_WORK_WAIT_MS,
    OPERATIONS,
    SEEDED_TODOS,
    UNKNOWN_ANSWERS,
    Exchange,
    Opcode,
    Todo,
    exchange,
    pattern,
    upload_receipt,
)
from servers.json_bodies import MAX_JSON_BYTES
from servers.offloading import DataFile
from servers.service import Collect, Refused, Route, Service, Upload
from servers.service_error import ServiceError
from servers.todos import MAX_CREATED
from servers.topics import MAX_EVENT_BYTES

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
    exchange(Opcode.BLOCK, a=100),
    exchange(Opcode.FILE),
    exchange(Opcode.FILE, 5000),
    exchange(Opcode.FILE, MAX_READ_BYTES),
    exchange(Opcode.READ_TODOS, a=0),
    exchange(Opcode.READ_TODOS, a=10),
    exchange(Opcode.READ_TODOS_STREAM, a=0),
    exchange(Opcode.READ_TODOS_STREAM, a=SEEDED_TODOS),
]

OF_CONVERSATIONS = sorted(BY_PATH)


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


def routes(target: bytes) -> dict[Opcode, Route]:
    """What a target means, by operation."""
    route = Service().route(target)
    return {each.opcode: each for each in (route, route.other) if each is not None}


def test_answers_that_are_the_whole_body_of_a_success_are_plain() -> None:
    plain = {each.path: Service().route(each.path.encode()).is_plain for each in EXCHANGES}
    assert [path for path, is_plain in plain.items() if not is_plain] == [
        "/bytes/1000?chunk=7",
        "/file/0?offload=0",
        "/file/5000?offload=0",
        f"/file/{MAX_READ_BYTES}?offload=0",
        "/todos/stream?limit=0",
        "/todos/stream?limit=1000",
    ]
    assert [route.is_plain for route in routes(b"/todos").values()] == [True, False]
    assert [route.is_plain for route in routes(b"/topics/x").values()] == [False, False]


@pytest.mark.parametrize("each", [each for each in EXCHANGES if Service().route(each.path.encode()).in_pieces])
def test_pieces(each: Exchange) -> None:
    route = Service().route(each.path.encode())
    pieces = route.pieces(each.answer)
    assert b"".join(pieces) == each.answer
    assert all(pieces)
    if each.opcode is Opcode.BYTES:
        assert {len(piece) for piece in pieces[:-1]} == {each.b}
    else:
        assert [json.loads(piece)["id"] for piece in pieces] == list(range(1, each.a + 1))


def test_a_todo_is_created_from_json() -> None:
    service = Service()
    wanted = exchange(Opcode.CREATE_TODO)
    for route in (service.route(b"/todos").other, service.operation(Opcode.CREATE_TODO, 0, 0)):
        assert route is not None
        created = json.loads(run(route, wanted.body))
        assert created == {"id": created["id"], "text": "buy milk", "done": False}
    assert service.todos.read(SEEDED_TODOS + 5)[SEEDED_TODOS:] == (
        Todo(SEEDED_TODOS + 1, "buy milk", False),
        Todo(SEEDED_TODOS + 2, "buy milk", False),
    )
    assert Opcode.CREATE_TODO in UNKNOWN_ANSWERS


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"buy milk", 400),
        (b'"buy milk"', 400),
        (b"{}", 400),
        (b'{"text": 5}', 400),
        (b'{"text": ""}', 400),
        (b'{"text": "\\ud800"}', 400),
        (b'{"text": "%b"}' % (b"x" * 1001), 400),
        (b"\xff\xfe{", 400),
        (b"[" * 60_000, 400),
        (b'{"text": ' + b"1" * 10_000 + b"}", 400),
        (b" " * (MAX_JSON_BYTES + 1), 413),
    ],
)
def test_todos_that_are_refused_when_they_run(body: bytes, status: int) -> None:
    answer = run(Service().operation(Opcode.CREATE_TODO, 0, 0), body)
    assert isinstance(answer, Refused)
    assert answer.status == status
    assert answer.decode().isprintable()
    assert answer


def test_a_topic_is_published_to_and_subscribed_to_under_one_name() -> None:
    found = routes(b"/topics/news")
    publish, subscribe = found[Opcode.PUBLISH], found[Opcode.SUBSCRIBE]
    assert (publish.methods, subscribe.methods) == ((b"POST",), (b"GET", b"HEAD"))
    assert (publish.topic, subscribe.after_id) == (None, None)
    assert (run(publish, b"x"), run(publish, b"y")) == (b"1", b"2")
    assert subscribe.topic is not None
    assert subscribe.topic.publish(b"z") == 3
    refused = run(publish, b"x" * (MAX_EVENT_BYTES + 1))
    assert isinstance(refused, Refused)
    assert refused.status == 413
    resumed = subscribe.resumed(7)
    assert (resumed.topic, resumed.after_id, resumed.opcode) == (subscribe.topic, 7, Opcode.SUBSCRIBE)
    assert (resumed.in_pieces, resumed.content_type) == (True, b"text/event-stream")
    assert routes(b"/topics/news?after=5")[Opcode.SUBSCRIBE].after_id == 5


def test_loads_are_made_of_operations_with_one_answer() -> None:
    assert set(Opcode) - set(OPERATIONS.values()) == {Opcode.PUBLISH, Opcode.SUBSCRIBE, *OF_CONVERSATIONS}
    for opcode in (Opcode.PUBLISH, Opcode.SUBSCRIBE):
        with pytest.raises(ValueError, match=opcode.word):
            exchange(opcode)


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
        (b"/todos", 200),
        (b"/todos/stream", 200),
        (b"/todos/other", 404),
        (b"/todos?limit=x", 400),
        (b"/todos?limit=-1", 400),
        (b"/todos/stream?limit=%d" % (SEEDED_TODOS + MAX_CREATED + 1), 400),
        (b"/topics", 400),
        (b"/topics/", 400),
        (b"/topics/a/b", 400),
        (b"/topics/%s" % (b"x" * 65), 400),
        (b"/topics/x?after=5", 200),
        (b"/topics/x?after=", 200),
        (b"/topics/x?after=x", 400),
        (b"/topics/x?after=-1", 400),
        (b"/topics/x?after=%s" % (b"1" * 20), 400),
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
        (Opcode.PUBLISH, 0, 0, 501),
        (Opcode.SUBSCRIBE, 0, 0, 501),
        (Opcode.POLL, 0, 0, 501),
        (99, 0, 0, 404),
        (-1, 0, 0, 404),
        (2, MAX_BODY_BYTES + 1, 0, 400),
        (2, 0, MAX_BODY_BYTES + 1, 400),
        (4, MAX_WORK_CPU_US + 1, 0, 400),
        (4, 0, MAX_WORK_WAIT_MS + 1, 400),
        (Opcode.READ_TODOS, SEEDED_TODOS + MAX_CREATED + 1, 0, 400),
        (Opcode.READ_TODOS_STREAM, 2**32 - 1, 0, 400),
    ],
)
def test_numbers_that_are_refused(opcode: int, a: int, b: int, status: int) -> None:
    with pytest.raises(ServiceError) as raised:
        Service().operation(opcode, a, b)
    assert raised.value.status == status


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux tells what was read from the disk")
def test_a_file_is_read_from_the_disk(tmp_path: Path) -> None:
    def read_bytes() -> int:
        return int(re.findall(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)[0])

    file = DataFile(str(tmp_path))
    file.read(1)
    before = read_bytes()
    for _ in range(20):
        assert file.read(65_536) == pattern(65_536)
    if not read_bytes() - before:
        pytest.skip(f"{tmp_path} is on no disk")
    assert read_bytes() - before >= 20 * 65_536
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
