"""The lean gRPC server, fed with what is nearly right: it says what is wrong, and goes on serving others."""

import gzip
from random import Random
from typing import Any

import hyperframe.frame as hf
import pytest

from bench.wire import wirebench_pb2 as pb
from bench.wire.grpc_messages import frame_message
from tests.servers.grpc_harness import TODOS, WIREBENCH, Server, begin, call, framed, send
from tests.servers.http2_harness import Client, parse

ECHO = framed(pb.EchoRequest(payload=b"hello"))


def session() -> bytes:
    """What a client says that calls everything there is."""
    client = Client()
    begin(client, f"{WIREBENCH}/Echo", ECHO)
    begin(client, f"{WIREBENCH}/Echo", ECHO, grpc_timeout="5S")
    stream = begin(client, f"{WIREBENCH}/EchoStream", None)
    send(client, stream, *[pb.EchoRequest(payload=b"%d" % n) for n in range(4)])
    begin(client, f"{WIREBENCH}/Upload", framed(pb.UploadRequest(chunk=bytes(500)), pb.UploadRequest(chunk=b"a")))
    begin(client, f"{WIREBENCH}/BytesStream", framed(pb.BytesRequest(n=1000, chunk=300)))
    begin(client, f"{WIREBENCH}/Subscribe", framed(pb.SubscribeRequest(topic="t", after=0)))
    begin(client, f"{WIREBENCH}/Publish", framed(pb.PublishRequest(topic="t", data=b"event")))
    begin(client, f"{TODOS}/CreateTodo", framed(pb.CreateTodoRequest(text="todo")))
    packed = frame_message(gzip.compress(b"\x0a\x05hello"), compressed=True)
    begin(client, f"{WIREBENCH}/Echo", packed, grpc_encoding="gzip", grpc_accept_encoding="gzip")
    begin(client, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", frame_message(b"\x3a\x00"))
    send(client, stream, end=True)
    return client.send()


SESSION = session()


def mutated(random: Random) -> bytes:
    """The session with a few bytes changed, left out, or put in; the preface mostly left alone."""
    data = bytearray(SESSION)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(0 if random.random() < 0.02 else 24, len(data))
        match random.randrange(4):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.randrange(256)
            case 2:
                del data[at : at + random.randint(1, 20)]
            case 3:
                data[at:at] = random.randbytes(random.randint(1, 20))
    return bytes(data)


def mixed(random: Random) -> bytes:
    """The session's frames, some of them twice, left out, or with other flags, streams and payloads."""
    frames = [bytearray(frame.serialize()) for frame in parse(SESSION[24:])]
    for _ in range(random.randint(1, 5)):
        at = random.randrange(len(frames))
        match random.randrange(5):
            case 0:
                frames.insert(random.randrange(len(frames)), frames[at])
            case 1 if len(frames) > 1:
                del frames[at]
            case 2:
                frames[at][4] ^= 1 << random.randrange(6)
            case 3:
                frames[at][8] = random.randrange(40)
            case _:
                payload = random.randbytes(random.choice((0, 4, 5, 8, 30)))
                frames[at][:4] = len(payload).to_bytes(3, "big") + bytes([random.randrange(11)])
                frames[at][9:] = payload
    return SESSION[:24] + b"".join(frames)


def survives(make: Any, seed: int) -> str:
    """Feed a server with what `make` makes; how it took that."""
    random = Random(seed)
    server, data = Server(hold=random.random() < 0.3, high_water=random.choice((300, 1 << 62))), make(random)
    said = bytearray()
    at = 0
    while at < len(data):
        step = random.choice((1, 9, 50, 1000))
        server.connection.data_received(data[at : at + step])
        at += step
        said += server.pipe.take()
        while server.held and random.random() < 0.5:
            server.release()
            said += server.pipe.take()
    while server.held:
        server.release()
    for _, callback in list(server.later):
        callback()
    said += server.pipe.take()
    frames = parse(bytes(said))
    refused = [frame for frame in frames if isinstance(frame, hf.GoAwayFrame)]
    assert len(refused) <= 1
    assert server.connection.closed == bool(refused)
    assert server.pipe.ended == bool(refused)
    server.connection.connection_lost(None)
    assert server.worker.service.topics.topic("t").subscribers == 0
    return "refused" if refused else "served"


@pytest.mark.parametrize("make", [mutated, mixed])
def test_nothing_gets_out_but_an_error_of_the_protocol(make: Any) -> None:
    outcomes = [survives(make, seed) for seed in range(400)]
    assert outcomes.count("refused") > 20  # else it is not much of a test
    assert outcomes.count("served") > 20
    assert call(Server(), Client(), f"{WIREBENCH}/Echo", ECHO).status == 0


@pytest.mark.long
@pytest.mark.parametrize("make", [mutated, mixed])
def test_for_longer(make: Any) -> None:
    for seed in range(400, 30_000):
        survives(make, seed)


def test_the_session_itself_is_in_order() -> None:
    assert survives(lambda _random: SESSION, 0) == "served"
