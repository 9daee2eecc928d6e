"""Early data: both ends against each other and against Python's own ssl, in memory."""

import contextlib
import random
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.certificates import certificates, make_certificates
from bench.errors import UnsupportedError
from bench.wire import openssl
from bench.wire.openssl import MAX_EARLY_BYTES, ClientContext, ServerContext
from bench.wire.tls import TlsEnd, python_end
from tests.wire.test_tls_transport import client_context, server_context

ALPN = ("http/1.1",)


def new_server(*alpn: str) -> ServerContext:
    return ServerContext(str(certificates().certificate), str(certificates().private_key), alpn or ALPN)


def new_client(*alpn: str, authority: Path | None = None, insecure: bool = False) -> ClientContext:
    return ClientContext(str(authority or certificates().authority), insecure, alpn or ALPN)


def attempt(call: Callable[..., Any], *args: Any) -> Any:
    """What the call gives; None if more has to arrive first, or the peer has ended."""
    with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
        return call(*args)
    return None


def move(source: TlsEnd, target: TlsEnd) -> bytes:
    data = source.outgoing.read()
    target.incoming.write(data)
    return data


def read(end: TlsEnd) -> bytes:
    """All that can be read now."""
    data = b""
    while more := attempt(end.tls.read, 16384):
        data += more
    return data


def end_both(client: TlsEnd, server: TlsEnd) -> None:
    attempt(client.tls.unwrap)
    move(client, server)
    read(server)
    attempt(server.tls.unwrap)


def first_ticket(client: ClientContext, server: ServerContext, name: str = "127.0.0.1") -> Any:
    """What a full handshake leaves behind."""
    made, theirs = client.client(name, None), server.end()
    ours = made.end()
    attempt(made.do_handshake)
    move(ours, theirs)
    attempt(theirs.tls.do_handshake)
    move(theirs, ours)
    made.do_handshake()
    assert made.ticket is None
    move(ours, theirs)
    theirs.tls.do_handshake()
    move(theirs, ours)
    assert read(ours) == b""
    assert not made.session_reused
    end_both(ours, theirs)
    assert made.ticket is not None
    return made.ticket


def test_a_request_goes_with_the_first_flight_and_the_answer_with_the_servers() -> None:
    client, server = new_client(), new_server()
    ticket = first_ticket(client, server)
    for number in range(3):
        made, theirs = client.client("127.0.0.1", ticket), server.end()
        ours, tls = made.end(), theirs.tls
        made.do_handshake()
        assert ours.outgoing.pending == 0  # it begins with what is said first
        assert made.write(b"question %d" % number) == 10
        move(ours, theirs)
        tls.do_handshake()
        assert theirs.incoming.pending
        assert tls.selected_alpn_protocol() == "http/1.1"
        assert read(theirs) == b"question %d" % number
        assert not tls.is_complete  # type: ignore[attr-defined]
        assert tls.write(b"answer") == 6
        move(theirs, ours)
        assert read(ours) == b"answer"
        assert (made.early_data_accepted, made.session_reused, made.is_complete) == (True, True, True)
        assert made.selected_alpn_protocol() == "http/1.1"
        assert made.cipher()
        made.write(b"more")
        move(ours, theirs)
        assert read(theirs) == b"more"
        assert tls.is_complete  # type: ignore[attr-defined]
        move(theirs, ours)
        assert read(ours) == b""
        end_both(ours, theirs)
        ticket = made.ticket


def test_a_first_flight_that_is_sent_twice_is_acted_upon_once() -> None:
    """RFC 8446, section 8."""
    client, server = new_client(), new_server()
    made = client.client("127.0.0.1", first_ticket(client, server))
    ours = made.end()
    made.do_handshake()
    made.write(b"pay")
    flight = ours.outgoing.read()
    acted = []
    for _ in range(3):
        theirs = server.end()
        theirs.incoming.write(flight)
        attempt(theirs.tls.do_handshake)
        acted.append(read(theirs))
    assert acted == [b"pay", b"", b""]


@pytest.mark.parametrize("size", [3, 5000, MAX_EARLY_BYTES, 50_000])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_what_was_refused_is_sent_again(size: int, seed: int | None) -> None:
    """RFC 8446, section 4.2.10. Neither end minds in which pieces it comes."""
    client, server = new_client(), new_server()
    ticket = first_ticket(client, server)
    made, theirs = client.client("127.0.0.1", ticket), new_server().end()
    ours = made.end()
    made.do_handshake()
    sent = random.Random(1).randbytes(size)
    made.write(sent)
    received = exchange(ours, theirs, seed)
    assert received == sent
    assert (made.early_data_accepted, made.session_reused) == (False, False)


def exchange(ours: TlsEnd, theirs: TlsEnd, seed: int | None) -> bytes:
    """Go on until nothing moves any more, in pieces of any size; what the server has read."""
    chance = random.Random(seed)
    received = b""
    while True:
        sent = ours.outgoing.read()
        at = 0
        while at < len(sent):
            step = chance.randint(1, 3000) if seed is not None else len(sent)
            theirs.incoming.write(sent[at : at + step])
            at += step
            attempt(theirs.tls.do_handshake) if not theirs.tls.is_complete else None  # type: ignore[attr-defined]
            received += read(theirs)
        answer = theirs.outgoing.read()
        at = 0
        while at < len(answer):
            step = chance.randint(1, 500) if seed is not None else len(answer)
            ours.incoming.write(answer[at : at + step])
            at += step
            read(ours)
        if not sent and not answer:
            return received


@pytest.mark.parametrize("size", [3, 5000, MAX_EARLY_BYTES, 50_000])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_more_than_goes_early_follows(size: int, seed: int | None) -> None:
    client, server = new_client(), new_server()
    made, theirs = client.client("127.0.0.1", first_ticket(client, server)), server.end()
    ours = made.end()
    made.do_handshake()
    sent = random.Random(2).randbytes(size)
    made.write(sent)
    assert exchange(ours, theirs, seed) == sent
    assert made.early_data_accepted


def test_other_clients_and_servers_are_met_with_a_full_handshake() -> None:
    for ours, theirs in (
        (python_end(client_context(), "127.0.0.1"), new_server().end()),
        (new_client().client("127.0.0.1", None).end(), python_end(server_context())),
    ):
        attempt(ours.tls.do_handshake)
        move(ours, theirs)
        attempt(theirs.tls.do_handshake)
        move(theirs, ours)
        ours.tls.do_handshake()
        ours.tls.write(b"hello")
        move(ours, theirs)
        theirs.tls.do_handshake()
        assert read(theirs) == b"hello"
        theirs.tls.write(b"and you")
        move(theirs, ours)
        assert read(ours) == b"and you"


class TestCertificates:
    def handshake(self, client: ClientContext, name: str) -> None:
        made, theirs = client.client(name, None), new_server().end()
        ours = made.end()
        attempt(made.do_handshake)
        move(ours, theirs)
        attempt(theirs.tls.do_handshake)
        move(theirs, ours)
        made.do_handshake()

    @pytest.mark.parametrize("name", ["127.0.0.1", "::1", "localhost"])
    def test_good_ones(self, name: str) -> None:
        self.handshake(new_client(), name)

    @pytest.mark.parametrize("name", ["127.0.0.2", "example.org"])
    def test_for_another(self, name: str) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            self.handshake(new_client(), name)
        self.handshake(new_client(insecure=True), name)

    def test_of_an_unknown_authority(self, tmp_path: Path) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            self.handshake(new_client(authority=make_certificates(tmp_path).authority), "127.0.0.1")

    def test_authorities_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(ssl.SSLError):
            new_client(authority=tmp_path / "absent.pem")

    def test_a_name_that_cannot_be_one(self) -> None:
        with pytest.raises(ValueError, match="label"):
            new_client().client(".example.org", None)


def test_noise_is_an_error_of_ssl() -> None:
    theirs = new_server().end()
    theirs.incoming.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError, match=r"http request|wrong version"):
        theirs.tls.do_handshake()


@pytest.mark.parametrize("missing", ["SSL_write_early_data", "OpenSSL"])
def test_a_library_without_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    openssl._libraries.cache_clear()
    if missing == "OpenSSL":
        monkeypatch.setitem(__import__("sys").modules, "OpenSSL", None)
    else:
        monkeypatch.setattr(openssl, "_FUNCTIONS", (*openssl._FUNCTIONS, "SSL_write_earlier_data"))
    with pytest.raises(UnsupportedError, match=r"no early data here: .* requirements\.lock") as raised:
        openssl.require_early_data()
    assert "\n" not in str(raised.value)
