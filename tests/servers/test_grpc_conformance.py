"""The lean gRPC server, called by grpcio: its C core, its threads and its asyncio side."""

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from bench import registry
from bench.contract import pattern, upload_receipt
from bench.serverprocess import ServerProcess
from bench.wire import wirebench_pb2 as pb
from tests.servers.execution_helpers import DEADLINE_S, Serve, until

MODELS = [model for model in registry.EXECUTIONS if registry.unsupported("grpc", model) is None]
Status = grpc.StatusCode


class Methods:
    """The methods of both services on a channel, by name."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        for service in pb.DESCRIPTOR.services_by_name.values():
            if name in service.methods_by_name:
                method = service.methods_by_name[name]
                kinds = ("unary", "stream")
                kind = f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}"
                return getattr(self._channel, kind)(
                    f"/{service.full_name}/{name}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=getattr(pb, method.output_type.name).FromString,
                )
        raise AttributeError(name)


def channel_to(server: ServerProcess, **options: Any) -> Any:
    return grpc.insecure_channel(
        f"{server.host}:{server.port}",
        options=[("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1), *options.items()],
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("grpc", "single", 1) as server:
        yield server


@pytest.fixture
def methods(server: ServerProcess) -> Iterator[Methods]:
    with channel_to(server) as channel:
        yield Methods(channel)


def fails(status: grpc.StatusCode, match: str | None, call: Any) -> Any:
    with pytest.raises(grpc.RpcError, match=match) as raised:
        call()
    assert raised.value.code() is status  # type: ignore[attr-defined]  # of the calls that grpcio raises
    return raised.value


class TestThreads:
    def test_unary(self, methods: Methods) -> None:
        assert methods.Health(pb.HealthRequest(), timeout=DEADLINE_S).status == "ok"
        assert methods.Echo(pb.EchoRequest(payload=b"abc"), timeout=DEADLINE_S).payload == b"abc"
        assert methods.Bytes(pb.BytesRequest(n=1000), timeout=DEADLINE_S).payload == pattern(1000)
        assert methods.Work(pb.WorkRequest(cpu_us=100, wait_ms=1), timeout=DEADLINE_S).status == "done"
        assert methods.ReadTodos(pb.ReadTodosRequest(limit=2), timeout=DEADLINE_S).todos[1].text == "todo number 2"
        todo = methods.CreateTodo(pb.CreateTodoRequest(text="Grüße"), timeout=DEADLINE_S)
        assert (todo.text, todo.done) == ("Grüße", False)

    @pytest.mark.parametrize("size", [0, 1, 20_000, 8_000_000])
    def test_messages_of_every_size(self, methods: Methods, size: int) -> None:
        reply = methods.Echo(pb.EchoRequest(payload=pattern(size)), timeout=DEADLINE_S)
        assert reply.payload == pattern(size)

    def test_many_at_once(self, methods: Methods) -> None:
        futures = [methods.Echo.future(pb.EchoRequest(payload=b"%d" % n), timeout=DEADLINE_S) for n in range(600)]
        assert [future.result().payload for future in futures] == [b"%d" % n for n in range(600)]

    def test_server_streaming(self, methods: Methods) -> None:
        replies = list(methods.BytesStream(pb.BytesRequest(n=5_000_000, chunk=300_000), timeout=DEADLINE_S))
        assert b"".join(reply.payload for reply in replies) == pattern(5_000_000)
        assert len(replies) == 17
        todos = methods.ReadTodosStream(pb.ReadTodosRequest(limit=1000), timeout=DEADLINE_S)
        assert [todo.id for todo in todos] == list(range(1, 1001))

    def test_client_streaming(self, methods: Methods) -> None:
        chunks = (pb.UploadRequest(chunk=pattern(500_000)) for _ in range(20))
        reply = methods.Upload(chunks, timeout=DEADLINE_S)
        assert reply.length == 10_000_000
        assert reply.sha256 == hashlib.sha256(pattern(500_000) * 20).digest()

    def test_bidirectional_streaming(self, methods: Methods) -> None:
        answered = threading.Semaphore(1)

        def requests() -> Iterator[pb.EchoRequest]:
            for n in range(50):
                assert answered.acquire(timeout=DEADLINE_S)  # the next only after the last one's answer
                yield pb.EchoRequest(payload=b"%d" % n)

        payloads = []
        for reply in methods.EchoStream(requests(), timeout=DEADLINE_S):
            payloads.append(reply.payload)
            answered.release()
        assert payloads == [b"%d" % n for n in range(50)]

    def test_a_stream_of_large_messages(self, methods: Methods) -> None:
        requests = [pb.EchoRequest(payload=pattern(700_000 + n)) for n in range(20)]
        replies = list(methods.EchoStream(iter(requests), timeout=DEADLINE_S))
        assert [len(reply.payload) for reply in replies] == [700_000 + n for n in range(20)]

    def test_deadlines(self, methods: Methods) -> None:
        fails(Status.DEADLINE_EXCEEDED, None, lambda: methods.Work(pb.WorkRequest(wait_ms=60_000), timeout=0.05))
        assert methods.Health(pb.HealthRequest(), timeout=DEADLINE_S).status == "ok"

    def test_errors(self, methods: Methods) -> None:
        request = pb.BytesRequest(n=1 << 30)
        fails(Status.INVALID_ARGUMENT, "bytes: n and chunk", lambda: methods.Bytes(request, timeout=DEADLINE_S))
        fails(Status.INVALID_ARGUMENT, "bytes: n", lambda: list(methods.BytesStream(request, timeout=DEADLINE_S)))

    def test_operations_that_are_named(self, methods: Methods) -> None:
        def ask(method: str, path: str, body: bytes = b"") -> Any:
            return methods.Named(pb.NamedRequest(method=method, path=path, body=body), timeout=DEADLINE_S).body

        job = json.loads(ask("POST", "/jobs?ms=20&steps=2"))
        assert json.loads(ask("GET", f"/jobs/{job['id']}?wait_ms=10000"))["state"] == "done"
        events = methods.Subscribe(pb.SubscribeRequest(topic=f"job-{job['id']}", after=0), timeout=DEADLINE_S)
        assert [json.loads(next(events).data)["step"] for _ in range(2)] == [1, 2]
        events.cancel()
        assert ask("PUT", "/upload", b"abc") == upload_receipt(3, hashlib.sha256(b"abc").digest())
        for method, path, status in (
            ("GET", "/nothing", Status.NOT_FOUND),
            ("GET", "/jobs/999999", Status.NOT_FOUND),
            ("DELETE", "/jobs/1", Status.UNIMPLEMENTED),
            ("POST", "/comments", Status.INVALID_ARGUMENT),
            ("GET", "/topics/t?after=0", Status.UNIMPLEMENTED),
        ):
            fails(status, None, lambda method=method, path=path: ask(method, path))

    def test_unknown_methods_and_messages(self, server: ServerProcess) -> None:
        with channel_to(server) as channel:
            fails(Status.UNIMPLEMENTED, "unknown method", lambda: channel.unary_unary("/wirebench.v1.Todos/Nope")(b""))
            fails(Status.UNIMPLEMENTED, "unknown service", lambda: channel.unary_unary("/Nope/Nope")(b""))
            fails(
                Status.INVALID_ARGUMENT,
                "the message is no wirebench.v1.EchoRequest",
                lambda: channel.unary_unary("/wirebench.v1.Wirebench/Echo")(b"\xff"),
            )

    @pytest.mark.parametrize("size", [100, 3_000_000])
    def test_gzip(self, methods: Methods, size: int) -> None:
        request = pb.EchoRequest(payload=b"a" * size)
        reply = methods.Echo(request, timeout=DEADLINE_S, compression=grpc.Compression.Gzip)
        assert reply.payload == request.payload
        chunks = iter([pb.EchoRequest(payload=b"a" * size)] * 3)
        replies = methods.EchoStream(chunks, timeout=DEADLINE_S, compression=grpc.Compression.Gzip)
        assert [len(reply.payload) for reply in replies] == [size] * 3

    def test_an_encoding_that_is_not_known(self, methods: Methods) -> None:
        request = pb.EchoRequest(payload=b"a" * 1000)
        fails(
            Status.UNIMPLEMENTED,
            "deflate",
            lambda: methods.Echo(request, timeout=DEADLINE_S, compression=grpc.Compression.Deflate),
        )

    def test_metadata(self, methods: Methods) -> None:
        metadata = (("x-name", "value"), ("x-data-bin", b"\x00\xff"), ("x-name", "other"))
        reply, call = methods.Echo.with_call(pb.EchoRequest(payload=b"a"), metadata=metadata, timeout=DEADLINE_S)
        assert reply.payload == b"a"
        assert call.code() is Status.OK
        # What the server says of itself is for the library; nothing is left over for the application.
        assert [key for key, _ in call.initial_metadata()] == []
        assert call.trailing_metadata() == ()

    def test_cancelling_ends_a_subscription(self, methods: Methods) -> None:
        events = methods.Subscribe(pb.SubscribeRequest(topic="cancel"))
        assert events.initial_metadata() is not None  # waits for the head: subscribed
        first = methods.Publish(pb.PublishRequest(topic="cancel", data=b"1"), timeout=DEADLINE_S)
        event = next(events)
        assert (event.id, event.data) == (first.id, b"1")
        events.cancel()
        fails(Status.CANCELLED, None, lambda: next(events))
        later = methods.Subscribe(pb.SubscribeRequest(topic="cancel", after=0))
        methods.Publish(pb.PublishRequest(topic="cancel", data=b"2"), timeout=DEADLINE_S)
        assert [next(later).data for _ in range(2)] == [b"1", b"2"]
        later.cancel()

    def test_reflection(self, server: ServerProcess) -> None:
        with channel_to(server) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = database.get_services()
            assert {"wirebench.v1.Wirebench", "wirebench.v1.Todos"} < set(services)
            pool = DescriptorPool(database)
            for service in services:
                assert pool.FindServiceByName(service).methods
            echo = pool.FindServiceByName("wirebench.v1.Wirebench").methods_by_name["EchoStream"]
            assert (echo.client_streaming, echo.server_streaming) == (True, True)
            assert pool.FindMessageTypeByName("wirebench.v1.SubscribeRequest").fields_by_name["after"].has_presence
            with pytest.raises(KeyError):
                pool.FindServiceByName("wirebench.v1.Nope")


class TestAsyncio:
    def test_all_four_kinds(self, server: ServerProcess) -> None:
        async def talk() -> None:
            async with grpc.aio.insecure_channel(f"{server.host}:{server.port}") as channel:
                methods = Methods(channel)
                replies = await asyncio.gather(
                    *(methods.Echo(pb.EchoRequest(payload=b"%d" % n), timeout=DEADLINE_S) for n in range(300))
                )
                assert [reply.payload for reply in replies] == [b"%d" % n for n in range(300)]
                stream = methods.EchoStream(timeout=DEADLINE_S)
                for n in range(20):
                    await stream.write(pb.EchoRequest(payload=b"%d" % n))
                    assert (await stream.read()).payload == b"%d" % n
                await stream.done_writing()
                assert await stream.read() is grpc.aio.EOF
                assert await stream.code() is Status.OK
                upload = methods.Upload(timeout=DEADLINE_S)
                for _ in range(3):
                    await upload.write(pb.UploadRequest(chunk=b"abc"))
                await upload.done_writing()
                assert (await upload).length == 9
                todos = [todo.id async for todo in methods.ReadTodosStream(pb.ReadTodosRequest(limit=5))]
                assert todos == [1, 2, 3, 4, 5]
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await methods.Work(pb.WorkRequest(wait_ms=60_000), timeout=0.05)
                assert raised.value.code() is Status.DEADLINE_EXCEEDED
                events = methods.Subscribe(pb.SubscribeRequest(topic="asyncio"))
                await events.wait_for_connection()
                events.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await events.read()

        asyncio.run(talk())


@pytest.mark.parametrize("execution", MODELS)
def test_execution_models(serve: Serve, execution: str) -> None:
    server = serve("grpc", execution, workers=2)
    with channel_to(server) as channel:
        methods = Methods(channel)
        assert methods.Echo(pb.EchoRequest(payload=b"abc"), timeout=DEADLINE_S).payload == b"abc"
        requests = [pb.EchoRequest(payload=b"%d" % n) for n in range(200)]
        replies = [reply.payload for reply in methods.EchoStream(iter(requests), timeout=DEADLINE_S)]
        assert replies == [request.payload for request in requests]
        fails(Status.DEADLINE_EXCEEDED, None, lambda: methods.Work(pb.WorkRequest(wait_ms=300), timeout=0.05))
        events = methods.Subscribe(pb.SubscribeRequest(topic="t"), timeout=DEADLINE_S)
        assert events.initial_metadata() is not None
        methods.Publish(pb.PublishRequest(topic="t", data=b"event"), timeout=DEADLINE_S)
        assert next(events).data == b"event"
        events.cancel()
    until(lambda: sum(counts.requests for counts in server.stats()[0]) == 204, "all are counted")


def test_a_stopping_server_ends_what_has_no_end(serve: Serve) -> None:
    server = serve("grpc", grace_s=DEADLINE_S)
    with channel_to(server) as channel:
        events = Methods(channel).Subscribe(pb.SubscribeRequest(topic="t"), timeout=DEADLINE_S)
        assert events.initial_metadata() is not None
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        fails(Status.UNAVAILABLE, "the server is stopping", lambda: next(events))
        stopping.join(DEADLINE_S)
        assert not stopping.is_alive()
