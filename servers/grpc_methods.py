"""The methods of the services in wirebench.proto: what each makes of its messages.

A method takes messages one by one, and has the connection run an operation of the service, or send messages back, or
both. Which methods take, and give, more than one message is read from the descriptors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import DecodeError, Message

from bench.contract import Opcode
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import MessageReader, Status, StatusError, decode_payload, encode_payload, frame_message
from servers.grpc_reflecting import PACKAGES, Reflection
from servers.service import Refused, Route, Service, Upload
from servers.service_error import ServiceError
from servers.topics import Event

if TYPE_CHECKING:
    from servers.grpc_service import Call, GrpcConnection

M = TypeVar("M", bound=Message)


def parse(kind: type[M], message: bytes) -> M:
    """A message as an object. Raises StatusError."""
    try:
        return kind.FromString(message)
    except DecodeError:
        raise StatusError(Status.INVALID_ARGUMENT, f"the message is no {kind.DESCRIPTOR.full_name}") from None


class Method(ABC):
    """What a path stands for. What `take` and `last` raise, StatusError or ServiceError, ends the call."""

    client_streaming = server_streaming = False
    endless = False
    """Whether the method goes on sending when the client has sent everything."""
    gives_payload = False
    """Whether the answer to one message is always one message with the operation's answer as payload."""

    @abstractmethod
    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        """A message has come; if it is the only one there may be, it is known that there is no other."""

    def last(self, connection: "GrpcConnection", call: "Call") -> None:  # noqa: B027  most have nothing to do then
        """The client of a stream has sent its last message."""

    def answered(self, connection: "GrpcConnection", call: "Call", route: Route, answer: bytes) -> None:
        """The operation that the method had run has this answer."""
        connection.send(call, encode_payload(answer))


class RunsOperation(Method):
    """Each message asks for an operation, and its answer is the payload of a message."""

    gives_payload = True

    def __init__(self, decode: Callable[[Service, bytes], tuple[Route, bytes]]) -> None:
        self._decode = decode

    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        route, body = self._decode(connection.worker.service, message)
        connection.submit(call, route, body)


class RunsOperationInPieces(RunsOperation):
    """The same, and the answer is sent in as many messages as the operation says."""

    gives_payload = False

    def answered(self, connection: "GrpcConnection", call: "Call", route: Route, answer: bytes) -> None:
        step = route.chunk_bytes or max(len(answer), 1)
        for start in range(0, len(answer) or 1, step):
            connection.send(call, encode_payload(answer[start : start + step]))


class RunsNamedOperation(RunsOperation):
    """The same, and the service may refuse when the operation has run."""

    gives_payload = False

    def answered(self, connection: "GrpcConnection", call: "Call", route: Route, answer: bytes) -> None:
        if isinstance(answer, Refused):
            connection.refuse(call, ServiceError(answer.status, answer.decode()))
        else:
            super().answered(connection, call, route, answer)


class Uploads(Method):
    """The messages are pieces of one body, which is not kept."""

    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        if not isinstance(call.state, Upload):
            call.state = Upload()
        chunk = decode_payload(message)
        call.state.feed(parse(pb.UploadRequest, message).chunk if chunk is None else chunk)

    def last(self, connection: "GrpcConnection", call: "Call") -> None:
        upload = call.state if isinstance(call.state, Upload) else Upload()
        connection.submit(call, connection.worker.service.operation(Opcode.UPLOAD, 0, 0), upload.finish())

    def answered(self, connection: "GrpcConnection", call: "Call", route: Route, answer: bytes) -> None:
        reply = pb.UploadReply(length=int.from_bytes(answer[:8], "big"), sha256=answer[8:])
        connection.send(call, reply.SerializeToString())


class Computes(Method):
    """Each message is answered by as many as a function gives, which may raise StatusError or ServiceError. It runs
    where operations run."""

    def __init__(self, opcode: Opcode, compute: Callable[[Service, bytes], Iterable[Message]]) -> None:
        self._opcode = opcode
        self._compute = compute

    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        execute = partial(self._execute, connection.worker.service)
        connection.submit(call, Route(self._opcode, execute), message)

    def _execute(self, service: Service, message: bytes) -> bytes:
        try:
            return b"".join([frame_message(reply.SerializeToString()) for reply in self._compute(service, message)])
        except ServiceError as error:
            return Refused.of(error)
        except StatusError as error:
            return Refused.of(ServiceError(400, error.message))

    def answered(self, connection: "GrpcConnection", call: "Call", route: Route, answer: bytes) -> None:
        if isinstance(answer, Refused):
            connection.refuse(call, ServiceError(answer.status, answer.decode()))
        else:
            for reply in MessageReader(gzip=False).feed(answer):
                connection.send(call, reply)


class Publishes(Method):
    """Each message is an event and its topic, answered when the event is published."""

    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        request = parse(pb.PublishRequest, message)
        connection.submit(call, connection.worker.service.publishing(request.topic), request.data)

    def answered(self, connection: "GrpcConnection", call: "Call", route: Route, answer: bytes) -> None:
        if isinstance(answer, Refused):
            connection.refuse(call, ServiceError(answer.status, answer.decode()))
        else:
            connection.send(call, pb.PublishReply(id=int(answer)).SerializeToString())


class Reflects(Method):
    """Each message asks what there is."""

    client_streaming = server_streaming = True

    def __init__(self) -> None:
        self._reflection = Reflection(SERVICES)

    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        connection.count()
        connection.send(call, self._reflection.reply(message))


class Subscription:
    """A call that a topic's events are sent on."""

    __slots__ = ("_call", "_connection", "_inbox", "_send", "_topic")

    def __init__(self, connection: "GrpcConnection", call: "Call", name: str) -> None:
        """Raises ServiceError."""
        self._connection = connection
        self._call = call
        self._topic = connection.worker.service.topics.topic(name)
        self._inbox = connection.worker.inbox()
        self._send = connection.send

    def begin(self, after_id: int | None) -> None:
        """Want the topic's events from now on, or from the one after `after_id`."""
        self._topic.subscribe(self, self._inbox, after_id)
        self._send = self._connection.push  # what was there before may be as much as it is

    def deliver(self, event: Event) -> bool:
        """See `servers.topics.Subscription`."""
        self._send(self._call, event.encoded("grpc", _encode_event))
        return not self._call.body

    def cut_off(self) -> None:
        """See `servers.topics.Subscription`."""
        self._connection.cut_off(self._call)

    def drained(self) -> None:
        """What there was to send is sent."""
        self._topic.drained(self, self._inbox)

    def end(self) -> None:
        """Want no more events."""
        self._topic.unsubscribe(self, self._inbox)


class Subscribes(Method):
    """The message names a topic, whose events are sent until the client has had enough."""

    endless = True

    def take(self, connection: "GrpcConnection", call: "Call", message: bytes) -> None:
        request = parse(pb.SubscribeRequest, message)
        connection.count()
        subscription = call.state = Subscription(connection, call, request.topic)
        connection.send_head(call)  # so the client knows that no event is missed from now on
        subscription.begin(request.after if request.HasField("after") else None)


def _encode_event(event: Event) -> bytes:
    return pb.Event(id=event.id, data=event.data).SerializeToString()


def _health(service: Service, message: bytes) -> tuple[Route, bytes]:
    parse(pb.HealthRequest, message)
    return service.operation(Opcode.HEALTH, 0, 0), b""


def _echo(service: Service, message: bytes) -> tuple[Route, bytes]:
    payload = decode_payload(message)
    if payload is None:
        payload = parse(pb.EchoRequest, message).payload
    return service.operation(Opcode.ECHO, 0, 0), payload


def _bytes(service: Service, message: bytes) -> tuple[Route, bytes]:
    return service.operation(Opcode.BYTES, parse(pb.BytesRequest, message).n, 0), b""


def _bytes_stream(service: Service, message: bytes) -> tuple[Route, bytes]:
    request = parse(pb.BytesRequest, message)
    return service.operation(Opcode.BYTES, request.n, request.chunk), b""


def _work(service: Service, message: bytes) -> tuple[Route, bytes]:
    request = parse(pb.WorkRequest, message)
    return service.operation(Opcode.WORK, request.cpu_us, request.wait_ms), b""


def named(service: Service, request: pb.NamedRequest) -> tuple[Route, bytes]:
    """The operation that is named, and its body. Raises ServiceError."""
    route, body = service.asked(request.method.encode(), request.path.encode(), request.body)
    if route.topic is not None:
        raise ServiceError(501, "events come by Subscribe")
    return route, body


def _named(service: Service, message: bytes) -> tuple[Route, bytes]:
    return named(service, parse(pb.NamedRequest, message))


def _create_todo(service: Service, message: bytes) -> Iterable[Message]:
    todo = service.todos.create(parse(pb.CreateTodoRequest, message).text)
    return [pb.Todo(id=todo.id, text=todo.text, done=todo.done)]


def _read_todos_stream(service: Service, message: bytes) -> list[pb.Todo]:
    todos = service.todos.read(parse(pb.ReadTodosRequest, message).limit)
    return [pb.Todo(id=todo.id, text=todo.text, done=todo.done) for todo in todos]


def _read_todos(service: Service, message: bytes) -> Iterable[Message]:
    return [pb.ReadTodosReply(todos=_read_todos_stream(service, message))]


_OURS: dict[str, dict[str, Method]] = {
    "Wirebench": {
        "Health": RunsOperation(_health),
        "Echo": RunsOperation(_echo),
        "Bytes": RunsOperation(_bytes),
        "BytesStream": RunsOperationInPieces(_bytes_stream),
        "Upload": Uploads(),
        "Work": RunsOperation(_work),
        "EchoStream": RunsOperation(_echo),
        "Publish": Publishes(),
        "Subscribe": Subscribes(),
        "Named": RunsNamedOperation(_named),
    },
    "Todos": {
        "CreateTodo": Computes(Opcode.CREATE_TODO, _create_todo),
        "ReadTodos": Computes(Opcode.READ_TODOS, _read_todos),
        "ReadTodosStream": Computes(Opcode.READ_TODOS_STREAM, _read_todos_stream),
    },
}


def _by_path() -> dict[bytes, Method]:
    methods: dict[bytes, Method] = {}
    for service_name, by_name in _OURS.items():
        service: Any = pb.DESCRIPTOR.services_by_name[service_name]
        for name, method in by_name.items():
            declared = service.methods_by_name[name]
            method.client_streaming, method.server_streaming = declared.client_streaming, declared.server_streaming
            methods[f"/{service.full_name}/{name}".encode()] = method
    for package in PACKAGES:
        methods[f"/{package}.ServerReflection/ServerReflectionInfo".encode()] = Reflects()
    return methods


SERVICES = (
    *(service.full_name for service in pb.DESCRIPTOR.services_by_name.values()),
    *(f"{package}.ServerReflection" for package in PACKAGES),
)
"""The full names of the services that there are."""

METHODS = _by_path()
"""The methods, by path."""
