"""What wirebench claims about its own speed, as questions: each with its target and how to measure it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from bench.contract import Opcode
from bench.peers import recorder_cost
from bench.peers.asgi import asgi_server
from bench.peers.broker_questions import broker_questions
from bench.peers.comparison import Measure, Question, Sample, Setting
from bench.peers.coordination_questions import coordination_questions
from bench.peers.generator import Generator, run_generator
from bench.peers.h2load import H2load
from bench.peers.hey import Hey
from bench.peers.idle import CONNECTIONS, bytes_per_idle_connection, connections_allowed
from bench.peers.locust_users import LocustUsers
from bench.peers.nghttpd import nghttpd
from bench.peers.nginx import nginx
from bench.peers.own import EngineFigures, lean_server, run_engine
from bench.peers.programs import GRANIAN, NGHTTPD, NGINX, UVICORN, WRK, Program
from bench.peers.protocol_questions import protocol_questions
from bench.peers.proxy_questions import proxy_questions
from bench.peers.target import Target, verify
from bench.peers.wrk import Wrk

_CONNECTIONS = 64
_STREAMS = (8, 16)
_PAYLOAD_BYTES = 64
_TLS = "1.3"
_CLOSED = f"closed:{_CONNECTIONS}"
_CLOSED_STREAMS = f"closed:{_STREAMS[0]}x{_STREAMS[1]}"

OpenTarget = Callable[[Sequence[int]], AbstractContextManager[Target]]


def questions() -> list[Question]:
    """All questions, in the order of the table. What stands in for a program that is not installed is chosen here."""
    if NGINX.find():
        http1_server, http1 = "nginx", partial(nginx, _PAYLOAD_BYTES)
        https: OpenTarget = partial(nginx, _PAYLOAD_BYTES, tls=_TLS)
    else:
        http1_server, http1 = "lean http1", partial(lean_server, "http1", Opcode.BYTES, _PAYLOAD_BYTES)
        https = partial(lean_server, "http1", Opcode.BYTES, _PAYLOAD_BYTES, tls=_TLS)
    generator = "wrk" if WRK.find() else "wirebench"
    idle = connections_allowed()
    fewer = "" if idle == CONNECTIONS else f" (of {CONNECTIONS:,}: the limit of open files allows no more)"
    return [
        *(
            _engines(f"http1-{other.program.name}", "HTTP/1.1", _CLOSED, http1_server, http1, other, (), target)
            for other, target in (
                (Wrk(_CONNECTIONS), 1.0),
                (Hey(_CONNECTIONS), 4.0),
                (LocustUsers(_CONNECTIONS), 20.0),
            )
        ),
        _engines(
            "http2-h2load",
            "HTTP/2",
            _CLOSED_STREAMS,
            "nghttpd",
            partial(nghttpd, _PAYLOAD_BYTES),
            H2load(*_STREAMS),
            (NGHTTPD,),
            0.95,
        ),
        _engines(
            "https-wrk",
            f"HTTP/1.1 over TLS {_TLS}",
            _CLOSED,
            http1_server,
            https,
            Wrk(_CONNECTIONS),
            (),
            0.95,
        ),
        _engines(
            "http2-tls-h2load",
            f"HTTP/2 over TLS {_TLS}",
            _CLOSED_STREAMS,
            "nghttpd",
            partial(nghttpd, _PAYLOAD_BYTES, tls=_TLS),
            H2load(*_STREAMS),
            (NGHTTPD,),
            0.9,
        ),
        Question(
            "tcp-http1",
            f"engine, {_CLOSED}, echo of {_PAYLOAD_BYTES} B, lean servers: raw TCP against HTTP/1.1",
            ("tcp", "http1"),
            "requests/s",
            "higher",
            1.0,
            (),
            _open_tcp_and_http1,
        ),
        *(
            Question(
                f"lateness-{rate}",
                f"engine, open:{rate}/s, {http1_server}: p99 of send lateness",
                ("wirebench",),
                "ns",
                "lower",
                100_000,
                (),
                partial(_open_lateness, http1, rate),
            )
            for rate in (5_000, 20_000)
        ),
        Question(
            "recorder",
            f"recorder, share of the load process's CPU time a request ({_CLOSED}, {http1_server})",
            ("wirebench",),
            "%",
            "lower",
            5.0,
            (),
            partial(_open_recorder, http1),
        ),
        *(
            Question(
                f"server-{program.name}",
                f"server, echo of {_PAYLOAD_BYTES} B, {_CLOSED} from {generator}: lean http1 against {program.name}",
                ("lean http1", program.name),
                "requests/s",
                "higher",
                target,
                (program,),
                partial(_open_servers, program),
            )
            for program, target in ((UVICORN, 3.0), (GRANIAN, 2.5))
        ),
        Question(
            "idle-memory",
            f"server, lean http1: memory of each of {idle:,} idle keep-alive connections{fewer}",
            ("lean http1",),
            "B",
            "lower",
            12_000,
            (),
            partial(_open_idle, idle),
        ),
        *protocol_questions(),
        *broker_questions(),
        *proxy_questions(),
        *coordination_questions(),
    ]


def _engines(
    name: str,
    protocol: str,
    load: str,
    server: str,
    open_target: OpenTarget,
    other: Generator,
    needs: tuple[Program, ...],
    target: float,
) -> Question:
    """The engine against another generator."""
    return Question(
        name,
        f"engine, {protocol}, {load}, {server}: wirebench against {other.program.name}",
        ("wirebench", other.program.name),
        "requests/s",
        "higher",
        target,
        (*needs, other.program),
        partial(_open_generators, open_target, load, other),
    )


def _rate(figures: EngineFigures) -> Sample:
    return Sample(figures.rate_per_s, figures.rate_per_s * figures.cpu_ns_per_request / 1e9)


@contextmanager
def _open_generators(
    open_target: OpenTarget, load: str, other: Generator, setting: Setting
) -> Iterator[Sequence[Measure]]:
    cpus = setting.placement.load
    with open_target(setting.placement.server) as target:
        yield (
            lambda: _rate(run_engine(target, load, setting.duration_s, cpus)),
            lambda: Sample(run_generator(other, target, setting.duration_s, cpus)),
        )


@contextmanager
def _open_tcp_and_http1(setting: Setting) -> Iterator[Sequence[Measure]]:
    def measure(target: Target) -> Sample:
        return _rate(run_engine(target, _CLOSED, setting.duration_s, setting.placement.load))

    cpus = setting.placement.server
    with (
        lean_server("tcp", Opcode.ECHO, _PAYLOAD_BYTES, cpus) as tcp,
        lean_server("http1", Opcode.ECHO, _PAYLOAD_BYTES, cpus) as http1,
    ):
        yield partial(measure, tcp), partial(measure, http1)


@contextmanager
def _open_lateness(open_target: OpenTarget, rate: int, setting: Setting) -> Iterator[Sequence[Measure]]:
    def measure() -> Sample:
        figures = run_engine(target, f"open:{rate}/s", setting.duration_s, setting.placement.load)
        assert figures.lateness_p99_ns is not None
        return Sample(figures.lateness_p99_ns)

    with open_target(setting.placement.server) as target:
        yield (measure,)


@contextmanager
def _open_recorder(open_target: OpenTarget, setting: Setting) -> Iterator[Sequence[Measure]]:
    def measure() -> Sample:
        figures = run_engine(target, _CLOSED, setting.duration_s, setting.placement.load)
        return Sample(recorder_cost.record_ns(setting.placement.load) / figures.cpu_ns_per_request * 100)

    with open_target(setting.placement.server) as target:
        yield (measure,)


@contextmanager
def _open_servers(program: Program, setting: Setting) -> Iterator[Sequence[Measure]]:
    def measure(target: Target) -> Sample:
        cpus = setting.placement.load
        if WRK.find():
            return Sample(run_generator(Wrk(_CONNECTIONS), target, setting.duration_s, cpus))
        return Sample(run_engine(target, _CLOSED, setting.duration_s, cpus).rate_per_s)

    cpus = setting.placement.server
    with (
        lean_server("http1", Opcode.ECHO, _PAYLOAD_BYTES, cpus) as ours,
        asgi_server(program, _PAYLOAD_BYTES, cpus) as theirs,
    ):
        verify(ours)
        yield partial(measure, ours), partial(measure, theirs)


@contextmanager
def _open_idle(count: int, setting: Setting) -> Iterator[Sequence[Measure]]:
    yield (lambda: Sample(bytes_per_idle_connection(count, setting.placement.server, "http1")),)
