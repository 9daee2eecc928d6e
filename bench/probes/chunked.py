"""An answer that takes a second to make, sent as it is made (RFC 9112, section 7.1) or when it is whole. The server is
that of Python's standard library."""

import http.client
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECES = 10
_PIECE_BYTES = 500_000
_PAUSE_S = 0.1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in self._pieces():
                self.wfile.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        else:
            body = b"".join(self._pieces())
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _pieces(self) -> Iterator[bytes]:
        for number in range(_PIECES):
            if number:
                time.sleep(_PAUSE_S)
            yield bytes(_PIECE_BYTES)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
        """Nothing."""


def measure(how: str) -> dict[str, float]:
    """When the first byte of the body is there, and what the server holds at the most."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        tracemalloc.start()
        begun_ns = time.monotonic_ns()
        connection.request("GET", f"/{how}")
        answer = connection.getresponse()
        read = len(answer.read(1))
        first_ns = time.monotonic_ns() - begun_ns
        while piece := answer.read(65536):
            read += len(piece)
        held_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        connection.close()
        server.shutdown()
    if read != _PIECES * _PIECE_BYTES:
        raise AssertionError(f"{read} bytes came, not {_PIECES * _PIECE_BYTES}")
    return {"first_byte_ns": first_ns, "held_bytes": held_bytes}
