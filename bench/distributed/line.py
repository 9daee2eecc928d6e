"""The line between a Locust process and whoever started it: JSON on what were its standard input and output, which
Locust itself then has no part in."""

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any


class Line:
    """A line of JSON each way."""

    def __init__(self) -> None:
        self._input_fd, self._output_fd = os.dup(0), os.dup(1)
        with open(os.devnull) as nothing:  # noqa: PTH123  # a device
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)
        self._partial = b""
        self._unwritten: deque[bytes] = deque()
        self._writes = False

    def say(self, event: str, **fields: Any) -> None:
        """Tell the starter, in order and without waiting for it: it may itself be waiting to be heard, and then neither
        would go on. One that has gone is not an error here: the input tells."""
        from gevent import spawn

        self._unwritten.append(json.dumps({"event": event, **fields}).encode() + b"\n")
        if not self._writes:
            self._writes = True
            spawn(self._write)

    def _write(self) -> None:
        from gevent.os import make_nonblocking, nb_write

        make_nonblocking(self._output_fd)
        try:
            while self._unwritten:
                view = memoryview(self._unwritten.popleft())
                while view:
                    view = view[nb_write(self._output_fd, view) :]
        except BrokenPipeError:
            self._unwritten.clear()
        finally:
            self._writes = False

    def first(self) -> dict[str, Any]:
        """The first line, before gevent is there. Raises EOFError."""
        while not self._partial.endswith(b"\n"):
            if not (byte := os.read(self._input_fd, 1)):
                raise EOFError
            self._partial += byte
        first: dict[str, Any] = json.loads(self._partial)
        self._partial = b""
        return first

    def told(self) -> Iterator[Mapping[str, Any]]:
        """What the starter says, until it has gone; other greenlets run meanwhile."""
        from gevent.os import make_nonblocking, nb_read

        make_nonblocking(self._input_fd)
        while data := nb_read(self._input_fd, 1 << 20):
            *lines, self._partial = (self._partial + data).split(b"\n")
            yield from map(json.loads, lines)


@cache
def standard_line() -> Line:
    """This process's line. The first call takes standard input and output away."""
    return Line()
