"""A reader that takes a tenth of what its sender could send: TCP slows the sender down, UDP overruns the reader."""

import socket
import threading
import time

_PIECE_BYTES = 1024
_READ_BYTES_PER_S = 2_000_000
_SEND_BYTES_PER_S = 20_000_000
_SECONDS = 1.0
_BUFFER_BYTES = 64 * 1024


def measure(transport: str) -> dict[str, float]:
    """A second of sending as fast as the socket takes it, up to ten times what is read."""
    kind = socket.SOCK_STREAM if transport == "tcp" else socket.SOCK_DGRAM
    if transport == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sender = socket.create_connection(listener.getsockname())
            reader = listener.accept()[0]
    else:
        reader = socket.socket(socket.AF_INET, kind)
        reader.bind(("127.0.0.1", 0))
        sender = socket.socket(socket.AF_INET, kind)
        sender.connect(reader.getsockname())
    with sender, reader:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        return _run(sender, reader, transport == "tcp")


def _run(sender: socket.socket, reader: socket.socket, is_stream: bool) -> dict[str, float]:
    read = 0
    until_s = time.monotonic() + _SECONDS
    stopped = threading.Event()

    def take() -> None:
        nonlocal read
        reader.settimeout(0.2)
        begun_s = time.monotonic()
        while True:
            pause_s = begun_s + read / _READ_BYTES_PER_S - time.monotonic()
            if pause_s > 0 and not stopped.is_set():
                time.sleep(pause_s)
            try:
                data = reader.recv(_PIECE_BYTES)
            except TimeoutError:
                return
            if not data:
                return
            read += len(data)

    reading = threading.Thread(target=take)
    reading.start()
    sent = 0
    piece = bytes(_PIECE_BYTES)
    begun_s = time.monotonic()
    sender.settimeout(0.05)
    while (now_s := time.monotonic()) < until_s:
        if sent > (now_s - begun_s) * _SEND_BYTES_PER_S:
            time.sleep(0.0005)
            continue
        try:
            sent += sender.send(piece)
        except TimeoutError:
            continue  # the reader's window is closed
    in_window = read
    stopped.set()
    if is_stream:
        sender.shutdown(socket.SHUT_WR)
    reading.join()
    return {"sent_to_read_ratio": sent / max(1, in_window), "lost_share": (sent - read) / sent}
