"""What both of grpcio's clients, the one with threads and the one on asyncio, make of an exchange."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from bench.contract import Exchange, Security
from bench.errors import ErrorKind, UnsupportedError
from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import MessageReader
from clients.grpc_messages import call_exchange

MAX_IN_FLIGHT = 100
"""Below what servers allow on a connection; what is past a server's own limit waits in grpcio."""

_OPTIONS: Final = (
    ("grpc.use_local_subchannel_pool", 1),  # a connection for each channel
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),
)


class Call:
    """An exchange as a call of grpcio: which method, of which kind, with which messages."""

    def __init__(self, exchange: Exchange, check_content: bool) -> None:
        called = call_exchange(exchange)
        service, _, method = called.path.removeprefix("/").rpartition("/")
        self._path = called.path
        self._requests: Sequence[Any] = MessageReader(gzip=False).feed(called.body)
        self._replies: Sequence[Any] = MessageReader(gzip=False).feed(called.answer)
        self._check_content = check_content
        self._serialise: Callable[[Any], bytes] | None = None
        self._parse: Callable[[bytes], Any] | None = None
        self.client_streams = self.server_streams = False
        if called.path != exchange.path:  # else it is somebody else's, whose messages are bytes to us
            declared = pb.DESCRIPTOR.services_by_name[service.rpartition(".")[2]].methods_by_name[method]
            request, reply = (getattr(pb, kind.name) for kind in (declared.input_type, declared.output_type))
            self._requests = [request.FromString(message) for message in self._requests]
            self._replies = [reply.FromString(message) for message in self._replies]
            self._serialise, self._parse = request.SerializeToString, reply.FromString
            self.client_streams, self.server_streams = declared.client_streaming, declared.server_streaming

    def on(self, channel: Any) -> Any:
        """What is to be called on a channel."""
        kind = f"{'stream' if self.client_streams else 'unary'}_{'stream' if self.server_streams else 'unary'}"
        return getattr(channel, kind)(self._path, request_serializer=self._serialise, response_deserializer=self._parse)

    def argument(self) -> Message | bytes | Iterator[Any]:
        """What it is to be called with."""
        if self.client_streams:
            return iter(self._requests)
        argument: Message | bytes = self._requests[0]
        return argument

    def judge(self, replies: Sequence[Any]) -> ErrorKind | None:
        """How a call with these replies has failed, if it has."""
        return "content" if self._check_content and replies != self._replies else None


def failure_of(code: grpc.StatusCode) -> ErrorKind:
    """How a call has failed that ended with that status, unless its connection is gone, which is raised as
    ConnectionResetError."""
    if code is grpc.StatusCode.UNAVAILABLE:
        raise ConnectionResetError("the server cannot be reached any more")
    return "reset" if code is grpc.StatusCode.CANCELLED else "status"


def channel_arguments(host: str, port: int, authority: str, security: Security | None) -> dict[str, Any]:
    """The arguments of `insecure_channel` or `secure_channel`, of either of grpcio's two. Raises OSError if the
    authorities cannot be read."""
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if security is None:
        return {"target": target, "options": (*_OPTIONS, ("grpc.default_authority", authority))}
    if security.insecure:
        raise UnsupportedError("grpcio always checks certificates; leave --insecure out, or choose the client lean")
    roots = Path(security.authorities).read_bytes() if security.authorities else None
    return {
        "target": target,
        "credentials": grpc.ssl_channel_credentials(roots),
        "options": (
            *_OPTIONS,
            ("grpc.ssl_target_name_override", security.server_name),
            ("grpc.default_authority", authority),
        ),
    }
