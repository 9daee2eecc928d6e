"""What wirebench claims of its protocols: lean clients and servers against the libraries', and events to many."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench.contract import Opcode
from bench.peers.comparison import Measure, Question, Sample, Setting
from bench.peers.generator import run_generator
from bench.peers.idle import CONNECTIONS, bytes_per_idle_connection, connections_allowed
from bench.peers.own import lean_server, run_engine
from bench.peers.picows_clients import PicowsClients
from bench.peers.trials import Words, compare_rates, compare_servers, deliveries, delivery_delay

_CONNECTIONS = 64
_PAYLOAD_BYTES = 64
_CLOSED = f"closed:{_CONNECTIONS}"
_STREAMS = "closed:8x16"
_QUIC = "closed:4x8"
_SUBSCRIBERS = 1_000
_EVENTS = "open:100/s"


def protocol_questions() -> list[Question]:
    """The questions, in the order of the table."""
    websocket: Words = {"protocol": "websocket", "load": _CLOSED}
    grpc: Words = {"protocol": "grpc", "load": _STREAMS}
    http3: Words = {"protocol": "http3", "load": _QUIC}
    idle = connections_allowed()
    fewer = "" if idle == CONNECTIONS else f" (of {CONNECTIONS:,}: the limit of open files allows no more)"
    picows = PicowsClients(_CONNECTIONS)
    return [
        Question(
            "websocket-picows",
            f"engine, WebSocket, {_CLOSED}, lean server: wirebench against picows",
            ("wirebench", "picows"),
            "requests/s",
            "higher",
            1.0,
            (picows.program,),
            partial(_open_websocket_clients, picows),
        ),
        _servers("websocket", websocket, "websockets", 3.0),
        _clients("grpc", grpc, "grpcio-aio", 5.0),
        _servers("grpc", grpc, "grpcio-aio", 5.0),
        _clients("http3", http3, "aioquic", 2.5),
        _servers("http3", http3, "aioquic", 2.5),
        *(question for protocol in ("sse", "websocket") for question in _fan_out(protocol)),
        Question(
            "idle-websockets",
            f"server, lean websocket: memory of each of {idle:,} idle connections{fewer}",
            ("lean websocket",),
            "B",
            "lower",
            15_000,
            (),
            partial(_open_idle, idle),
        ),
    ]


def _servers(protocol: str, words: Words, stack: str, target: float) -> Question:
    title = (
        f"server, {protocol}, echo of {_PAYLOAD_BYTES} B, {words['load']}, answers in a second of its CPU time: "
        f"lean against {stack}"
    )
    sides = (f"lean {protocol}", stack)
    return compare_servers(f"{protocol}-server", title, sides, (words, {**words, "stack": stack}), target)


def _clients(protocol: str, words: Words, stack: str, target: float) -> Question:
    title = f"client, {protocol}, {words['load']}, lean server: lean against {stack}"
    sides = ("lean client", f"{stack} client")
    return compare_rates(f"{protocol}-client", title, sides, (words, {**words, "client": stack}), target)


def _fan_out(protocol: str) -> list[Question]:
    words: Words = {"protocol": protocol, "pattern": "push", "load": _EVENTS, "connections": str(_SUBSCRIBERS)}
    what = f"{protocol}, {_EVENTS} to {_SUBSCRIBERS:,} subscribers"
    return [
        deliveries(f"{protocol}-fan-out", f"server, {what}: deliveries in a second of its CPU time", words, 100_000),
        delivery_delay(f"{protocol}-delay", f"{what}: p99 of the delay from when an event was due", words, 20_000_000),
    ]


@contextmanager
def _open_websocket_clients(picows: PicowsClients, setting: Setting) -> Iterator[Sequence[Measure]]:
    cpus = setting.placement.load

    def ours() -> Sample:
        figures = run_engine(target, _CLOSED, setting.duration_s, cpus)
        return Sample(figures.rate_per_s, figures.rate_per_s * figures.cpu_ns_per_request / 1e9)

    with lean_server("websocket", Opcode.ECHO, _PAYLOAD_BYTES, setting.placement.server) as target:
        yield ours, lambda: Sample(run_generator(picows, target, setting.duration_s, cpus))


@contextmanager
def _open_idle(count: int, setting: Setting) -> Iterator[Sequence[Measure]]:
    yield (lambda: Sample(bytes_per_idle_connection(count, setting.placement.server, "websocket")),)
