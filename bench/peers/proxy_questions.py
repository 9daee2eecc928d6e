"""What wirebench claims of its proxies: their rate against HAProxy's, in front of the same server, under the same load.

A proxy has a core to itself, HAProxy with one thread; the server behind it and the generator share another. Where
those two are the limit, the rates say little of the proxies, so each pair is compared by what a proxy gets done in a
second of its CPU time too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial

from bench.contract import Opcode
from bench.errors import WirebenchError
from bench.lab import probes
from bench.peers.comparison import Measure, Question, Sample, Setting
from bench.peers.generator import run_generator
from bench.peers.nginx import nginx
from bench.peers.own import lean_server, run_engine
from bench.peers.process import VoidError
from bench.peers.programs import HAPROXY, NGINX, WRK
from bench.peers.target import Target
from bench.peers.wrk import Wrk
from bench.proxies import Leg, hops_of
from bench.proxyprocess import Place, RunningHop, running_hop

_CONNECTIONS = 64
_PAYLOAD_BYTES = 64

OpenServer = Callable[[Sequence[int]], AbstractContextManager[Target]]
Drive = Callable[[Target, Setting], float]


def proxy_questions() -> list[Question]:
    """The questions, in the order of the table."""
    tcp = partial(lean_server, "tcp", Opcode.ECHO, _PAYLOAD_BYTES)
    if NGINX.find():
        behind, http = "nginx", partial(nginx, _PAYLOAD_BYTES)
    else:
        behind, http = "lean http1", partial(lean_server, "http1", Opcode.BYTES, _PAYLOAD_BYTES)
    generator, drive = ("wrk", _wrk) if WRK.find() else ("wirebench", _engine)
    return [
        *_pair(
            "proxy-l4", f"lean tcp, echo of {_PAYLOAD_BYTES} B, from wirebench", "l4", "haproxy-tcp", tcp, _engine, 0.5
        ),
        *_pair(
            "proxy-l7",
            f"{behind}, GET of {_PAYLOAD_BYTES} B, from {generator}",
            "l7",
            "haproxy-http",
            http,
            drive,
            0.25,
        ),
    ]


def _pair(
    name: str, what: str, ours: str, theirs: str, server: OpenServer, drive: Drive, target: float
) -> Iterator[Question]:
    hops = ours, theirs
    for suffix, measured in (("", "requests a second"), ("-cpu", "requests in a second of the proxy's CPU time")):
        yield Question(
            f"{name}{suffix}",
            f"proxy in front of {what}, {_CONNECTIONS} connections, {measured}: {ours} against {theirs}",
            (ours, HAPROXY.name),
            "requests/s",
            "higher",
            target,
            (HAPROXY,),
            partial(_open, hops, server, drive, suffix == "-cpu"),
        )


@contextmanager
def _open(
    hops: tuple[str, str], server: OpenServer, drive: Drive, by_cpu: bool, setting: Setting
) -> Iterator[Sequence[Measure]]:
    with server(setting.placement.load) as target:
        place = Place(target.host, target.port, Leg("1.1"), cpus=setting.placement.server)
        try:
            with running_hop(hops_of(hops[0])[0], place) as ours, running_hop(hops_of(hops[1])[0], place) as theirs:
                yield [partial(_measure, hop, target, drive, by_cpu, setting) for hop in (ours, theirs)]
        except WirebenchError as error:
            raise VoidError(str(error)) from None


def _measure(hop: RunningHop, target: Target, drive: Drive, by_cpu: bool, setting: Setting) -> Sample:
    before = probes.usage(hop.pids)
    rate_per_s = drive(replace(target, port=hop.port), setting)
    if not by_cpu:
        return Sample(rate_per_s)
    used = probes.spent(before, probes.usage(hop.pids))
    # What came before the seconds that count (the engine's warm-up) is in the CPU time of both sides alike.
    return Sample(rate_per_s * setting.duration_s / (used.cpu_user_s + used.cpu_system_s))


def _engine(target: Target, setting: Setting) -> float:
    return run_engine(target, f"closed:{_CONNECTIONS}", setting.duration_s, setting.placement.load).rate_per_s


def _wrk(target: Target, setting: Setting) -> float:
    return run_generator(Wrk(_CONNECTIONS), target, setting.duration_s, setting.placement.load)
