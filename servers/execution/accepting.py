"""Accepting connections, and handing them on: what rests while the system is short of something."""

import selectors
import socket
import time
from collections.abc import Callable

from servers.control import Control

SHORTAGE_PAUSE_S = 0.1
"""How long accepting rests when the system has no descriptor, thread or process to give."""


def accept_until_stopped(
    control: Control,
    listener: socket.socket,
    take: Callable[[socket.socket], None],
    has_room: Callable[[], bool] = lambda: True,
) -> None:
    """Hand each connection to `take` until `control` says stop, then close the listener.

    While there is no room, or the system is short of something, connections wait in the socket's backlog. Room is
    looked for whenever `control` has been obeyed, so whoever makes room posts something there.
    """
    resume_at_s = 0.0
    watched = False
    with listener, selectors.DefaultSelector() as selector:
        selector.register(control.fileno(), selectors.EVENT_READ)
        while not control.stopping:
            pause_s = resume_at_s - time.monotonic()
            if watched != (pause_s <= 0 and has_room()):
                watched = not watched
                if watched:
                    selector.register(listener, selectors.EVENT_READ)
                else:
                    selector.unregister(listener)
            for key, _ in selector.select(pause_s if pause_s > 0 else None):
                if key.fileobj is not listener:
                    control.on_readable()
                elif not accept(listener, take):
                    resume_at_s = time.monotonic() + SHORTAGE_PAUSE_S


def accept(listener: socket.socket, take: Callable[[socket.socket], None]) -> bool:
    """Accept one connection: while they come faster than they are taken, `control` must be heard too. False if the
    system is short of something."""
    try:
        sock, _ = listener.accept()
    except (BlockingIOError, ConnectionAbortedError):  # the client has gone
        return True
    except OSError:
        return False
    try:
        take(sock)
    except (OSError, RuntimeError):  # no process or no thread to be had
        sock.close()
        return False
    return True
