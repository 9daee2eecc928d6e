"""The lean gRPC server without a socket, called by h2's state machine."""

from dataclasses import dataclass, field
from typing import Any

import h2.events
from google.protobuf.message import Message

from bench.wire.grpc_messages import MessageReader, frame_message
from servers.counters import Counters
from servers.grpc_service import GrpcConnection
from tests.servers import http2_harness
from tests.servers.http2_harness import Client, Pipe, talk
from tests.servers.make_worker import make_worker

WIREBENCH, TODOS = "/wirebench.v1.Wirebench", "/wirebench.v1.Todos"


class Server(http2_harness.Server):
    """As the one for HTTP/2, with the connection that this is about."""

    def __init__(self, hold: bool = False, high_water: int = 1 << 62) -> None:
        self.held = []
        self.ran = 0
        self._hold = hold
        self.later = []
        self.slot = Counters(1)[0]
        self.worker = make_worker(self._run, lambda s, callback: self.later.append((s, callback)), self.slot)
        self.pipe = Pipe(high_water)
        self.connection: Any = GrpcConnection(self.worker)
        self.pipe.connection = self.connection
        self.connection.connection_made(self.pipe)


@dataclass
class Outcome:
    """What a call got. `status` is None if the server has not ended it."""

    http_status: int
    status: int | None
    text: str
    messages: list[bytes]
    head: dict[bytes, bytes] = field(default_factory=dict)
    trailers: dict[bytes, bytes] = field(default_factory=dict)


def begin(client: Client, path: str, body: bytes | None, method: str = "POST", **fields: str) -> int:
    """A call whose body is whole (None: it goes on, see `send`). Fields that are given as "" are left out."""
    named = {"content_type": "application/grpc", "te": "trailers", **fields}
    named = {name: value for name, value in named.items() if value}
    if body is not None:
        return client.request(method, path, body, **named)
    stream_id: int = client.h2.get_next_available_stream_id()
    head = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
    head += [(name.replace("_", "-"), value) for name, value in named.items()]
    client.h2.send_headers(stream_id, head)
    return stream_id


def send(client: Client, stream_id: int, *messages: Message, end: bool = False) -> None:
    client.h2.send_data(stream_id, framed(*messages), end_stream=end)


def framed(*messages: Message) -> bytes:
    return b"".join(frame_message(message.SerializeToString()) for message in messages)


def outcome(client: Client, stream_id: int) -> Outcome:
    head = client.answers.get(stream_id, {})
    trailers = [
        dict(event.headers)
        for event in client.events
        if isinstance(event, h2.events.TrailersReceived) and event.stream_id == stream_id
    ]
    end = trailers[0] if trailers else head
    status = end.get(b"grpc-status")
    return Outcome(
        int(head.get(b":status", b"0")),
        None if status is None or stream_id not in client.ended else int(status),
        end.get(b"grpc-message", b"").decode(),
        MessageReader(gzip=True).feed(client.bodies.get(stream_id, b"")),
        head,
        trailers[0] if trailers else {},
    )


def call(server: Server, client: Client, path: str, body: bytes, **fields: str) -> Outcome:
    """A call from its beginning to what has come of it at once."""
    stream_id = begin(client, path, body, **fields)
    talk(client, server)
    return outcome(client, stream_id)
