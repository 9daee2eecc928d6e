"""A proxy as a process: `python -m servers.proxies`, with a JSON spec as the first line of its input (see
`servers.proxies.spec`).

It says `ready` with host, port and pid, or `error` with a message; to `{"ask": "stats"}` it says `stats` with what it
has counted; `{"ask": "lose", "share": 0.1}` sets the share of answers that are lost; to `{"ask": "stop"}`, or when its
input ends, it lets go of all connections, says `stopped` and ends.
"""

import asyncio
import os
import resource
import sys
from dataclasses import asdict
from typing import Any

import uvloop

from servers.line import emit, obey_until_stopped, read_spec
from servers.proxies.layer4 import Layer4
from servers.proxies.spec import Counts, ProxySpec, SpecError, parse_spec
from servers.proxies.upstreams import Upstreams, check_health


def _make(spec: ProxySpec, upstreams: Upstreams, counts: Counts) -> Any:
    if spec.layer == 4 and spec.transport == "udp":
        from servers.proxies.layer4_udp import DatagramLayer4

        return DatagramLayer4(spec, upstreams, counts)
    if spec.layer == 4:
        return Layer4(spec, upstreams, counts)
    from servers.proxies.layer7 import Layer7

    return Layer7(spec, upstreams, counts)


async def _serve(spec: ProxySpec) -> int:
    loop = asyncio.get_running_loop()
    counts, upstreams = Counts(), Upstreams(spec)
    try:
        proxy = _make(spec, upstreams, counts)
        listener = await proxy.listen()
    except SpecError as error:
        emit("error", message=str(error), exit_code=2)
        return 2
    except OSError as error:
        reason = error.strerror or str(error)
        emit("error", message=f"the proxy cannot listen on {spec.host} port {spec.port}: {reason}", exit_code=2)
        return 2
    proxy.start()
    checks = loop.create_task(check_health(upstreams, spec)) if spec.health_interval_s else None

    def stats(_: dict[str, Any]) -> None:
        known = [{"host": u.host, "port": u.port, "up": u.is_up, "open": u.open} for u in upstreams.all]
        emit("stats", counts=asdict(counts), upstreams=known)

    def lose(command: dict[str, Any]) -> None:
        proxy.lose_share = command["share"]

    emit("ready", host=spec.host, port=listener.port, pid=os.getpid())
    await obey_until_stopped({"stats": stats, "lose": lose})
    if checks is not None:
        checks.cancel()
    proxy.abort()
    await asyncio.sleep(0)
    listener.close()
    emit("stopped")
    return 0


def main() -> int:
    try:
        spec = parse_spec(read_spec())
    except SpecError as error:
        emit("error", message=str(error), exit_code=2)
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # each connection takes two
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_serve(spec))


if __name__ == "__main__":
    sys.exit(main())
