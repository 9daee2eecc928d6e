"""TLS between a transport and a protocol: both ends against each other and against Python's own objects, in memory."""

import asyncio
import gc
import random
import ssl
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.certificates import certificates
from bench.errors import ProtocolError
from bench.wire.tls import TlsTransport, python_end

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Wire(asyncio.Transport):
    """A transport whose bytes lie there until they are moved."""

    def __init__(self) -> None:
        super().__init__({"peername": "somebody"})
        self.sent: list[bytes] = []
        self.buffered = 0
        self.log: list[str] = []

    def write(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.log.append("eof")

    def close(self) -> None:
        self.log.append("close")

    def abort(self) -> None:
        self.log.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.log or "abort" in self.log

    def pause_reading(self) -> None:
        self.log.append("pause")

    def resume_reading(self) -> None:
        self.log.append("resume")

    def take(self) -> bytes:
        taken = b"".join(self.sent)
        self.sent.clear()
        return taken


class Above(asyncio.Protocol):
    def __init__(self, stays_at_eof: bool = True) -> None:
        self.transport: Any = None
        self.received: list[bytes] = []
        self.ends = 0
        self.lost: list[Exception | None] = []
        self.stays_at_eof = stays_at_eof

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received.append(data)

    def eof_received(self) -> bool:
        self.ends += 1
        return self.stays_at_eof

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class End(TlsTransport):
    """One end, with the wire below it and the protocol above."""

    def __init__(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        super().__init__(python_end(context, server_name))
        self.wire = Wire()
        self.above = Above()
        self.refusal: ProtocolError | None = None
        self.failure: Exception | None = None
        self.selected: str | None = None

    def established(self, selected: str | None) -> asyncio.Protocol:
        self.selected = selected
        if self.refusal is not None:
            raise self.refusal
        return self.above

    def failed(self, error: Exception) -> None:
        self.failure = error


def server_context(version: str = "1.3") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    context.load_cert_chain(certificates().certificate, certificates().private_key)
    return context


def client_context(version: str = "1.3") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates().authority)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    return context


def move(source: End, target: End, size: Callable[[], int] = lambda: 1 << 30) -> bool:
    data = source.wire.take()
    at = 0
    while at < len(data) and not target.is_closing():
        end = at + size()
        target.data_received(data[at:end])
        at = end
    return bool(data)


def settle(client: End, server: End, size: Callable[[], int] = lambda: 1 << 30) -> None:
    while move(client, server, size) | move(server, client, size):
        pass


def pair(version: str = "1.3") -> tuple[End, End]:
    client, server = End(client_context(version), "127.0.0.1"), End(server_context(version))
    server.connection_made(server.wire)
    client.connection_made(client.wire)
    settle(client, server)
    assert client.above.transport is client
    assert server.above.transport is server
    return client, server


@pytest.fixture(params=VERSIONS)
def ends(request: pytest.FixtureRequest) -> tuple[End, End]:
    return pair(request.param)


Ends = tuple[End, End]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.sampled_from(list(VERSIONS)),
    st.lists(st.tuples(st.booleans(), st.integers(0, 40_000)), max_size=12),
    st.integers(0, 2**32),
    st.sampled_from([1, 7, 1000, 100_000]),
)
def test_any_writes_arrive_whatever_pieces_they_come_in(
    version: str, writes: list[tuple[bool, int]], seed: int, most: int
) -> None:
    chance = random.Random(seed)
    client, server = End(client_context(version), "localhost"), End(server_context(version))
    server.connection_made(server.wire)
    client.connection_made(client.wire)
    settle(client, server, lambda: chance.randint(1, most))
    sent: dict[End, bytes] = {client: b"", server: b""}
    for from_client, size in writes:
        end = client if from_client else server
        data = chance.randbytes(size)
        sent[end] += data
        end.write(data)
        if chance.random() < 0.5:
            settle(client, server, lambda: chance.randint(max(1, most // 10), most))
    settle(client, server, lambda: chance.randint(max(1, most // 10), most))
    assert b"".join(server.above.received) == sent[client]
    assert b"".join(client.above.received) == sent[server]


def test_what_comes_together_is_delivered_together(ends: Ends) -> None:
    client, server = ends
    for number in range(5):
        client.write(b"%d" % number)
    client.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    client.write(b"")
    move(client, server)
    assert server.above.received == [b"01234abc"]


def test_more_than_a_record_holds(ends: Ends) -> None:
    client, server = ends
    client.write(bytes(3_000_000))
    move(client, server)
    assert server.above.received == [bytes(3_000_000)]


def test_data_behind_the_handshake_is_not_lost() -> None:
    """A client's first request often comes with the end of its handshake."""
    client, server = End(client_context(), "127.0.0.1"), End(server_context())
    server.connection_made(server.wire)
    client.connection_made(client.wire)
    move(client, server)
    move(server, client)
    client.write(b"at once")
    move(client, server)
    assert server.above.received == [b"at once"]


def test_one_direction_ends_and_the_other_goes_on(ends: Ends) -> None:
    client, server = ends
    server.write(b"last words")
    server.write_eof()
    server.write(b"too late")
    assert server.wire.log == ["eof"]
    assert not server.is_closing()
    move(server, client)
    assert client.above.received == [b"last words"]
    assert client.above.ends == 1
    client.write(b"still here")
    move(client, server)
    assert server.above.received == [b"still here"]
    client.close()
    move(client, server)
    assert server.above.ends == 1
    assert client.wire.log == ["close"]


def test_what_follows_close_notify_is_ignored(ends: Ends) -> None:
    client, server = ends
    client.write_eof()
    move(client, server)
    server.data_received(b"\x17\x03\x03\x00\x05hallo")
    server.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert server.above.received == []
    assert server.above.ends == 1
    assert server.eof_received()  # the other direction is still open
    server.write(b"an answer")
    move(server, client)
    assert client.above.received == [b"an answer"]


@pytest.mark.parametrize("with_data", [False, True])
def test_a_protocol_that_does_not_stay_at_the_end_is_closed(ends: Ends, with_data: bool) -> None:
    client, server = ends
    server.above.stays_at_eof = False
    if with_data:
        client.write(b"data")
    client.close()
    move(client, server)
    assert (server.above.received, server.above.ends) == ([b"data"] if with_data else [], 1)
    assert server.wire.log == ["close"]
    assert server.wire.take()  # its own close_notify


def test_an_end_without_close_notify_is_an_error(ends: Ends) -> None:
    _, server = ends
    assert not server.eof_received()
    server.connection_lost(None)
    (error,) = server.above.lost
    assert isinstance(error, ssl.SSLEOFError)
    assert server.above.ends == 0


def test_a_broken_record_closes_with_an_alert(ends: Ends) -> None:
    client, server = ends
    client.write(b"secret")
    data = bytearray(client.wire.take())
    data[-1] ^= 1
    server.data_received(bytes(data))
    assert server.above.received == []
    assert server.wire.log == ["close"]
    move(server, client)
    server.connection_lost(None)
    client.connection_lost(None)
    assert isinstance(server.above.lost[0], ssl.SSLError)
    assert "BAD_RECORD_MAC" in str(client.above.lost[0])  # what the alert says


def test_a_peer_that_does_not_read_is_cut() -> None:
    _, server = pair()
    server.wire.buffered = 1
    server.data_received(b"\x17\x03\x03\x00\x10" + bytes(16))
    assert server.wire.log == ["abort"]


def test_flow_control_and_information_pass_through(ends: Ends) -> None:
    _, server = ends
    server.pause_reading()
    server.resume_reading()
    assert server.wire.log == ["pause", "resume"]
    assert server.get_extra_info("peername") == "somebody"
    assert server.get_extra_info("sslcontext") is server.get_extra_info("ssl_object").context
    assert server.get_extra_info("cipher")
    assert server.get_extra_info("nothing", 5) == 5
    assert server.can_write_eof()


def test_another_protocol_can_take_over(ends: Ends) -> None:
    client, server = ends
    other = Above()
    server.set_protocol(other)
    assert server.get_protocol() is other
    client.write(b"for the other")
    move(client, server)
    assert (server.above.received, other.received) == ([], [b"for the other"])


def test_a_certificate_for_another_name_fails_with_an_alert() -> None:
    client, server = End(client_context(), "example.org"), End(server_context())
    server.connection_made(server.wire)
    client.connection_made(client.wire)
    settle(client, server)
    assert client.wire.log == ["close"]
    client.connection_lost(None)
    server.connection_lost(None)
    assert isinstance(client.failure, ssl.SSLCertVerificationError)
    assert client.above.transport is None
    assert client.above.lost == []
    assert "ALERT_BAD_CERTIFICATE" in str(server.failure)


def test_a_refusal_after_the_handshake() -> None:
    client, server = End(client_context(), "127.0.0.1"), End(server_context())
    client.refusal = ProtocolError("not that one")
    server.connection_made(server.wire)
    client.connection_made(client.wire)
    settle(client, server)
    client.connection_lost(None)
    assert client.failure is client.refusal
    assert client.wire.log == ["close"]


def test_a_connection_that_ends_during_the_handshake() -> None:
    client = End(client_context(), "127.0.0.1")
    client.connection_made(client.wire)
    client.connection_lost(None)
    assert isinstance(client.failure, ConnectionResetError)


def test_a_connection_that_is_gone_needs_no_collector() -> None:
    _, server = pair()
    server.connection_lost(None)
    del server.above  # its way back is this test's doing
    gone = weakref.ref(server)
    gc.disable()
    try:
        del server
        assert gone() is None
    finally:
        gc.enable()


def test_a_name_that_cannot_be_one() -> None:
    with pytest.raises(ValueError, match="label"):
        End(client_context(), ".example.org")
