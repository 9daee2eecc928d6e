"""The HTTP/1.1 codec against h11: what either makes, the other reads, however it is cut into pieces."""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.wire.http1 import (
    LAST_CHUNK,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    RequestReader,
    ResponseReader,
    encode_chunk,
    encode_request,
)

SETTINGS = settings(derandomize=True, deadline=None, max_examples=80)


@dataclass
class Request:
    """A request as it was read."""

    method: bytes
    target: bytes
    body: bytes
    keep_alive: bool
    http_1_0: bool
    expects_continue: bool


class Reader(RequestReader):
    """Keeps what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self._head = (b"", b"")
        self._body: list[bytes] = []

    def head_received(self, method: bytes, target: bytes) -> None:
        self._head = (method, target)
        self._body = []

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def request_received(self) -> None:
        body = b"".join(self._body)
        self.requests.append(Request(*self._head, body, self.keep_alive, self.http_1_0, self.expects_continue))


class Answers(ResponseReader):
    """Keeps what it reads."""

    def __init__(self, bodiless: Callable[[], bool] | None = None) -> None:
        super().__init__(bodiless)
        self.answers: list[tuple[int, bytes]] = []
        self.lives: list[bool] = []
        self._body: list[bytes] = []

    def body_received(self, data: bytes) -> None:
        self._body.append(data)

    def response_received(self, status: int) -> None:
        self.answers.append((status, b"".join(self._body)))
        self.lives.append(self.keep_alive)
        self._body = []


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    """The pieces between places, which are anywhere at all."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    for start, end in itertools.pairwise(ends):
        yield data[start:end]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=20)
BODIES = st.one_of(st.none(), st.binary(max_size=200), st.binary(min_size=40_000, max_size=40_000))
NAMES = st.sampled_from([b"accept", b"X-Long-Name", b"user-agent", b"x", b"Content-Type", b"connections", b"hosts"])
VALUES = st.binary(max_size=20).map(lambda value: bytes(33 + byte % 90 for byte in value))


@dataclass
class Made:
    """A message as h11 encodes it, and as it is to be read."""

    data: bytes
    read: Request | tuple[int, bytes]
    is_head: bool = False
    """Whether it is an answer to HEAD."""


@st.composite
def requests(draw: st.DrawFn) -> Made:
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]))
    target = "/" + draw(st.text("abc/?=&%2D", max_size=30))
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    body = draw(BODIES)
    chunked = body is not None and draw(st.booleans())
    expects = body is not None and draw(st.booleans())
    if expects:
        fields.append((b"expect", b"100-continue"))
    if body is not None:
        fields.append((b"transfer-encoding", b"chunked") if chunked else (b"content-length", b"%d" % len(body)))
    fields.insert(draw(st.integers(0, len(fields))), (b"Host", b"x"))
    sender = h11.Connection(h11.CLIENT)
    data = sender.send(h11.Request(method=method, target=target, headers=fields)) or b""
    for piece in cut(body or b"", draw(PLACES)):
        data += sender.send(h11.Data(piece)) or b""
    data += sender.send(h11.EndOfMessage()) or b""
    return Made(data, Request(method.encode(), target.encode(), body or b"", True, False, expects))


@SETTINGS
@given(st.lists(requests(), min_size=1, max_size=5), PLACES)
def test_requests_of_h11(made: list[Made], places: list[int]) -> None:
    reader = Reader()
    for piece in cut(b"".join(each.data for each in made), places):
        reader.feed(piece)
    assert reader.requests == [each.read for each in made]
    assert not reader.mid_request


@SETTINGS
@given(requests(), PLACES)
def test_a_request_is_complete_with_its_last_byte_and_not_before(made: Made, places: list[int]) -> None:
    reader = Reader()
    for piece in cut(made.data[:-1], places):
        reader.feed(piece)
        assert reader.requests == []
    assert reader.mid_request
    reader.feed(made.data[-1:])
    assert reader.requests == [made.read]


@SETTINGS
@given(
    st.sampled_from(["GET", "POST", "PUT"]),
    st.binary(max_size=500),
    st.sampled_from([b"", b"x-y: z\r\n", b"accept: */*\r\nx: y\r\n"]),
)
def test_requests_of_ours(method: str, body: bytes, fields: bytes) -> None:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(encode_request(method, "/bytes/5?chunk=2", "x:80", body, fields))
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (method.encode(), b"/bytes/5?chunk=2")
    got = b""
    while isinstance(event := reader.next_event(), h11.Data):
        got += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert got == body
    assert reader.trailing_data == (b"", False)
    assert (b"content-length" in dict(request.headers)) == (body != b"" or method != "GET")


@SETTINGS
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_chunks_of_ours(chunks: list[bytes]) -> None:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    reader.receive_data(b"".join(map(encode_chunk, chunks)) + LAST_CHUNK)
    assert isinstance(reader.next_event(), h11.Response)
    got = b""
    while isinstance(event := reader.next_event(), h11.Data):
        got += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert got == b"".join(chunks)


@pytest.mark.parametrize(
    ("version", "fields", "keep_alive"),
    [
        ("1.1", b"", True),
        ("1.1", b"connection: close\r\n", False),
        ("1.1", b"Connection: foo, Close\r\n", False),
        ("1.1", b"connection: keep-alive\r\n", True),
        ("1.0", b"", False),
        ("1.0", b"connection: keep-alive\r\n", True),
        ("1.0", b"connection: close\r\n", False),
    ],
)
def test_whether_the_connection_lives(version: str, fields: bytes, keep_alive: bool) -> None:
    request = f"GET / HTTP/{version}\r\nhost: x\r\n".encode() + fields + b"\r\n"
    reader = Reader()
    reader.feed(request)
    assert [(each.keep_alive, each.http_1_0) for each in reader.requests] == [(keep_alive, version == "1.0")]
    if keep_alive:  # what one request says means nothing for the next
        reader.feed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (reader.requests[1].keep_alive, reader.requests[1].http_1_0) == (True, False)


@st.composite
def answers(draw: st.DrawFn, methods: Sequence[str] = ("GET",)) -> Made:
    method = draw(st.sampled_from(methods))
    status = draw(st.sampled_from([200, 204, 304, 404, 500]))
    fields = draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    body = b"" if status in (204, 304) else draw(BODIES) or b""
    chunked = status not in (204, 304) and draw(st.booleans())
    if status not in (204, 304):
        fields.append((b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(body)))
    sender = h11.Connection(h11.SERVER)
    sender.receive_data(f"{method} / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n".encode())
    sender.next_event()
    sender.next_event()
    data = b""
    for _ in range(draw(st.integers(0, 2))):
        data += sender.send(h11.InformationalResponse(status_code=103, headers=[("link", "</x>")])) or b""
    data += sender.send(h11.Response(status_code=status, headers=fields, reason=b"so")) or b""
    is_head = method == "HEAD"
    body = b"" if is_head else body
    for piece in cut(body, draw(PLACES)):
        data += sender.send(h11.Data(piece)) or b""
    data += sender.send(h11.EndOfMessage()) or b""
    return Made(data, (status, body), is_head)


@SETTINGS
@given(st.lists(answers(), min_size=1, max_size=5), PLACES)
def test_answers_of_h11(made: list[Made], places: list[int]) -> None:
    reader = Answers()
    for piece in cut(b"".join(each.data for each in made), places):
        reader.parse(piece)
    assert reader.answers == [each.read for each in made]
    assert all(reader.lives)
    assert not reader.mid_answer
    assert not reader.parse_eof()


@SETTINGS
@given(st.lists(answers(("GET", "HEAD")), min_size=1, max_size=5), PLACES)
def test_answers_of_h11_to_head_among_others(made: list[Made], places: list[int]) -> None:
    reader = Answers(lambda: made[len(reader.answers)].is_head)
    for piece in cut(b"".join(each.data for each in made), places):
        reader.parse(piece)
    assert reader.answers == [each.read for each in made]
    assert all(reader.lives)
    assert not reader.mid_answer


@pytest.mark.parametrize(
    ("head", "lives"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),  # as nginx answers a HEAD whose length it does not know
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
    ],
)
def test_whether_the_connection_lives_after_a_head(head: bytes, lives: bool) -> None:
    reader = Answers(lambda: True)
    reader.parse(head + b"\r\n")
    assert (reader.answers, reader.lives, reader.mid_answer) == ([(200, b"")], [lives], False)


@SETTINGS
@given(st.binary(max_size=300), st.sampled_from(["1.1", "1.0"]), PLACES)
def test_an_answer_that_ends_with_the_connection(body: bytes, version: str, places: list[int]) -> None:
    reader = Answers()
    for piece in cut(f"HTTP/{version} 200 OK\r\nserver: x\r\n\r\n".encode() + body, places):
        reader.parse(piece)
    assert reader.answers == []
    assert reader.parse_eof()
    assert reader.answers == [(200, body)]
    assert reader.lives == [False]


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_off(part: bytes) -> None:
    reader = Answers()
    if part:
        reader.parse(part)
    assert not reader.parse_eof()
    assert reader.answers == []


@pytest.mark.parametrize(
    "data",
    [
        b"HELLO\r\n\r\n",
        b"HTTP/3.7 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 3 * MAX_HEAD_BYTES,
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_answers_that_break_the_protocol(data: bytes, whole: bool) -> None:
    reader = Answers()
    with pytest.raises(ProtocolError):  # noqa: PT012  which piece is one too many is the reader's to say
        for piece in [data] if whole else cut(data, [*range(200), *range(200, len(data), 1000)]):
            reader.parse(piece)
    assert reader.answers == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"x" * MAX_TARGET_BYTES + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 2 * MAX_HEAD_BYTES, 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * (MAX_HEAD_BYTES // 3), 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"y" * 2 * MAX_HEAD_BYTES, 431),
    ],
)
@settings(derandomize=True, deadline=None, max_examples=30)
@given(places=PLACES)
def test_no_head_is_too_large_for_the_memory(data: bytes, status: int, places: list[int]) -> None:
    reader = Reader()
    with pytest.raises(ProtocolError) as raised:  # noqa: PT012  which piece is one too many is the reader's to say
        for piece in cut(data, places):
            reader.feed(piece)
    assert raised.value.code == status


@settings(derandomize=True, deadline=None, max_examples=30)
@given(PLACES, st.integers(1, 3000))
def test_requests_that_are_piled_up_are_no_large_head(places: list[int], count: int) -> None:
    reader = Reader()
    for piece in cut(b"GET /bytes/64 HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\r\n" * count, places):
        reader.feed(piece)
    assert len(reader.requests) == count


SEEDS = [
    encode_request("POST", "/echo", "x", b"hello"),
    encode_request("GET", "/bytes/5?chunk=2", "x", b"", b"connection: upgrade\r\nupgrade: h2c\r\n"),
    b"PUT /upload HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n",
    b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
]


def mutated(source: random.Random) -> bytes:
    """A message with a few bytes changed, lost, doubled or made up; or nothing but noise."""
    data = bytearray(b"".join(source.choices(SEEDS, k=source.randint(0, 3))) or source.randbytes(100))
    for _ in range(source.randint(0, 6)):
        place = source.randrange(len(data) + 1)
        match source.randrange(4):
            case 0:
                data[place : place + 1] = source.randbytes(1)
            case 1:
                del data[place : place + source.randint(1, 10)]
            case 2:
                data[place:place] = data[place : place + source.randint(1, 30)]
            case 3:
                data[place:place] = source.choice([b"\r\n", b"\r\n\r\n", b" ", b":", b"\x00", b"HTTP/1.1", b"\xff"])
    return bytes(data)


@pytest.mark.parametrize("kind", [Reader, Answers])
def test_nothing_but_protocol_errors(kind: type[Reader] | type[Answers]) -> None:
    source = random.Random(20_261_123)
    refusals: list[ProtocolError] = []
    for _ in range(8_000):
        reader = kind()
        take = reader.feed if isinstance(reader, Reader) else reader.parse
        data = mutated(source)
        try:
            for piece in cut(data, source.choices(range(1, 500), k=source.randint(0, 5))):
                take(piece)
            if isinstance(reader, Answers):
                reader.parse_eof()
        except ProtocolError as error:
            refusals.append(error)
    assert not any("\n" in str(error) for error in refusals)
    assert {error.code for error in refusals} <= ({0} if kind is Answers else {400, 414, 417, 431, 501, 505})
    assert 2_000 < len(refusals) < 7_800, "the noise must neither be all nonsense nor all fine"


def test_an_error_behind_an_offer_to_upgrade() -> None:
    reader = Reader()
    offer = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    with pytest.raises(ProtocolError, match="host"):
        reader.feed(offer + b"GET / HTTP/1.1\r\n\r\n")
    assert len(reader.requests) == 1


def test_the_body_of_a_request_that_offers_to_upgrade_is_no_request() -> None:
    reader = Reader()
    hidden = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
    fields = b"connection: upgrade\r\nupgrade: h2c\r\n"
    reader.feed(encode_request("POST", "/echo", "x", hidden, fields) + encode_request("GET", "/", "x", b""))
    assert [(each.target, each.body) for each in reader.requests] == [(b"/echo", hidden), (b"/", b"")]
