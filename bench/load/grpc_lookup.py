"""Methods of gRPC servers of somebody else's: what a name and JSON mean as path and message.

The server tells it itself (server reflection), or a .proto file does. grpcio and protobuf do the work, and are imported
with the first call: they are no part of any load.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.contract import Security
from bench.errors import TargetError, UsageError

TIMEOUT_S = 5.0

_REFLECTIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


@dataclass(frozen=True)
class GrpcCall:
    """A call, ready to be sent."""

    path: str
    request: bytes
    """The message, serialized and without its length."""


@dataclass(frozen=True)
class GrpcMethod:
    """A method that takes one message and answers with one or with a stream, as protobuf describes it in a pool of
    descriptions."""

    descriptor: Any
    pool: Any

    @property
    def path(self) -> str:
        return f"/{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    def call(self, json_text: str) -> GrpcCall:
        """A call of it with a request in JSON. Raises UsageError."""
        from google.protobuf import json_format, message_factory
        from google.protobuf.message import EncodeError

        kind = self.descriptor.input_type
        message = message_factory.GetMessageClass(kind)()
        try:
            json_format.Parse(json_text, message, descriptor_pool=self.pool)
            return GrpcCall(self.path, message.SerializeToString())
        except (json_format.ParseError, EncodeError) as error:  # EncodeError: what proto2 requires is missing
            reason = " ".join(str(error).split())
            raise UsageError(f"--message: no {kind.full_name}: {reason}") from None


def look_up_by_reflection(
    host: str, port: int, method: str, json_text: str, security: Security | None = None
) -> GrpcCall:
    """What `method`, like "package.Service/Method", and a request in JSON mean to the server at that address.

    Raises TargetError for a server that cannot be reached or does not tell, UsageError for what it does not have and
    for methods that take a stream.
    """
    split_method(method)  # what is no method need not be asked for
    with reflection(host, port, security) as server:
        return server.method(method).call(json_text)


@contextlib.contextmanager
def reflection(host: str, port: int, security: Security | None = None) -> Iterator["Reflection"]:
    """What the server at that address tells of itself, over one channel. Raises TargetError, UsageError."""
    import grpc

    with _channel(host, port, security) as channel:
        try:
            yield Reflection(channel)
        except grpc.RpcError as error:
            raise _no_answer(error, host, port) from None


def look_up_in_file(path: Path, method: str, json_text: str) -> GrpcCall:
    """The same, by a .proto file. Files that it imports are looked for beside it.

    Raises UsageError.
    """
    return method_in_file(path, method).call(json_text)


def method_in_file(path: Path, method: str) -> GrpcMethod:
    """What a .proto file says of `method`. Raises UsageError, also for a method that takes a stream."""
    service, name = split_method(method)
    files = _compile(path)
    if service not in _services(files):
        raise UsageError(f"{path} has no service {service}; it has {_names(_services(files))}")
    return _find(files, service, name)


def split_method(method: str) -> tuple[str, str]:
    """The service's full name, and the method's. Raises UsageError."""
    service, slash, name = method.strip("/").rpartition("/")
    if not (service and slash and name) or "/" in service:
        raise UsageError(f"--method: {method!r} is no method; write it like package.Service/Method")
    return service, name


def _services(files: Iterable[Any]) -> list[str]:
    return [f"{file.package}.{service.name}".lstrip(".") for file in files for service in file.service]


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _find(files: Sequence[Any], service_name: str, name: str) -> GrpcMethod:
    from google.protobuf.descriptor_pool import DescriptorPool

    pool = DescriptorPool()
    try:
        for file in files:
            pool.Add(file)
        service = pool.FindServiceByName(service_name)
    except (KeyError, TypeError) as error:
        raise TargetError(f"the description of {service_name} cannot be used: {error}") from None
    if name not in service.methods_by_name:
        raise UsageError(f"{service_name} has no method {name}; it has {_names(service.methods_by_name.keys())}")
    method = service.methods_by_name[name]
    if method.client_streaming:
        raise UsageError(
            f"--method: {service_name}/{name} takes a stream of messages; carried are methods that take one message, "
            "and answer with one or with a stream that ends"
        )
    return GrpcMethod(method, pool)


# Reflection


def _channel(host: str, port: int, security: Security | None) -> Any:
    import grpc

    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if security is None:
        return grpc.insecure_channel(target)
    if security.insecure:
        raise UsageError(
            "grpcio takes no certificate unseen, so --insecure and reflection do not go together; name the service's "
            ".proto file instead"
        )
    roots = Path(security.authorities).read_bytes() if security.authorities else None
    options = [("grpc.ssl_target_name_override", security.server_name)] if security.server_name else []
    return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options)


def _no_answer(error: Any, host: str, port: int) -> TargetError:
    import grpc

    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return TargetError(
            f"{host} port {port} does not tell what services it has (no server reflection); name their .proto file"
        )
    reason = " ".join(str(error.details()).split())
    return TargetError(f"{host} port {port} did not tell what services it has: {error.code().name}: {reason}")


class Reflection:
    """What a server tells of itself (see `reflection`). Calls raise grpc.RpcError."""

    def __init__(self, channel: Any) -> None:
        from grpc_reflection.v1alpha import reflection_pb2

        self._pb = reflection_pb2  # the messages of both versions have the same form
        self._channel = channel
        self._ask: Callable[..., Any] = self._find_version()

    def method(self, method: str) -> GrpcMethod:
        """What the server says of `method`, like "package.Service/Method". Raises TargetError; UsageError for what it
        does not have and for methods that take a stream."""
        service, name = split_method(method)
        files = self._files_with(service)
        if service not in _services(files):
            raise UsageError(f"the server has no service {service}; it has {_names(self._service_names())}")
        return _find(files, service, name)

    def _service_names(self) -> list[str]:
        """The full names of all services."""
        return [service.name for service in self._ask(list_services="").list_services_response.service]

    def _files_with(self, symbol: str) -> list[Any]:
        """The file that has a symbol and what it imports, each behind what it needs; none if there is no such file."""
        answer = self._ask(file_containing_symbol=symbol)
        found: dict[str, Any] = {}
        self._add(found, answer)
        ordered: dict[str, Any] = {}
        for name in list(found):
            self._order(name, found, ordered)
        return list(ordered.values())

    def _find_version(self) -> Callable[..., Any]:
        import grpc

        for package in _REFLECTIONS:
            call = self._channel.stream_stream(
                f"/{package}.ServerReflection/ServerReflectionInfo",
                request_serializer=self._pb.ServerReflectionRequest.SerializeToString,
                response_deserializer=self._pb.ServerReflectionResponse.FromString,
            )

            def ask(_call: Any = call, **wanted: str) -> Any:
                request = self._pb.ServerReflectionRequest(**wanted)
                answer = next(_call(iter([request]), timeout=TIMEOUT_S), None)
                if answer is None:
                    raise TargetError("the server ends its reflection without an answer")
                return answer

            try:
                ask(list_services="")
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED or package == _REFLECTIONS[-1]:
                    raise
            else:
                return ask
        raise AssertionError

    def _add(self, found: dict[str, Any], answer: Any) -> None:
        from google.protobuf.descriptor_pb2 import FileDescriptorProto

        for serialized in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(serialized)
            found[file.name] = file

    def _order(self, name: str, found: dict[str, Any], ordered: dict[str, Any]) -> None:
        """Put a file behind what it imports; a server may send these with it, or wait to be asked."""
        if name in ordered:
            return
        if name not in found:
            self._add(found, self._ask(file_by_filename=name))
        if name not in found:
            raise TargetError(f"the server does not tell what is in {name}, which its services need")
        for imported in found[name].dependency:
            self._order(imported, found, ordered)
        ordered[name] = found[name]


# Files


def _compile(path: Path) -> list[Any]:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    if not path.is_file():
        raise UsageError(f"--proto: there is no file {path}")
    compiler = find_spec("grpc_tools")
    if compiler is None or compiler.origin is None:
        raise UsageError("--proto: reading .proto files needs grpcio-tools (pip install grpcio-tools)")
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "described"
        result = _run_protoc(path, described, Path(compiler.origin).parent / "_proto")
        if result:
            raise UsageError(f"--proto: {path} cannot be read: {result}")
        return list(FileDescriptorSet.FromString(described.read_bytes()).file)


def _run_protoc(path: Path, described: Path, well_known: Path) -> str:
    """Have protoc describe a file and all that it imports. Gives what it says against it."""
    import subprocess
    import sys

    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{path.parent}", f"-I{well_known}", "--include_imports"),
        *(f"--descriptor_set_out={described}", path.name),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return ""
    # A line for each thing that is wrong, the first of which has led to the others, and warnings about the log.
    wrong = (line for line in result.stderr.splitlines() if f"{path.name}:" in line)
    return next(wrong, f"protoc ended with status {result.returncode}")
