"""Streams of server-sent events against section 9.2 of the HTML standard."""

import random
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.wire.sse import (
    MAX_EVENT_BYTES,
    PLAIN_EVENT,
    EventReader,
    ServerEvent,
    encode_comment,
    encode_event,
    encode_retry,
)


def by_the_book(stream: bytes) -> tuple[list[ServerEvent], str, int | None]:
    """Section 9.2.6, word by word, for a whole stream: its events, the last event id, and the reconnection time."""
    text = stream.decode("utf-8", errors="replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", text)[:-1]  # what has no line end is no line
    data = event_type = last_id_buffer = last_event_id = ""
    retry: int | None = None
    events = []
    for line in lines:
        if line == "":
            last_event_id = last_id_buffer
            if data == "":
                event_type = ""
                continue
            events.append(ServerEvent(data.removesuffix("\n"), last_event_id, event_type or "message"))
            data = event_type = ""
        elif line[0] == ":":
            pass
        else:
            field, colon, value = line.partition(":")
            if colon and value.startswith(" "):
                value = value[1:]
            if field == "event":
                event_type = value
            elif field == "data":
                data += value + "\n"
            elif field == "id":
                if "\0" not in value:
                    last_id_buffer = value
            elif field == "retry" and re.fullmatch("[0-9]+", value):
                retry = int(value)
    return events, last_event_id, retry


def read(*pieces: bytes) -> tuple[list[ServerEvent], str, int | None]:
    reader = EventReader()
    events = [event for piece in pieces for event in reader.feed(piece)]
    return events, reader.last_event_id, reader.retry_ms


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


FRAGMENTS = st.sampled_from(
    [
        *(
            b"\r",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"\r\r",
            b"\r\n\r\n",
            b":",
            b" ",
            b"\0",
            b"\xef\xbb\xbf",
            b"\xff",
            b"\xe2\x82",
        ),
        *(
            b"data",
            b"data:",
            b"data: ",
            b"id",
            b"id:7",
            b"id: 8",
            b"event: e",
            b"event",
            b"retry: 50",
            b"retry:x",
            b"x",
        ),
        *(
            b"id: 1\ndata: one\n\n",
            b"data: one\r\n\r\n",
            b": comment\n",
            b"datax: 5\n",
            "data: ä€\U0001f642\n".encode(),
        ),
    ]
)
STREAMS = st.lists(st.one_of(FRAGMENTS, st.binary(max_size=4)), max_size=30).map(b"".join)


@given(STREAMS, st.lists(st.integers(0, 1000), max_size=8))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_any_stream_in_any_pieces_is_read_by_the_book(stream: bytes, places: list[int]) -> None:
    assert read(*cut(stream, places)) == by_the_book(stream)
    assert read(*(stream[at : at + 1] for at in range(len(stream)))) == by_the_book(stream)


@given(st.text(), st.integers(0, 10**12), st.lists(st.integers(0, 1000), max_size=5))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_what_is_encoded_is_read(data: str, event_id: int, places: list[int]) -> None:
    stream = encode_retry(5) + encode_comment(b"x") + encode_event(b"%d" % event_id, data.encode()) + encode_comment()
    received = re.sub("\r\n|\r", "\n", data)
    assert read(*cut(stream, places)) == ([ServerEvent(received, str(event_id))], str(event_id), 5)


# The standard's own examples (section 9.2.6).
@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("YHOO\n+2\n10", "", "message")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n",
            [("first event", "1", "message"), ("second event", "", "message")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("", "", "message"), ("\n", "", "message")]),
        (b"data:test\n\ndata: test\n\n", [("test", "", "message")] * 2),
        (b"event: add\ndata: 73857293\n\n", [("73857293", "", "add")]),
    ],
)
def test_the_examples_of_the_standard(stream: bytes, events: list[tuple[str, str, str]]) -> None:
    for end in (b"\n", b"\r", b"\r\n"):
        assert read(stream.replace(b"\n", end))[0] == events


def test_an_id_without_data_is_kept_but_only_when_it_is_dispatched() -> None:
    assert read(b"id: 5\n\n")[:2] == ([], "5")
    assert read(b"id: 5\n")[:2] == ([], "")
    assert read(b"id: 5\n\nid: 6\0\ndata: x\n\n")[:2] == ([ServerEvent("x", "5")], "5")


def test_a_cr_ends_an_event_at_once_and_takes_a_late_lf_with_it() -> None:
    reader = EventReader()
    found, at_rest = [], []
    for piece in (b"data: x\r\n\r", b"", b"\n", b"\n"):
        found.append(reader.feed(piece))
        at_rest.append(reader.at_rest)
    assert found == [[ServerEvent("x", "")], [], [], []]
    assert at_rest == [False, False, True, True]


@pytest.mark.parametrize("retry", [b"1" * 5000, b"+1", b"1.5", "٣".encode(), b"", b" 1"])
def test_a_retry_that_is_no_time_is_ignored(retry: bytes) -> None:
    assert read(b"retry: 7\nretry: " + retry + b"\n\n")[2] == 7


def test_a_reader_is_at_rest_between_events() -> None:
    reader = EventReader()
    states = []
    for piece in (b"\n", b"id: 1\n", b"data: x\n", b"\n", b"event: x\n", b"\n", b"da", b"ta: x\r\n\r\n"):
        reader.feed(piece)
        states.append(reader.at_rest)
    assert states == [True, True, False, True, False, True, False, True]


def test_the_plain_form_means_what_the_reader_finds_in_it() -> None:
    event = encode_event(b"12", b"hello: world ")
    match = PLAIN_EVENT.fullmatch(event)
    assert match is not None
    assert read(event) == ([ServerEvent(match[2].decode(), match[1].decode())], "12", None)
    for other in (b"two\nlines", "ä".encode(), b"\0", b"\t"):
        assert PLAIN_EVENT.fullmatch(encode_event(b"12", other)) is None
    reader = EventReader()
    reader.passed(b"13")
    assert reader.feed(b"data: y\n\n") == [ServerEvent("y", "13")]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 65536, b"data:\n" * 4096, b": " + b"x" * 65536])
def test_what_has_no_end_is_given_up(piece: bytes) -> None:
    reader = EventReader()
    with pytest.raises(ProtocolError, match=str(MAX_EVENT_BYTES)):  # noqa: PT012  not the first of them
        for _ in range(2 * MAX_EVENT_BYTES // 4096):
            reader.feed(piece)


def test_the_longest_event_is_read() -> None:
    data = b"x" * (MAX_EVENT_BYTES - 100)
    assert read(b"data: %b\n\n" % data)[0] == [ServerEvent(data.decode(), "")]


def test_random_bytes() -> None:
    rng = random.Random(92)
    stream = b"\xef\xbb\xbfid: 1\r\ndata: one\r\ndata: two\r\n\r\n: c\nevent: e\nid: 2\ndata: x\n\nretry: 9\n\n" * 3
    for _ in range(3000):
        wild = bytearray(stream)
        for _ in range(rng.randrange(1, 6)):
            wild[rng.randrange(len(wild))] = rng.choice(b"\r\n:\0 datid\xff\xc3")
        wild_stream = bytes(wild)
        assert read(*cut(wild_stream, [rng.randrange(200) for _ in range(4)])) == by_the_book(wild_stream)
