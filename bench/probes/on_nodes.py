"""What probes run on the nodes of a lab, one program for each end: `PROGRAM`, a role, and what that is given.

give, take     a transfer over TCP or MPTCP
relay, peer    two peers behind routers that translate addresses, who learn of each other from a relay (RFC 8489, the
               idea of STUN) and then send to each other directly, or through it (RFC 8656, that of TURN)
"""

import contextlib
import socket
import sys
import time
from collections.abc import Callable

PROGRAM = (sys.executable, "-IS", __file__)
"""By its path and without packages: it needs none, and some probes start hundreds."""
PORT = 8000
_RECEIVE_BYTES = 1 << 16
_AGAIN_S = 0.03
_PUNCHING_S = 0.8
"""How long peers try: many times the way between them, on links without delay."""


def take(protocol: str) -> None:
    """Says the bytes that come, and the seconds from the first of them to the last."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(protocol))
    sock.bind(("", PORT))
    sock.listen()
    print("listening", flush=True)
    connection, _ = sock.accept()
    got, begun_s = 0, 0.0
    while data := connection.recv(_RECEIVE_BYTES):
        begun_s = begun_s or time.monotonic()
        got += len(data)
    print(got, time.monotonic() - begun_s, flush=True)


def give(protocol: str, host: str, size_bytes: str) -> None:
    """Sends so many bytes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(protocol)) as sock:
        sock.connect((host, PORT))
        sock.sendall(bytes(int(size_bytes)))


def relay() -> None:
    """Tells two peers of each other, and passes on what they give it for each other. Ends when it is killed."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", PORT))
    print("listening", flush=True)
    known: dict[str, tuple[str, int]] = {}
    while True:
        data, source = sock.recvfrom(_RECEIVE_BYTES)
        what, name, *_ = data.decode().split()
        other = {"a": "b", "b": "a"}[name]
        if what == "hello":
            known[name] = source
            if other in known:
                sock.sendto("peer {} {}".format(*known[other]).encode(), source)
        elif other in known:
            sock.sendto(what.encode(), known[other])


def peer(name: str, relay_host: str, how: str) -> None:
    """Says whether the other peer could be reached, and has answered."""
    at = (relay_host, PORT)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("", 0))
    sock.settimeout(_AGAIN_S)
    other = None
    until_s = time.monotonic() + 10
    while other is None and time.monotonic() < until_s:
        sock.sendto(f"hello {name}".encode(), at)
        with contextlib.suppress(TimeoutError):
            what, *endpoint = sock.recv(_RECEIVE_BYTES).decode().split()
            if what == "peer":
                other = (endpoint[0], int(endpoint[1]))
    if other is None:
        sys.exit("the relay does not answer")
    reached = False
    until_s = time.monotonic() + _PUNCHING_S
    while time.monotonic() < until_s:
        if how == "turn":
            sock.sendto(f"punch {name}".encode(), at)
        else:
            sock.sendto(b"punch", other)
        with contextlib.suppress(TimeoutError):
            data, source = sock.recvfrom(_RECEIVE_BYTES)
            if data == b"punch":
                sock.sendto(f"pong {name}".encode() if how == "turn" else b"pong", source)
                other = source  # a peer-reflexive candidate (RFC 8445, section 5.1.1): where it really sends from
            reached = reached or data == b"pong"
    print("reached" if reached else "not reached", flush=True)


if __name__ == "__main__":
    roles: dict[str, Callable[..., None]] = {"take": take, "give": give, "relay": relay, "peer": peer}
    roles[sys.argv[1]](*sys.argv[2:])
