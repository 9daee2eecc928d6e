"""The lean HTTP/2 server without a socket, and what talks to it: frames of hyperframe, and h2's state machine."""

import asyncio
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame as hf
from hpack import Encoder

from bench.wire.http2_frames import PREFACE, encode_frame, encode_settings
from servers.counters import Counters
from servers.http2 import Http2Connection
from servers.service import Route
from tests.servers.make_worker import make_worker

HELLO = PREFACE + encode_settings({})


class Pipe(asyncio.Transport):
    """What the server writes, until it is taken. Above `high_water` bytes it asks the server to pause."""

    def __init__(self, high_water: int = 1 << 62) -> None:
        super().__init__()
        self.written = bytearray()
        self.connection: Any = None
        self.high_water = high_water
        self.reading = True
        self.ended = self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.ended
        assert not self.closed
        self.written += data
        if len(self.written) > self.high_water:
            self.connection.pause_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        if len(data) > self.high_water:
            self.connection.resume_writing()
        return data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Server:
    """A connection of the server without a socket. Requests run at once, or with `hold` when `release` is called."""

    def __init__(self, hold: bool = False, high_water: int = 1 << 62) -> None:
        self.held: list[tuple[Any, Route, bytes]] = []
        self.ran = 0
        self._hold = hold
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.slot = Counters(1)[0]
        self.worker = make_worker(self._run, lambda s, callback: self.later.append((s, callback)), self.slot)
        self.pipe = Pipe(high_water)
        self.connection = self.pipe.connection = Http2Connection(self.worker)
        self.connection.connection_made(self.pipe)

    def _run(self, _connection: Any, token: Any, route: Route, body: bytes) -> None:
        self.ran += 1
        if self._hold:
            self.held.append((token, route, body))
        else:
            self.connection.answer(token, route, route.execute(body))

    def release(self) -> None:
        token, route, body = self.held.pop(0)
        self.connection.answer(token, route, route.execute(body))

    def feed(self, *frames: bytes | hf.Frame) -> list[Any]:
        """The frames that come back."""
        self.connection.data_received(b"".join(f if isinstance(f, bytes) else f.serialize() for f in frames))
        return self.frames()

    def frames(self) -> list[Any]:
        return parse(self.pipe.take())


def parse(data: bytes) -> list[Any]:
    frames = []
    while data:
        frame, length = hf.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


def greeted(hold: bool = False) -> Server:
    server = Server(hold)
    opening = server.feed(HELLO)
    assert [type(frame) for frame in opening] == [hf.SettingsFrame, hf.WindowUpdateFrame, hf.SettingsFrame]
    return server


GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/health")]
PUT = [(b":method", b"PUT"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/echo")]


def headers(stream_id: int, fields: list[tuple[bytes, bytes]] = GET, end: bool = True) -> hf.HeadersFrame:
    flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
    # A new encoder each time, with a field kept out of the table: the blocks go with any state of the decoder.
    block = Encoder().encode([(name, value, True) for name, value in fields])
    return hf.HeadersFrame(stream_id, block, flags=flags)


def data(stream_id: int, payload: bytes, end: bool = False) -> hf.DataFrame:
    return hf.DataFrame(stream_id, payload, flags=["END_STREAM"] if end else [])


def raw(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return encode_frame(kind, flags, stream_id, payload)


def resets(frames: list[Any]) -> list[tuple[int, int]]:
    return [(frame.stream_id, frame.error_code) for frame in frames if isinstance(frame, hf.RstStreamFrame)]


def goaways(frames: list[Any]) -> list[int]:
    return [frame.error_code for frame in frames if isinstance(frame, hf.GoAwayFrame)]


class Client:
    """h2's state machine, and the answers it has got."""

    def __init__(self, **settings: int) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.h2 = h2.connection.H2Connection(config)
        initial = {h2.settings.SettingCodes[name]: value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=initial)
        self.h2.initiate_connection()
        self.answers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.interim: list[int] = []
        self.ended: set[int] = set()
        self.unsent: dict[int, bytes] = {}
        self.events: list[Any] = []

    def request(self, method: str, path: str, body: bytes | None = None, **fields: str) -> int:
        stream_id: int = self.h2.get_next_available_stream_id()
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        head = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path), *named]
        self.h2.send_headers(stream_id, head, end_stream=body is None)
        if body is not None:
            self.unsent[stream_id] = body
        return stream_id

    def send(self) -> bytes:
        """What there is to send now; bodies as far as the windows go."""
        for stream_id in list(self.unsent):
            while (body := self.unsent.get(stream_id)) is not None:
                n = min(len(body), self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
                if n == 0 and body:
                    break
                self.h2.send_data(stream_id, body[:n], end_stream=n == len(body))
                if n == len(body):
                    del self.unsent[stream_id]
                else:
                    self.unsent[stream_id] = body[n:]
        return bytes(self.h2.data_to_send())

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            match event:
                case h2.events.InformationalResponseReceived():
                    self.interim.append(event.stream_id)
                case h2.events.ResponseReceived():
                    self.answers[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] += event.data
                    if event.flow_controlled_length:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)

    def status(self, stream_id: int) -> int:
        return int(self.answers[stream_id][b":status"])


def talk(client: Client, server: Server, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> None:
    """Carry bytes both ways until nobody has anything to say."""
    while True:
        said = client.send()
        for piece in cut(said):
            server.connection.data_received(piece)
        answer = server.pipe.take()
        for piece in cut(answer):
            client.receive(piece)
        if not said and not answer:
            return
