"""Six streams of events and then one more request, from a client with a browser's limit of connections."""

import contextlib
import time

import httpx

from bench.serverprocess import ServerProcess

_STREAMS = 6
_PATIENCE_S = 1.0


def measure(http: str) -> dict[str, float]:
    """Whether the seventh request is answered within a second, and when. `http` is 1.1, with six connections, or 2,
    with one."""
    http2 = http == "2"
    limits = httpx.Limits(max_connections=1 if http2 else _STREAMS)
    with (
        ServerProcess("sse-http2" if http2 else "sse") as server,
        httpx.Client(
            base_url=f"http://{server.address}",
            http1=not http2,
            http2=http2,
            limits=limits,
            trust_env=False,
            timeout=10,
        ) as client,
        contextlib.ExitStack() as streams,
    ):
        for _ in range(_STREAMS):
            stream = client.stream("GET", "/topics/prices", headers={"accept": "text/event-stream"})
            streams.enter_context(stream).raise_for_status()
        begun_ns = time.monotonic_ns()
        try:
            client.get("/health", timeout=_PATIENCE_S).raise_for_status()
        except httpx.PoolTimeout:
            return {"served_share": 0, "seventh_ns": time.monotonic_ns() - begun_ns}
        return {"served_share": 1, "seventh_ns": time.monotonic_ns() - begun_ns}
