"""The operations that conversations are made of, as any HTTP client meets them: polls, jobs, uploads, comments."""

import contextlib
import hashlib
import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import jwt
import pytest

from bench import contract
from bench.registry import EXECUTIONS
from bench.serverprocess import ServerProcess
from servers import polls
from servers.comments import Comments
from servers.jobs import Jobs
from servers.service_error import ServiceError
from servers.sessions import Sessions
from servers.store import Store
from servers.topics import HISTORY, Topic, Topics
from servers.uploads import Uploads
from servers.waiting import Alarms

Ask = Callable[..., tuple[int, bytes]]


@pytest.fixture(params=["single", "dispatch", "thread-per-connection", "threads"])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Asks a server that runs under an execution model; each call has a connection of its own."""
    with ServerProcess("http1", request.param, 1 if request.param == "single" else 2) as server:

        def ask(method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
            with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=20)) as connection:
                connection.request(method, path, body)
                answer = connection.getresponse()
                return answer.status, answer.read()

        yield ask


def read(answer: tuple[int, bytes]) -> dict[str, Any]:
    status, body = answer
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def test_polls(ask: Ask) -> None:
    assert read(ask("GET", "/topics/news/events")) == {"last": 0, "events": []}
    assert read(ask("GET", "/topics/news/events?after=0&wait_ms=1")) == {"last": 0, "events": []}
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(ask, "GET", "/topics/news/events?after=0&wait_ms=15000") for _ in range(3)]
        assert ask("POST", "/topics/news", "hé".encode()) == (200, b"1")
        first = {"id": 1, "data": "hé"}
        for poll in held:
            assert read(poll.result()) == {"last": 1, "events": [first]}
    ask("POST", "/topics/news", b"\xff")
    assert read(ask("GET", "/topics/news/events?after=0")) == {
        "last": 2,
        "events": [first, {"id": 2, "base64": "/w=="}],
    }
    assert read(ask("GET", "/topics/news/events?after=2")) == {"last": 2, "events": []}
    assert contract.decode_poll(ask("GET", "/topics/news/events?after=0")[1]).events == ["hé".encode(), b"\xff"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/topics/news/events?after=x", 400),
        ("GET", "/topics/news/events?after=1&wait_ms=60001", 400),
        ("GET", "/topics/ne ws/events", 400),
        ("POST", "/topics/news/events", 405),
        ("POST", "/jobs?ms=60001", 400),
        ("POST", "/jobs?ms=1&steps=0", 400),
        ("GET", "/jobs/77", 404),
        ("GET", "/jobs/77?wait_ms=10", 404),
        ("GET", "/jobs/x", 400),
        ("POST", "/uploads?bytes=-1", 400),
        ("POST", "/uploads?bytes=99999999999", 413),
        ("GET", "/uploads/none", 404),
        ("PUT", "/uploads/none?offset=0", 404),
        ("POST", "/uploads/none/end", 404),
        ("POST", "/uploads/none/begin", 404),
        ("POST", "/comments", 400),
    ],
)
def test_refusals(method: str, path: str, status: int) -> None:
    with (
        ServerProcess("http1") as server,
        contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=20)) as connection,
    ):
        connection.request(method, path.replace(" ", "%20"))
        answer = connection.getresponse()
        assert answer.status == status
        assert answer.read()


def test_jobs(ask: Ask) -> None:
    state = read(ask("POST", "/jobs?ms=200&steps=4"))
    assert (state["state"], state["steps"]) == ("running", 4)
    done = read(ask("GET", f"/jobs/{state['id']}?wait_ms=15000"))
    assert done == {"id": state["id"], "state": "done", "step": 4, "steps": 4}
    assert read(ask("GET", f"/jobs/{state['id']}")) == done
    steps = contract.decode_poll(ask("GET", f"/topics/job-{state['id']}/events?after=0")[1]).events
    assert [json.loads(step)["step"] for step in steps] == [1, 2, 3, 4]
    late = read(ask("POST", "/jobs?ms=60000"))
    assert read(ask("GET", f"/jobs/{late['id']}?wait_ms=1"))["state"] == "running"


def test_uploads(ask: Ask) -> None:
    whole = contract.pattern(100_000)
    upload = read(ask("POST", f"/uploads?bytes={len(whole)}"))["id"]
    path = f"/uploads/{upload}"
    assert read(ask("PUT", f"{path}?offset=0", whole[:60_000]))["offset"] == 60_000
    assert read(ask("PUT", f"{path}?offset=0", whole[:60_000]))["offset"] == 60_000, "the same piece again"
    assert read(ask("PUT", f"{path}?offset=10", whole[10:20]))["offset"] == 60_000, "a part of it"
    for offset, piece in ((0, b"other"), (59_999, whole[59_999:61_000]), (70_000, whole[70_000:])):
        status, why = ask("PUT", f"{path}?offset={offset}", piece)
        assert (status, b"60000" in why) == (409, True)
    assert ask("PUT", f"{path}?offset=60000", whole[60_000:] + b"x")[0] == 413
    digest = hashlib.sha256(whole)
    assert ask("POST", f"{path}/end", digest.hexdigest().encode())[0] == 409, "something is missing"
    assert read(ask("PUT", f"{path}?offset=60000", whole[60_000:]))["offset"] == len(whole)
    assert read(ask("GET", path))["offset"] == len(whole)
    assert ask("POST", f"{path}/end", hashlib.sha256(b"x").hexdigest().encode())[0] == 422
    receipt = contract.upload_receipt(len(whole), digest.digest())
    assert ask("POST", f"{path}/end", digest.hexdigest().encode()) == (200, receipt)
    assert ask("POST", f"{path}/end", digest.hexdigest().encode()) == (200, receipt), "whoever lost it asks again"
    assert ask("POST", f"{path}/end", hashlib.sha256(b"x").hexdigest().encode())[0] == 422
    assert read(ask("GET", path))["offset"] == len(whole)
    assert ask("PUT", f"{path}?offset=0", whole[:10])[0] == 409


def test_comments(ask: Ask) -> None:
    def post(**said: str) -> tuple[int, bytes]:
        return ask("POST", "/comments", json.dumps(said).encode())

    first = read(post(text="a", key="k"))
    assert read(post(text="a", key="k")) == first
    status, why = post(text="b", key="k")
    assert (status, b"another comment" in why) == (409, True)
    assert read(post(text="a")) != read(post(text="a"))
    assert read(ask("GET", "/comments")) == {"comments": 3, "texts": 1}


def test_many_tries_at_once_are_one_comment() -> None:
    comments = Comments(Store())
    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(lambda _: comments.create(b'{"text":"a","key":"k"}'), range(200)))
    assert len(ids) == 1
    assert comments.count() == b'{"comments":1,"texts":1}'


@pytest.mark.parametrize("body", [b'{"text":"\\ud800"}', b'{"text":"a","key":"\\ud800"}', b'{"text":1}', b"[]", b"x"])
def test_a_comment_that_is_no_text_is_refused(body: bytes) -> None:
    with pytest.raises(ServiceError) as refused:
        Comments(Store()).create(body)
    assert refused.value.status == 400


def test_uploads_that_are_ended_twice_at_once() -> None:
    uploads = Uploads()
    digest = hashlib.sha256(b"x").hexdigest().encode()

    def answer(ask: Callable[[], bytes]) -> int:
        try:
            ask()
        except ServiceError as error:
            return error.status
        return 200

    with ThreadPoolExecutor(6) as pool:
        for _ in range(30):
            upload = json.loads(uploads.create(1))["id"]
            uploads.write(upload, 0, b"x")
            ends = [pool.submit(answer, lambda upload=upload: uploads.finish(upload, digest)) for _ in range(4)]
            writes = [pool.submit(answer, lambda upload=upload: uploads.write(upload, 0, b"x")) for _ in range(2)]
            assert [end.result() for end in ends] == [200] * 4
            assert {write.result() for write in writes} <= {200, 409}


def test_only_the_last_uploads_that_ended_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.uploads.MAX_ENDED", 1)
    uploads = Uploads()
    digest = hashlib.sha256(b"").hexdigest().encode()
    first, last = (json.loads(uploads.create(0))["id"] for _ in range(2))
    for upload in (first, last):
        uploads.finish(upload, digest)
    assert uploads.finish(last, digest) == contract.upload_receipt(0, hashlib.sha256(b"").digest())
    with pytest.raises(ServiceError, match="no such upload"):
        uploads.finish(first, digest)


def test_a_key_that_has_expired_is_a_new_one() -> None:
    comments = Comments(Store(), kept_s=0.0)
    assert comments.create(b'{"text":"a","key":"k"}') != comments.create(b'{"text":"b","key":"k"}')


def test_abandoned_uploads_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.uploads.MAX_UPLOADS", 2)
    uploads = Uploads()
    first, _ = uploads.create(1), uploads.create(1)
    with pytest.raises(ServiceError) as refused:
        uploads.create(1)
    assert refused.value.status == 503
    monkeypatch.setattr("servers.uploads.ABANDONED_S", -1.0)
    uploads.create(1)
    with pytest.raises(ServiceError):
        uploads.offset(json.loads(first)["id"])


def test_a_job_that_is_done_is_forgotten_with_its_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servers.jobs.KEPT_S", 0.0)
    topics = Topics()
    jobs = Jobs(topics, Alarms(), Alarms())
    done = threading.Event()
    jobs.submit(0.2, 1)
    jobs.await_end(1, 20, lambda _: done.set())
    topic = topics.topic("job-1")
    assert done.wait(20)
    barrier = threading.Event()
    jobs._alarms.at(0, barrier.set)
    assert barrier.wait(20)
    with pytest.raises(ServiceError):
        jobs.read(1)
    assert topics.topic("job-1") is not topic


def test_jobs_take_no_room_from_topics() -> None:
    topics = Topics()
    jobs = Jobs(topics, Alarms(), Alarms())
    for _ in range(2000):
        jobs.submit(60, 1)
    assert topics.topic("news") is topics.topic("news")
    assert topics.topic("job-2000").subscribers == 0


@pytest.mark.parametrize("kept", ["memory", "sqlite", "token"])
def test_sessions(ask: Ask, kept: str) -> None:
    session = read(ask("POST", f"/sessions?kept={kept}"))
    for visits in range(3):
        assert session["visits"] == visits
        session = read(ask("POST", f"/sessions/visits?kept={kept}", json.dumps(session).encode()))
    for wrong in ("", "a", session["session"][:-1]):
        status, why = ask("POST", f"/sessions/visits?kept={kept}", json.dumps({"session": wrong}).encode())
        assert status == 401
        assert b"log in again" in why
    over = read(ask("POST", f"/sessions?kept={kept}&life_ms=0"))
    if kept != "token":  # whose time is in whole seconds
        assert ask("POST", f"/sessions/visits?kept={kept}", json.dumps(over).encode())[0] == 401
    assert ask("POST", f"/sessions/visits?kept={kept}", b"{}")[0] == 400
    assert ask("POST", f"/sessions?kept={kept}&life_ms=-1")[0] == 400
    assert ask("POST", "/sessions?kept=nowhere")[0] == 400


def test_tokens_are_signed_by_the_server_alone() -> None:
    store = Store()
    sessions, same, other = Sessions(store), Sessions(store), Sessions(Store())
    made = sessions.create("token", 60)
    assert json.loads(same.visit("token", made))["visits"] == 1
    with pytest.raises(ServiceError, match="not a token of this server"):
        other.visit("token", made)
    with store.transaction() as database:
        (key,) = database.execute("SELECT value FROM secret").fetchone()
    later = 1 << 40
    wrong = {
        "Signature": jwt.encode({"visits": 0, "exp": later}, "x" * 32, "HS256"),
        "alg": jwt.encode({"visits": 0, "exp": later}, None, "none"),
        "expired": jwt.encode({"visits": 0, "exp": 1}, key, "HS256"),
        '"exp"': jwt.encode({"visits": 0}, key, "HS256"),
        '"visits"': jwt.encode({"exp": later}, key, "HS256"),
    }
    for why, token in wrong.items():
        with pytest.raises(ServiceError, match=why) as refused:
            sessions.visit("token", json.dumps({"session": token}).encode())
        assert refused.value.status == 401


@pytest.mark.parametrize("execution", ["prefork", "reuseport", "process-per-connection"])
def test_processes_share_a_store(execution: str) -> None:
    with ServerProcess("http1", execution, 2) as server:

        def post(path: str, body: bytes) -> dict[str, Any]:
            with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=20)) as connection:
                connection.request("POST", path, body)
                answer = connection.getresponse()
                return read((answer.status, answer.read()))

        numbers = {post("/comments", b'{"text":"a","key":"k"}')["id"] for _ in range(12)}
        assert len(numbers) == 1
        for kept in ("sqlite", "token"):
            session = post(f"/sessions?kept={kept}", b"")
            for _ in range(12):
                session = post(f"/sessions/visits?kept={kept}", json.dumps(session).encode())
            assert session["visits"] == 12
        workers, _ = server.stats()
        assert sum(worker.requests > 0 for worker in workers) > 1


def test_what_is_kept_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    with ServerProcess("http1", state=str(tmp_path)) as server:

        def post(path: str, body: bytes) -> tuple[int, bytes]:
            with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=20)) as connection:
                connection.request("POST", path, body)
                answer = connection.getresponse()
                return answer.status, answer.read()

        before = {kept: post(f"/sessions?kept={kept}", b"")[1] for kept in ("memory", "sqlite", "token")}
        comment = post("/comments", b'{"text":"a","key":"k"}')
        pid, port = server.pid, server.port
        server.restart()
        assert server.pid != pid
        assert server.port == port
        after = {kept: post(f"/sessions/visits?kept={kept}", session)[0] for kept, session in before.items()}
        assert after == {"memory": 401, "sqlite": 200, "token": 200}
        assert post("/comments", b'{"text":"a","key":"k"}') == comment


@pytest.mark.parametrize("offload", [0, 1])
def test_an_offloaded_handler_keeps_nobody_waiting(offload: int) -> None:
    """Who asks after somebody whose handler blocks is answered first if that is offloaded, and second if it is not."""
    with ServerProcess("http1") as server, contextlib.ExitStack() as stack:
        blocked, other = (
            stack.enter_context(socket.create_connection((server.host, server.port), timeout=20)) for _ in range(2)
        )
        blocked.sendall(b"GET /block?us=1000000&offload=%d HTTP/1.1\r\nHost: a\r\n\r\n" % offload)
        other.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert other.recv(1000).endswith(b"ok")
        is_answered = bool(select.select([blocked], [], [], 0)[0])
        assert is_answered == (not offload)
        assert blocked.recv(1000).endswith(b"done")


@pytest.mark.parametrize("execution", list(EXECUTIONS))
def test_a_server_that_stops_answers_what_it_holds_back(execution: str) -> None:
    with ServerProcess("http1", execution, 1) as server, ThreadPoolExecutor(2) as pool:

        def ask(path: str) -> tuple[int, bytes]:
            with contextlib.closing(http.client.HTTPConnection(server.host, server.port, timeout=40)) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read()

        ask("/topics/news/events?after=0")
        held = [pool.submit(ask, "/topics/news/events?after=0&wait_ms=50000") for _ in range(2)]
        while sum(worker.requests for worker in server.stats()[0]) < 3:
            time.sleep(0.005)
        server.stop()
        assert [read(poll.result()) for poll in held] == [{"last": 0, "events": []}] * 2


def test_polls_say_what_is_lost_and_where_a_topic_stands() -> None:
    topic, answers = Topic(), SimpleQueue[bytes]()

    def poll(after_id: int) -> dict[str, Any]:
        polls.defer(topic, after_id, 0.0, Alarms(), b"", answers.put)
        found: dict[str, Any] = json.loads(answers.get_nowait())
        return found

    for _ in range(HISTORY + 10):
        topic.publish(b"x")
    assert (poll(0)["lost"], poll(7)["lost"]) == (10, 3)
    assert "lost" not in poll(10)
    assert poll(HISTORY + 11) == {"last": HISTORY + 10, "events": []}  # of a server before this one
