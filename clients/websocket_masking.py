"""Frames of one message over and over, each masked with a key of its own (RFC 6455, section 5.3), many at a time."""

import os
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from bench.wire.websocket import encode_head

_BATCH_FRAMES = 1024
_BATCH_BYTES = 1 << 20
"""So many frames are masked at once, or so many bytes of them."""

_KEY_BYTES = 4


@lru_cache(maxsize=8)
def masked_frames(first: int, payload: bytes) -> Callable[[], bytes]:
    """A call that gives the next frame. All connections with the same message take theirs from the same batch; each key
    comes from the system's randomness and is used once."""
    return _frames(first, payload).__next__


def _frames(first: int, payload: bytes) -> Iterator[bytes]:
    head = encode_head(first, len(payload), masked=True)
    # The key stands right before the payload, so all from there on is the plain text with zeros before it, masked.
    plain = np.frombuffer(bytes(_KEY_BYTES) + payload, np.uint8)
    size = len(head) + len(plain)
    batch = max(1, min(_BATCH_FRAMES, _BATCH_BYTES // size))
    places = np.arange(len(plain)) % _KEY_BYTES
    frames = np.empty((batch, size), np.uint8)
    frames[:, : len(head)] = np.frombuffer(head, np.uint8)
    while True:
        keys = np.frombuffer(os.urandom(batch * _KEY_BYTES), np.uint8).reshape(batch, _KEY_BYTES)
        np.bitwise_xor(plain, keys[:, places], out=frames[:, len(head) :])
        data = frames.tobytes()
        for start in range(0, len(data), size):
            yield data[start : start + size]
