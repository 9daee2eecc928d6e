"""The WebRTC server and a real browser: Chromium opens data channels to it."""

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench import contract
from bench.serverprocess import ServerProcess
from bench.wire.frames import MORE, decode_datagram, encode_event, encode_frame, encode_named
from tests.servers.execution_helpers import Serve

DEADLINE_S = 40.0

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Without it the browser gathers no candidates on loopback, where this test is to stay.
    "--allow-loopback-in-peer-connection",
]

# Does what the steps say, one after the other, and posts what it saw. A frame is bytes as a list of numbers.
PAGE = """<!doctype html>
<script type="module">
const steps = %s;
const seen = [];
const peer = new RTCPeerConnection();
const bytes = (data) => typeof data === "string" ? data : Array.from(new Uint8Array(data));
const ask = (channel, message) => new Promise((resolve) => {
  channel.onmessage = (event) => resolve(bytes(event.data));
  channel.send(typeof message === "string" ? message : new Uint8Array(message));
});
try {
  const channels = steps.map((step) => {
    const channel = peer.createDataChannel(step.label, step.options);
    channel.binaryType = "arraybuffer";
    channel.opened = new Promise((resolve) => { channel.onopen = resolve; });
    channel.closed = new Promise((resolve) => { channel.onclose = () => resolve("closed"); });
    return channel;
  });
  await peer.setLocalDescription();
  await new Promise((resolve) => {
    peer.onicegatheringstatechange = () => { if (peer.iceGatheringState === "complete") resolve(); };
    if (peer.iceGatheringState === "complete") resolve();
  });
  const response = await fetch("/webrtc/offer", {method: "POST", body: JSON.stringify(peer.localDescription)});
  seen.push(response.status, response.headers.get("content-type"));
  await peer.setRemoteDescription(await response.json());
  for (const [index, step] of steps.entries()) {
    const channel = channels[index];
    await channel.opened;
    for (const message of step.messages) seen.push(await ask(channel, message));
    if (step.leave) channel.close();
    if (step.leave || step.ends) seen.push(await channel.closed);
  }
  const stats = [...(await peer.getStats()).values()];
  const pair = stats.find((entry) => entry.type === "candidate-pair" && entry.nominated);
  seen.push(stats.find((entry) => entry.id === pair.remoteCandidateId).address);
  peer.close();
} catch (error) {
  seen.push(String(error));
}
await fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
</script>"""


class Site(ThreadingHTTPServer):
    """Serves the page, passes offers on to the server (to the page they have one origin), and keeps what was seen."""

    daemon_threads = True

    def __init__(self, steps: list[dict[str, Any]], target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Visit)
        self.page = (PAGE % json.dumps(steps)).encode()
        self.target = target
        self.offers: list[str] = []
        self.seen: queue.Queue[list[Any]] = queue.Queue()


class Visit(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self._answer(200, "text/html", self.server.page)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/seen":
            self._answer(200, "text/plain", b"")
            self.server.seen.put(json.loads(body))
            return
        self.server.offers.append(json.loads(body)["sdp"])
        with contextlib.closing(http.client.HTTPConnection(*self.server.target, timeout=DEADLINE_S)) as there:
            there.request("POST", self.path, body)
            answer = there.getresponse()
            self._answer(answer.status, answer.headers["content-type"], answer.read())

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        pass


@contextlib.contextmanager
def site(steps: list[dict[str, Any]], process: ServerProcess) -> Iterator[Site]:
    with Site(steps, (process.host, process.port)) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


def look(browser: str, url: str, seen: "queue.Queue[list[Any]]", *flags: str) -> list[Any]:
    """What the page posts; the browser is gone then."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, tempfile.TemporaryFile() as errors:
        running = subprocess.Popen(
            [browser, *FLAGS, f"--user-data-dir={Path(profile)}", *flags, url],
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            return seen.get(timeout=DEADLINE_S)
        except queue.Empty:
            errors.seek(0)
            pytest.fail(f"the page posted nothing: {errors.read()[-2000:].decode(errors='replace')}")
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


@pytest.mark.parametrize("flags", [(), ("--disable-features=WebRtcHideLocalIpsWithMdns",)], ids=["mdns", "addresses"])
def test_a_browser_talks_on_data_channels(serve: Serve, need: Callable[[str], str], flags: tuple[str, ...]) -> None:
    browser = need("chromium")
    if not flags and set(psutil.net_if_addrs()) <= {"lo", "lo0"}:
        pytest.skip("names of mDNS need an interface with multicast, and here is only loopback")
    process = serve("webrtc", tls="off")
    frames = [
        list(encode_frame(1, b"abcd", b"hello")),
        list(encode_named("GET", "/topics/pushed", b"efgh")),
        list(encode_named("POST", "/topics/pushed", b"ijkl", b"news")),
    ]
    steps: list[dict[str, Any]] = [
        {"label": "echo", "messages": ["text", "é" * 30_000, [1, 2, 3], [7] * 100_000, ""], "leave": True},
        {"label": "echo", "options": {"ordered": False, "maxRetransmits": 0}, "messages": ["loose", [9]]},
        {"label": "bytes/5", "messages": [""]},
        {"label": "frames", "options": {"protocol": "wirebench"}, "messages": frames},
        {"label": "topics/browser", "messages": ["published, and delivered"]},
        {"label": "nonsense", "messages": [], "ends": True},
    ]
    with site(steps, process) as served:
        seen = look(browser, f"http://127.0.0.1:{served.server_port}/", served.seen, *flags)
        obfuscated = [line for line in served.offers[0].splitlines() if ".local " in line]
    assert seen[:2] == [200, "application/json"]
    assert seen[2:8] == ["text", "é" * 30_000, [1, 2, 3], [7] * 100_000, "", "closed"]
    assert seen[8:11] == ["loose", [9], list(contract.pattern(5))]
    assert decode_datagram(bytes(seen[11]))[4] == b"hello"
    assert bytes(seen[12]) == encode_frame(200, b"efgh", b"", flags=MORE)
    assert bytes(seen[13]) == encode_event(b"efgh", 1, b"news")
    assert seen[14:] == ["published, and delivered", "closed", "127.0.0.1"]
    assert bool(obfuscated) == (not flags)
    process.stop()
    assert process.stderr == ""
