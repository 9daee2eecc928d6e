"""The lean WebSocket server and a real browser."""

import http.server
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.serverprocess import ServerProcess

Serve = Callable[..., ServerProcess]

DEADLINE_S = 60.0

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
]

PAGE = """<!doctype html>
<script>
const text = "h\\u00e9llo \\u{1f600} ";
const seen = {echoed: [], events: []};
const report = () => fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
const same = (one, other) => typeof one === "string" ? one === other
  : one.byteLength === other.byteLength && one.every((byte, at) => byte === new Uint8Array(other)[at]);
const noise = new Uint8Array(300000).map(() => Math.floor(256 * Math.random()));
const messages = ["", text, new Uint8Array([0, 255, 128]), text.repeat(100000), noise, "end"];
const echo = new WebSocket("ws://ADDRESS/echo");
echo.binaryType = "arraybuffer";
echo.onopen = () => { seen.extensions = echo.extensions; messages.forEach((message) => echo.send(message)); };
echo.onmessage = (event) => {
  seen.echoed.push(same(messages[seen.echoed.length], event.data));
  if (seen.echoed.length === messages.length) echo.close(4321, "done \\u00e9");
};
echo.onclose = (event) => {
  seen.closed = [event.code, event.wasClean];
  const topic = new WebSocket("ws://ADDRESS/topics/browser");
  topic.onopen = () => { topic.send("one"); topic.send("two"); };
  topic.onmessage = (event) => {
    seen.events.push(event.data);
    if (seen.events.length === 2) topic.send(new Uint8Array([1]));
  };
  topic.onclose = (event) => { seen.refused = [event.code, event.reason, event.wasClean]; report(); };
};
</script>"""


@contextmanager
def page(content: str) -> Iterator[tuple[int, "queue.Queue[dict[str, Any]]"]]:
    """Serves a page; gives its port, and what the page reports."""
    reports: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = content.encode()
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            reports.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, reports
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
def test_chromium_is_echoed_and_closes_cleanly(serve: Serve, need: Callable[[str], str], execution: str) -> None:
    browser = need("chromium")
    server = serve("websocket", execution)
    with (
        page(PAGE.replace("ADDRESS", server.address)) as (port, reports),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        command = [browser, *FLAGS, f"--user-data-dir={profile}", f"http://127.0.0.1:{port}/"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as chromium:
            try:
                seen = reports.get(timeout=DEADLINE_S)
            finally:
                chromium.terminate()
    assert seen == {
        "extensions": "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        "echoed": [True] * 6,
        "closed": [4321, True],
        "events": ["one", "two"],
        "refused": [1003, "events are text", True],
    }
    assert server.stderr == ""
