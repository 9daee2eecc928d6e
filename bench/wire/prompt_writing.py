"""Writing that hands bytes to the kernel at once.

An event loop's transport gathers what is written and hands it over at the end of the loop's turn, which costs a further
pass through the loop for each connection. Where what is written is whole already, one call of the system does it.
"""

import asyncio
import importlib
import os
from collections.abc import Callable

_TcpTransport: type[asyncio.Transport] = importlib.import_module("uvloop.loop").TCPTransport  # its stubs leave it out

_write = os.write


def prompt_writer(transport: asyncio.WriteTransport) -> Callable[[bytes], object]:
    """A `write` for that transport that does not wait for the end of the loop's turn.

    The transport's own `write` may be used beside it: the order is kept. What the kernel does not take is left to the
    transport. A transport that is not a TCP connection of uvloop's has no other `write` than its own.
    """
    write_later = transport.write
    if not isinstance(transport, _TcpTransport):
        return write_later
    fd = transport.get_extra_info("socket").fileno()
    is_closing = transport.is_closing
    waiting_bytes = transport.get_write_buffer_size

    def write(data: bytes) -> None:
        if is_closing():
            return  # the descriptor may be another connection's by now
        if not waiting_bytes():
            try:
                written = _write(fd, data)
            except BlockingIOError:
                written = 0
            except OSError:
                return  # the connection is gone; the loop is about to say so
            if written == len(data):
                return
            data = data[written:]
        write_later(data)

    return write
