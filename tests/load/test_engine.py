"""The engine as a whole, in processes of its own, against servers that do what these tests tell them to."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bench.errors import LoadFailedError, TargetError
from bench.load.histogram import summarise
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, Window, merge
from bench.serverprocess import ServerProcess

S, MS = 1_000_000_000, 1_000_000


def spec(
    port: int, load: str, connections: str = "64", processes: int = 1, process: int = 0, **changes: Any
) -> LoadSpec:
    values: dict[str, Any] = {
        "protocol": "http1",
        "client": "clients.http1:Http1Client",
        "host": "127.0.0.1",
        "port": port,
        "request": Request(opcode=1, payload_bytes=64),
        "load": load,
        "connections": load.partition(":")[2] if load.startswith("closed") else connections,
        "warmup_ns": S // 5,
        "duration_ns": S,
        "timeout_ns": 5 * S,
        "queue_limit": 10_000,
        "intervals": 10,
        "seed": 1,
        "process": process,
        "processes": processes,
        **changes,
    }
    return LoadSpec(**values)


def leave_alone(load: LoadProcesses, window: Window) -> None:
    """Nothing happens meanwhile."""


def run(specs: list[LoadSpec], meanwhile: Callable[[LoadProcesses, Window], None] = leave_alone) -> dict[str, Any]:
    with LoadProcesses(len(specs), lambda progress: None) as load:
        load.connect(specs)
        window = load.release()
        meanwhile(load, window)
        return merge(load.results())


@contextmanager
def scripted(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server whose every connection is handled by `answer` on a thread; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve_one, args=(sock,), daemon=True).start()

        def serve_one(sock: socket.socket) -> None:
            with sock, suppress(OSError):
                answer(sock)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_closed_load_keeps_littles_law(serve: Callable[..., ServerProcess]) -> None:
    server = serve()
    result = run([spec(server.port, "closed:16")])
    latency = summarise(result["latency"])
    assert latency is not None
    assert result["errors"] == {}
    assert latency["mean"] * result["done_in_window"] / S == pytest.approx(16, rel=0.1)


class OfHttp10(BaseHTTPRequestHandler):
    """Closes every connection behind its answer."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("load", ["closed:1", "closed:4", "open:200/s"])
def test_a_server_that_closes_every_connection(load: str) -> None:
    """It gets the whole load, and to connect again is a part of what has to wait for it (Little's law)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), OfHttp10) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            result = run([spec(server.server_address[1], load, "1", request=Request(foreign=("GET", "/")))])
        finally:
            server.shutdown()
    latency = summarise(result["latency"])
    assert latency is not None
    assert result["errors"] == {}
    if load == "open:200/s":
        assert result["completed"] == 200
    else:
        assert latency["mean"] * result["done_in_window"] / S == pytest.approx(int(load[-1]), rel=0.1)


def test_an_open_load_offers_every_request_of_its_schedule(serve: Callable[..., ServerProcess]) -> None:
    server = serve()
    result = run([spec(server.port, "open:2000/s")])
    assert result["completed"] == 2000
    assert result["dropped"] == 0
    assert result["lateness"].get_total_count() == 2000


@pytest.mark.parametrize("load", ["closed:9", "poisson:1500/s"])
def test_processes_share_a_load_and_their_histograms_add_up(serve: Callable[..., ServerProcess], load: str) -> None:
    server = serve()
    specs = [spec(server.port, load, processes=3, process=number) for number in range(3)]
    with LoadProcesses(len(specs), lambda progress: None) as processes:
        processes.connect(specs)
        processes.release()
        results = processes.results()
    merged = merge(results)
    assert merged["completed"] == sum(result["completed"] for result in results)
    assert merged["latency"].get_total_count() == merged["completed"]
    assert all(result["completed"] for result in results)
    assert server.stats()[0][0].accepts == (9 if load == "closed:9" else 64)


def slower_than(bound_ns: int, hdr: Any) -> int:
    """How many values of a histogram are above the bound."""
    steps = hdr.get_recorded_iterator()
    return sum(step.count_added_in_this_iter_step for step in steps if step.value_iterated_to > bound_ns)


def test_a_frozen_server_shows_in_the_latency_from_the_intended_time(serve: Callable[..., ServerProcess]) -> None:
    """500 ms of SIGSTOP at 1,000/s: what was due meanwhile was served late, and a closed look would have missed it."""
    server = serve()
    frozen: list[int] = []

    def freeze(load: LoadProcesses, window: Window) -> None:
        load.watch(window.measure_ns + 300 * MS)
        os.kill(server.pid, signal.SIGSTOP)
        frozen.append(time.monotonic_ns())
        load.watch(frozen[0] + 500 * MS)
        os.kill(server.pid, signal.SIGCONT)
        frozen.append(time.monotonic_ns())

    result = run([spec(server.port, "open:1000/s", connections="8", duration_ns=2 * S)], freeze)
    stopped_ms = (frozen[1] - frozen[0]) / MS
    assert result["errors"] == {}
    assert result["completed"] == 2000
    latency, service = result["latency"], result["service"]
    affected = slower_than(20 * MS, latency)
    # Of those due while it stood still, all waited over 20 ms but the last twenty; some more queued behind the backlog.
    assert stopped_ms - 40 <= affected <= stopped_ms + 150
    assert latency.get_value_at_percentile(99) == pytest.approx((stopped_ms - 20) * MS, rel=0.1)
    # From the sending, only the eight that were in flight were slow: coordinated omission, kept beside it to be seen.
    assert slower_than(20 * MS, service) < affected / 4


def test_past_the_queue_limit_requests_are_dropped_and_counted(serve: Callable[..., ServerProcess]) -> None:
    server = serve()
    wait = spec(
        server.port,
        "open:1000/s",
        connections="4",
        request=Request(opcode=4, b=100),  # 100 ms each: four connections carry 40/s
        queue_limit=50,
        timeout_ns=2 * S,
    )
    result = run([wait])
    assert result["completed"] + result["dropped"] + sum(result["errors"].values()) == 1000
    assert result["dropped"] > 800
    assert result["completed"] <= 4 * 12 + 50


def test_answers_that_do_not_come_in_time_are_timeouts(serve: Callable[..., ServerProcess]) -> None:
    server = serve()
    request = Request(opcode=4, b=400)
    result = run([spec(server.port, "closed:4", request=request, timeout_ns=450 * MS, duration_ns=S)])
    assert result["errors"] == {}
    with scripted(answer_once_then_hang) as port:
        result = run([spec(port, "closed:1", timeout_ns=300 * MS, request=Request(opcode=0))])
    assert result["completed"] == 0
    assert result["errors"]["timeout"] >= 2


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


_first = threading.Lock()


def answer_once_then_hang(sock: socket.socket) -> None:
    """The very first request of all is answered; no other is."""
    sock.recv(65536)
    if _first.acquire(blocking=False):
        sock.sendall(OK)
    while sock.recv(65536):
        pass


def answer_three_then(last: bytes) -> Callable[[socket.socket], None]:
    def answer(sock: socket.socket) -> None:
        for _ in range(3):
            if not sock.recv(65536):
                return
            sock.sendall(OK)
        sock.recv(65536)
        sock.sendall(last)

    return answer


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (b"", "closed"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno", "content"),
        (b"HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "status"),
    ],
)
def test_errors_are_counted_by_kind_and_the_load_goes_on(last: bytes, kind: str) -> None:
    with scripted(answer_three_then(last)) as port:
        result = run([spec(port, "closed:2", request=Request(opcode=0))])
    assert set(result["errors"]) == {kind}
    assert result["errors"][kind] > 3
    assert result["completed"] == pytest.approx(3 * result["errors"][kind], rel=0.5, abs=6)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "status"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", "body"),
        (b"\x15\x03\x01\x00\x02\x02\x16", "not the protocol"),
        (b"", "closed the connection"),
    ],
)
def test_a_target_that_answers_wrongly_is_refused_before_any_load(answer: bytes, word: str) -> None:
    def respond(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)

    with scripted(respond) as port, pytest.raises(TargetError, match=word):
        run([spec(port, "closed:1", request=Request(opcode=0))])


def test_a_target_that_nobody_listens_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TargetError, match=f"cannot connect to 127.0.0.1 port {port}"):
        run([spec(port, "closed:4")])


def test_a_half_open_target() -> None:
    """It takes connections and never says a word."""
    silent = pytest.raises(TargetError, match="gave no answer within 1 s")
    with socket.create_server(("127.0.0.1", 0)) as listener, silent:
        run([spec(listener.getsockname()[1], "closed:1", timeout_ns=S)])


def test_a_restarted_server_costs_what_was_in_flight_and_no_more(serve: Callable[..., ServerProcess]) -> None:
    first = serve()
    port = first.port

    def restart(load: LoadProcesses, window: Window) -> None:
        load.watch(window.measure_ns + 200 * MS)
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(Exception, match="SIGKILL"):
            first.stop()
        serve(port=port)

    result = run([spec(port, "closed:8", duration_ns=2 * S)], restart)
    # Each of the eight loses one request, or two if it came back while the dying listener still had a backlog.
    assert 1 <= result["errors"]["closed"] <= 16
    later = [part["completed"] for part in result["intervals"]][7:]
    assert all(later)


def test_load_processes_end_with_their_starter(serve: Callable[..., ServerProcess]) -> None:
    server = serve()
    with LoadProcesses(1, lambda progress: None) as load:
        load.connect([spec(server.port, "closed:1", duration_ns=60 * S)])
        load.release()
        (pid,) = load.pids()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LoadFailedError, match="SIGKILL"):
            load.results()
