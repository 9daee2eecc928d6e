"""What both of grpcio's servers, the one with threads and the one on asyncio, make of the services in wirebench.proto.

They differ in how a method waits, and so in all methods but these.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection

from bench.contract import Opcode
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import MAX_MESSAGE_BYTES, REFUSALS, Status
from servers.grpc_methods import named
from servers.service import Refused, Route, Service
from servers.service_error import ServiceError
from servers.worker import Worker

OPTIONS: Final = (("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES))
"""Of a server: its port is shared, and messages may be as long as the service's."""

MAX_WAITING_EVENTS = 64
"""Events that may wait for the library to take them, before those that follow have to wait in the topic."""

STOPPING: Final = (grpc.StatusCode.UNAVAILABLE, "the server is stopping")
TOO_SLOW: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the client is too slow for what it asked for")

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def status_of(error: ServiceError) -> tuple[grpc.StatusCode, str]:
    """How a call ends that the service refuses."""
    return _CODES[REFUSALS.get(error.status, Status.RESOURCE_EXHAUSTED)], error.message


def not_refused(answer: bytes) -> bytes:
    """An operation's answer. Raises ServiceError if it says why the operation was refused."""
    if isinstance(answer, Refused):
        raise ServiceError(answer.status, answer.decode())
    return answer


# Methods that run an operation: from the request to its route and body, which may raise ServiceError, and from an
# answer that is not refused to the reply.

Ask = Callable[[Service, Any], tuple[Route, bytes]]
Reply = Callable[[bytes], Any]


OPERATIONS: Final[dict[str, tuple[Ask, Reply]]] = {
    "health": (
        lambda service, _request: (service.operation(Opcode.HEALTH, 0, 0), b""),
        lambda answer: pb.HealthReply(status=answer.decode()),
    ),
    "echo": (
        lambda service, request: (service.operation(Opcode.ECHO, 0, 0), request.payload),
        lambda answer: pb.EchoReply(payload=answer),
    ),
    "bytes": (
        lambda service, request: (service.operation(Opcode.BYTES, request.n, 0), b""),
        lambda answer: pb.BytesReply(payload=answer),
    ),
    "work": (
        lambda service, request: (service.operation(Opcode.WORK, request.cpu_us, request.wait_ms), b""),
        lambda answer: pb.WorkReply(status=answer.decode()),
    ),
    "named": (named, lambda answer: pb.NamedReply(body=answer)),
    "publish": (
        lambda service, request: (service.publishing(request.topic), request.data),
        lambda answer: pb.PublishReply(id=int(answer)),
    ),
}


# Methods that answer at once, from request to reply or replies.


def _create_todo(service: Service, request: pb.CreateTodoRequest) -> pb.Todo:
    return pb.Todo(**service.todos.create(request.text)._asdict())


def _read_todos(service: Service, request: pb.ReadTodosRequest) -> pb.ReadTodosReply:
    return pb.ReadTodosReply(todos=read_todos_stream(service, request))


def read_todos_stream(service: Service, request: pb.ReadTodosRequest) -> Iterator[pb.Todo]:
    """The todos one by one. Raises ServiceError."""
    return (pb.Todo(**todo._asdict()) for todo in service.todos.read(request.limit))


def bytes_stream(service: Service, request: pb.BytesRequest) -> Iterator[pb.BytesReply]:
    """The bytes in messages. Raises ServiceError."""
    route = service.operation(Opcode.BYTES, request.n, request.chunk)
    answer = route.execute(b"")
    pieces: Sequence[bytes] = route.pieces(answer) if route.in_pieces and answer else (answer,)
    return (pb.BytesReply(payload=piece) for piece in pieces)


AT_ONCE: Final[dict[str, Callable[[Service, Any], Any]]] = {
    "create_todo": _create_todo,
    "read_todos": _read_todos,
}


def upload_reply(receipt: bytes) -> pb.UploadReply:
    """The reply to an upload, from what the service answers (see `bench.contract.upload_receipt`)."""
    return pb.UploadReply(length=int.from_bytes(receipt[:8], "big"), sha256=receipt[8:])


# Servers

_KINDS: Final = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def serve_methods(server: Any, method: Callable[[str], Any]) -> None:
    """Have a server, of threads or of asyncio, serve all methods and reflection. `method("read_todos")` gives what
    serves ReadTodos."""
    services = pb.DESCRIPTOR.services_by_name.values()
    for service in services:
        handlers = {
            declared.name: _KINDS[declared.client_streaming, declared.server_streaming](
                method(re.sub(r"(?<!^)(?=[A-Z])", "_", declared.name).lower()),
                request_deserializer=getattr(pb, declared.input_type.name).FromString,
                response_serializer=getattr(pb, declared.output_type.name).SerializeToString,
            )
            for declared in service.methods
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
    reflection.enable_server_reflection([*(service.full_name for service in services), reflection.SERVICE_NAME], server)


def bind(server: Any, worker: Worker, host: str, port: int) -> None:
    """Give a server its address. grpcio speaks TLS 1.2 and 1.3, and cannot be told to speak one only."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    spec = worker.spec
    if spec.tls == "off":
        server.add_insecure_port(address)
        return
    pair = Path(spec.private_key).read_bytes(), Path(spec.certificate).read_bytes()
    server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
