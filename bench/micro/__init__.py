"""Benchmarks of codecs and formats alone, for changes too small for a load test to show.

Each entry of BENCHMARKS makes what it needs and gives a function without arguments, which is timed by pyperf in
processes of its own (`python -m bench.micro`, see `wirebench micro`).
"""

from collections.abc import Callable
from functools import partial

Work = Callable[[], object]

_PAYLOAD = bytes(range(64))
_KEY = b"\x12\x34\x56\x78"
_REQUEST_FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/echo"),
    (b":authority", b"127.0.0.1:8080"),
    (b"user-agent", b"wirebench"),
    (b"accept", b"*/*"),
)


def _http1_request() -> Work:
    from bench.wire.http1 import RequestReader, encode_request

    return partial(RequestReader().feed, encode_request("POST", "/echo", "127.0.0.1:8080", _PAYLOAD))


def _http1_response() -> Work:
    from bench.wire.http1 import ResponseReader

    return partial(ResponseReader().parse, b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n" + _PAYLOAD)


def _hpack_encode() -> Work:
    from bench.wire.header_blocks import HeaderWriter

    writer = HeaderWriter()
    writer.encode(_REQUEST_FIELDS)  # what may be in the dynamic table is there from now on
    return partial(writer.encode, _REQUEST_FIELDS)


def _hpack_decode() -> Work:
    from hpack import Decoder, Encoder

    block = Encoder().encode(_REQUEST_FIELDS)
    return lambda: Decoder().decode(block, raw=True)


def _hpack_decode_cached() -> Work:
    from bench.wire.header_blocks import HeaderReader, HeaderWriter

    writer, reader = HeaderWriter(), HeaderReader(tuple)
    reader.read(writer.encode(_REQUEST_FIELDS))
    return partial(reader.read, writer.encode(_REQUEST_FIELDS))


def _http2_frames() -> Work:
    from bench.wire.http2_frames import FrameShape

    shape = FrameShape(0, 1, _PAYLOAD)
    row = shape.encode([number.to_bytes(4) for number in range(1, 33, 2)])
    return partial(shape.match, row, 0, b"\xff")


def _websocket_mask(size_bytes: int) -> Work:
    from bench.wire.websocket import mask

    return partial(mask, bytes(range(256)) * (size_bytes // 256) or _PAYLOAD, _KEY)


def _websocket_read() -> Work:
    from bench.wire.websocket import MessageReader, encode_frame

    class Reader(MessageReader):
        peer_masks = True

    return partial(Reader().parse, encode_frame(0x82, _PAYLOAD, _KEY))


def _tcp_frame() -> Work:
    from bench.wire.frames import FrameReader, encode_frame

    return partial(FrameReader().parse, encode_frame(1, b"\0\0\0\1", _PAYLOAD))


def _quic_encrypt() -> Work:
    from aioquic.quic.crypto import CryptoPair

    pair = CryptoPair()
    pair.setup_initial(b"\1" * 8, is_client=True, version=1)
    return partial(pair.encrypt_packet, b"\xc0" + bytes(17), bytes(1162), 1)


def _grpc_message() -> Work:
    from bench.wire.grpc_messages import MessageReader, frame_message

    return partial(MessageReader(gzip=False).feed, frame_message(_PAYLOAD))


def _format(name: str, way: int) -> Work:
    """`way` 0 encodes, 1 decodes."""
    from bench.contract import seeded_todo
    from bench.probes.formats import FORMATS

    encode, decode = FORMATS[name]
    todos = [seeded_todo(number) for number in range(1, 101)]
    return partial(decode, encode(todos)) if way else partial(encode, todos)


BENCHMARKS: dict[str, Callable[[], Work]] = {
    "http1-request-parse": _http1_request,
    "http1-response-parse": _http1_response,
    "hpack-encode": _hpack_encode,
    "hpack-decode": _hpack_decode,
    "hpack-decode-cached": _hpack_decode_cached,
    "http2-frames-match": _http2_frames,
    "websocket-mask-64B": partial(_websocket_mask, 64),
    "websocket-mask-16KiB": partial(_websocket_mask, 16384),
    "websocket-message-parse": _websocket_read,
    "tcp-frame-parse": _tcp_frame,
    "quic-packet-encrypt": _quic_encrypt,
    "grpc-message-parse": _grpc_message,
    "json-encode": partial(_format, "json", 0),
    "json-decode": partial(_format, "json", 1),
    "protobuf-encode": partial(_format, "protobuf", 0),
    "protobuf-decode": partial(_format, "protobuf", 1),
}
"""What can be timed, by name."""
