"""Every server stack, as the registry names them, against the lean client of its protocol and against others."""

import contextlib
import http.client
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from stack_driver import MS, drive, push_spec, spec
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from bench import registry
from bench.contract import Opcode
from bench.errors import TargetError
from bench.load.spec import Request
from bench.protocols import PROTOCOLS
from bench.registry import STACKS
from bench.serverprocess import ServerProcess
from bench.wire import wirebench_pb2 as pb

SERVERS = [(stack, protocol) for stack, declared in STACKS.items() if stack != "lean" for protocol in declared.servers]
ASKED = [pair for pair in SERVERS if PROTOCOLS[pair[1]].client]
PUSHING = [pair for pair in SERVERS if "push" in PROTOCOLS[pair[1]].patterns]

ONE_OF_EACH_CLASS = list({STACKS[stack].servers[protocol]: (stack, protocol) for stack, protocol in ASKED}.values())


def of(*protocols: str) -> list[tuple[str, str]]:
    return [pair for pair in SERVERS if pair[1] in protocols]


REQUESTS = {
    "echo": Request(opcode=Opcode.ECHO, payload_bytes=1000),
    "empty": Request(opcode=Opcode.ECHO),
    "bytes": Request(opcode=Opcode.BYTES, payload_bytes=50_000),
    "pieces": Request(opcode=Opcode.BYTES, payload_bytes=1000, b=300),
    "upload": Request(opcode=Opcode.UPLOAD, payload_bytes=100_000),
    "work": Request(opcode=Opcode.WORK, a=10, b=1),
    "health": Request(opcode=Opcode.HEALTH),
    "todos": Request(opcode=Opcode.READ_TODOS, a=5),
    "todo stream": Request(opcode=Opcode.READ_TODOS_STREAM, a=5),
}


def tls_of(protocol: str) -> list[str]:
    """Without TLS, and with it, as far as the protocol has it."""
    return [tls for tls in ("off", "1.3") if tls in PROTOCOLS[protocol].tls]


@pytest.fixture(scope="module")
def running() -> Iterator[Callable[..., ServerProcess]]:
    """`running(stack, protocol)` gives a server, one for all tests here: with TLS only where it must be, or is asked
    for. Stopping them shows that nothing was left in flight and nothing was complained of."""
    servers: dict[tuple[str, ...], ServerProcess] = {}

    def get(stack: str, protocol: str, tls: str | None = None) -> ServerProcess:
        key = stack, protocol, tls or tls_of(protocol)[0]
        if key not in servers:
            servers[key] = ServerProcess(protocol, stack=stack, tls=key[2]).__enter__()
        return servers[key]

    yield get
    for server in servers.values():
        server.stop()
        assert server.stderr == ""


@pytest.mark.parametrize(("stack", "protocol"), ASKED)
def test_every_operation_is_answered(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    server = running(stack, protocol)
    for request in REQUESTS.values():
        drive(spec(server, "lean", request))
    (counts,), deaths = server.stats()
    assert counts.requests == len(REQUESTS)
    assert counts.accepts in (0, len(REQUESTS))  # some stacks do not show theirs
    assert deaths == []


@pytest.mark.parametrize(
    ("stack", "protocol", "tls"), [(stack, protocol, tls) for stack, protocol in ASKED for tls in tls_of(protocol)]
)
def test_many_requests_in_flight(running: Callable[..., ServerProcess], stack: str, protocol: str, tls: str) -> None:
    server = running(stack, protocol, tls)
    before = server.stats()[0][0].requests
    result = drive(spec(server, "lean", REQUESTS["echo"], "closed:2x8", duration_ns=100 * MS))
    assert result["errors"] == {}
    assert server.stats()[0][0].requests > before + 2


@pytest.mark.parametrize(("stack", "protocol"), PUSHING)
def test_every_event_reaches_every_subscriber(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    result = drive(push_spec(running(stack, protocol), "open:200/s", subscribers=3, duration_ns=100 * MS))
    assert result["delivery"]["published"] == 20
    # On grpcio's threads events may overtake one another; one that comes after its successor is taken for a duplicate.
    assert result["delivery"]["duplicates"] == 0 or stack == "grpcio"
    assert result["completed"] + result["delivery"]["duplicates"] == 60
    assert result["errors"] == {}


@pytest.mark.parametrize(("stack", "protocol"), ASKED)
def test_an_unknown_operation_is_refused_and_the_next_request_served(
    running: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    server = running(stack, protocol)
    path = "/wirebench.v1.Wirebench/Nothing" if protocol == "grpc" else "/nothing"
    expected = "not the protocol" if protocol == "websocket" else "status that says the request failed"
    with pytest.raises(TargetError, match=expected):
        drive(spec(server, "lean", Request(foreign=("POST", path), answer="")))
    drive(spec(server, "lean", REQUESTS["echo"]))


# HTTP


@pytest.mark.parametrize(("stack", "protocol"), of("http1"))
def test_refusals_are_the_lean_servers(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    lean = running("lean", protocol)
    server = running(stack, protocol)
    asked: list[tuple[str, str, bytes | None]] = [
        ("GET", "/nothing", None),
        ("POST", "/nothing", b"x" * 10_000),
        ("GET", "/bytes/x", None),
        ("GET", "/bytes/99999999999", None),
        ("DELETE", "/echo", None),
        ("PUT", "/work", b"x"),
        ("PATCH", "/todos", b"x"),
        ("POST", "/todos", b"no JSON"),
        ("GET", "/topics/a%20name", None),
        ("GET", "/topics/news?after=x", None),
        ("HEAD", "/bytes/64", None),
        ("HEAD", "/nothing", None),
    ]

    def answers(port: int) -> list[tuple[int, str | None, str | None, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        found = []
        with contextlib.closing(connection):
            for method, path, body in asked:
                connection.request(method, path, body)
                answer = connection.getresponse()
                data = answer.read()
                found.append((answer.status, answer.getheader("content-type"), answer.getheader("allow"), data))
        return found

    assert answers(server.port) == answers(lean.port)


@pytest.mark.parametrize(("stack", "protocol"), of("sse"))
def test_a_subscriber_resumes_after_the_event_it_names(
    running: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    server = running(stack, protocol)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as publisher:
        for text in (b"one", b"two", b"three"):
            publisher.request("POST", "/topics/resumed", text)
            assert publisher.getresponse().read() in (b"1", b"2", b"3")
        for path, fields in (
            ("/topics/resumed?after=1", {}),
            ("/topics/resumed", {"Last-Event-ID": "1"}),
        ):
            reader = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            with contextlib.closing(reader):
                reader.request("GET", path, headers=fields)
                answer = reader.getresponse()
                assert answer.getheader("content-type") == "text/event-stream"
                events = b""
                while not events.endswith(b"id: 3\ndata: three\n\n"):
                    events += answer.readline()
                assert b"id: 2\ndata: two\n\n" in events
                assert b"id: 1\n" not in events


# WebSocket


def dial(server: ServerProcess, path: str) -> Any:
    return connect(f"ws://{server.address}{path}", compression=None, proxy=None, open_timeout=10)


@pytest.mark.parametrize(("stack", "protocol"), of("websocket"))
def test_messages_are_answered_in_their_own_kind(
    running: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    server = running(stack, protocol)
    with dial(server, "/echo") as socket:
        for message in ("text", b"bytes", "", b"", "ü" * 1000, b"x" * 100_000):
            socket.send(message)
            assert socket.recv(timeout=10) == message
    with dial(server, "/bytes/100?chunk=30") as socket:
        socket.send("whatever")
        assert len(socket.recv(timeout=10)) == 100


@pytest.mark.parametrize(("stack", "protocol"), of("websocket"))
def test_an_opening_is_refused_with_a_status(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    server = running(stack, protocol)
    with pytest.raises(InvalidStatus) as refused, dial(server, "/nothing"):
        pass
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(("stack", "protocol"), of("websocket"))
def test_a_binary_event_closes_the_connection(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    with dial(running(stack, protocol), "/topics/binary") as socket:
        socket.send(b"\xff")
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


# gRPC


def call(channel: grpc.Channel, method: str, request: Any, reply: Any) -> Any:
    """One unary call, with a deadline."""
    ask = channel.unary_unary(
        method, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString
    )
    return ask(request, timeout=10)


@pytest.mark.parametrize(("stack", "protocol"), of("grpc"))
def test_what_the_service_refuses_has_its_status(
    running: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    with grpc.insecure_channel(running(stack, protocol).address) as channel:
        for method, request, reply, status in (
            ("Wirebench/Work", pb.WorkRequest(wait_ms=10**9), pb.WorkReply, grpc.StatusCode.INVALID_ARGUMENT),
            ("Todos/CreateTodo", pb.CreateTodoRequest(), pb.Todo, grpc.StatusCode.INVALID_ARGUMENT),
            (
                "Wirebench/Publish",
                pb.PublishRequest(topic="no name"),
                pb.PublishReply,
                grpc.StatusCode.INVALID_ARGUMENT,
            ),
            (
                "Wirebench/Named",
                pb.NamedRequest(method="POST", path="/sessions/visits", body=b'{"session": "x"}'),
                pb.NamedReply,
                grpc.StatusCode.UNAUTHENTICATED,
            ),
            ("Wirebench/Nothing", pb.EchoRequest(), pb.EchoReply, grpc.StatusCode.UNIMPLEMENTED),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(channel, f"/wirebench.v1.{method}", request, reply)
            assert refused.value.code() is status


@pytest.mark.parametrize(("stack", "protocol"), of("grpc"))
def test_reflection_names_the_services(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    with grpc.insecure_channel(running(stack, protocol).address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"wirebench.v1.Wirebench", "wirebench.v1.Todos"} <= set(database.get_services())


@pytest.mark.parametrize(("stack", "protocol"), of("grpc"))
def test_a_stream_echoes_message_by_message(running: Callable[..., ServerProcess], stack: str, protocol: str) -> None:
    with grpc.insecure_channel(running(stack, protocol).address) as channel:
        echo = channel.stream_stream(
            "/wirebench.v1.Wirebench/EchoStream",
            request_serializer=pb.EchoRequest.SerializeToString,
            response_deserializer=pb.EchoReply.FromString,
        )
        messages = [b"one", b"", b"three" * 1000]
        replies = echo(iter([pb.EchoRequest(payload=message) for message in messages]), timeout=10)
        assert [reply.payload for reply in replies] == messages


# Stopping


def in_flight(server: ServerProcess, wait_ms: int) -> Callable[[], bytes | str]:
    """Ask for something that takes so long; what is given waits for the answer (empty if it is cut off)."""
    if server.protocol == "websocket":
        socket_ = dial(server, f"/work?wait_ms={wait_ms}").__enter__()
        socket_.send("go")

        def receive() -> bytes | str:
            with contextlib.suppress(ConnectionClosed), socket_:
                answer: bytes | str = socket_.recv(timeout=10)
                return answer
            return b""

        return receive
    if server.protocol == "grpc":
        channel = grpc.insecure_channel(server.address)
        ask = channel.unary_unary(
            "/wirebench.v1.Wirebench/Work",
            request_serializer=pb.WorkRequest.SerializeToString,
            response_deserializer=pb.WorkReply.FromString,
        )
        future = ask.future(pb.WorkRequest(wait_ms=wait_ms), timeout=10)

        def result() -> bytes | str:
            with channel, contextlib.suppress(grpc.RpcError):
                status: str = future.result().status
                return status
            return b""

        return result
    stream = socket.create_connection((server.host, server.port), timeout=10)
    stream.sendall(b"GET /work?wait_ms=%d HTTP/1.1\r\nhost: x\r\n\r\n" % wait_ms)

    def read() -> bytes | str:
        data = b""
        with stream, contextlib.suppress(ConnectionError):
            while piece := stream.recv(65536):
                data += piece
        return data.partition(b"\r\n\r\n")[2] if data.startswith(b"HTTP/1.1 200") else b""

    return read


def started(server: ServerProcess) -> None:
    """Wait until the request is being served."""
    until = time.monotonic() + 10
    while server.stats()[0][0].requests < 1:
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize(("stack", "protocol"), of("http1", "websocket", "grpc"))
def test_what_is_in_flight_is_answered_before_the_server_stops(
    serve: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    server = serve(protocol, stack=stack, tls="off")
    wait = in_flight(server, 300)
    started(server)
    with contextlib.ExitStack() as idle:
        if protocol != "grpc":  # grpcio gives a connection that says nothing the whole grace
            idle.enter_context(socket.create_connection((server.host, server.port)))
        begin = time.monotonic()
        server.stop()
    assert time.monotonic() - begin < 4  # not the whole grace
    assert wait() in (b"done", "done")
    assert server.stderr == ""


@pytest.mark.parametrize(("stack", "protocol"), of("http1", "websocket", "grpc"))
def test_what_takes_longer_than_the_grace_is_cut_off(
    serve: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    server = serve(protocol, stack=stack, tls="off", grace_s=0.1)
    wait = in_flight(server, 9000)
    started(server)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < 3
    assert wait() == b""
    assert server.stderr == ""


# Execution models


@pytest.mark.parametrize(("stack", "protocol"), ONE_OF_EACH_CLASS)
def test_it_composes_with_an_execution_model_of_many_workers_or_says_why_not(
    serve: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    lives = registry.load(registry.server(protocol, stack)).lives
    execution = {"loop": "threads", "listener": "reuseport", "process": "reuseport"}[lives]
    server = serve(protocol, execution, workers=2, stack=stack)
    result = drive(spec(server, "lean", REQUESTS["echo"], "open:100/s", connections="8", duration_ns=100 * MS))
    assert result["errors"] == {}
    assert sum(counts.requests for counts in server.stats()[0]) == 11
    assert registry.unsupported(protocol, "dispatch", stack) is not None
    assert registry.unsupported(protocol, "thread-per-connection", stack) is not None
