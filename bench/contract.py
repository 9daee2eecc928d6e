"""What both ends agree on: the operations of the service, their spelling in each protocol, and the expected bytes.

Operations
    echo    answers with the body it was sent
    bytes   answers with `n` bytes of a fixed pattern, optionally in pieces of `chunk` bytes
    upload  reads a body and answers with its length (8 bytes, big-endian) and SHA-256 (32 bytes)
    work    burns `cpu_us` microseconds of CPU, waits `wait_ms` milliseconds, and answers "done"
    health  answers "ok"

    publish            delivers an event, the body, to all subscribers of a topic, and answers with its id
    subscribe          answers with a topic's events, for as long as both ends want: from now on, or those after an id
    create todo        adds to a todo list, and answers with the todo
    read todos         answers with the first `limit` todos
    read todos stream  the same, each todo on its own

    poll               answers with a topic's events after an id: at once, or as soon as there is one
    submit job         starts work that goes on by itself, and answers with its state
    read job           answers with a job's state: at once, or when it is done; its steps are events of `job-{id}`
    create upload      begins an upload in pieces; read upload says how much of it has arrived, write upload adds a
                       piece (without effect, if it is there already), and end upload checks it against its SHA-256
    create comment     stores a comment: once, for all tries with the same key
    count comments     answers with how many comments there are, and how many different ones
    create session     logs a client in: its session is kept in the process, in the server's store, in Redis, or by the
                       client; visit session answers with how many visits it has had
    run stage          answers with what a stage of a pipeline makes of the body (see `bench.wire.stages`)

    block              sleeps for a time, on the thread that requests run on or on one of a pool
    file               answers as `bytes` does, from a file that is read past the page cache, on either

HTTP spells them as paths: `POST /echo`, `GET /bytes/64?chunk=16`, `PUT /upload`, `GET /work?cpu_us=100&wait_ms=5`,
`GET /health`; `POST /topics/{name}` and `GET /topics/{name}?after=5` (a stream of server-sent events); `POST /todos`,
`GET /todos?limit=10` and `GET /todos/stream?limit=10` (JSON, and a line of JSON for each todo);
`GET /topics/{name}/events?after=5&wait_ms=1000`; `POST /jobs?ms=500&steps=5` and `GET /jobs/{id}?wait_ms=1000`;
`POST /uploads?bytes=8000`, `GET` and `PUT /uploads/{id}?offset=4000` and `POST /uploads/{id}/end`; `POST` and
`GET /comments`; `POST /sessions?kept=memory&life_ms=60000` and `POST /sessions/visits?kept=memory`;
`POST /stages/compress`; `GET /block?us=5000&offload=1` and `GET /file/64?offload=1`. TCP and UDP frames spell them as
opcodes with two unsigned arguments (see `bench.wire.frames`), and carry the same JSON; what has a name or is part of a
conversation, topics and what follows them, TCP frames and the gRPC call Named spell as HTTP does, and UDP has no place
for.
"""

import base64
import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The largest body that a server reads or makes."""

MAX_CHUNKS = 65_536
"""The most pieces that an answer may be asked for in."""

MIN_EVENT_BYTES = 51
"""What a pushed event needs to say when it was due and sent, and its number (see `bench.load.push`)."""

DISCONNECT, DROP_OLDEST, BLOCK = POLICIES = ("disconnect", "drop-oldest", "block")
"""What a server does about a subscriber that is too slow (see `servers.topics`)."""

MAX_JOB_STEPS = 1000
MAX_WORK_CPU_US = 10_000_000
MAX_WORK_WAIT_MS = 60_000
MAX_BLOCK_US = 1_000_000

MAX_READ_BYTES = 1 << 20
"""The most that is read of the file at a time."""

SESSION_LIFE_MS = 1_800_000
"""How long a session lives where nothing is said."""


class Opcode(IntEnum):
    """An operation as a number, for the binary framings."""

    HEALTH = 0
    ECHO = 1
    BYTES = 2
    UPLOAD = 3
    WORK = 4
    PUBLISH = 5
    SUBSCRIBE = 6
    CREATE_TODO = 7
    READ_TODOS = 8
    READ_TODOS_STREAM = 9
    POLL = 10
    SUBMIT_JOB = 11
    READ_JOB = 12
    CREATE_UPLOAD = 13
    READ_UPLOAD = 14
    WRITE_UPLOAD = 15
    END_UPLOAD = 16
    CREATE_COMMENT = 17
    COUNT_COMMENTS = 18
    CREATE_SESSION = 19
    VISIT_SESSION = 20
    RUN_STAGE = 21
    BLOCK = 22
    FILE = 23

    @property
    def word(self) -> str:
        """The operation as users write it, like "read-todos"."""
        return self.name.lower().replace("_", "-")


BY_PATH = frozenset(map(Opcode, range(Opcode.POLL, Opcode.RUN_STAGE + 1)))
"""Operations that need a path: parts of conversations, which patterns hold (see `bench.patterns`)."""

OPERATIONS = {opcode.word: opcode for opcode in Opcode if opcode not in (Opcode.PUBLISH, Opcode.SUBSCRIBE, *BY_PATH)}
"""What loads are made of."""

UNKNOWN_ANSWERS = frozenset({Opcode.CREATE_TODO})
"""Operations whose answer cannot be known beforehand: a new todo has the next free id. Only its status is checked."""

METHODS = {
    Opcode.HEALTH: ("GET", "HEAD"),
    Opcode.ECHO: ("POST", "PUT"),
    Opcode.BYTES: ("GET", "HEAD"),
    Opcode.UPLOAD: ("PUT", "POST"),
    Opcode.WORK: ("GET", "POST"),
    Opcode.PUBLISH: ("POST",),
    Opcode.SUBSCRIBE: ("GET", "HEAD"),
    Opcode.CREATE_TODO: ("POST",),
    Opcode.READ_TODOS: ("GET", "HEAD"),
    Opcode.READ_TODOS_STREAM: ("GET", "HEAD"),
    Opcode.POLL: ("GET",),
    Opcode.SUBMIT_JOB: ("POST",),
    Opcode.READ_JOB: ("GET",),
    Opcode.CREATE_UPLOAD: ("POST",),
    Opcode.READ_UPLOAD: ("GET",),
    Opcode.WRITE_UPLOAD: ("PUT",),
    Opcode.END_UPLOAD: ("POST",),
    Opcode.CREATE_COMMENT: ("POST",),
    Opcode.COUNT_COMMENTS: ("GET",),
    Opcode.CREATE_SESSION: ("POST",),
    Opcode.VISIT_SESSION: ("POST",),
    Opcode.RUN_STAGE: ("POST",),
    Opcode.BLOCK: ("GET", "POST"),
    Opcode.FILE: ("GET", "HEAD"),
}
"""The HTTP methods that each operation answers to; the first is the one that clients use."""

HEALTH_BODY = b"ok"
WORK_BODY = b"done"

TODO_LIMIT = 10
"""How many todos are read where nothing is said."""

TODO_TEXT = "buy milk"
"""What the todos of a load say."""

_PATTERN = hashlib.shake_128(b"wirebench").digest(1 << 20)


def pattern(n: int) -> bytes:
    """The first `n` bytes of the fixed pattern that `bytes` answers with: incompressible, period 1 MiB."""
    if n <= len(_PATTERN):
        return _PATTERN[:n]
    return (_PATTERN * (n // len(_PATTERN) + 1))[:n]


def upload_receipt(length: int, digest: bytes) -> bytes:
    """The 40-byte answer to an upload: length (8 bytes, big-endian), then SHA-256."""
    return length.to_bytes(8, "big") + digest


class Todo(NamedTuple):
    """One thing to do."""

    id: int
    text: str
    done: bool


SEEDED_TODOS = 1000
"""Todos that are there from the beginning, the same in every server, so that what a read gives is known."""


def seeded_todo(number: int) -> Todo:
    """The todo with that id, of those that are there from the beginning (1 to SEEDED_TODOS)."""
    return Todo(number, f"todo number {number}", number % 2 == 0)


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _fields(todo: Todo) -> dict[str, object]:
    return {"id": todo.id, "text": todo.text, "done": todo.done}


def encode_todo(todo: Todo) -> bytes:
    """A todo as a JSON object."""
    return _to_json(_fields(todo)).encode()


def encode_todos(todos: Iterable[Todo]) -> bytes:
    """Todos as a JSON array."""
    return _to_json(list(map(_fields, todos))).encode()


def encode_todo_lines(todos: Iterable[Todo]) -> bytes:
    """Todos as JSON objects, each ended by a newline."""
    return b"".join([b"%b\n" % encode_todo(todo) for todo in todos])


@dataclass(frozen=True)
class Exchange:
    """One request and the answer it must get, before any protocol has encoded it.

    HTTP uses `method` and `path`; the binary framings use `opcode`, `a` and `b` (n and chunk for bytes, cpu_us and
    wait_ms for work, us and offload for block, n and offload for file, limit for the reading of todos, else 0). `body`
    and `answer` are theirs; gRPC makes its own messages, from the arguments and TODO_TEXT. The answer is empty for
    those of UNKNOWN_ANSWERS.
    """

    method: str
    path: str
    opcode: Opcode
    a: int
    b: int
    body: bytes
    answer: bytes
    scheme: str = "http"
    """https over TLS."""
    urgency: int = 3
    """How soon the answer is wanted, 0 to 7 (RFC 9218, section 4.1), where the protocol can say so."""
    fields: tuple[tuple[str, str], ...] = ()
    """Further header fields of the request, their names in lower case, where the client sends such (see
    `bench.mix`)."""


def exchange(opcode: Opcode, payload_bytes: int = 0, a: int = 0, b: int = 0) -> Exchange:
    """The exchange of an operation: `payload_bytes` is the size of the request body for echo and upload, and of the
    answer for bytes and file. For the reading of todos `a` is the limit, at most SEEDED_TODOS."""
    body = pattern(payload_bytes) if opcode in (Opcode.ECHO, Opcode.UPLOAD) else b""
    path = f"/{opcode.name.lower()}"
    match opcode:
        case Opcode.ECHO:
            answer = body
        case Opcode.BYTES:
            a, answer = payload_bytes, pattern(payload_bytes)
            path += f"/{a}" + (f"?chunk={b}" if b else "")
        case Opcode.UPLOAD:
            answer = upload_receipt(len(body), hashlib.sha256(body).digest())
        case Opcode.WORK:
            answer = WORK_BODY
            path += f"?cpu_us={a}&wait_ms={b}"
        case Opcode.BLOCK:
            answer = WORK_BODY
            path += f"?us={a}&offload={b}"
        case Opcode.FILE:
            a, answer = payload_bytes, pattern(payload_bytes)
            path += f"/{a}?offload={b}"
        case Opcode.HEALTH:
            answer = HEALTH_BODY
        case Opcode.CREATE_TODO:
            body, answer, path = _to_json({"text": TODO_TEXT}).encode(), b"", "/todos"
        case Opcode.READ_TODOS:
            answer, path = encode_todos(map(seeded_todo, range(1, a + 1))), f"/todos?limit={a}"
        case Opcode.READ_TODOS_STREAM:
            answer, path = encode_todo_lines(map(seeded_todo, range(1, a + 1))), f"/todos/stream?limit={a}"
        case _:
            raise ValueError(f"{opcode.word} is no exchange of one request and one answer")
    return Exchange(METHODS[opcode][0], path, opcode, a, b, body, answer)


def _asked(opcode: Opcode, path: str, body: bytes = b"") -> Exchange:
    return Exchange(METHODS[opcode][0], path, opcode, 0, 0, body, b"")


def poll(topic: str, after_id: int | None, wait_ms: int) -> Exchange:
    """Asks for the events after that id, or for where the topic stands."""
    after = "" if after_id is None else f"?after={after_id}&wait_ms={wait_ms}"
    return _asked(Opcode.POLL, f"/topics/{topic}/events{after}")


class Polled(NamedTuple):
    """What a poll is answered with: the last event that was taken into account, and the data of those that are new."""

    last: int
    events: list[bytes]


def encode_poll(last: int, events: list[dict[str, object]], lost: int = 0) -> bytes:
    """A poll's answer: `{"last": 7, "events": [{"id": 7, "data": "..."}]}`; data that is no UTF-8 is under "base64",
    and "lost" is how many events were asked for that are not there any more."""
    return _to_json({"last": last, "events": events} | ({"lost": lost} if lost else {})).encode()


def decode_poll(answer: bytes) -> Polled:
    """Reads a poll's answer. Raises ValueError for what is none."""
    try:
        read = json.loads(answer)
        events = [
            event["data"].encode() if "data" in event else base64.b64decode(event["base64"], validate=True)
            for event in read["events"]
        ]
        return Polled(int(read["last"]), events)
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not the answer to a poll") from None


def submit_job(duration_ms: int, steps: int) -> Exchange:
    """Starts a job."""
    return _asked(Opcode.SUBMIT_JOB, f"/jobs?ms={duration_ms}&steps={steps}")


def read_job(job_id: int, wait_ms: int) -> Exchange:
    """Asks for a job's state, to be told when it is done or that time is over."""
    return _asked(Opcode.READ_JOB, f"/jobs/{job_id}" + (f"?wait_ms={wait_ms}" if wait_ms else ""))


def encode_job(job_id: int, step: int, steps: int) -> bytes:
    """A job's state."""
    state = "done" if step == steps else "running"
    return _to_json({"id": job_id, "state": state, "step": step, "steps": steps}).encode()


def create_upload(size_bytes: int) -> Exchange:
    """Begins an upload in pieces."""
    return _asked(Opcode.CREATE_UPLOAD, f"/uploads?bytes={size_bytes}")


def upload_offset(upload_id: str) -> Exchange:
    """Asks how much of an upload has arrived."""
    return _asked(Opcode.READ_UPLOAD, f"/uploads/{upload_id}")


def write_chunk(upload_id: str, offset: int, chunk: bytes) -> Exchange:
    """Adds a piece to an upload."""
    return _asked(Opcode.WRITE_UPLOAD, f"/uploads/{upload_id}?offset={offset}", chunk)


def finish_upload(upload_id: str, digest: bytes) -> Exchange:
    """Ends an upload, with the SHA-256 of all of it in hexadecimal digits."""
    return _asked(Opcode.END_UPLOAD, f"/uploads/{upload_id}/end", digest)


def encode_upload(upload_id: str, offset: int) -> bytes:
    """How much of an upload has arrived."""
    return _to_json({"id": upload_id, "offset": offset}).encode()


def create_comment(text: str, key: str | None) -> Exchange:
    """Stores a comment."""
    body = {"text": text} if key is None else {"text": text, "key": key}
    return _asked(Opcode.CREATE_COMMENT, "/comments", _to_json(body).encode())


def count_comments() -> Exchange:
    """Asks how many comments are stored."""
    return _asked(Opcode.COUNT_COMMENTS, "/comments")


def create_session(kept: str, life_ms: int = SESSION_LIFE_MS) -> Exchange:
    """Logs in."""
    return _asked(Opcode.CREATE_SESSION, f"/sessions?kept={kept}&life_ms={life_ms}")


def visit_session(kept: str, session: str) -> Exchange:
    """Another visit."""
    return _asked(Opcode.VISIT_SESSION, f"/sessions/visits?kept={kept}", _to_json({"session": session}).encode())


def encode_session(session: str, visits: int) -> bytes:
    """A session: what it is called from now on, and how many visits it has had."""
    return _to_json({"session": session, "visits": visits}).encode()


def stage(name: str, body: bytes) -> Exchange:
    """Has a stage of a pipeline done."""
    return _asked(Opcode.RUN_STAGE, f"/stages/{name}", body)


def publish(topic: str, data: bytes) -> Exchange:
    """Publishes an event."""
    return _asked(Opcode.PUBLISH, f"/topics/{topic}", data)


def foreign_exchange(
    method: str, path: str, body: bytes = b"", answer: bytes = b"", fields: tuple[tuple[str, str], ...] = ()
) -> Exchange:
    """An exchange with a server of somebody else's, over HTTP."""
    return Exchange(method, path, Opcode.ECHO, 0, 0, body, answer, fields=fields)


Handshake = Literal["full", "resumed", "early-data"]
"""How a protected connection begins: with certificates; from an earlier connection's ticket (RFC 8446, section 2.2); or
from a ticket, with the request in the first flight (0-RTT, section 2.3), which may then be a replay (RFC 8470)."""

TICKET_TIMEOUT_S = 10.0
"""How long a client's connection that is done stays for the ticket that follows its handshake."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
"""The methods that may be sent as early data, since doing them twice does no harm (RFC 9110, section 9.2.1)."""


@dataclass(frozen=True)
class Security:
    """How a client protects a connection, and what it takes for the right server."""

    tls: str
    """The one version of TLS (of DTLS, of TLS in QUIC) that is spoken, like "1.3"; empty for the best that both ends
    speak, from 1.2 on."""
    authorities: str
    """A file of the certificates (PEM) that the server's must come from; empty for those that the system trusts."""
    server_name: str
    """The name or address that the server's certificate must be for; sent as SNI where it is a name."""
    insecure: bool
    """Take any certificate."""
    handshake: Handshake = "full"
    """How connections begin, once there are tickets."""


class SessionLink(Protocol):
    """The engine's side of a client that does its own input and output (see `bench.load.client.Session`)."""

    def answered(self, ids: Sequence[Hashable]) -> None:
        """These exchanges are complete, and those in the client's `failures` have failed."""

    def lost(self, error: Exception | None) -> None:
        """The connection has ended; called once, after which the client is of no further use."""
