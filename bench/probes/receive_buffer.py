"""A peer that does not read: what its sender can hand over is what the two buffers hold, and then it stands still."""

import socket

_BUFFER_BYTES = 128 * 1024


def measure() -> dict[str, float]:
    """Send until nothing more is taken. Sizes are as the kernel says them, which doubles what is asked for, for its own
    bookkeeping (socket(7))."""
    with socket.socket() as listener:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES
        )  # before the handshake: it sets the window
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sender = socket.socket()
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        sender.connect(listener.getsockname())
        reader = listener.accept()[0]
    with sender, reader:
        buffers = sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) + reader.getsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF
        )
        sender.settimeout(0.3)
        taken = 0
        try:
            while True:
                taken += sender.send(bytes(16 * 1024))
        except TimeoutError:
            pass
    return {"taken_bytes": taken, "buffers_bytes": buffers}
