"""A connection without an event loop: its thread blocks in receiving and in sending."""

import asyncio
import contextlib
import heapq
import itertools
import math
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from servers.control import ServerSpec
from servers.counters import Slot
from servers.service import Defer, Route, Service
from servers.tls import secured_connection, server_context
from servers.topics import Urgent
from servers.worker import Connection, Deferrals, Worker, answer_blocking

_RECEIVE_BYTES = 64 * 1024

_LOOK_S = 0.25
"""How often a thread that waits for an answer looks whether its client has left."""

_LEFT = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)  # the last is Linux's


class BlockingTransport(asyncio.Transport):
    """A socket behind the part of asyncio's transport that connections use. A write returns once the system has taken
    everything, so writing is never paused; answers are sent before more is read, so pausing reading means nothing."""

    def __init__(self, sock: socket.socket, wait_to_send: Callable[[], None]) -> None:
        """`wait_to_send` returns when the socket may take more."""
        super().__init__({"socket": sock})
        self._sock = sock
        self._wait_to_send = wait_to_send
        self._closing = False
        self._is_writing = False
        self.error: OSError | None = None
        """What broke the connection."""

    def receive(self) -> bytes:
        """What has arrived; empty at the end, and once the connection is closed or broken."""
        try:
            data = self._sock.recv(_RECEIVE_BYTES)
        except OSError as error:
            self._break(error)
            data = b""
        return b"" if self._closing else data

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """What is urgent may want to write while something else is being written: what it has to say would come into
        the middle of that, so the connection is cut instead."""
        if self._is_writing:
            self.abort()
            return
        self._is_writing = True
        rest = memoryview(data)
        while rest and not self._closing:
            try:
                rest = rest[self._sock.send(rest, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                self._wait_to_send()
            except OSError as error:
                self._break(error)
        self._is_writing = False

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._shutdown(socket.SHUT_WR)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True
        self._shutdown(socket.SHUT_RD)  # wakes the thread if it is receiving, and says nothing to the client

    def abort(self) -> None:
        self._closing = True
        self._shutdown(socket.SHUT_RDWR)

    def _break(self, error: OSError) -> None:
        self.error = self.error or error
        self._closing = True

    def _shutdown(self, how: int) -> None:
        with contextlib.suppress(OSError):  # the client has gone
            self._sock.shutdown(how)


@dataclass(order=True, slots=True)
class _Timer:
    """A callback that is due, in the heap that it is taken from then."""

    due_s: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    heap: "list[_Timer]" = field(compare=False, repr=False)

    def cancel(self) -> None:
        with contextlib.suppress(ValueError):  # it has been taken
            self.heap.remove(self)
            heapq.heapify(self.heap)


class BlockingConnection:
    """Drives one connection. `run` does it on the calling thread; `drain` and `abort` may be called from any other
    thread, or from a signal handler."""

    def __init__(
        self, connection: type[Any], service: Service, slot: Slot, spec: ServerSpec, sock: socket.socket
    ) -> None:
        self._slot = slot
        self._sock = sock
        self._class = connection
        self._context = server_context(spec, connection.alpn)
        self._worker = Worker(service, self._run, self._later, self._open_inbox, slot, spec, Deferrals())
        self._connection: Any = None
        self._transport: BlockingTransport | None = None
        self._timers: list[_Timer] = []
        self._timer_numbers = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._urgent: deque[Callable[[], None]] = deque()
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._drained = False
        self._at_work = threading.Lock()
        """Held while the connection is called, so that `drain` finds it between two calls or leaves it alone."""
        self._at_work.acquire()

    def run(self) -> None:
        """Serve the connection until it ends, and close its socket. Raises what the connection raises."""
        self._slot.take()
        try:
            with contextlib.suppress(OSError):  # the client has gone; receiving will tell
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._serve()
        finally:
            self._sock.close()
            for end in self._wake or ():
                end.close()
            self._slot.give_back()

    def drain(self) -> None:
        """Stop gracefully."""
        self._worker.draining = True
        self._worker.service.hold_nothing()
        self._drain_at_rest()

    def abort(self) -> None:
        """Stop at once, if the connection is not computing."""
        if self._transport is not None:
            self._transport.abort()
        else:
            with contextlib.suppress(OSError):  # it has ended
                self._sock.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        transport = self._transport = BlockingTransport(self._sock, self._wait_to_send)
        if self._context is None:
            connection = self._class(self._worker)
        else:
            connection = secured_connection(self._worker, self._class, self._context, self._later)
        self._connection = connection
        connection.connection_made(transport)
        self._rest()
        while not transport.is_closing():
            if (self._timers or self._wake) and self._run_callback():
                continue
            data = transport.receive()
            self._at_work.acquire()
            if data:
                connection.data_received(data)
            else:
                if not transport.is_closing():
                    connection.eof_received()
                transport.close()
            self._rest()
        connection.connection_lost(transport.error)

    def _rest(self) -> None:
        self._at_work.release()
        if self._worker.draining:
            self._drain_at_rest()

    def _drain_at_rest(self) -> None:
        if not self._drained and self._at_work.acquire(blocking=False):
            self._drained = True
            self._connection.drain()
            self._at_work.release()

    def _run(self, connection: Connection, token: Any, route: Route, body: bytes) -> None:
        """Runs a request on the connection's own thread, which sleeps through a wait."""
        answer = answer_blocking(route, body) if route.defer is None else self._await(route.defer, body)
        connection.answer(token, route, answer)

    def _await(self, defer: Defer, body: bytes) -> bytes:
        """Wait for an answer, but no longer than the client does."""
        answers: SimpleQueue[bytes] = SimpleQueue()
        hasten = defer(body, answers.put)
        while True:
            try:
                return answers.get(timeout=None if hasten is None else _LOOK_S)
            except Empty:
                assert hasten is not None
                if self._has_left():
                    hasten()

    def _has_left(self) -> bool:
        """Whether the client has closed its side at least."""
        poll = select.poll()
        poll.register(self._sock, _LEFT)
        return bool(poll.poll(0))

    def _later(self, delay_s: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(time.monotonic() + delay_s, next(self._timer_numbers), callback, self._timers)
        heapq.heappush(self._timers, timer)
        return timer

    def _open_inbox(self) -> Callable[[Callable[[], None]], object]:
        if self._wake is None:
            self._wake = socket.socketpair()
            for end in self._wake:
                end.setblocking(False)
        return self._post

    def _post(self, callback: Callable[[], None]) -> None:
        """Called from any thread."""
        assert self._wake is not None
        (self._urgent if isinstance(callback, Urgent) else self._posted).append(callback)
        with contextlib.suppress(OSError):  # it is full of wake-ups already, or the connection has ended
            self._wake[1].send(b"\0")

    def _wait_to_send(self) -> None:
        """Wait until the client takes more, or is not to be sent anything any more: what is urgent is not put off."""
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        if self._wake is not None:
            poll.register(self._wake[0], select.POLLIN)
        ready = poll.poll()
        if all(fd == self._sock.fileno() for fd, _ in ready):
            return
        self._take_wake_ups()
        while self._urgent:
            self._urgent.popleft()()

    def _take_wake_ups(self) -> None:
        """Before the callbacks: one posted meanwhile wakes again."""
        if self._wake is not None:
            with contextlib.suppress(BlockingIOError):
                self._wake[0].recv(65536)

    def _run_callback(self) -> bool:
        """Wait until there is something to receive, the first timer is due or something is posted. False if there is
        something to receive; else callbacks may have been run."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if self._wake is not None:
            poll.register(self._wake[0], select.POLLIN)
        timers = self._timers
        timeout_ms = max(0, math.ceil((timers[0].due_s - time.monotonic()) * 1000)) if timers else None
        ready = poll.poll(0 if self._posted else timeout_ms)
        if any(fd == self._sock.fileno() for fd, _ in ready):
            return False
        with self._at_work:
            self._take_wake_ups()
            for posted in (self._urgent, self._posted):
                while posted:
                    posted.popleft()()
            if timers and timers[0].due_s <= time.monotonic():
                heapq.heappop(timers).callback()
        return True
