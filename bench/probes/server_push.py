"""A page and its style sheet over HTTP/2, which the server may push (RFC 9113, section 8.4) or hint at (RFC 8297).

The two ends are h2's, since no client of wirebench takes pushes, as no browser does any more. Each is this module as a
process, told in a line of JSON: {"role": "serve", "how", "host"}, which says `ready` {"port"}; or {"role": "fetch",
"host", "port", "cached"}, which says `fetched` {"pages_ns", "received_bytes"}.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    PushedStreamReceived,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
)
from h2.exceptions import StreamClosedError

from bench.childprocess import ChildProcess, heard
from bench.lab.kernel import CONGESTION
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import CLIENT, SERVER, two_ends

_LINK = parse_link("rtt=100ms", "link")
_KERNEL = {CONGESTION: "reno"}  # BBR paces what fits into a window
_MAKING_S = 0.1
"""How long the server takes to make the page."""
_PAGE, _STYLE = bytes(4000), bytes(12_000)
_PAGES = 3
_TIMEOUT_S = 20.0
_HINT = ("link", "</style.css>; rel=preload; as=style")


def measure(how: str, cached: str) -> dict[str, float]:
    """How long the page takes with its style sheet, and what comes for it. Raises UnsupportedError."""
    with Lab(two_ends(_LINK), kernel=_KERNEL) as lab:
        host = lab.topology.address(SERVER)
        told = {"role": "serve", "how": how, "host": host}
        server = ChildProcess("bench.probes.server_push", lab.within(SERVER))
        client = ChildProcess("bench.probes.server_push", lab.within(CLIENT))
        try:
            server.send(told)
            port = heard(server, "ready", "the page's server", _TIMEOUT_S)["port"]
            client.send({"role": "fetch", "host": host, "port": port, "cached": cached == "yes"})
            fetched = heard(client, "fetched", "the page's client", _TIMEOUT_S)
        finally:
            client.kill()
            server.kill()
    return {"page_ns": statistics.median(fetched["pages_ns"]), "received_bytes": fetched["received_bytes"] / _PAGES}


class _End(asyncio.Protocol):
    """One end of the connection."""

    def __init__(self, is_client: bool) -> None:
        self._h2 = H2Connection(H2Configuration(client_side=is_client, header_encoding=None))
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._h2.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(f"the connection ended: {exc}")

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            self._happened(event)
        self._flush()

    def _happened(self, event: object) -> None:
        """Something has arrived."""

    def _flush(self) -> None:
        self._transport.write(self._h2.data_to_send())


class _Server(_End):
    def __init__(self, how: str) -> None:
        super().__init__(is_client=False)
        self._how = how

    def _happened(self, event: object) -> None:
        if not isinstance(event, RequestReceived):
            return
        assert event.headers is not None
        assert event.stream_id is not None
        if dict(event.headers)[b":path"] != b"/page":
            self._answer(event.stream_id, _STYLE)
            return
        if self._how == "pushed":
            promised = self._h2.get_next_available_stream_id()
            self._h2.push_stream(event.stream_id, promised, _request("/style.css"))
            self._answer(promised, _STYLE)
        elif self._how == "hinted":
            self._h2.send_headers(event.stream_id, [(":status", "103"), _HINT])
        asyncio.get_running_loop().call_later(_MAKING_S, self._made, event.stream_id)

    def _made(self, stream_id: int) -> None:
        self._answer(stream_id, _PAGE)
        self._flush()

    def _answer(self, stream_id: int, body: bytes) -> None:
        self._h2.send_headers(stream_id, [(":status", "200")])
        self._h2.send_data(stream_id, body, end_stream=True)


class _Client(_End):
    def __init__(self, cached: bool) -> None:
        super().__init__(is_client=True)
        self.received_bytes = 0
        self.usable = asyncio.Event()
        self._cached = cached
        self._due: set[str] = set()
        """What the page still lacks."""
        self._asked: dict[int, str] = {}
        self._whole: asyncio.Future[None]

    async def fetch(self) -> None:
        """Fetch the page, and its style sheet if that is not there already."""
        self._whole = asyncio.get_running_loop().create_future()
        self._due = {"/page"} if self._cached else {"/page", "/style.css"}
        self._ask("/page")
        self._flush()
        await self._whole

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        super().data_received(data)

    def _happened(self, event: object) -> None:
        match event:
            case SettingsAcknowledged():
                self.usable.set()
            case PushedStreamReceived(pushed_stream_id=int(pushed)):
                self._asked[pushed] = "/style.css"
                if self._cached:
                    with contextlib.suppress(StreamClosedError):  # it has come as a whole already
                        self._h2.reset_stream(pushed, ErrorCodes.CANCEL)
            case InformationalResponseReceived() if not self._cached:
                self._ask("/style.css")
            case DataReceived(stream_id=int(stream_id), flow_controlled_length=int(length)):
                self._h2.acknowledge_received_data(length, stream_id)
            case StreamEnded(stream_id=int(stream_id)):
                self._ended(self._asked.pop(stream_id))

    def _ended(self, path: str) -> None:
        self._due.discard(path)
        if "/style.css" in self._due and "/style.css" not in self._asked.values():
            self._ask("/style.css")
        if not self._due and not self._whole.done():
            self._whole.set_result(None)

    def _ask(self, path: str) -> None:
        stream_id = self._h2.get_next_available_stream_id()
        self._asked[stream_id] = path
        self._h2.send_headers(stream_id, _request(path), end_stream=True)


def _request(path: str) -> list[tuple[str, str]]:
    return [(":method", "GET"), (":scheme", "http"), (":authority", "page"), (":path", path)]


async def _serve(how: str, host: str) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Server(how), host, 0)
    print(json.dumps({"event": "ready", "port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


async def _fetch(host: str, port: int, cached: bool) -> None:
    _, client = await asyncio.get_running_loop().create_connection(lambda: _Client(cached), host, port)
    await client.usable.wait()
    await client.fetch()  # the first one finds a cold connection
    client.received_bytes = 0
    pages_ns = []
    for _ in range(_PAGES):
        begun_ns = time.monotonic_ns()
        await client.fetch()
        pages_ns.append(time.monotonic_ns() - begun_ns)
    print(json.dumps({"event": "fetched", "pages_ns": pages_ns, "received_bytes": client.received_bytes}), flush=True)


if __name__ == "__main__":
    said = json.loads(sys.stdin.readline())
    roles: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"serve": _serve, "fetch": _fetch}
    asyncio.run(roles[said.pop("role")](**said))
