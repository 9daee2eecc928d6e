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
from collections.abc import Callable, Iterable
from typing import Any

from servers.counters import Slot
from servers.service import Service
from servers.worker import Worker, run_blocking

_RECEIVE_BYTES = 64 * 1024


class BlockingTransport(asyncio.Transport):
    """A socket behind the part of asyncio's transport that connections use. A write returns once the system has taken
    everything, so writing is never paused; answers are sent before more is read, so pausing reading means nothing."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self._sock = sock
        self._closing = False
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
        if self._closing:
            return
        try:
            self._sock.sendall(data)
        except OSError as error:
            self._break(error)

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


class BlockingConnection:
    """Drives one connection. `run` does it on the calling thread; `drain` and `abort` may be called from any other
    thread, or from a signal handler."""

    def __init__(self, connection: type[Any], service: Service, slot: Slot, sock: socket.socket) -> None:
        self._slot = slot
        self._sock = sock
        self._transport = BlockingTransport(sock)
        self._worker = Worker(service, run_blocking, self._later, slot)
        self._connection = connection(self._worker)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_numbers = itertools.count()
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
            self._slot.give_back()

    def drain(self) -> None:
        """Stop gracefully."""
        self._worker.draining = True
        self._drain_at_rest()

    def abort(self) -> None:
        """Stop at once, if the connection is not computing."""
        self._transport.abort()

    def _serve(self) -> None:
        connection, transport = self._connection, self._transport
        connection.connection_made(transport)
        self._rest()
        while not transport.is_closing():
            if self._timers and self._run_timer():
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

    def _later(self, delay_s: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_numbers), callback))

    def _run_timer(self) -> bool:
        """Wait until there is something to receive, or the first timer is due. True if it was the timer, now run."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if poll.poll(max(0, math.ceil((self._timers[0][0] - time.monotonic()) * 1000))):
            return False
        with self._at_work:
            heapq.heappop(self._timers)[2]()
        return True
