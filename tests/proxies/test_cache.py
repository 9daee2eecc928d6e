"""The cache of the layer 7 proxy (RFC 9111): what it gives again, and what it must not."""

import socket
from collections.abc import Callable

import pytest

from tests.proxies.conftest import Proxy, Upstream, read_all, read_head

Start = Callable[..., Proxy]
StartUpstream = Callable[..., Upstream]


@pytest.fixture
def ask(start_proxy: Start, start_upstream: StartUpstream) -> Callable[..., tuple[bytes, dict[bytes, bytes]]]:
    """`ask(fields, ...)` asks a proxy with a cache for something; gives the body, which counts what the upstream
    answered, and the fields. The first call says which fields the upstream's answers have."""
    answered = 0
    proxies: list[Proxy] = []

    def call(
        given: bytes = b"", method: str = "GET", path: str = "/", fields: str = "", body_bytes: int = 0, **spec: int
    ) -> tuple[bytes, dict[bytes, bytes]]:
        def answer(sock: socket.socket) -> None:
            nonlocal answered
            while read_head(sock):
                answered += 1
                body = (b"%d" % answered).ljust(body_bytes)
                sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), given, body))

        if not proxies:
            proxies.append(start_proxy(7, start_upstream(answer).port, **{"cache_bytes": 1_000_000, **spec}))
        with proxies[0].connect() as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n".encode())
            head, _, body = read_all(client).partition(b"\r\n\r\n")
        return body, dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])

    return call


def test_what_is_fresh_is_given_again_with_its_age(ask: Callable[..., tuple[bytes, dict[bytes, bytes]]]) -> None:
    fresh = b"cache-control: public, max-age=60\r\nage: 7\r\nx-mine: 1\r\n"
    first, fields = ask(fresh)
    assert (first, fields[b"age"]) == (b"1", b"7")
    again, fields = ask(fresh)
    assert again == b"1"
    assert fields[b"x-mine"] == b"1"
    assert 7 <= int(fields[b"age"]) < 30
    assert ask(fresh, path="/other")[0] == b"2"


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"cache-control: max-age=0\r\n",
        b"cache-control: max-age=60, no-store\r\n",
        b'cache-control: max-age=60, no-cache="x"\r\n',
        b"cache-control: private, max-age=60\r\n",
        b"cache-control: max-age=60, s-maxage=0\r\n",
        b"cache-control: max-age=60\r\nvary: accept\r\n",
        b"cache-control: max-age=60\r\nset-cookie: a=b\r\n",
        b"cache-control: max-age=60\r\nage: 60\r\n",
    ],
)
def test_what_must_not_be_kept_is_fetched_again(
    ask: Callable[..., tuple[bytes, dict[bytes, bytes]]], given: bytes
) -> None:
    assert [ask(given)[0], ask(given)[0]] == [b"1", b"2"]


@pytest.mark.parametrize(
    "fields",
    ["authorization: Basic eA==\r\n", "cache-control: no-cache\r\n", "range: bytes=0-1\r\n", 'if-none-match: "x"\r\n'],
)
def test_requests_that_are_for_the_origin_get_there(
    ask: Callable[..., tuple[bytes, dict[bytes, bytes]]], fields: str
) -> None:
    fresh = b"cache-control: max-age=60\r\n"
    assert ask(fresh, fields=fields)[0] == b"1"  # and is not kept
    assert ask(fresh)[0] == b"2"
    assert ask(fresh, fields=fields)[0] == b"3"
    assert ask(fresh)[0] == b"2"


def test_unsafe_requests_invalidate(ask: Callable[..., tuple[bytes, dict[bytes, bytes]]]) -> None:
    fresh = b"cache-control: max-age=60\r\n"
    assert [ask(fresh)[0], ask(fresh, method="POST")[0], ask(fresh)[0]] == [b"1", b"2", b"3"]


def test_what_is_large_or_long_ago_gives_way(ask: Callable[..., tuple[bytes, dict[bytes, bytes]]]) -> None:
    fresh = b"cache-control: max-age=60\r\n"
    bodies = [ask(fresh, path=path, body_bytes=1000, cache_bytes=4000)[0].strip() for path in ("/a", "/b", "/c", "/a")]
    assert bodies == [b"1", b"2", b"3", b"4"]
    assert ask(fresh, path="/c")[0].strip() == b"3"


def test_what_is_too_large_is_not_kept(ask: Callable[..., tuple[bytes, dict[bytes, bytes]]]) -> None:
    fresh = b"cache-control: max-age=60\r\n"
    assert [ask(fresh, body_bytes=70_000)[0].strip() for _ in range(2)] == [b"1", b"2"]
