"""The one application that every server exposes: the same operations, the same bytes, over every protocol.

A protocol turns what it reads into a `Route` (an operation with its arguments) and a body; whoever runs requests
(see `servers.worker`) calls `route.execute(body)` and then waits `route.wait_s` in its own way: an event loop with a
timer, a thread by sleeping.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self
from urllib.parse import parse_qsl

from bench import contract
from bench.contract import METHODS, Opcode
from bench.wire.stages import STAGES
from servers import polls
from servers.comments import Comments
from servers.counters import Slot
from servers.jobs import Jobs
from servers.json_bodies import read_object
from servers.offloading import DataFile, Pool, block
from servers.service_error import ServiceError
from servers.sessions import Sessions
from servers.store import Store
from servers.todos import Todos
from servers.topics import Topic, Topics
from servers.uploads import Uploads
from servers.waiting import Alarms

BINARY, TEXT, JSON, JSON_LINES, EVENT_STREAM = (
    b"application/octet-stream",
    b"text/plain",
    b"application/json",
    b"application/x-ndjson",
    b"text/event-stream",
)
"""What answers are, as media types."""

_NEVER_REFUSED = (
    Opcode.HEALTH,
    Opcode.ECHO,
    Opcode.BYTES,
    Opcode.UPLOAD,
    Opcode.WORK,
    Opcode.READ_TODOS,
    Opcode.READ_TODOS_STREAM,
    Opcode.SUBSCRIBE,
    Opcode.BLOCK,
    Opcode.RUN_STAGE,
)
"""Operations whose refusal is known when they are routed, before their body."""

_MET_ONCE = (Opcode.READ_JOB, Opcode.POLL, Opcode.READ_UPLOAD, Opcode.WRITE_UPLOAD, Opcode.END_UPLOAD)
"""Operations whose targets are hardly met twice, so that it does not pay to remember their routes."""

Reply = Callable[[bytes], None]
"""Takes the answer to one request, once, from whatever thread."""

Hasten = Callable[[], None]
"""Has an answer that is held back given at once, as it is then. Called from any thread, after the answer too."""

Defer = Callable[[bytes, Reply], Hasten | None]
"""Takes a body, and gives the answer to it to Reply when there is one; what it returns is for those who cannot wait
for that, None where the answer takes no longer than it must."""


def event_id(text: str) -> int:
    """The id of an event as a subscriber names it. Raises ServiceError 400."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ServiceError(400, "the id of an event is a whole number")
    return int(text)


class Upload:
    """A body that is hashed as it arrives and never held in memory."""

    __slots__ = ("_hash", "_length")

    def __init__(self) -> None:
        self._length = 0
        self._hash = hashlib.sha256()

    def feed(self, chunk: bytes) -> None:
        self._length += len(chunk)
        self._hash.update(chunk)

    def finish(self) -> bytes:
        return contract.upload_receipt(self._length, self._hash.digest())


class Collect(list[bytes]):
    """A body that is kept whole."""

    __slots__ = ()

    feed = list.append

    def finish(self) -> bytes:
        return b"".join(self)


class Refused(bytes):
    """An answer that says why a request was refused when it ran: the message, as UTF-8. Other reasons to refuse are
    known before (see `Service.route`)."""

    status: int

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """The refusal as an answer."""
        refused = cls(error.message.encode())
        refused.status = error.status
        return refused


class Route:
    """One operation with its arguments: resolved once, run many times, shared by all requests that are alike.

    A protocol feeds the request's body to a new `receiver()`, and passes what that one's `finish()` gives to `execute`,
    which never raises. Most routes are plain: the answer is the whole body of a success.
    """

    __slots__ = (
        "after_id",
        "chunk_bytes",
        "content_type",
        "defer",
        "execute",
        "in_pieces",
        "is_held",
        "is_plain",
        "methods",
        "opcode",
        "other",
        "receiver",
        "topic",
        "wait_s",
    )

    def __init__(
        self,
        opcode: Opcode,
        execute: Callable[[bytes], bytes],
        receiver: type[Collect | Upload] = Collect,
        wait_s: float = 0.0,
        chunk_bytes: int = 0,
        content_type: bytes = BINARY,
        topic: Topic | None = None,
        after_id: int | None = None,
        defer: Defer | None = None,
    ) -> None:
        self.opcode = opcode
        self.execute = execute
        self.receiver = receiver
        self.wait_s = wait_s
        """How long the answer must be held back after `execute`, in seconds."""
        self.defer = defer
        """Takes the place of `execute` where the answer comes when there is one. It may call back at once."""
        self.is_held = wait_s > 0 or defer is not None
        """Whether the answer does not follow at once."""
        self.chunk_bytes = chunk_bytes
        """The size of the pieces that the answer is to be sent in; 0 for no pieces of one size."""
        self.content_type = content_type
        """What the answer is, as a media type."""
        self.topic = topic
        """The answer does not end: it is the topic's events, those after `after_id` or, if that is None, from now on.
        What `execute` gives means nothing."""
        self.after_id = after_id
        self.in_pieces = chunk_bytes > 0 or opcode in (Opcode.READ_TODOS_STREAM, Opcode.SUBSCRIBE)
        """The answer is to be sent as its `pieces`, or as events, and its length is not told beforehand."""
        self.is_plain = not self.in_pieces and opcode in _NEVER_REFUSED
        """The answer is one whole body, and never Refused."""
        self.methods = tuple(method.encode("ascii") for method in METHODS[opcode])
        self.other: Route | None = None
        """What the same HTTP target means with other methods."""

    def pieces(self, answer: bytes) -> Sequence[bytes]:
        """The pieces that an answer is to be sent in, none of them empty."""
        if self.opcode is Opcode.READ_TODOS_STREAM:
            return answer.splitlines(keepends=True)
        return [answer[start : start + self.chunk_bytes] for start in range(0, len(answer), self.chunk_bytes)]

    def resumed(self, after_id: int) -> "Route":
        """The same for a subscriber that has had the events up to that id."""
        return Route(self.opcode, self.execute, content_type=self.content_type, topic=self.topic, after_id=after_id)


def _echo(body: bytes) -> bytes:
    return body


def _refusing(run: Callable[[bytes], bytes], body: bytes) -> bytes:
    try:
        return run(body)
    except ServiceError as error:
        return Refused.of(error)


def _deferring(run: Callable[[Reply], Hasten | None], _body: bytes, reply: Reply) -> Hasten | None:
    try:
        return run(reply)
    except ServiceError as error:
        reply(Refused.of(error))
        return None


def _publish(topic: Topic, body: bytes) -> bytes:
    return b"%d" % topic.publish(body)


def _publish_held(topic: Topic, body: bytes, reply: Reply) -> Hasten | None:
    try:
        return topic.publish_held(body, lambda event_id: reply(b"%d" % event_id))
    except ServiceError as error:
        reply(Refused.of(error))
        return None


def _publish_route(topic: Topic) -> Route:
    publish = partial(_refusing, partial(_publish, topic))
    defer = partial(_publish_held, topic) if topic.policy == contract.BLOCK else None
    return Route(Opcode.PUBLISH, publish, content_type=TEXT, defer=defer)


def _create_todo(todos: Todos, body: bytes) -> bytes:
    text = read_object(body, "a todo").get("text")
    if not isinstance(text, str):
        raise ServiceError(400, 'a todo has a text, like {"text": "buy milk"}')
    return contract.encode_todo(todos.create(text))


def _read_todos(todos: Todos, limit: int, _body: bytes) -> bytes:
    return contract.encode_todos(todos.read(limit))


def _read_todo_lines(todos: Todos, limit: int, _body: bytes) -> bytes:
    return contract.encode_todo_lines(todos.read(limit))


def _constant(answer: bytes, _body: bytes) -> bytes:
    return answer


def _bytes(n: int, _body: bytes) -> bytes:
    return contract.pattern(n)


def _work(cpu_ns: int, _body: bytes) -> bytes:
    # The thread's own CPU clock: under contention the work takes longer on the wall, never more or less CPU.
    clock = time.thread_time_ns
    until = clock() + cpu_ns
    while clock() < until:
        pass
    return contract.WORK_BODY


def _wait_s(given: dict[str, str]) -> float:
    """How long an answer may be held back, as a query says it. Raises ServiceError 400."""
    wait_ms = int(given.get("wait_ms", "0"))
    if not 0 <= wait_ms <= contract.MAX_WORK_WAIT_MS:
        raise ServiceError(400, f"wait_ms must be 0 to {contract.MAX_WORK_WAIT_MS}")
    return wait_ms / 1000


class Service:
    """Resolves operations to routes. One serves every worker of a process; its state, topics and todos, is theirs."""

    def __init__(
        self, folder: str = "", policy: str = contract.DISCONNECT, slot: Slot | None = None, redis: str = ""
    ) -> None:
        """What outlives the process is kept in a folder, if one is given (see `servers.store`); `policy` and `slot` are
        those of topics, `redis` is the address of one for sessions."""
        store = Store(folder)
        self.topics = Topics(policy, slot)
        self.todos = Todos()
        self.uploads = Uploads()
        self.comments = Comments(store)
        self.sessions = Sessions(store, redis)
        self._file = DataFile(folder)
        self._pool = Pool()
        self._holds = Alarms()
        """Ends of the times that answers are held back for."""
        self.jobs = Jobs(self.topics, Alarms(), self._holds)
        self.known: dict[bytes, Route] = {}
        """The routes of targets that were met before; `route` knows the others."""
        self._opcodes: dict[tuple[int, int, int], Route] = {}

    def hold_nothing(self) -> None:
        """The server is to stop: answer what is held back now, and hold back nothing more."""
        self._holds.hasten()
        self.topics.hold_nothing()

    def publishing(self, name: str) -> Route:
        """The route that publishes to a topic. Raises ServiceError for a name that cannot be one."""
        return _publish_route(self.topics.topic(name))

    def route(self, target: bytes) -> Route:
        """The route of an HTTP request target, like `b"/bytes/64"`. Its `other` is what the target means with other
        methods.

        Raises ServiceError 404 for an unknown path and 400 for a bad argument.
        """
        route = self.known.get(target)
        if route is None:
            route = self._parse(target)
            if len(self.known) < 4096 and route.opcode not in _MET_ONCE:
                self.known[target] = route
        return route

    def named(self, method: bytes, target: bytes) -> Route:
        """The route of a request with that method and target, where the framing has no status line of its own.

        Raises ServiceError as `route`, and 405 for a method that the target has no meaning for.
        """
        route: Route | None = self.route(target)
        allowed: tuple[bytes, ...] = ()
        while route is not None:
            if method in route.methods:
                return route
            allowed += route.methods
            route = route.other
        raise ServiceError(405, f"allowed here: {b', '.join(allowed).decode()}")

    def asked(self, method: bytes, target: bytes, body: bytes) -> tuple[Route, bytes]:
        """The route of a request whose body is whole, and what to give to its `execute`. Raises as `named`."""
        route = self.named(method, target)
        if route.receiver is not Collect:
            receiver = route.receiver()
            receiver.feed(body)
            body = receiver.finish()
        return route, body

    def operation(self, opcode: int, a: int, b: int) -> Route:
        """The route of an operation given as a number and two arguments, as the binary framings carry it.

        Raises ServiceError 404 for an unknown opcode, 400 for a bad argument, and 501 for what needs more than that.
        """
        key = (opcode, a, b)
        route = self._opcodes.get(key)
        if route is None:
            route = self._make(opcode, a, b)
            if len(self._opcodes) < 4096:
                self._opcodes[key] = route
        return route

    def _parse(self, target: bytes) -> Route:
        path, _, query = target.decode("latin-1").partition("?")
        given = dict(parse_qsl(query))
        name, _, tail = path.removeprefix("/").partition("/")
        try:
            match name, tail:
                case "health" | "echo" | "upload", "":
                    return self._make(Opcode[name.upper()], 0, 0)
                case "bytes", _:
                    return self._make(Opcode.BYTES, int(tail), int(given.get("chunk", "0")))
                case "work", "":
                    return self._make(Opcode.WORK, int(given.get("cpu_us", "0")), int(given.get("wait_ms", "0")))
                case "block", "":
                    return self._make(Opcode.BLOCK, int(given.get("us", "0")), int(given.get("offload", "0")))
                case "file", _:
                    return self._make(Opcode.FILE, int(tail), int(given.get("offload", "0")))
                case "todos", "":
                    route = self._make(Opcode.READ_TODOS, int(given.get("limit", contract.TODO_LIMIT)), 0)
                    route.other = self._make(Opcode.CREATE_TODO, 0, 0)
                    return route
                case "todos", "stream":
                    return self._make(Opcode.READ_TODOS_STREAM, int(given.get("limit", contract.TODO_LIMIT)), 0)
                case "topics", _ if tail.endswith("/events"):
                    return self._poll_route(tail.removesuffix("/events"), given)
                case "jobs", _:
                    return self._job_route(tail, given)
                case "uploads", _:
                    return self._upload_route(tail, given)
                case "comments", "":
                    route = Route(Opcode.CREATE_COMMENT, partial(_refusing, self.comments.create), content_type=JSON)
                    route.other = Route(Opcode.COUNT_COMMENTS, lambda _: self.comments.count(), content_type=JSON)
                    return route
                case "sessions", "" | "visits":
                    return self._session_route(tail, given)
                case "stages", _ if tail in STAGES:
                    return Route(Opcode.RUN_STAGE, STAGES[tail])
                case "topics", _:
                    after = given.get("after")
                    return self._topic_route(self.topics.topic(tail), None if after is None else event_id(after))
        except ValueError:
            raise ServiceError(400, f"an argument of {path} is not a whole number") from None
        raise ServiceError(404, f"no such operation: {path}")

    def _topic_route(self, topic: Topic, after_id: int | None) -> Route:
        route = _publish_route(topic)
        nothing = partial(_constant, b"")
        route.other = Route(Opcode.SUBSCRIBE, nothing, content_type=EVENT_STREAM, topic=topic, after_id=after_id)
        return route

    def _poll_route(self, name: str, given: dict[str, str]) -> Route:
        after, wait_s = given.get("after"), _wait_s(given)
        defer = partial(
            polls.defer, self.topics.topic(name), None if after is None else event_id(after), wait_s, self._holds
        )
        return Route(Opcode.POLL, _echo, content_type=JSON, defer=defer)

    def _job_route(self, tail: str, given: dict[str, str]) -> Route:
        jobs = self.jobs
        if not tail:
            duration_ms, steps = int(given.get("ms", "0")), int(given.get("steps", "1"))
            if not (0 <= duration_ms <= contract.MAX_WORK_WAIT_MS and 1 <= steps <= contract.MAX_JOB_STEPS):
                raise ServiceError(
                    400, f"jobs: ms must be 0 to {contract.MAX_WORK_WAIT_MS} and steps 1 to {contract.MAX_JOB_STEPS}"
                )
            submit = partial(_refusing, lambda _: jobs.submit(duration_ms / 1000, steps))
            return Route(Opcode.SUBMIT_JOB, submit, content_type=JSON)
        job_id, wait_s = int(tail), _wait_s(given)
        if not wait_s:
            return Route(Opcode.READ_JOB, partial(_refusing, lambda _: jobs.read(job_id)), content_type=JSON)
        defer = partial(_deferring, lambda reply: jobs.await_end(job_id, wait_s, reply))
        return Route(Opcode.READ_JOB, _echo, content_type=JSON, defer=defer)

    def _upload_route(self, tail: str, given: dict[str, str]) -> Route:
        uploads = self.uploads
        upload_id, _, rest = tail.partition("/")
        if not tail:
            size_bytes = int(given.get("bytes", "0"))
            if size_bytes < 0:
                raise ServiceError(400, "uploads: bytes must not be negative")
            create = partial(_refusing, lambda _: uploads.create(size_bytes))
            return Route(Opcode.CREATE_UPLOAD, create, content_type=JSON)
        if rest == "end":
            return Route(Opcode.END_UPLOAD, partial(_refusing, lambda body: uploads.finish(upload_id, body)))
        if rest:
            raise ServiceError(404, f"no such operation: /uploads/{tail}")
        offset = int(given.get("offset", "0"))
        if offset < 0:
            raise ServiceError(400, "uploads: offset must not be negative")
        write = partial(_refusing, lambda body: uploads.write(upload_id, offset, body))
        route = Route(Opcode.WRITE_UPLOAD, write, content_type=JSON)
        read = partial(_refusing, lambda _: uploads.offset(upload_id))
        route.other = Route(Opcode.READ_UPLOAD, read, content_type=JSON)
        return route

    def _session_route(self, tail: str, given: dict[str, str]) -> Route:
        sessions, kept = self.sessions, given.get("kept", "memory")
        if tail:
            visit = partial(_refusing, partial(sessions.visit, kept))
            return Route(Opcode.VISIT_SESSION, visit, content_type=JSON, defer=self._session_defer(kept, visit))
        life_ms = int(given.get("life_ms", contract.SESSION_LIFE_MS))
        if not 0 <= life_ms <= contract.SESSION_LIFE_MS:
            raise ServiceError(400, f"sessions: life_ms must be 0 to {contract.SESSION_LIFE_MS}")
        create = partial(_refusing, lambda _: sessions.create(kept, life_ms / 1000))
        return Route(Opcode.CREATE_SESSION, create, content_type=JSON, defer=self._session_defer(kept, create))

    def _session_defer(self, kept: str, run: Callable[[bytes], bytes]) -> Defer | None:
        """What runs an operation on sessions elsewhere, where it may have to wait."""
        return partial(self._pool.defer, run) if self.sessions.waits(kept) else None

    def _blocking_route(self, opcode: Opcode, run: Callable[[bytes], bytes], offload: int) -> Route:
        if offload not in (0, 1):
            raise ServiceError(400, f"{opcode.word}: offload must be 0 or 1")
        return Route(opcode, run, defer=partial(self._pool.defer, run) if offload else None)

    def _make(self, opcode: int, a: int, b: int) -> Route:
        match opcode:
            case Opcode.HEALTH:
                return Route(Opcode.HEALTH, partial(_constant, contract.HEALTH_BODY))
            case Opcode.ECHO:
                return Route(Opcode.ECHO, _echo)
            case Opcode.BYTES:
                if not (0 <= a <= contract.MAX_BODY_BYTES and 0 <= b <= contract.MAX_BODY_BYTES):
                    raise ServiceError(400, f"bytes: n and chunk must be 0 to {contract.MAX_BODY_BYTES}")
                if b and a > b * contract.MAX_CHUNKS:
                    raise ServiceError(400, f"bytes: n makes more than {contract.MAX_CHUNKS} pieces of chunk")
                return Route(Opcode.BYTES, partial(_bytes, a), chunk_bytes=b)
            case Opcode.UPLOAD:
                return Route(Opcode.UPLOAD, _echo, receiver=Upload)
            case Opcode.WORK:
                if not (0 <= a <= contract.MAX_WORK_CPU_US and 0 <= b <= contract.MAX_WORK_WAIT_MS):
                    raise ServiceError(
                        400,
                        f"work: cpu_us must be 0 to {contract.MAX_WORK_CPU_US} "
                        f"and wait_ms 0 to {contract.MAX_WORK_WAIT_MS}",
                    )
                return Route(Opcode.WORK, partial(_work, a * 1000), wait_s=b / 1000)
            case Opcode.CREATE_TODO:
                create = partial(_refusing, partial(_create_todo, self.todos))
                return Route(Opcode.CREATE_TODO, create, content_type=JSON)
            case Opcode.READ_TODOS:
                self.todos.read(a)  # refuses a limit that is none
                return Route(Opcode.READ_TODOS, partial(_read_todos, self.todos, a), content_type=JSON)
            case Opcode.READ_TODOS_STREAM:
                self.todos.read(a)
                read_lines = partial(_read_todo_lines, self.todos, a)
                return Route(Opcode.READ_TODOS_STREAM, read_lines, content_type=JSON_LINES)
            case Opcode.PUBLISH | Opcode.SUBSCRIBE:
                raise ServiceError(501, "a topic has a name, which is no number; use HTTP, or code 64 of frames")
            case Opcode.BLOCK:
                if not 0 <= a <= contract.MAX_BLOCK_US:
                    raise ServiceError(400, f"block: us must be 0 to {contract.MAX_BLOCK_US}")
                return self._blocking_route(Opcode.BLOCK, partial(block, a / 1e6), b)
            case Opcode.FILE:
                if not 0 <= a <= contract.MAX_READ_BYTES:
                    raise ServiceError(400, f"file: n must be 0 to {contract.MAX_READ_BYTES}")
                return self._blocking_route(Opcode.FILE, partial(_refusing, lambda _: self._file.read(a)), b)
            case _ if opcode in contract.BY_PATH:
                raise ServiceError(501, "this operation has a path, which is no number; use HTTP, or code 64 of frames")
            case _:
                raise ServiceError(404, f"no such operation: {opcode}")
