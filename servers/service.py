"""The one application that every server exposes: the same operations, the same bytes, over every protocol.

A protocol turns what it reads into a `Route` (an operation with its arguments) and a body; whoever runs requests
(see `servers.worker`) calls `route.execute(body)` and then waits `route.wait_s` in its own way: an event loop with a
timer, a thread by sleeping.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Self
from urllib.parse import parse_qsl

from bench import contract
from bench.contract import METHODS, Opcode
from servers.service_error import ServiceError
from servers.todos import Todos
from servers.topics import Topic, Topics

BINARY, TEXT, JSON, JSON_LINES, EVENT_STREAM = (
    b"application/octet-stream",
    b"text/plain",
    b"application/json",
    b"application/x-ndjson",
    b"text/event-stream",
)
"""What answers are, as media types."""

MAX_JSON_BYTES = 64 * 1024
"""The longest body that is read as JSON."""

_MAY_REFUSE = (Opcode.PUBLISH, Opcode.CREATE_TODO)
"""Operations whose argument is the body, which is not known when they are routed."""


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
        "execute",
        "in_pieces",
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
    ) -> None:
        self.opcode = opcode
        self.execute = execute
        self.receiver = receiver
        self.wait_s = wait_s
        """How long the answer must be held back after `execute`, in seconds."""
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
        self.is_plain = not (self.in_pieces or opcode in _MAY_REFUSE)
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


def _publish(topic: Topic, body: bytes) -> bytes:
    return b"%d" % topic.publish(body)


def _create_todo(todos: Todos, body: bytes) -> bytes:
    if len(body) > MAX_JSON_BYTES:
        raise ServiceError(413, f"a todo is at most {MAX_JSON_BYTES} bytes of JSON")
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or not isinstance(read.get("text"), str):
        raise ServiceError(400, 'a todo is written as a JSON object with a text, like {"text": "buy milk"}')
    return contract.encode_todo(todos.create(read["text"]))


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


class Service:
    """Resolves operations to routes. One serves every worker of a process; its state, topics and todos, is theirs."""

    def __init__(self) -> None:
        self.topics = Topics()
        self.todos = Todos()
        self.known: dict[bytes, Route] = {}
        """The routes of targets that were met before; `route` knows the others."""
        self._opcodes: dict[tuple[int, int, int], Route] = {}

    def route(self, target: bytes) -> Route:
        """The route of an HTTP request target, like `b"/bytes/64"`. Its `other` is what the target means with other
        methods.

        Raises ServiceError 404 for an unknown path and 400 for a bad argument.
        """
        route = self.known.get(target)
        if route is None:
            route = self._parse(target)
            if len(self.known) < 4096:
                self.known[target] = route
        return route

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
                case "todos", "":
                    route = self._make(Opcode.READ_TODOS, int(given.get("limit", contract.TODO_LIMIT)), 0)
                    route.other = self._make(Opcode.CREATE_TODO, 0, 0)
                    return route
                case "todos", "stream":
                    return self._make(Opcode.READ_TODOS_STREAM, int(given.get("limit", contract.TODO_LIMIT)), 0)
                case "topics", _:
                    after = given.get("after")
                    return self._topic_route(self.topics.topic(tail), None if after is None else event_id(after))
        except ValueError:
            raise ServiceError(400, f"an argument of {path} is not a whole number") from None
        raise ServiceError(404, f"no such operation: {path}")

    def _topic_route(self, topic: Topic, after_id: int | None) -> Route:
        publish = partial(_refusing, partial(_publish, topic))
        route = Route(Opcode.PUBLISH, publish, content_type=TEXT)
        nothing = partial(_constant, b"")
        route.other = Route(Opcode.SUBSCRIBE, nothing, content_type=EVENT_STREAM, topic=topic, after_id=after_id)
        return route

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
                raise ServiceError(501, "a topic has a name, which this framing has no place for; use HTTP")
            case _:
                raise ServiceError(404, f"no such operation: {opcode}")
