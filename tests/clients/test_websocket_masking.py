"""Masked frames, read by a library."""

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from clients.websocket_masking import masked_frames


@pytest.mark.parametrize("size", [0, 1, 3, 64, 125, 126, 65_535, 65_536, 3_000_000])
def test_each_frame_has_a_key_of_its_own_and_the_same_message(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    next_frame = masked_frames(0x82, payload)
    keys = set()
    count = 2_500 if size < 126 else 3
    for _ in range(count):
        data = next_frame()
        reader = StreamReader()
        reader.feed_data(data)
        frame = _read(reader)
        assert (frame.opcode, frame.data, frame.fin) == (Opcode.BINARY, payload, True)
        keys.add(data[len(data) - size - 4 : len(data) - size])
    assert len(keys) > count * 0.99  # 32 bits: two may be alike


def _read(reader: StreamReader) -> Frame:
    parsing = Frame.parse(reader.read_exact, mask=True)
    with pytest.raises(StopIteration) as ended:
        next(parsing)
    frame: Frame = ended.value.value
    return frame
