"""Server-sent events in a real browser: an EventSource that is cut off comes back by itself, and misses nothing."""

import contextlib
import json
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from bench.serverprocess import ServerProcess

DEADLINE_S = 40.0

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # The page is a file, and the servers say nothing of other origins.
    "--disable-web-security",
]

# It tells what it sees by publishing it, on another topic.
PAGE = """<!doctype html>
<script>
const tell = (seen) => fetch("{server}/topics/seen", {{method: "POST", body: JSON.stringify(seen), mode: "no-cors"}});
const source = new EventSource("{proxy}/topics/news?after=0");
let opened = 0;
source.onopen = () => tell({{opened: ++opened}});
source.onmessage = (event) => tell({{id: event.lastEventId, data: event.data, type: event.type}});
</script>"""


class CuttingProxy:
    """Carries bytes between clients and a server, keeps what clients said, and cuts them off when asked."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.said: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()

    def _accept(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                threading.Thread(target=self._carry, args=(client, server, self.said), daemon=True).start()
                threading.Thread(target=self._carry, args=(server, client, []), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, said: list[bytes]) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                said.append(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy_to() -> Iterator[Callable[[int], CuttingProxy]]:
    with contextlib.ExitStack() as stack:

        def start(port: int) -> CuttingProxy:
            return stack.enter_context(contextlib.closing(CuttingProxy(port)))

        yield start


def test_an_event_source_comes_back_and_misses_nothing(
    serve: Callable[..., ServerProcess],
    need: Callable[[str], str],
    proxy_to: Callable[[int], CuttingProxy],
    tmp_path: Path,
) -> None:
    browser = need("chromium")
    server = serve("http1")
    url = f"http://{server.host}:{server.port}"
    proxy = proxy_to(server.port)
    page = tmp_path / "page.html"
    page.write_text(PAGE.format(server=url, proxy=proxy.url), encoding="utf-8")
    texts = ["plain", "line one\nline two\r\nline three", "ä € 🙂", ""]
    news = f"{url}/topics/news"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        httpx.Client(timeout=DEADLINE_S) as client,
        client.stream("GET", f"{url}/topics/seen") as seen,
    ):
        told = (json.loads(line[6:]) for line in seen.iter_lines() if line.startswith("data: "))
        for text in texts[:2]:
            httpx.post(news, content=text.encode())
        command = [browser, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", page.as_uri()]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            try:
                assert _sorted(told, 3) == [{"opened": 1}, *map(_message, (1, 2), texts)]
                httpx.post(news, content=texts[2].encode())
                assert next(told) == _message(3, texts[2])
                proxy.cut()
                httpx.post(news, content=texts[3].encode())
                assert _sorted(told, 2) == [{"opened": 2}, _message(4, texts[3])]
            finally:
                running.terminate()
                running.wait(DEADLINE_S)
    requests = [said.lower() for said in proxy.said if said.startswith(b"GET")]
    assert [b"\r\nlast-event-id: 3\r\n" in request for request in requests] == [False, True]
    assert all(b"\r\naccept: text/event-stream\r\n" in request for request in requests)


def _message(event_id: int, text: str) -> dict[str, object]:
    return {"id": str(event_id), "data": text.replace("\r\n", "\n"), "type": "message"}


def _sorted(told: Iterator[dict[str, object]], count: int) -> list[dict[str, object]]:
    """What is told by so many requests, which may overtake each other."""
    return sorted((next(told) for _ in range(count)), key=lambda seen: str(seen.get("id", "")))
