"""The lean gRPC server, frame by frame: what calls get, and what those get that are not in order."""

import gzip
from typing import Any

import h2.events
import pytest

from bench.contract import MAX_BODY_BYTES, pattern, seeded_todo
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import MAX_MESSAGE_BYTES, Status, frame_message
from bench.wire.http2_frames import ErrorCode
from servers.counters import REQUESTS
from tests.servers import http2_harness
from tests.servers.grpc_harness import TODOS, WIREBENCH, Outcome, Server, begin, call, framed, outcome, send
from tests.servers.http2_harness import Client, data, goaways, parse, resets, talk

ECHO = f"{WIREBENCH}/Echo"
HELLO = framed(pb.EchoRequest(payload=b"hello"))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def client() -> Client:
    return Client()


def failed(found: Outcome, status: Status, match: str) -> None:
    assert found.status == status
    assert match in found.text
    assert found.messages == []


class TestUnary:
    def test_each_method(self, server: Server, client: Client) -> None:
        def answer(path: str, request: Any, kind: Any) -> Any:
            found = call(server, client, path, framed(request))
            assert (found.http_status, found.status) == (200, 0)
            (message,) = found.messages
            return kind.FromString(message)

        assert answer(f"{WIREBENCH}/Health", pb.HealthRequest(), pb.HealthReply).status == "ok"
        assert answer(ECHO, pb.EchoRequest(payload=b"abc"), pb.EchoReply).payload == b"abc"
        assert answer(ECHO, pb.EchoRequest(), pb.EchoReply).payload == b""
        assert answer(f"{WIREBENCH}/Bytes", pb.BytesRequest(n=70_000), pb.BytesReply).payload == pattern(70_000)
        assert answer(f"{WIREBENCH}/Work", pb.WorkRequest(cpu_us=1), pb.WorkReply).status == "done"
        todo = answer(f"{TODOS}/CreateTodo", pb.CreateTodoRequest(text="see"), pb.Todo)
        assert (todo.id, todo.text, todo.done) == (1001, "see", False)
        todos = answer(f"{TODOS}/ReadTodos", pb.ReadTodosRequest(limit=3), pb.ReadTodosReply).todos
        assert [(todo.id, todo.text, todo.done) for todo in todos] == [tuple(seeded_todo(n)) for n in (1, 2, 3)]
        assert answer(f"{WIREBENCH}/Publish", pb.PublishRequest(topic="t", data=b"x"), pb.PublishReply).id == 1
        assert server.slot.values[REQUESTS] == 8

    def test_the_head_and_the_trailers(self, server: Server, client: Client) -> None:
        for _ in range(3):  # with a new encoder's table, and with a settled one
            found = call(server, client, ECHO, HELLO)
            assert found.head[b"content-type"] == b"application/grpc"
            assert found.head[b"grpc-accept-encoding"] == b"identity,gzip"
            assert found.trailers == {b"grpc-status": b"0"}

    def test_many_at_a_time(self, server: Server, client: Client) -> None:
        ids = [begin(client, ECHO, framed(pb.EchoRequest(payload=b"%d" % n))) for n in range(100)]
        talk(client, server)
        payloads = [pb.EchoReply.FromString(outcome(client, i).messages[0]).payload for i in ids]
        assert payloads == [b"%d" % n for n in range(100)]

    @pytest.mark.parametrize("size", [16_360, 16_368, 16_369, 16_384, 65_530, 100_000, 3_000_000])
    def test_messages_longer_than_a_frame_or_a_window(self, server: Server, client: Client, size: int) -> None:
        found = call(server, client, ECHO, framed(pb.EchoRequest(payload=pattern(size))))
        assert found.status == 0
        assert found.messages == [pb.EchoReply(payload=pattern(size)).SerializeToString()]

    def test_a_message_in_an_unusual_form(self, server: Server, client: Client) -> None:
        # The field twice, the last counts; and a field that nobody knows.
        found = call(server, client, ECHO, frame_message(b"\x0a\x01a\x10\x05\x0a\x01b"))
        assert found.messages == [b"\x0a\x01b"]

    def test_cut_anywhere(self) -> None:
        for step in (1, 3, 10):
            server, client = Server(), Client()
            stream_id = begin(client, ECHO, HELLO)
            talk(client, server, lambda said: [said[at : at + step] for at in range(0, len(said), step)])  # noqa: B023
            assert outcome(client, stream_id).status == 0

    def test_answers_come_when_they_are_there(self) -> None:
        server, client = Server(hold=True), Client()
        ids = [begin(client, ECHO, HELLO) for _ in range(2)]
        talk(client, server)
        assert [outcome(client, i).status for i in ids] == [None, None]
        server.release()
        talk(client, server)
        assert [outcome(client, i).status for i in ids] == [0, None]


class TestRefusals:
    def test_unknown_methods_and_services(self, server: Server, client: Client) -> None:
        failed(call(server, client, f"{WIREBENCH}/Nope", HELLO), Status.UNIMPLEMENTED, "unknown method: /wirebench")
        failed(call(server, client, "/a.B/Nope", HELLO), Status.UNIMPLEMENTED, "unknown service: /a.B/Nope")
        failed(call(server, client, "/", HELLO), Status.UNIMPLEMENTED, "unknown service")
        assert call(server, client, ECHO, HELLO).status == 0

    @pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc;x=y"])
    def test_content_types(self, server: Server, client: Client, content_type: str) -> None:
        assert call(server, client, ECHO, HELLO, content_type=content_type).status == 0

    @pytest.mark.parametrize("content_type", ["", "text/html", "application/grpcx", "application/grpc+json"])
    def test_other_content_types(self, server: Server, client: Client, content_type: str) -> None:
        found = call(server, client, ECHO, HELLO, content_type=content_type)
        assert found.http_status == 415
        failed(found, Status.INTERNAL, "content-type")

    def test_other_methods_of_http(self, server: Server, client: Client) -> None:
        found = call(server, client, ECHO, HELLO, method="PUT")
        assert found.http_status == 405

    def test_without_te(self, server: Server, client: Client) -> None:
        failed(call(server, client, ECHO, HELLO, te=""), Status.INTERNAL, "te: trailers")

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            (ECHO, b"\x0a\x05abc"),
            (ECHO, b"\xff"),
            (f"{WIREBENCH}/Bytes", b"\x08"),
            (f"{TODOS}/CreateTodo", b"\x0a\x01\xff"),
            (f"{WIREBENCH}/Subscribe", b"\xff"),
        ],
    )
    def test_messages_that_do_not_decode(self, server: Server, client: Client, path: str, message: bytes) -> None:
        failed(call(server, client, path, frame_message(message)), Status.INVALID_ARGUMENT, "the message is no ")

    @pytest.mark.parametrize(
        ("path", "request_", "status", "text"),
        [
            (f"{WIREBENCH}/Bytes", pb.BytesRequest(n=MAX_BODY_BYTES + 1), Status.INVALID_ARGUMENT, "bytes: n"),
            (f"{WIREBENCH}/Work", pb.WorkRequest(wait_ms=1 << 31), Status.INVALID_ARGUMENT, "work: cpu_us"),
            (f"{TODOS}/CreateTodo", pb.CreateTodoRequest(), Status.INVALID_ARGUMENT, "text: "),
            (f"{TODOS}/ReadTodosStream", pb.ReadTodosRequest(limit=1 << 31), Status.INVALID_ARGUMENT, "limit"),
            (f"{WIREBENCH}/Publish", pb.PublishRequest(topic="/"), Status.INVALID_ARGUMENT, "a topic's name"),
            (f"{WIREBENCH}/Subscribe", pb.SubscribeRequest(topic=""), Status.INVALID_ARGUMENT, "a topic's name"),
            (
                f"{WIREBENCH}/Publish",
                pb.PublishRequest(topic="a", data=bytes(70_000)),
                Status.RESOURCE_EXHAUSTED,
                "an event is at most",
            ),
        ],
    )
    def test_what_the_service_refuses(
        self, server: Server, client: Client, path: str, request_: Any, status: Status, text: str
    ) -> None:
        failed(call(server, client, path, framed(request_)), status, text)

    def test_too_large_a_message_is_refused_before_it_is_there(self, server: Server, client: Client) -> None:
        stream_id = begin(client, ECHO, None)
        client.h2.send_data(stream_id, b"\0" + (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"))
        talk(client, server)
        failed(outcome(client, stream_id), Status.RESOURCE_EXHAUSTED, f"at most {MAX_MESSAGE_BYTES}")
        # The client may go on for a while, and is then cut off.
        client.h2.send_data(stream_id, bytes(10_000))
        talk(client, server)
        server.later[0][1]()
        talk(client, server)
        (reset,) = [event for event in client.events if isinstance(event, h2.events.StreamReset)]
        assert (reset.stream_id, reset.error_code) == (stream_id, ErrorCode.NO_ERROR)
        assert call(server, client, ECHO, HELLO).status == 0

    def test_not_exactly_one_message(self, server: Server, client: Client) -> None:
        failed(call(server, client, ECHO, b""), Status.UNIMPLEMENTED, "the one message")
        failed(call(server, client, ECHO, HELLO + HELLO), Status.UNIMPLEMENTED, "more than the one message")
        failed(call(server, client, ECHO, HELLO[:-1]), Status.INTERNAL, "inside a message")
        failed(call(server, client, ECHO, HELLO + b"\0"), Status.INTERNAL, "inside a message")
        assert server.ran == 0

    def test_a_content_length_that_is_wrong(self, server: Server, client: Client) -> None:
        assert call(server, client, ECHO, HELLO, content_length=str(len(HELLO))).status == 0
        head = [*http2_harness.PUT[1:3], (b":method", b"POST"), (b":path", ECHO.encode())]
        head += [(b"te", b"trailers"), (b"content-type", b"application/grpc"), (b"content-length", b"5")]
        found = Server()
        found.feed(http2_harness.HELLO)
        assert resets(found.feed(http2_harness.headers(1, head, end=False), data(1, HELLO, end=True))) == [(1, 1)]

    def test_metadata_is_welcome_up_to_a_length(self, server: Server, client: Client) -> None:
        assert call(server, client, ECHO, HELLO, x_some="thing", x_some_bin="AAEC").status == 0
        found = call(server, client, ECHO, HELLO, x_more="y" * 33_000)
        failed(found, Status.RESOURCE_EXHAUSTED, "the metadata is longer")


class TestGzip:
    def test_both_ways(self, server: Server, client: Client) -> None:
        packed = frame_message(gzip.compress(b"\x0a\x05hello"), compressed=True)
        fields = {"grpc_encoding": "gzip", "grpc_accept_encoding": "identity, deflate, gzip"}
        found = call(server, client, ECHO, packed, **fields)
        assert found.head[b"grpc-encoding"] == b"gzip"
        assert found.messages == [b"\x0a\x05hello"]
        assert client.bodies[1][:1] == b"\x01"
        # A call that may have compressed messages may have others.
        assert call(server, client, ECHO, HELLO, **fields).messages == [b"\x0a\x05hello"]

    def test_not_to_a_client_that_does_not_take_it(self, server: Server, client: Client) -> None:
        packed = frame_message(gzip.compress(b"\x0a\x05hello"), compressed=True)
        found = call(server, client, ECHO, packed, grpc_encoding="gzip")
        assert b"grpc-encoding" not in found.head
        assert client.bodies[1][:1] == b"\0"
        assert found.messages == [b"\x0a\x05hello"]

    def test_errors(self, server: Server, client: Client) -> None:
        packed = frame_message(gzip.compress(b"\x0a\x05hello"), compressed=True)
        failed(call(server, client, ECHO, packed), Status.INTERNAL, "without grpc-encoding")
        failed(call(server, client, ECHO, packed[:-1], grpc_encoding="gzip"), Status.INTERNAL, "inside a message")
        broken = frame_message(b"no gzip", compressed=True)
        failed(call(server, client, ECHO, broken, grpc_encoding="gzip"), Status.INTERNAL, "not gzip")
        found = call(server, client, ECHO, packed, grpc_encoding="snappy")
        failed(found, Status.UNIMPLEMENTED, "snappy")
        assert found.head[b"grpc-accept-encoding"] == b"identity,gzip"


class TestDeadlines:
    def test_the_call_ends_when_its_time_is_over(self) -> None:
        server, client = Server(hold=True), Client()
        late = begin(client, ECHO, HELLO, grpc_timeout="1n")
        other = begin(client, ECHO, HELLO, grpc_timeout="1H")
        talk(client, server)
        ((delay_s, alarm),) = server.later
        assert delay_s < 1e-6
        alarm()
        talk(client, server)
        failed(outcome(client, late), Status.DEADLINE_EXCEEDED, "longer than its grpc-timeout")
        assert outcome(client, other).status is None
        assert 3590 < server.later[1][0] <= 3600  # the next alarm
        server.release()  # the late answer is nobody's
        server.release()
        talk(client, server)
        assert outcome(client, other).status == 0
        assert outcome(client, late).messages == []

    def test_an_answer_that_comes_after_it_is_not_given(self) -> None:
        # As with a thread that sleeps through a wait, and hears no alarm.
        server, client = Server(hold=True), Client()
        late = begin(client, ECHO, HELLO, grpc_timeout="1n")
        talk(client, server)
        server.release()
        talk(client, server)
        failed(outcome(client, late), Status.DEADLINE_EXCEEDED, "longer")

    def test_malformed_ones(self, server: Server, client: Client) -> None:
        failed(call(server, client, ECHO, HELLO, grpc_timeout="1x"), Status.INTERNAL, "malformed grpc-timeout")

    def test_calls_that_end_in_time_leave_nothing_behind(self, server: Server, client: Client) -> None:
        for n in range(1200):
            assert call(server, client, ECHO, HELLO, grpc_timeout=f"{n + 1}S").status == 0
        assert len(server.connection._deadlines) < 600
        assert len(server.later) < 10


class TestStreams:
    def test_echo_answers_message_by_message(self, server: Server, client: Client) -> None:
        stream_id = begin(client, f"{WIREBENCH}/EchoStream", None)
        for n in range(1, 4):
            send(client, stream_id, pb.EchoRequest(payload=b"%d" % n))
            talk(client, server)
            assert len(outcome(client, stream_id).messages) == n
        assert outcome(client, stream_id).status is None
        send(client, stream_id, end=True)
        talk(client, server)
        assert outcome(client, stream_id).status == 0
        assert server.slot.values[REQUESTS] == 3

    def test_an_empty_stream(self, server: Server, client: Client) -> None:
        found = call(server, client, f"{WIREBENCH}/EchoStream", b"")
        assert (found.status, found.messages) == (0, [])

    def test_answers_keep_the_order_of_the_messages(self) -> None:
        server, client = Server(hold=True), Client()
        messages = [pb.EchoRequest(payload=b"%d" % n) for n in range(4)]
        stream_id = begin(client, f"{WIREBENCH}/EchoStream", framed(*messages))
        talk(client, server)
        for n in range(4):
            assert len(server.held) == 1  # one at a time
            server.release()
            talk(client, server)
            assert len(outcome(client, stream_id).messages) == n + 1
        assert outcome(client, stream_id).status == 0

    def test_bytes_in_messages(self, server: Server, client: Client) -> None:
        found = call(server, client, f"{WIREBENCH}/BytesStream", framed(pb.BytesRequest(n=250_000, chunk=100_000)))
        pieces = [pb.BytesReply.FromString(message).payload for message in found.messages]
        assert [len(piece) for piece in pieces] == [100_000, 100_000, 50_000]
        assert b"".join(pieces) == pattern(250_000)
        assert call(server, client, f"{WIREBENCH}/BytesStream", framed(pb.BytesRequest(n=0, chunk=1))).messages == [b""]

    def test_upload(self, server: Server, client: Client) -> None:
        chunks = [pb.UploadRequest(chunk=pattern(30_000)) for _ in range(5)]
        found = call(server, client, f"{WIREBENCH}/Upload", framed(*chunks))
        assert pb.UploadReply.FromString(found.messages[0]).length == 150_000
        assert call(server, client, f"{WIREBENCH}/Upload", b"").messages

    def test_todos(self, server: Server, client: Client) -> None:
        found = call(server, client, f"{TODOS}/ReadTodosStream", framed(pb.ReadTodosRequest(limit=20)))
        assert [pb.Todo.FromString(message).id for message in found.messages] == list(range(1, 21))

    def test_a_bad_message_ends_a_stream(self, server: Server, client: Client) -> None:
        body = framed(pb.EchoRequest(payload=b"1")) + frame_message(b"\xff") + framed(pb.EchoRequest(payload=b"2"))
        found = call(server, client, f"{WIREBENCH}/EchoStream", body)
        assert (found.status, len(found.messages)) == (Status.INVALID_ARGUMENT, 1)

    def test_what_waits_of_a_cancelled_stream_is_not_run(self) -> None:
        server, client = Server(hold=True), Client()
        stream_id = begin(client, f"{WIREBENCH}/EchoStream", None)
        send(client, stream_id, *[pb.EchoRequest(payload=b"x")] * 5)
        talk(client, server)
        client.h2.reset_stream(stream_id, ErrorCode.CANCEL)
        talk(client, server)
        server.release()
        assert server.ran == 1
        assert server.held == []

    def test_a_client_that_does_not_read_is_not_read_from_either(self, server: Server) -> None:
        client = Client(INITIAL_WINDOW_SIZE=1000)
        stream_id = begin(client, f"{WIREBENCH}/EchoStream", None)
        talk(client, server)
        client.h2.update_settings({})
        message = framed(pb.EchoRequest(payload=bytes(15_000)))
        hold = client.h2.acknowledge_received_data
        client.h2.acknowledge_received_data = lambda *_: None
        for _ in range(1000):
            if client.h2.local_flow_control_window(stream_id) < len(message):
                break
            client.h2.send_data(stream_id, message)
            talk(client, server)
        backlog = len(server.connection.streams[stream_id].body)
        assert 1 << 20 < backlog < 3 << 20
        assert client.h2.local_flow_control_window(stream_id) < len(message)
        # As soon as it reads again, it goes on.
        client.h2.acknowledge_received_data = hold
        client.h2.increment_flow_control_window(1 << 24, stream_id)
        client.h2.increment_flow_control_window(1 << 24)
        talk(client, server)
        assert client.h2.local_flow_control_window(stream_id) >= len(message)
        client.h2.send_data(stream_id, b"", end_stream=True)
        talk(client, server)
        assert outcome(client, stream_id).status == 0

    def test_nothing_runs_while_the_socket_takes_nothing(self) -> None:
        server, client = Server(high_water=1000), Client(INITIAL_WINDOW_SIZE=1 << 20)
        client.h2.increment_flow_control_window(1 << 20)
        talk(client, server)
        unary = [begin(client, ECHO, framed(pb.EchoRequest(payload=bytes(15_000)))) for _ in range(30)]
        stream = begin(client, f"{WIREBENCH}/EchoStream", framed(*[pb.EchoRequest(payload=bytes(15_000))] * 20))
        server.connection.data_received(client.send())
        assert not server.pipe.reading
        ran = server.ran
        assert 0 < ran < 30
        while answer := server.pipe.take():
            client.receive(answer)
        talk(client, server)
        assert server.pipe.reading
        assert server.ran == 50
        assert [outcome(client, i).status for i in unary] == [0] * 30
        assert (outcome(client, stream).status, len(outcome(client, stream).messages)) == (0, 20)


class TestTopics:
    def subscribe(self, server: Server, client: Client, **request: Any) -> int:
        stream_id = begin(client, f"{WIREBENCH}/Subscribe", framed(pb.SubscribeRequest(topic="t", **request)))
        talk(client, server)
        return stream_id

    def events(self, client: Client, stream_id: int) -> list[tuple[int, bytes]]:
        events = [pb.Event.FromString(message) for message in outcome(client, stream_id).messages]
        return [(event.id, event.data) for event in events]

    def test_events_are_delivered_and_old_ones_on_demand(self, server: Server, client: Client) -> None:
        topic = server.worker.service.topics.topic("t")
        topic.publish(b"before")
        from_now, from_first, from_second = (
            self.subscribe(server, client),
            self.subscribe(server, client, after=0),
            self.subscribe(server, client, after=1),
        )
        assert client.answers[from_now][b":status"] == b"200"  # it is known at once that no event will be missed
        topic.publish(b"now")
        talk(client, server)
        assert self.events(client, from_now) == [(2, b"now")]
        assert self.events(client, from_first) == [(1, b"before"), (2, b"now")]
        assert self.events(client, from_second) == [(2, b"now")]
        assert outcome(client, from_now).status is None

    def test_a_cancelled_subscription_is_over(self, server: Server, client: Client) -> None:
        topic = server.worker.service.topics.topic("t")
        stream_id = self.subscribe(server, client)
        assert topic.subscribers == 1
        client.h2.reset_stream(stream_id, ErrorCode.CANCEL)
        talk(client, server)
        assert topic.subscribers == 0

    def test_so_is_one_whose_connection_or_time_ends(self, server: Server, client: Client) -> None:
        topic = server.worker.service.topics.topic("t")
        body = framed(pb.SubscribeRequest(topic="t"))
        stream_id = begin(client, f"{WIREBENCH}/Subscribe", body, grpc_timeout="1n")
        talk(client, server)
        server.later[0][1]()
        talk(client, server)
        assert outcome(client, stream_id).status == Status.DEADLINE_EXCEEDED
        assert topic.subscribers == 0
        self.subscribe(server, client)
        assert topic.subscribers == 1
        server.connection.connection_lost(None)
        assert topic.subscribers == 0

    def test_a_subscriber_that_takes_nothing_is_let_go(self, server: Server) -> None:
        client = Client(INITIAL_WINDOW_SIZE=10)
        stream_id = self.subscribe(server, client)
        topic = server.worker.service.topics.topic("t")
        for _ in range(40):
            topic.publish(bytes(60_000))
        assert topic.subscribers == 0
        talk(client, server)
        assert outcome(client, stream_id).status == Status.RESOURCE_EXHAUSTED


class TestDraining:
    """h2 reads nothing after GOAWAY, so frames are looked at."""

    def drained(self, server: Server) -> list[tuple[int, str]]:
        """Drain, and tell what was said on which stream."""
        server.connection.drain()
        return [(frame.stream_id, type(frame).__name__) for frame in parse(server.pipe.take())]

    def test_what_is_in_flight_is_finished(self) -> None:
        server, client = Server(hold=True), Client()
        stream_id = begin(client, ECHO, HELLO)
        talk(client, server)
        assert self.drained(server) == [(0, "GoAwayFrame")]
        assert not server.pipe.closed
        server.release()
        frames = [(frame.stream_id, type(frame).__name__) for frame in parse(server.pipe.take())]
        assert frames == [(stream_id, "HeadersFrame"), (stream_id, "DataFrame"), (stream_id, "HeadersFrame")]
        assert server.pipe.closed

    def test_what_has_no_end_is_ended(self, server: Server, client: Client) -> None:
        subscription = begin(client, f"{WIREBENCH}/Subscribe", framed(pb.SubscribeRequest(topic="t")))
        stream = begin(client, f"{WIREBENCH}/EchoStream", None)
        talk(client, server)
        frames = self.drained(server)
        assert frames == [(0, "GoAwayFrame"), (subscription, "HeadersFrame"), (stream, "HeadersFrame")]
        assert server.worker.service.topics.topic("t").subscribers == 0
        client.h2.end_stream(stream)
        server.connection.data_received(client.send())
        assert server.pipe.closed

    def test_a_stream_is_ended_when_its_messages_are_answered(self) -> None:
        server, client = Server(hold=True), Client()
        stream = begin(client, f"{WIREBENCH}/EchoStream", None)
        send(client, stream, pb.EchoRequest(payload=b"1"), pb.EchoRequest(payload=b"2"))
        talk(client, server)
        assert self.drained(server) == [(0, "GoAwayFrame")]
        server.release()
        server.release()
        frames = [(frame.stream_id, type(frame).__name__) for frame in parse(server.pipe.take())]
        kinds = ["HeadersFrame", "DataFrame", "DataFrame", "HeadersFrame"]
        assert frames == [(stream, kind) for kind in kinds]


class TestHttp2:
    """The rules of HTTP/2 that have nothing to do with calls hold here too."""

    def greeted(self) -> Server:
        server = Server()
        server.feed(http2_harness.HELLO)
        return server

    def test_a_block_that_does_not_decode(self) -> None:
        assert goaways(self.greeted().feed(http2_harness.raw(1, 5, 1, b"\xff\xff\xff"))) == [
            ErrorCode.COMPRESSION_ERROR
        ]

    def test_another_protocol(self) -> None:
        server = Server()
        assert goaways(server.feed(b"GET / HTTP/1.1\r\n\r\n")) == [ErrorCode.PROTOCOL_ERROR]
        assert server.pipe.ended

    def test_more_data_after_the_end(self) -> None:
        server = self.greeted()
        server._hold = True
        head = [*http2_harness.PUT[1:3], (b":method", b"POST"), (b":path", ECHO.encode())]
        head += [(b"te", b"trailers"), (b"content-type", b"application/grpc")]
        frames = server.feed(http2_harness.headers(1, head, end=False), data(1, HELLO, end=True), data(1, b"x"))
        assert resets(frames) == [(1, ErrorCode.STREAM_CLOSED)]
        server.release()
        assert server.connection._orphans == 0

    def test_a_malformed_head_is_reset(self) -> None:
        server = self.greeted()
        assert resets(server.feed(http2_harness.headers(1, [(b":method", b"POST")]))) == [(1, ErrorCode.PROTOCOL_ERROR)]

    def test_too_many_resets(self) -> None:
        server = self.greeted()
        frames: list[Any] = []
        for stream_id in range(1, 4000, 2):
            frames += server.feed(http2_harness.headers(stream_id, [(b":method", b"POST")]))
            if server.connection.closed:
                break
        assert goaways(frames) == [ErrorCode.ENHANCE_YOUR_CALM]
