"""The clients with one long call, and the publisher: against the lean server, grpcio's, and wrong answers."""

import socket
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from bench.contract import Opcode, exchange, foreign_exchange
from bench.conversation import Reply
from bench.errors import ProtocolError, UnsupportedError
from bench.serverprocess import ServerProcess
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import encode_payload, frame_message
from clients.grpc_calls import GrpcCaller, GrpcPublisher, GrpcStreamClient, GrpcSubscriber
from tests.clients.client_driver import DEADLINE_S, drive
from tests.clients.http2_answering import Server

ECHO = exchange(Opcode.ECHO, 100)
REPLY = frame_message(encode_payload(ECHO.answer))


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("grpc", "single", 1) as server:
        yield server


@pytest.fixture(scope="module")
def grpcio_port() -> Iterator[int]:
    def echo(requests: Iterator[pb.EchoRequest], _context: Any) -> Iterator[pb.EchoReply]:
        for request in requests:
            yield pb.EchoReply(payload=request.payload)

    handler = grpc.stream_stream_rpc_method_handler(
        echo, pb.EchoRequest.FromString, lambda reply: reply.SerializeToString()
    )
    server = grpc.server(futures.ThreadPoolExecutor(2))
    handlers = {"EchoStream": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("wirebench.v1.Wirebench", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


def connect(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), DEADLINE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@pytest.mark.parametrize(("size", "in_flight"), [(0, 1), (100, 1), (100, 64), (40_000, 8), (1_000_000, 4)])
class TestStream:
    def exchanged(self, host: str, port: int, size: int, in_flight: int) -> None:
        client = GrpcStreamClient(exchange(Opcode.ECHO, size), "x", True)
        with connect(host, port) as sock:
            outcome = drive(client, sock, 100 if size < 1_000_000 else 8, in_flight)
        assert outcome.completed == list(range(len(outcome.completed)))
        assert len(outcome.completed) == (100 if size < 1_000_000 else 8)
        assert outcome.failures == []

    def test_with_the_lean_server(self, server: ServerProcess, size: int, in_flight: int) -> None:
        self.exchanged(server.host, server.port, size, in_flight)

    def test_with_grpcio(self, grpcio_port: int, size: int, in_flight: int) -> None:
        self.exchanged("127.0.0.1", grpcio_port, size, in_flight)


def talk(client: Any, server: Server, *requests: bytes) -> list[Any]:
    """Carry bytes both ways until nobody has anything to say; what the client makes of it."""
    found: list[Any] = []
    says = b"".join((*requests, *client.outgoing))
    client.outgoing.clear()
    while True:
        if says:
            server.receive(says)
        answers = server.send()
        if answers:
            got = client.feed(answers)
            found += [got] if isinstance(got, int) else got
        says = b"".join(client.outgoing)
        client.outgoing.clear()
        if not says and not answers:
            return found


class TestStreamAnswers:
    def opened(self, check_content: bool = True) -> tuple[GrpcStreamClient, Server]:
        client, server = GrpcStreamClient(ECHO, "x", check_content), Server()
        client.open()
        talk(client, server)
        server.head(1, content_type="application/grpc")
        talk(client, server)
        return client, server

    @pytest.mark.parametrize("step", [1, 50, 104, 107, 200, 1000])
    def test_cut_anywhere(self, step: int) -> None:
        client, server = self.opened()
        talk(client, server, *client.request(10)[1])
        assert server.bodies[1] == REPLY * 10
        for at in range(0, 10 * len(REPLY), step):
            server.body(1, (REPLY * 10)[at : at + step], end=False)
        assert talk(client, server) == list(range(10))
        assert client.failures == []

    @pytest.mark.parametrize("step", [1, 50, 200, 10_000])
    def test_wrong_ones_among_them(self, step: int) -> None:
        client, server = self.opened()
        talk(client, server, *client.request(6)[1])
        wrong = frame_message(encode_payload(b"short"))
        answers = REPLY * 2 + wrong + REPLY + REPLY[:-1] + b"?" + REPLY
        for at in range(0, len(answers), step):
            server.body(1, answers[at : at + step], end=False)
        assert talk(client, server) == [0, 1, 3, 5]
        assert client.failures == [(2, "content"), (4, "content")]

    def test_without_check_content_any_message_will_do(self) -> None:
        client, server = self.opened(check_content=False)
        talk(client, server, *client.request(2)[1])
        server.body(1, frame_message(b"anything") + frame_message(b""), end=False)
        assert talk(client, server) == [0, 1]
        assert client.failures == []

    @pytest.mark.parametrize(("status", "kind"), [("0", "closed"), ("13", "status")])
    def test_the_end_of_the_call(self, status: str, kind: str) -> None:
        client, server = self.opened()
        talk(client, server, *client.request(3)[1])
        server.body(1, REPLY, end=False)
        server.h2.send_headers(1, [("grpc-status", status)], end_stream=True)
        assert talk(client, server) == [0]
        assert client.failures == [(1, kind), (2, kind)]
        assert client.closing

    def test_a_reset(self) -> None:
        client, server = self.opened()
        talk(client, server, *client.request(1)[1])
        server.h2.reset_stream(1, 8)
        assert talk(client, server) == []
        assert client.failures == [(0, "reset")]
        assert client.closing

    @pytest.mark.parametrize("data", [REPLY * 2, REPLY + b"\0", b"\x02" + REPLY[1:], b"\x01" + REPLY[1:]])
    def test_what_breaks_the_protocol(self, data: bytes) -> None:
        client, server = self.opened()
        talk(client, server, *client.request(1)[1])
        server.body(1, data, end=False)
        with pytest.raises(ProtocolError):
            client.feed(server.send())

    def test_only_echo_has_a_stream(self) -> None:
        with pytest.raises(UnsupportedError, match="not bytes"):
            GrpcStreamClient(exchange(Opcode.BYTES, 10), "x", True)


class TestCalls:
    ASKED = foreign_exchange("POST", "/jobs?ms=1", b"body")

    def asked(self) -> tuple[GrpcCaller, Server]:
        client, server = GrpcCaller("x", "http"), Server(MAX_CONCURRENT_STREAMS=3)
        client.open()
        talk(client, server)
        assert client.max_in_flight == 3
        call_id, pieces = client.ask(self.ASKED)
        talk(client, server, *pieces)
        assert call_id == 1
        assert pb.NamedRequest.FromString(server.bodies[1][5:]) == pb.NamedRequest(
            method="POST", path="/jobs?ms=1", body=b"body"
        )
        server.head(1, content_type="application/grpc")
        return client, server

    def test_an_answer_in_pieces(self) -> None:
        client, server = self.asked()
        message = frame_message(pb.NamedReply(body=b"answer").SerializeToString())
        server.body(1, message[:7], end=False)
        server.body(1, message[7:], end=False)
        server.h2.send_headers(1, [("grpc-status", "0")], end_stream=True)
        assert client.feed(server.send()) == [(1, Reply(200, b"answer"))]

    @pytest.mark.parametrize(("code", "status"), [("5", 404), ("16", 401), ("10", 409), ("13", 500)])
    def test_a_refusal_has_the_status_that_http_has_for_it(self, code: str, status: int) -> None:
        client, server = self.asked()
        server.h2.send_headers(1, [("grpc-status", code), ("grpc-message", "no%20%C3%BC")], end_stream=True)
        assert client.feed(server.send()) == [(1, Reply(status, "no ü".encode()))]

    @pytest.mark.parametrize(
        ("body", "code"), [(b"", "0"), (frame_message(b"\xff"), "0"), (frame_message(b"") * 2, "0"), (b"", "x")]
    )
    def test_what_is_no_answer(self, body: bytes, code: str) -> None:
        client, server = self.asked()
        server.body(1, body, end=False)
        server.h2.send_headers(1, [("grpc-status", code)], end_stream=True)
        with pytest.raises(ProtocolError):
            client.feed(server.send())


class TestPush:
    def send(self, client: Any, sock: socket.socket, *more: bytes) -> None:
        data = b"".join((*client.outgoing, *more))
        client.outgoing.clear()
        sock.sendall(data)

    def test_events_are_delivered_in_order(self, server: ServerProcess) -> None:
        subscriber, publisher = GrpcSubscriber("topic", "x", "http"), GrpcPublisher("topic", "x", "http")
        expected = [b"event %d" % n for n in range(1000)]  # more than a connection has streams
        with connect(server.host, server.port) as to_topic, connect(server.host, server.port) as from_topic:
            subscriber.open()
            assert subscriber.max_in_flight == 0
            while not subscriber.max_in_flight:
                self.send(subscriber, from_topic)
                assert subscriber.feed(from_topic.recv(1 << 16)) == []
            publisher.open()
            for event in expected:
                self.send(publisher, to_topic, *publisher.publish(event))
            acknowledged, delivered = 0, []
            while acknowledged < len(expected):
                acknowledged += publisher.feed(to_topic.recv(1 << 16))
                self.send(publisher, to_topic)
            while len(delivered) < len(expected):
                delivered += subscriber.feed(from_topic.recv(1 << 16))
                self.send(subscriber, from_topic)
        assert delivered == expected
        assert acknowledged == len(expected)

    @pytest.mark.parametrize("kind", [GrpcSubscriber, GrpcPublisher])
    def test_a_refusal_says_why(self, server: ServerProcess, kind: Any) -> None:
        client = kind("no topic", "x", "http")
        with connect(server.host, server.port) as sock:
            client.open()
            self.send(client, sock, *(client.publish(b"x") if kind is GrpcPublisher else ()))
            with pytest.raises(ProtocolError, match="INVALID_ARGUMENT: a topic's name"):  # noqa: PT012  the second feed
                while True:
                    client.feed(sock.recv(1 << 16))
                    self.send(client, sock)

    def test_a_message_that_is_no_event(self) -> None:
        client, server = GrpcSubscriber("t", "x", "http"), Server()
        client.open()
        talk(client, server)
        assert pb.SubscribeRequest.FromString(server.bodies[1][5:]).topic == "t"
        server.head(1, content_type="application/grpc")
        server.body(1, frame_message(b"\xff"), end=False)
        with pytest.raises(ProtocolError, match="no event"):
            client.feed(server.send())

    def test_a_publisher_waits_for_a_free_stream(self) -> None:
        client, server = GrpcPublisher("t", "x", "http"), Server(MAX_CONCURRENT_STREAMS=2)
        client.open()
        talk(client, server)
        for n in range(5):
            talk(client, server, *client.publish(b"%d" % n))
        assert server.complete == [1, 3]
        for stream_id in (1, 3):
            server.head(stream_id, content_type="application/grpc")
            server.body(stream_id, frame_message(b"\x08\x01"), end=False)
            server.h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
        assert sum(talk(client, server)) == 2
        assert server.complete == [1, 3, 5, 7]
