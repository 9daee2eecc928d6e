"""The proxy of layer 4 passes bytes on, whole and in order, and ends as its ends do."""

import contextlib
import os
import queue
import signal
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.proxies.conftest import TIMEOUT_S, Proxy, Upstream, echo, read_all

Start = Callable[..., Proxy]
StartUpstream = Callable[..., Upstream]


def test_bytes_go_both_ways_whole(start_proxy: Start, start_upstream: StartUpstream) -> None:
    sent = os.urandom(3_000_000)
    proxy = start_proxy(4, start_upstream(echo).port)
    with proxy.connect() as client:
        threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR))).start()
        assert read_all(client) == sent
    counts = proxy.stats()["counts"]
    assert (counts["accepted"], counts["bytes_up"], counts["bytes_down"]) == (1, len(sent), len(sent))


def test_a_half_closed_connection_still_gets_its_answer(start_proxy: Start, start_upstream: StartUpstream) -> None:
    def answer_at_the_end(sock: socket.socket) -> None:
        sock.sendall(b"had " + read_all(sock))

    proxy = start_proxy(4, start_upstream(answer_at_the_end).port)
    with proxy.connect() as client:
        client.sendall(b"all")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"had all"


def test_an_upstream_may_speak_first_and_end_first(start_proxy: Start, start_upstream: StartUpstream) -> None:
    heard: queue.Queue[bytes] = queue.Queue()

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        heard.put(read_all(sock))

    with start_proxy(4, start_upstream(greet).port).connect() as client:
        assert read_all(client) == b"hello"
        client.sendall(b"and goodbye")
    assert heard.get(timeout=TIMEOUT_S) == b"and goodbye"


def test_a_reset_stays_a_reset(start_proxy: Start, start_upstream: StartUpstream) -> None:
    def cut(sock: socket.socket) -> None:
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with start_proxy(4, start_upstream(cut).port).connect() as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_who_does_not_read_stops_the_other_end(start_proxy: Start, start_upstream: StartUpstream) -> None:
    """Back-pressure: an upstream that nobody reads from comes to a halt, and the proxy's memory does not grow."""
    stalled = threading.Event()
    sent = []

    def flood(sock: socket.socket) -> None:
        sock.recv(1)
        sock.settimeout(1.0)
        total = 0
        with contextlib.suppress(TimeoutError):
            while total < 200_000_000:
                total += sock.send(bytes(1 << 16))
        sent.append(total)
        stalled.set()
        sock.recv(1)

    proxy = start_proxy(4, start_upstream(flood).port)
    with proxy.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.sendall(b"x")
        assert stalled.wait(TIMEOUT_S)
        assert sent[0] < 60_000_000  # what the buffers of four sockets take, and some
        status = Path(f"/proc/{proxy.pid}/status").read_text()
        resident_kb = int(status.split("VmRSS:")[1].split()[0])
        assert resident_kb < 120_000
        client.settimeout(TIMEOUT_S)
        left = sent[0]
        while left:  # all of it comes, once it is read
            left -= len(client.recv(1 << 20))


def test_the_next_upstream_is_tried_where_one_is_dead(
    start_proxy: Start, start_upstream: StartUpstream, dead_port: int
) -> None:
    proxy = start_proxy(4, dead_port, start_upstream(echo).port)
    for _ in range(4):
        with proxy.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert proxy.count("upstream_errors") == 2  # every second one began with the dead one
    alone = start_proxy(4, dead_port)
    with pytest.raises(ConnectionResetError), alone.connect() as client:
        client.recv(1)


@pytest.mark.parametrize("balance", ["round-robin", "least-connections"])
def test_connections_are_shared_out(start_proxy: Start, start_upstream: StartUpstream, balance: str) -> None:
    upstreams = [start_upstream(echo), start_upstream(echo)]
    proxy = start_proxy(4, *(upstream.port for upstream in upstreams), balance=balance)
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            client = stack.enter_context(proxy.connect())
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert [len(upstream.connections) for upstream in upstreams] == [3, 3]
        assert [upstream["open"] for upstream in proxy.stats()["upstreams"]] == [3, 3]


def test_a_silent_connection_is_closed(start_proxy: Start, start_upstream: StartUpstream) -> None:
    proxy = start_proxy(4, start_upstream(echo).port, idle_timeout_s=0.4)
    with proxy.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        assert client.recv(1) == b""
    assert proxy.count("idle_closed") == 1


def test_health_checks_tell_who_is_down(start_proxy: Start, start_upstream: StartUpstream, dead_port: int) -> None:
    proxy = start_proxy(4, dead_port, start_upstream(echo).port, health_interval_s=0.02)
    while [upstream["up"] for upstream in proxy.stats()["upstreams"]] != [False, True]:
        pass
    before = proxy.count("upstream_errors")
    for _ in range(4):
        with proxy.connect() as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert proxy.count("upstream_errors") == before


def test_a_share_of_answers_is_lost_after_the_upstream_acted(start_proxy: Start, start_upstream: StartUpstream) -> None:
    acted = []

    def act(sock: socket.socket) -> None:
        while data := sock.recv(100):
            acted.append(data)
            sock.sendall(data)

    def lost_of(seed: int) -> list[bool]:
        proxy = start_proxy(4, start_upstream(act).port, lose_share=0.5, seed=seed)
        found = []
        for _ in range(30):
            with proxy.connect() as client:
                client.sendall(b"x")
                try:
                    found.append(client.recv(1) == b"")
                except ConnectionResetError:
                    found.append(True)
        assert proxy.count("lost") == sum(found)
        return found

    first = lost_of(1)
    assert 5 < sum(first) < 25
    assert len(acted) == 30
    assert lost_of(1) == first
    assert lost_of(2) != first


@pytest.mark.parametrize("end", ["stop", "input", "term"])
def test_it_ends_with_its_starter_and_leaves_nothing(
    start_proxy: Start, start_upstream: StartUpstream, end: str
) -> None:
    proxy = start_proxy(4, start_upstream(echo).port)
    with proxy.connect() as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        match end:
            case "stop":
                proxy.child.send({"ask": "stop"})
            case "input":
                assert proxy.child._process.stdin is not None
                proxy.child._process.stdin.close()
            case _:
                os.kill(proxy.pid, signal.SIGTERM)
        assert proxy.child.wait(TIMEOUT_S) == 0
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        proxy.connect()


def test_no_descriptor_is_left_behind(start_proxy: Start, start_upstream: StartUpstream, dead_port: int) -> None:
    proxy = start_proxy(4, dead_port, start_upstream(echo).port)
    folder = Path(f"/proc/{proxy.pid}/fd")

    def use() -> None:
        for _ in range(20):
            with proxy.connect() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        while sum(upstream["open"] for upstream in proxy.stats()["upstreams"]):
            pass

    use()
    before = len(list(folder.iterdir()))
    use()
    assert abs(len(list(folder.iterdir())) - before) <= 1


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"layer": 5, "upstreams": [("127.0.0.1", 1)]}, "layer 4 or 7"),
        ({"layer": 4, "upstreams": []}, "one upstream"),
        ({"layer": 4, "upstreams": [("127.0.0.1", 1)], "colour": 1}, "colour"),
        ({"layer": 4, "upstreams": [("127.0.0.1", 1)], "lose_share": 2}, "from 0 to 1"),
        ({"layer": 4, "upstreams": 7}, "not a spec"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(spec: dict[str, object], word: str) -> None:
    from bench.childprocess import ChildProcess

    child = ChildProcess("servers.proxies")
    child.send(spec)
    event = child.next_event(TIMEOUT_S)
    status = child.wait(TIMEOUT_S)
    child.kill()
    assert event is not None
    assert event["event"] == "error"
    assert word in event["message"]
    assert status == 2
