"""A server for the lean HTTP/2 client, without a socket: h2's state machine, or frames by hand."""

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame as hf
from h2.settings import SettingCodes

from bench.contract import Exchange, Opcode, exchange
from bench.wire.http2_frames import encode_frame
from clients.http2 import Http2Client

HEALTH = exchange(Opcode.HEALTH)
ECHO = exchange(Opcode.ECHO, 100)


def new_client(wanted: Exchange = HEALTH, check_content: bool = True) -> Http2Client:
    client = Http2Client(wanted, "host:80", check_content)
    client.open()
    return client


def said(client: Http2Client) -> bytes:
    data = b"".join(client.outgoing)
    client.outgoing.clear()
    return data


def parse(data: bytes) -> list[Any]:
    frames = []
    while data:
        frame, length = hf.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


class Server:
    """h2's state machine, and the requests it has got."""

    def __init__(self, **settings: int) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        initial = {SettingCodes[name]: value for name, value in settings.items()}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=initial)
        self.h2.initiate_connection()
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.complete: list[int] = []
        self.events: list[Any] = []
        self.hold_windows = False

    def receive(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self.events.append(event)
            match event:
                case h2.events.RequestReceived():
                    self.heads[event.stream_id] = dict(event.headers)
                    self.bodies[event.stream_id] = b""
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] += event.data
                    if not self.hold_windows:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded():
                    self.complete.append(event.stream_id)

    def send(self) -> bytes:
        return bytes(self.h2.data_to_send())

    def head(self, stream_id: int, status: int = 200, end: bool = False, **fields: str) -> None:
        named = [(name.replace("_", "-"), value) for name, value in fields.items()]
        self.h2.send_headers(stream_id, [(":status", str(status)), *named], end_stream=end)

    def body(self, stream_id: int, body: bytes, end: bool = True, padding: int | None = None) -> None:
        for start in range(0, len(body) or 1, 16000):
            last = start + 16000 >= len(body)
            self.h2.send_data(stream_id, body[start : start + 16000], end and last, pad_length=padding)


def talk(client: Http2Client, server: Server, *requests: bytes) -> list[Any]:
    """Carry bytes both ways until nobody has anything to say; the ids that are complete."""
    done: list[Any] = []
    client_says = b"".join(requests) + said(client)
    while True:
        if client_says:
            server.receive(client_says)
        server_says = server.send()
        if server_says:
            done += client.feed(server_says)
        client_says = said(client)
        if not client_says and not server_says:
            return done


def connected(wanted: Exchange = HEALTH, check_content: bool = True, **settings: int) -> tuple[Http2Client, Server]:
    client, server = new_client(wanted, check_content), Server(**settings)
    talk(client, server)
    return client, server


def answer_frames(stream_id: int, body: bytes, block: bytes = b"\x88") -> list[bytes]:
    return [encode_frame(1, 4, stream_id, block), encode_frame(0, 1, stream_id, body)]
