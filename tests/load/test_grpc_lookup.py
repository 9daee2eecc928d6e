"""What a method's name and JSON mean to a server of somebody else's."""

import contextlib
import socket
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection as grpc_reflection

from bench.errors import TargetError, UsageError
from bench.load import grpc_lookup
from bench.load.grpc_lookup import GrpcCall, look_up_by_reflection, look_up_in_file, reflection
from bench.serverprocess import ServerProcess
from bench.wire import wirebench_pb2 as pb

PROTO = Path(pb.__file__ or "").parent / "wirebench.proto"
WIREBENCH = "wirebench.v1.Wirebench"


@pytest.fixture(scope="module")
def lean() -> Iterator[ServerProcess]:
    with ServerProcess("grpc", "single", 1) as server:
        yield server


@contextlib.contextmanager
def told_by_grpcio(service: str, pool: Any) -> Iterator[int]:
    """The port of a server that tells of a service."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    grpc_reflection.enable_server_reflection([service, grpc_reflection.SERVICE_NAME], server, pool)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(0).wait()


@pytest.fixture(scope="module")
def grpcio() -> Iterator[int]:
    with told_by_grpcio(WIREBENCH, descriptor_pool.Default()) as port:
        yield port


class TestReflection:
    @pytest.mark.parametrize(
        ("method", "json_text", "expected"),
        [
            ("Echo", '{"payload": "YWJj"}', pb.EchoRequest(payload=b"abc")),
            ("Subscribe", '{"topic": "t", "after": "5"}', pb.SubscribeRequest(topic="t", after=5)),
        ],
    )
    def test_calls(self, lean: ServerProcess, grpcio: int, method: str, json_text: str, expected: Any) -> None:
        call = GrpcCall(f"/{WIREBENCH}/{method}", expected.SerializeToString())
        assert look_up_by_reflection(lean.host, lean.port, f"{WIREBENCH}/{method}", json_text) == call
        assert look_up_by_reflection("127.0.0.1", grpcio, f"/{WIREBENCH}/{method}", json_text) == call

    def test_one_channel_tells_of_many_methods(self, grpcio: int) -> None:
        with reflection("127.0.0.1", grpcio) as server:
            found = [server.method(f"{WIREBENCH}/{name}").path for name in ("Echo", "Bytes")]
        assert found == [f"/{WIREBENCH}/Echo", f"/{WIREBENCH}/Bytes"]

    @pytest.mark.parametrize("method", ["Upload", "EchoStream"])
    def test_methods_that_take_a_stream_are_refused(self, grpcio: int, method: str) -> None:
        words = rf"{WIREBENCH}/{method} takes a stream of messages; carried are methods that take one"
        with pytest.raises(UsageError, match=words):
            look_up_by_reflection("127.0.0.1", grpcio, f"{WIREBENCH}/{method}", "{}")
        with pytest.raises(UsageError, match=words):
            look_up_in_file(PROTO, f"{WIREBENCH}/{method}", "{}")

    def test_the_description_may_need_other_files(self) -> None:
        pool = descriptor_pool.DescriptorPool()
        other, one = FileDescriptorProto(name="other.proto"), FileDescriptorProto(name="one.proto")
        other.message_type.add(name="Other").field.add(name="host", number=1, type=9, label=1)  # an optional string
        one.dependency.append("other.proto")
        one.service.add(name="One").method.add(name="Call", input_type="Other", output_type="Other")
        pool.Add(other)
        pool.Add(one)
        with told_by_grpcio("One", pool) as port:
            assert look_up_by_reflection("127.0.0.1", port, "One/Call", '{"host": "x"}').request == b"\x0a\x01x"

    def test_what_there_is_not(self, lean: ServerProcess) -> None:
        def look_up(method: str, json_text: str = "{}") -> None:
            look_up_by_reflection(lean.host, lean.port, method, json_text)

        with pytest.raises(
            UsageError, match=r"the server has no service a\.B; it has .*wirebench\.v1\.Todos, wirebench"
        ):
            look_up("a.B/C")
        with pytest.raises(UsageError, match=r"no service wirebench\.v1\.Todo; it has"):  # that is a message
            look_up("wirebench.v1.Todo/C")
        with pytest.raises(UsageError, match=r"Todos has no method C; it has CreateTodo, ReadTodos, ReadTodosStream$"):
            look_up("wirebench.v1.Todos/C")
        with pytest.raises(UsageError, match=r"--message: no wirebench\.v1\.EchoRequest: .*no field named \"nope\""):
            look_up(f"{WIREBENCH}/Echo", '{"nope": 1}')
        with pytest.raises(UsageError, match=r"--message: no wirebench\.v1\.EchoRequest: Failed to load JSON"):
            look_up(f"{WIREBENCH}/Echo", "{")
        for method in ("Echo", "/Echo", "a/b/c", ""):
            with pytest.raises(UsageError, match=r"write it like package\.Service/Method"):
                look_up(method)

    def test_a_server_that_does_not_tell(self) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(1))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with pytest.raises(TargetError, match=r"no server reflection.*\.proto file$"):
            look_up_by_reflection("127.0.0.1", port, f"{WIREBENCH}/Echo", "{}")
        server.stop(0).wait()
        with pytest.raises(TargetError, match=f"127.0.0.1 port {port} did not tell .*UNAVAILABLE"):
            look_up_by_reflection("127.0.0.1", port, f"{WIREBENCH}/Echo", "{}")

    def test_a_server_that_says_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grpc_lookup, "TIMEOUT_S", 0.3)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            with pytest.raises(TargetError, match=f"127.0.0.1 port {port} did not tell .*DEADLINE_EXCEEDED"):
                look_up_by_reflection("127.0.0.1", port, f"{WIREBENCH}/Echo", "{}")


class TestFiles:
    def test_the_same_by_a_file(self) -> None:
        call = look_up_in_file(PROTO, f"{WIREBENCH}/BytesStream", '{"n": 5, "chunk": 2}')
        message = pb.BytesRequest(n=5, chunk=2).SerializeToString()
        assert call == GrpcCall(f"/{WIREBENCH}/BytesStream", message)

    def test_one_that_imports_others(self, tmp_path: Path) -> None:
        (tmp_path / "other.proto").write_text('syntax = "proto3"; message Other { int32 a = 1; }')
        (tmp_path / "one.proto").write_text(
            'syntax = "proto3"; import "other.proto"; import "google/protobuf/duration.proto";'
            "message Both { Other other = 1; google.protobuf.Duration wait = 2; }"
            "service One { rpc Call(Both) returns (Other); }"
        )
        call = look_up_in_file(tmp_path / "one.proto", "One/Call", '{"other": {"a": 1}, "wait": "2s"}')
        assert call == GrpcCall("/One/Call", b"\x0a\x02\x08\x01\x12\x02\x08\x02")

    def test_what_proto2_requires(self, tmp_path: Path) -> None:
        (tmp_path / "old.proto").write_text(
            'syntax = "proto2"; message A { required int32 n = 1; } service S { rpc C(A) returns (A); }'
        )
        assert look_up_in_file(tmp_path / "old.proto", "S/C", '{"n": 1}').request == b"\x08\x01"
        with pytest.raises(UsageError, match=r"--message: no A: Message A is missing required fields: n"):
            look_up_in_file(tmp_path / "old.proto", "S/C", "{}")

    def test_what_cannot_be_used(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="there is no file"):
            look_up_in_file(tmp_path / "none.proto", "A/B", "{}")
        broken = tmp_path / "broken.proto"
        broken.write_text('syntax = "proto3";\nmessage {')
        with pytest.raises(UsageError, match=r"cannot be read: .*broken\.proto:2:9: Expected message name") as raised:
            look_up_in_file(broken, "A/B", "{}")
        assert "\n" not in str(raised.value)
        with pytest.raises(
            UsageError, match=r"has no service A; it has wirebench\.v1\.Todos, wirebench\.v1\.Wirebench"
        ):
            look_up_in_file(PROTO, "A/B", "{}")
