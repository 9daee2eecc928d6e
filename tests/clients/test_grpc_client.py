"""The lean gRPC client, against grpcio's server, the lean one, and answers of every wrong kind."""

import socket
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from bench.contract import Exchange, Opcode, exchange, foreign_exchange
from bench.errors import ProtocolError
from bench.serverprocess import ServerProcess
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import encode_payload, frame_message
from clients.grpc_calls import GrpcClient
from tests.clients.client_driver import Outcome, drive
from tests.clients.http2_answering import Server, said, talk

EXCHANGES = [
    exchange(Opcode.HEALTH),
    exchange(Opcode.ECHO, 0),
    exchange(Opcode.ECHO, 100),
    exchange(Opcode.ECHO, 20_000),
    exchange(Opcode.BYTES, 5000),
    exchange(Opcode.BYTES, 5000, b=1000),
    exchange(Opcode.UPLOAD, 200_000),
    exchange(Opcode.WORK, a=10, b=1),
    exchange(Opcode.READ_TODOS, a=5),
    exchange(Opcode.READ_TODOS_STREAM, a=5),
]


def name(wanted: Exchange) -> str:
    return f"{wanted.opcode.name}-{len(wanted.body)}-{wanted.a}-{wanted.b}"


def exchanged(host: str, port: int, client: GrpcClient, total: int, in_flight: int) -> Outcome:
    with socket.create_connection((host, port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return drive(client, sock, total, in_flight)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("grpc", "single", 1) as server:
        yield server


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    def read(messages: Iterator[pb.UploadRequest], _context: Any) -> pb.UploadReply:
        return pb.UploadReply(length=sum(len(message.chunk) for message in messages))

    def pieces(request: pb.BytesRequest, _context: Any) -> Iterator[pb.BytesReply]:
        for _ in range(request.n):
            yield pb.BytesReply(payload=bytes(request.chunk))

    def refuse(_request: pb.HealthRequest, context: Any) -> None:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 %")

    def handler(kind: str, behaviour: Any, request: Any) -> Any:
        serialize = lambda reply: reply.SerializeToString()  # noqa: E731  short
        return getattr(grpc, f"{kind}_rpc_method_handler")(behaviour, request.FromString, serialize)

    server = grpc.server(futures.ThreadPoolExecutor(2))
    handlers = {
        "Echo": handler("unary_unary", lambda request, _: pb.EchoReply(payload=request.payload), pb.EchoRequest),
        "Upload": handler("stream_unary", read, pb.UploadRequest),
        "BytesStream": handler("unary_stream", pieces, pb.BytesRequest),
        "Health": handler("unary_unary", refuse, pb.HealthRequest),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("wirebench.v1.Wirebench", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


class TestLeanServer:
    @pytest.mark.parametrize("wanted", EXCHANGES, ids=name)
    @pytest.mark.parametrize("in_flight", [1, 16])
    def test_answers_are_right(self, server: ServerProcess, wanted: Exchange, in_flight: int) -> None:
        outcome = exchanged(server.host, server.port, GrpcClient(wanted, "x", True), 60, in_flight)
        assert (len(outcome.completed), outcome.failures) == (60, [])

    def test_large_messages(self, server: ServerProcess) -> None:
        client = GrpcClient(exchange(Opcode.ECHO, 3_000_000), "x", True)
        assert len(exchanged(server.host, server.port, client, 8, 4).completed) == 8

    def test_a_todo_whose_id_is_not_known_beforehand(self, server: ServerProcess) -> None:
        client = GrpcClient(exchange(Opcode.CREATE_TODO), "x", check_content=False)
        assert len(exchanged(server.host, server.port, client, 20, 4).completed) == 20

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("/wirebench.v1.Wirebench/Echo", pb.EchoRequest(payload=b"abc")),
            ("/wirebench.v1.Wirebench/BytesStream", pb.BytesRequest(n=50_000, chunk=1000)),
            ("/wirebench.v1.Wirebench/Upload", pb.UploadRequest(chunk=b"abc")),
        ],
    )
    def test_methods_of_somebody_else(self, server: ServerProcess, path: str, message: Any) -> None:
        client = GrpcClient(foreign_exchange("POST", path, message.SerializeToString()), "x", check_content=False)
        assert len(exchanged(server.host, server.port, client, 40, 8).completed) == 40

    def test_calls_that_fail(self, server: ServerProcess) -> None:
        client = GrpcClient(foreign_exchange("POST", "/a.B/C"), "x", check_content=False)
        outcome = exchanged(server.host, server.port, client, 10, 3)
        assert [kind for _, kind in outcome.failures] == ["status"] * 10


class TestGrpcio:
    @pytest.mark.parametrize("size", [0, 100, 20_000, 1_000_000])
    @pytest.mark.parametrize("in_flight", [1, 16])
    def test_echo(self, port: int, size: int, in_flight: int) -> None:
        client = GrpcClient(exchange(Opcode.ECHO, size), "x", True)
        outcome = exchanged("127.0.0.1", port, client, 60, in_flight)
        assert (len(outcome.completed), outcome.failures) == (60, [])

    def test_streams(self, port: int) -> None:
        message = pb.BytesRequest(n=20, chunk=5000).SerializeToString()
        path = "/wirebench.v1.Wirebench/BytesStream"
        client = GrpcClient(foreign_exchange("POST", path, message), "x", check_content=False)
        assert len(exchanged("127.0.0.1", port, client, 20, 4).completed) == 20

    def test_a_wrong_answer_and_a_refusal(self, port: int) -> None:
        client = GrpcClient(exchange(Opcode.UPLOAD, 100_000), "x", True)
        assert [kind for _, kind in exchanged("127.0.0.1", port, client, 3, 1).failures] == ["content"] * 3
        client = GrpcClient(exchange(Opcode.HEALTH), "x", True)
        assert [kind for _, kind in exchanged("127.0.0.1", port, client, 3, 3).failures] == ["status"] * 3
        client = GrpcClient(exchange(Opcode.WORK), "x", True)
        assert [kind for _, kind in exchanged("127.0.0.1", port, client, 3, 3).failures] == ["status"] * 3


ECHO = exchange(Opcode.ECHO, 100)
REPLY = frame_message(encode_payload(ECHO.answer))
TYPE = {"content_type": "application/grpc"}


def connected(wanted: Exchange = ECHO, check_content: bool = True) -> tuple[GrpcClient, Server]:
    client, server = GrpcClient(wanted, "host:80", check_content), Server()
    client.open()
    talk(client, server)
    return client, server


def trailers(server: Server, stream_id: int, status: str = "0", **fields: str) -> None:
    named = [(key.replace("_", "-"), value) for key, value in fields.items()]
    server.h2.send_headers(stream_id, [("grpc-status", status), *named], end_stream=True)


def answer(server: Server, stream_id: int, body: bytes = REPLY) -> None:
    server.head(stream_id, **TYPE)
    server.body(stream_id, body, end=False)
    trailers(server, stream_id)


class TestRows:
    def fast(self, client: GrpcClient) -> list[int]:
        """How many answers are recognised as a whole, call by call of `feed`."""
        counts: list[int] = []
        match = client._match

        def counting(data: bytes) -> tuple[list[bytes], bytes]:
            ids, rest = match(data)
            counts.append(len(ids))
            return ids, rest

        client._match = counting  # type: ignore[method-assign]
        return counts

    def settled(self) -> tuple[GrpcClient, Server]:
        """Once the tables have settled, and a right answer was read."""
        client, server = connected()
        for _ in range(3):
            ids, requests = client.request(1)
            talk(client, server, *requests)
            answer(server, server.complete[-1])
            assert client.feed(server.send()) == ids
        assert client._group is not None
        return client, server

    def answers(self, client: GrpcClient, server: Server, count: int) -> tuple[list[Any], bytes]:
        ids, requests = client.request(count)
        talk(client, server, *requests)
        for stream_id in server.complete[-count:]:
            answer(server, stream_id)
        return list(ids), server.send()

    def test_many_answers_at_once(self) -> None:
        client, server = self.settled()
        counts = self.fast(client)
        ids, data = self.answers(client, server, 50)
        assert client.feed(data) == ids
        assert counts == [50]
        assert client.failures == []

    @pytest.mark.parametrize("step", [1, 9, 10, 100, 150, 1000])
    def test_cut_anywhere_they_are_still_recognised(self, step: int) -> None:
        client, server = self.settled()
        counts = self.fast(client)
        ids, data = self.answers(client, server, 20)
        done: list[Any] = []
        for at in range(0, len(data), step):
            done += client.feed(data[at : at + step])
        assert done == ids
        assert sum(counts) == 20

    def test_one_that_is_wrong_among_them(self) -> None:
        client, server = self.settled()
        ids, requests = client.request(5)
        talk(client, server, *requests)
        for number, stream_id in enumerate(server.complete[-5:]):
            answer(server, stream_id, REPLY if number != 2 else REPLY[:-1] + b"?")
        assert client.feed(server.send()) == [*ids[:2], *ids[3:]]
        assert client.failures == [(ids[2], "content")]

    def test_one_whose_status_is_wrong_at_the_end(self) -> None:
        client, server = self.settled()
        ids, requests = client.request(2)
        talk(client, server, *requests)
        first, second = server.complete[-2:]
        answer(server, first)
        server.head(second, **TYPE)
        server.body(second, REPLY, end=False)
        data = server.send()
        assert client.feed(data) == [ids[0]]  # the rest is looked at when it shows how it ends
        trailers(server, second, "13", grpc_message="x")
        assert client.feed(server.send()) == []
        assert client.failures == [(ids[1], "status")]

    def test_an_answer_to_nothing_that_was_asked(self) -> None:
        client, server = self.settled()
        ids, data = self.answers(client, server, 2)
        assert client.feed(data) == ids
        with pytest.raises(ProtocolError):
            client.feed(data)

    def test_abandoned_ones_are_ignored(self) -> None:
        client, server = self.settled()
        ids, requests = client.request(3)
        server.receive(b"".join(requests))
        for stream_id in server.complete[-3:]:
            answer(server, stream_id)
        data = server.send()
        assert client.abandon(ids[1])
        assert client.feed(data) == [ids[0], ids[2]]
        assert client.failures == []


class TestWrongAnswers:
    def fails(self, kind: str, client: GrpcClient, server: Server, say: Any) -> None:
        ids, requests = client.request(1)
        talk(client, server, *requests)
        say(server, server.complete[-1])
        assert client.feed(server.send()) == []
        assert client.failures == [(ids[0], kind)]
        client.failures.clear()

    def test_statuses(self) -> None:
        client, server = connected()

        def alone(server: Server, stream_id: int) -> None:
            server.head(stream_id, end=True, grpc_status="5", **TYPE)

        def after_a_message(server: Server, stream_id: int) -> None:
            server.head(stream_id, **TYPE)
            server.body(stream_id, REPLY, end=False)
            trailers(server, stream_id, "8")

        def of_http(server: Server, stream_id: int) -> None:
            server.head(stream_id, 503, end=True)

        for say in (alone, after_a_message, of_http):
            self.fails("status", client, server, say)

    def test_content(self) -> None:
        client, server = connected()
        for body in (b"", REPLY + b"\0", REPLY[:-1], frame_message(encode_payload(b"x" * 100)), REPLY + REPLY):

            def say(server: Server, stream_id: int, body: bytes = body) -> None:
                server.head(stream_id, **TYPE)
                if body:
                    server.body(stream_id, body, end=False)
                trailers(server, stream_id)

            self.fails("content", client, server, say)

    def test_what_is_no_grpc(self) -> None:
        client, server = connected()

        def no_trailers(server: Server, stream_id: int) -> None:
            server.head(stream_id, **TYPE)
            server.body(stream_id, REPLY)

        def another_type(server: Server, stream_id: int) -> None:
            server.head(stream_id, content_type="text/html")
            server.body(stream_id, b"<html>")

        def no_number(server: Server, stream_id: int) -> None:
            server.head(stream_id, **TYPE)
            server.body(stream_id, REPLY, end=False)
            trailers(server, stream_id, "OK")

        for say in (no_trailers, no_number, another_type):
            self.fails("protocol", client, server, say)

    def test_a_reset(self) -> None:
        client, server = connected()
        self.fails("reset", client, server, lambda server, stream_id: server.h2.reset_stream(stream_id, 8))

    def test_the_server_s_choice_of_words_does_not_matter(self) -> None:
        # Other fields, an empty message, a message in pieces.
        client, server = connected()
        ids, requests = client.request(1)
        talk(client, server, *requests)
        (stream_id,) = server.complete
        server.head(stream_id, content_type="application/grpc+proto", grpc_encoding="identity", date="today")
        server.body(stream_id, REPLY[:3], end=False)
        server.body(stream_id, REPLY[3:], end=False)
        trailers(server, stream_id, grpc_message="", x_more="y")
        assert client.feed(server.send()) == ids
        assert client.failures == []

    def test_what_a_call_asks(self) -> None:
        client, server = connected()
        _, requests = client.request(1)
        talk(client, server, *requests)
        head = server.heads[1]
        assert head[b":method"] == b"POST"
        assert head[b":path"] == b"/wirebench.v1.Wirebench/Echo"
        assert (head[b"te"], head[b"content-type"]) == (b"trailers", b"application/grpc")
        assert pb.EchoRequest.FromString(server.bodies[1][5:]).payload == ECHO.body
        assert said(client) == b""
