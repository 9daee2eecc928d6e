"""A server in the foreground: what `wirebench serve` runs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from bench import registry
from bench.address import SCHEMES, scheme_of
from bench.certificates import certificates
from bench.errors import UnsupportedError, UsageError
from bench.output import columns
from bench.protocols import CERTIFIED, PROTOCOLS, TLS_VERSIONS
from bench.quantities import parse_whole
from bench.serverprocess import ServerProcess

_POLL_S = 0.25
_CURL = {
    ("http2", False): "curl --http2-prior-knowledge",
    ("http2-upgrade", False): "curl --http2",
    ("sse-http2", False): "curl --http2-prior-knowledge",
    ("http3", True): "curl --http3-only",
    ("sse-http3", True): "curl --http3-only",
}
"""How curl is started for a protocol, without and with TLS; over TLS both ends agree on HTTP/2 by themselves."""


def make_server(
    protocol: str,
    execution: str,
    workers: int,
    host: str,
    port: int,
    cpus: str | None,
    stack: str,
    tls: str | None,
) -> ServerProcess:
    """A server that is ready to be started. Raises UsageError, UnsupportedError."""
    if execution == "single" and workers != 1:
        raise UsageError(f"--workers: the execution model single has one worker, not {workers}; add --execution")
    pinned = [parse_whole(number.strip(), 0, 4095, "--cpus") for number in cpus.split(",")] if cpus is not None else []
    registry.choose(protocol, PROTOCOLS, "protocol")
    registry.choose(stack, (name for name, known in registry.STACKS.items() if known.servers), "--stack")
    if tls is not None and registry.choose(tls, TLS_VERSIONS, "--tls") not in (known := PROTOCOLS[protocol].tls):
        raise UnsupportedError(f"--tls: {protocol} runs with {' or '.join(known)} only, not {tls}")
    return ServerProcess(protocol, execution, workers, host, port, pinned, stack=stack, tls=tls)


def serve_until_interrupted(server: ServerProcess, say: Callable[[str], None]) -> dict[str, Any]:
    """Wait for Ctrl-C (KeyboardInterrupt), telling of workers that end meanwhile. Gives what each worker did.

    Raises ServerFailedError if the server ends by itself.
    """
    told = 0
    try:
        while True:
            time.sleep(_POLL_S)
            for death in server.events[told:]:
                told += 1
                then = "another took its place" if death.restarted else "it was not replaced"
                say(f"worker {death.worker} {death.reason}; {then}")
    except KeyboardInterrupt:
        workers, deaths = server.stats()
    return {
        "protocol": server.protocol,
        "execution": server.execution,
        "stack": server.stack,
        "tls": server.tls,
        "host": server.host,
        "port": server.port,
        "workers": [asdict(counts) for counts in workers],
        "deaths": [asdict(death) for death in deaths],
    }


def greeting(server: ServerProcess) -> str:
    """Where the server is, whom clients are to trust, and what to try on it."""
    how = ", ".join(
        [server.execution]
        + ([server.stack] if server.stack != "lean" else [])
        + ([f"TLS {server.tls}"] if server.tls in CERTIFIED else [])
    )
    trust = ""
    if checks_certificate(server):
        trust = f"Its certificate comes from {certificates().authority}, for as long as it runs. "
    examples = columns(_examples(server), indent=2)
    return f"{server.protocol} ({how}) on {server.address}; Ctrl-C stops it. {trust}Try:\n{examples}"


def checks_certificate(server: ServerProcess) -> bool:
    """Whether clients of the server check a certificate that was made for it."""
    return SCHEMES[scheme_of(server.protocol, server.tls)].tls


def _examples(server: ServerProcess) -> list[list[str]]:
    """What to try, each with a command."""
    scheme = scheme_of(server.protocol, server.tls)
    authority = str(certificates().authority) if checks_certificate(server) else ""
    load = f"wirebench load {scheme}://{server.address}" + (f" --cacert {authority}" if authority else "")
    tries = list(_others(server, authority))
    if "request-response" in PROTOCOLS[server.protocol].patterns:
        tries += [
            ["as fast as 64 connections go", f"{load} --operation echo --payload 1KiB"],
            ["latency at a given rate", f"{load} --operation work:cpu=100us --load poisson:1000/s"],
        ]
    if "push" in PROTOCOLS[server.protocol].patterns and server.stack == "lean":
        tries.append(["1,000 subscribers of a topic", f"{load} --topic news --connections 1000 --load open:20/s"])
    return tries


def _others(server: ServerProcess, authority: str) -> Iterator[list[str]]:
    """Programs of others that speak to the server."""
    base = f"{'https' if authority else 'http'}://{server.address}"
    curl = _CURL.get((server.protocol, authority != ""), "curl") + (f" --cacert {authority}" if authority else "")
    match server.protocol:
        case "http1" | "http2" | "http2-upgrade" | "http3":
            yield ["is it there?", f"{curl} {base}/health"]
            yield ["the same bytes back", f"{curl} -d hello {base}/echo"]
            yield ["100 µs of CPU, then 5 ms", f"{curl} '{base}/work?cpu_us=100&wait_ms=5'"]
        case "sse" | "sse-http2" | "sse-http3":
            yield ["listen to a topic", f"{curl} -N {base}/topics/news"]
            yield ["publish to it", f"{curl} -d hello {base}/topics/news"]
        case "websocket":
            url = f"{scheme_of('websocket', server.tls)}://{server.address}/echo"
            trust = f"SSL_CERT_FILE={authority} " if authority else ""
            yield ["the same messages back", f"{trust}python -m websockets {url}"]
        case "grpc":
            security = f"-cacert {authority}" if authority else "-plaintext"
            yield ["what it can do", f"grpcurl {security} {server.address} list"]
        case "webrtc" | "webrtc-unreliable":
            yield ["is it there?", f"{curl} {base}/health"]


def summary(outcome: dict[str, Any]) -> str:
    """What each worker did, as a table."""
    rows = [["worker", "accepts", "requests", "CPU"]]
    for counts in outcome["workers"]:
        cpu = "–" if counts["cpu_ns"] is None else f"{counts['cpu_ns'] / 1e9:.2f} s"
        rows.append([str(counts["worker"]), f"{counts['accepts']:,}", f"{counts['requests']:,}", cpu])
    return columns(rows, right=range(1, 4))
