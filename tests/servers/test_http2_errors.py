"""What the lean HTTP/2 server does about clients that break RFC 9113 (sections in the tests' names) or abuse it."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import hyperframe.frame as hf
import pytest
from http2_harness import GET, HELLO, PUT, Client, Server, data, goaways, greeted, headers, raw, resets

from bench.contract import pattern
from bench.wire.http2 import MAX_CONTINUATIONS
from bench.wire.http2_frames import PREFACE, ErrorCode, encode_settings
from servers.http2 import Http2Connection
from servers.http2_serving import MAX_STREAMS
from servers.strain import BURST


def in_vain(spoil: Callable[[int], hf.Frame]) -> Iterator[hf.Frame]:
    """More requests that come to nothing than anybody needs."""
    for stream_id in range(1, 2 * BURST + 400, 2):
        yield headers(stream_id, PUT, end=False)
        yield spoil(stream_id)


FRAME_ERRORS: dict[str, tuple[list[Any], int]] = {
    "3.4 no settings first": ([PREFACE, headers(1)], ErrorCode.PROTOCOL_ERROR),
    "3.4 an acknowledgement first": ([PREFACE, raw(4, 1, 0)], ErrorCode.PROTOCOL_ERROR),
    "3.4 http/1.1": ([b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"], ErrorCode.PROTOCOL_ERROR),
    "3.4 a preface that goes wrong": ([PREFACE[:-1], b"!"], ErrorCode.PROTOCOL_ERROR),
    "4.2 a frame too long": ([HELLO, raw(0xF0, 0, 0, bytes(16385))], ErrorCode.FRAME_SIZE_ERROR),
    "4.3 a block that cannot be decoded": ([HELLO, raw(1, 5, 1, b"\xff\xff")], ErrorCode.COMPRESSION_ERROR),
    "5.1 data on an idle stream": ([HELLO, data(1, b"")], ErrorCode.PROTOCOL_ERROR),
    "5.1 reset of an idle stream": ([HELLO, hf.RstStreamFrame(1)], ErrorCode.PROTOCOL_ERROR),
    "5.1 window of an idle stream": ([HELLO, hf.WindowUpdateFrame(1, 1)], ErrorCode.PROTOCOL_ERROR),
    "5.1 data after the end": ([HELLO, headers(1), data(1, b"")], ErrorCode.STREAM_CLOSED),
    "5.1 headers after the end": ([HELLO, headers(1), headers(1)], ErrorCode.STREAM_CLOSED),
    "5.1 data after a reset": (
        [HELLO, headers(1, PUT, end=False), hf.RstStreamFrame(1), data(1, b"")],
        ErrorCode.STREAM_CLOSED,
    ),
    "5.1.1 an even stream": ([HELLO, headers(2)], ErrorCode.PROTOCOL_ERROR),
    "5.1.1 a stream that was skipped": ([HELLO, headers(5), headers(3)], ErrorCode.PROTOCOL_ERROR),
    "6.1 data on stream 0": ([HELLO, raw(0, 0, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.1 too much padding": ([HELLO, headers(1, PUT, False), raw(0, 8, 1, b"\x05abc")], ErrorCode.PROTOCOL_ERROR),
    "6.1 no padding length": ([HELLO, headers(1, PUT, False), raw(0, 8, 1)], ErrorCode.FRAME_SIZE_ERROR),
    "6.2 headers on stream 0": ([HELLO, raw(1, 5, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.2 another frame in a block": ([HELLO, raw(1, 1, 1), raw(6, 0, 0, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.2 an unknown frame in a block": ([HELLO, raw(1, 1, 1), raw(0xF0, 0, 0)], ErrorCode.PROTOCOL_ERROR),
    "6.2 too short for its priority": ([HELLO, raw(1, 0x25, 1, b"abcd")], ErrorCode.FRAME_SIZE_ERROR),
    "6.3 priority on stream 0": ([HELLO, raw(2, 0, 0, bytes(5))], ErrorCode.PROTOCOL_ERROR),
    "6.3 priority of 4 bytes": ([HELLO, raw(2, 0, 1, bytes(4))], ErrorCode.FRAME_SIZE_ERROR),
    "6.4 reset on stream 0": ([HELLO, raw(3, 0, 0, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.4 reset of 3 bytes": ([HELLO, headers(1, PUT, False), raw(3, 0, 1, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5 settings on a stream": ([HELLO, raw(4, 0, 1)], ErrorCode.PROTOCOL_ERROR),
    "6.5 settings of 5 bytes": ([HELLO, raw(4, 0, 0, bytes(5))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5 an acknowledgement with content": ([HELLO, raw(4, 1, 0, bytes(6))], ErrorCode.FRAME_SIZE_ERROR),
    "6.5.2 push 2": ([HELLO, raw(4, 0, 0, b"\0\2\0\0\0\2")], ErrorCode.PROTOCOL_ERROR),
    "6.5.2 window 2^31": ([HELLO, raw(4, 0, 0, b"\0\4\x80\0\0\0")], ErrorCode.FLOW_CONTROL_ERROR),
    "6.5.2 frames of 16383": ([HELLO, raw(4, 0, 0, b"\0\5\0\0\x3f\xff")], ErrorCode.PROTOCOL_ERROR),
    "6.5.2 frames of 2^24": ([HELLO, raw(4, 0, 0, b"\0\5\1\0\0\0")], ErrorCode.PROTOCOL_ERROR),
    "6.6 push promise": ([HELLO, raw(5, 4, 1, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.7 ping on a stream": ([HELLO, raw(6, 0, 1, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.7 ping of 7 bytes": ([HELLO, raw(6, 0, 0, bytes(7))], ErrorCode.FRAME_SIZE_ERROR),
    "6.8 goaway on a stream": ([HELLO, raw(7, 0, 1, bytes(8))], ErrorCode.PROTOCOL_ERROR),
    "6.8 goaway of 7 bytes": ([HELLO, raw(7, 0, 0, bytes(7))], ErrorCode.FRAME_SIZE_ERROR),
    "6.9 window of 3 bytes": ([HELLO, raw(8, 0, 0, bytes(3))], ErrorCode.FRAME_SIZE_ERROR),
    "6.9 window by 0": ([HELLO, raw(8, 0, 0, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.9.1 window over 2^31-1": ([HELLO, raw(8, 0, 0, b"\x7f\xff\xff\xff")], ErrorCode.FLOW_CONTROL_ERROR),
    "6.9.2 streams' windows over 2^31-1": (
        [HELLO, headers(1, PUT, False), hf.WindowUpdateFrame(1, 2**31 - 65536), raw(4, 0, 0, b"\0\4\0\1\0\0")],
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "6.10 continuation of nothing": ([HELLO, raw(9, 4, 1)], ErrorCode.PROTOCOL_ERROR),
    "6.10 continuation of another stream": ([HELLO, raw(1, 1, 1), raw(9, 4, 3)], ErrorCode.PROTOCOL_ERROR),
    "6.10 continuation after the end": ([HELLO, headers(1, PUT, False), raw(9, 4, 1)], ErrorCode.PROTOCOL_ERROR),
    "10.5.1 continuations without end": (
        [HELLO, raw(1, 1, 1), *[raw(9, 0, 1)] * (MAX_CONTINUATIONS + 1)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5.1 a block without end": (
        [HELLO, raw(1, 1, 1, bytes(16000)), *[raw(9, 0, 1, bytes(16000))] * 5],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5.1 a bomb": (
        [HELLO, raw(1, 5, 1, b"\x40\x01a\x7f\x81\x1e" + b"b" * 3968 + b"\xbe" * 4000)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5 resets": ([HELLO, *in_vain(lambda i: hf.RstStreamFrame(i, 8))], ErrorCode.ENHANCE_YOUR_CALM),
    "10.5 requests to be reset": (
        [HELLO, *in_vain(lambda i: hf.WindowUpdateFrame(i, 2**31 - 1))],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5 pings": ([HELLO, *[hf.PingFrame(0)] * (BURST + 200)], ErrorCode.ENHANCE_YOUR_CALM),
    "10.5 settings": ([HELLO, *[encode_settings({})] * (BURST + 200)], ErrorCode.ENHANCE_YOUR_CALM),
    "10.5 settings in one frame": (
        [HELLO, raw(4, 0, 0, b"\0\4\0\0\0\1\0\4\0\0\0\2" * 600)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
    "10.5 empty data": (
        [HELLO, headers(1, PUT, False), *[data(1, b"")] * (BURST + 200)],
        ErrorCode.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("frames", "code"), FRAME_ERRORS.values(), ids=FRAME_ERRORS)
def test_connection_errors(frames: list[Any], code: int) -> None:
    server = Server()
    back = server.feed(*frames)
    assert isinstance(back[-1], hf.GoAwayFrame)
    assert goaways(back) == [code]
    assert server.pipe.ended
    assert not server.pipe.aborted
    # What still comes is not looked at, and after a while the connection is cut.
    assert server.feed(headers(1001)) == []
    ((_, cut),) = server.later
    cut()
    assert server.pipe.aborted


STREAM_ERRORS: dict[str, tuple[list[Any], int]] = {
    "5.1 data when it was to end": ([headers(1), data(1, b"")], ErrorCode.STREAM_CLOSED),
    "5.1 headers when it was to end": ([headers(1), headers(1)], ErrorCode.STREAM_CLOSED),
    "6.9 window by 0": ([headers(1, PUT, False), raw(8, 0, 1, bytes(4))], ErrorCode.PROTOCOL_ERROR),
    "6.9.1 window over 2^31-1": ([headers(1, PUT, False), raw(8, 0, 1, b"\xff" * 4)], ErrorCode.FLOW_CONTROL_ERROR),
    "8.1 trailers that do not end it": ([headers(1, PUT, False), headers(1, [(b"a", b"b")], False)], 1),
    "8.1 trailers like a head": ([headers(1, PUT, False), headers(1)], ErrorCode.PROTOCOL_ERROR),
    "8.1.1 less than content-length": (
        [headers(1, [*PUT, (b"content-length", b"5")], False), data(1, b"1234", end=True)],
        ErrorCode.PROTOCOL_ERROR,
    ),
    "8.1.1 more than content-length": (
        [headers(1, [*PUT, (b"content-length", b"5")], False), data(1, b"123456", end=True)],
        ErrorCode.PROTOCOL_ERROR,
    ),
    "8.1.1 nothing after content-length": (
        [headers(1, [*PUT, (b"content-length", b"5")])],
        ErrorCode.PROTOCOL_ERROR,
    ),
}
MALFORMED = {
    "no method": GET[1:],
    "no scheme": GET[:1] + GET[2:],
    "no path": GET[:3],
    "an empty path": [*GET[:3], (b":path", b"")],
    "two paths": [*GET, GET[3]],
    "a status": [*GET, (b":status", b"200")],
    "an unknown pseudo-header": [*GET, (b":version", b"2")],
    "a pseudo-header too late": [(b"a", b"b"), *GET],
    "trailers first": [(b"a", b"b")],
    "capitals": [*GET, (b"Accept", b"*")],
    "connection": [*GET, (b"connection", b"close")],
    "a host that is another": [*GET, (b"host", b"y")],
}
STREAM_ERRORS |= {f"8.3.1 {name}": ([headers(1, fields)], 1) for name, fields in MALFORMED.items()}


@pytest.mark.parametrize(("frames", "code"), STREAM_ERRORS.values(), ids=STREAM_ERRORS)
def test_stream_errors(frames: list[Any], code: int) -> None:
    server = greeted(hold=True)
    assert resets(server.feed(*frames)) == [(1, code)]
    # What was on its way is ignored, and the connection lives on.
    assert server.feed(data(1, b"late"), headers(1, [(b"a", b"b")]), hf.WindowUpdateFrame(1, 1)) == []
    server.feed(headers(3))
    while server.held:
        server.release()
    assert [frame.stream_id for frame in server.frames()] == [3, 3]


def test_more_data_than_a_stream_may_send() -> None:
    server = greeted()
    server.feed(headers(1, PUT, False))
    stream = server.connection.streams[1]
    stream.receive_window = 1000  # the server widens windows in time: only so is one ever exhausted
    assert resets(server.feed(data(1, bytes(1000)))) == []
    stream.receive_window = 1000
    assert resets(server.feed(data(1, bytes(1001)))) == [(1, ErrorCode.FLOW_CONTROL_ERROR)]


def test_more_data_than_the_connection_may_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Http2Connection, "connection_window_bytes", 1000)
    assert goaways(greeted().feed(headers(1, PUT, False), data(1, bytes(1001)))) == [ErrorCode.FLOW_CONTROL_ERROR]


def test_too_many_streams_are_refused_and_orphans_count() -> None:
    server = greeted(hold=True)
    ids = range(1, 2 * MAX_STREAMS + 1, 2)
    server.feed(*map(headers, ids))
    assert resets(server.feed(headers(601))) == [(601, ErrorCode.REFUSED_STREAM)]
    # Resetting a stream does not stop its request, so it makes no room before that is over.
    assert resets(server.feed(hf.RstStreamFrame(1, 8), headers(603))) == [(603, ErrorCode.REFUSED_STREAM)]
    server.release()
    assert server.feed(headers(605)) == []
    while server.held:
        server.release()
    assert {frame.stream_id for frame in server.frames()} == {*ids[1:], 605}


def test_a_client_may_reset_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("servers.strain.time.monotonic", lambda: now[0])
    server = greeted()
    for stream_id in range(1, 6 * BURST, 2):
        assert goaways(server.feed(headers(stream_id, PUT, False), hf.RstStreamFrame(stream_id, 8))) == []
        now[0] += 0.02
    assert len(server.feed(headers(6 * BURST + 1))) == 2


def test_random_bytes() -> None:
    rng = random.Random(9113)
    session = Client()
    for request in [("GET", "/bytes/9", None), ("PUT", "/echo", pattern(40_000)), ("GET", "/nothing", None)]:
        session.request(*request)
    good = session.send()
    outcomes = set()
    for number in range(2000):
        wild = bytearray(good)
        if number % 3 == 0:
            wild = bytearray(HELLO + rng.randbytes(200))
        elif number % 3 == 1:
            for _ in range(rng.randrange(1, 4)):
                wild[rng.randrange(len(PREFACE), min(len(wild), 400))] = rng.randrange(256)
        else:  # frames with heads that make sense
            wild = bytearray(HELLO)
            for _ in range(30):
                payload = rng.randbytes(rng.choice([0, 4, 5, 6, 8, 20]))
                wild += raw(rng.randrange(11), rng.choice([0, 1, 4, 5, 0x2D]), rng.choice([0, 1, 3]), payload)
        server = Server()
        start = 0
        while start < len(wild):
            end = start + rng.randrange(1, 500)
            server.connection.data_received(bytes(wild[start:end]))
            start = end
        frames = server.frames()  # whatever came in, what goes out can be read
        errors = goaways(frames)
        assert server.pipe.ended == bool(errors)
        outcomes.update(errors)
    assert {ErrorCode.PROTOCOL_ERROR, ErrorCode.FRAME_SIZE_ERROR, ErrorCode.COMPRESSION_ERROR} <= outcomes
    assert ErrorCode.INTERNAL_ERROR not in outcomes
