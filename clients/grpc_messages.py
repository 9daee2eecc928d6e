"""Exchanges as calls, and what header blocks say of a call (PROTOCOL-HTTP2.md in grpc/grpc)."""

from dataclasses import replace

from bench.contract import TODO_TEXT, Exchange, Opcode, Todo, seeded_todo
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import (
    CONTENT_TYPE,
    SERVICE,
    TODO_SERVICE,
    Status,
    encode_payload,
    frame_message,
    percent_decode,
)
from bench.wire.header_blocks import Fields
from clients.http2_answers import AnswerHead

_CHUNK_BYTES = 64 * 1024
"""How much of an upload each message carries."""


def _payload_message(payload: bytes) -> bytes:
    return frame_message(encode_payload(payload))


def call_exchange(wanted: Exchange) -> Exchange:
    """An exchange as a call: the path is the method's, body and answer are messages with their prefixes. One with a
    server of somebody else's has method and message already."""
    service, method, body = SERVICE, wanted.opcode.name.capitalize(), b""
    if wanted.opcode is Opcode.ECHO and wanted.path != "/echo":
        return replace(wanted, body=frame_message(wanted.body), answer=frame_message(wanted.answer))
    answer = _payload_message(wanted.answer)
    match wanted.opcode:
        case Opcode.ECHO:
            body = _payload_message(wanted.body)
        case Opcode.BYTES:
            body = frame_message(pb.BytesRequest(n=wanted.a, chunk=wanted.b).SerializeToString())
            if wanted.b:
                method = "BytesStream"
                answer = b"".join(map(_payload_message, _pieces(wanted.answer, wanted.b)))
        case Opcode.UPLOAD:
            body = b"".join(map(_payload_message, _pieces(wanted.body, _CHUNK_BYTES)))
            length, digest = int.from_bytes(wanted.answer[:8], "big"), wanted.answer[8:]
            answer = frame_message(pb.UploadReply(length=length, sha256=digest).SerializeToString())
        case Opcode.WORK:
            body = frame_message(pb.WorkRequest(cpu_us=wanted.a, wait_ms=wanted.b).SerializeToString())
        case Opcode.HEALTH:
            body = frame_message(b"")
        case Opcode.CREATE_TODO:
            service, method = TODO_SERVICE, "CreateTodo"
            body, answer = frame_message(pb.CreateTodoRequest(text=TODO_TEXT).SerializeToString()), b""
        case Opcode.READ_TODOS | Opcode.READ_TODOS_STREAM:
            service, method = TODO_SERVICE, "ReadTodos"
            body = frame_message(pb.ReadTodosRequest(limit=wanted.a).SerializeToString())
            todos = [pb.Todo(id=number, text=text, done=done) for number, text, done in _todos(wanted.a)]
            if wanted.opcode is Opcode.READ_TODOS:
                answer = frame_message(pb.ReadTodosReply(todos=todos).SerializeToString())
            else:
                method = "ReadTodosStream"
                answer = b"".join([frame_message(todo.SerializeToString()) for todo in todos])
    return replace(wanted, method="POST", path=f"/{service}/{method}", body=body, answer=answer)


def _todos(limit: int) -> list[Todo]:
    return [seeded_todo(number) for number in range(1, limit + 1)]


def _pieces(data: bytes, size_bytes: int) -> list[bytes]:
    return [data[start : start + size_bytes] for start in range(0, len(data), size_bytes)]


def call_fields(authority: str, path: str, scheme: str) -> list[tuple[bytes, bytes]]:
    """The head of a call; `path` is "/package.Service/Method"."""
    return [
        (b":method", b"POST"),
        (b":scheme", scheme.encode("ascii")),
        (b":authority", authority.encode("ascii")),
        (b":path", path.encode("ascii")),
        (b"te", b"trailers"),
        (b"content-type", CONTENT_TYPE),
    ]


class CallHead(AnswerHead):
    """What a header block of the server says of a call: at its end, how it went."""

    __slots__ = ("grpc_message", "grpc_status")

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        named = dict(fields)
        self.grpc_status = named.get(b"grpc-status", b"")
        self.grpc_message = named.get(b"grpc-message", b"")
        if self.status == 200 and not named.get(b"content-type", b"").startswith(CONTENT_TYPE):
            self.malformed = True

    @property
    def outcome(self) -> Status | None:
        """How the call went; None if that is not said in a way that is known."""
        number = self.grpc_status
        return Status(int(number)) if number.isdigit() and int(number) <= max(Status) else None

    def __str__(self) -> str:
        outcome = self.outcome
        return f"{'no status' if outcome is None else outcome.name}: {percent_decode(self.grpc_message)}"
