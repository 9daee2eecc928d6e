"""Reads result files into frozen objects. Everything behind this module can trust what it gets.

A file, which gzip may have compressed, is checked against `bench/run.schema.json` before anything is made of it; what
is wrong ends as one line that names the file and the place in it. None always means "not measured". results/README.md
explains the fields.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import jsonschema
from jsonschema.exceptions import best_match

from bench.errors import UsageError
from bench.resultfile import KIND, SCHEMA_VERSION

Record = TypeVar("Record")

_GZIP_MAGIC = b"\x1f\x8b"
"""How what gzip has compressed begins (RFC 1952, 2.3.1)."""


@dataclass(frozen=True)
class Scenario:
    """One full choice of protocol, stack, pattern, execution model, link and load, as its result file spells it."""

    name: str
    group: str
    protocol: str
    stack: str
    tier: str
    pattern: str
    operation: str
    payload_bytes: int
    execution: str
    workers: int
    load: str
    connections: str
    link: str
    warmup_ns: int
    duration_ns: int
    timeout_ns: int
    queue_limit: int | None
    client: str = "lean"
    tls: str = "off"
    handshake: str = "full"
    fast_open: str = "off"
    restart: float = 0.0
    beside: str | None = None
    via: str = "none"

    @property
    def load_kind(self) -> str:
        """closed, open, poisson, burst, ramp or stages, or none."""
        return self.load.partition(":")[0]

    @property
    def is_closed(self) -> bool:
        return self.load_kind == "closed"

    @property
    def is_push(self) -> bool:
        """Whether what counts is deliveries of events, and not answers to requests."""
        return self.pattern.partition(":")[0] in ("push", "short-poll", "long-poll", "pubsub")


@dataclass(frozen=True)
class Counts:
    """What became of the requests of one trial, warm-up excluded. `errors` by kind."""

    offered: int
    sent: int
    completed: int
    errors: Mapping[str, int]
    dropped: int

    @property
    def failed(self) -> int:
        """Requests that ended with an error or were dropped."""
        return sum(self.errors.values()) + self.dropped


@dataclass(frozen=True)
class Distribution:
    """Durations of one trial in nanoseconds. `hdr` is their histogram (see `analysis.histograms`)."""

    count: int
    mean: float
    min: float
    p50: float
    p90: float
    p99: float
    p999: float | None  # too few samples for it
    max: float
    hdr: str | None


@dataclass(frozen=True)
class Interval:
    """A slice of the measured phase; `start_ns` counts from the start of that phase."""

    start_ns: int
    duration_ns: int
    completed: int
    errors: int
    hdr: str | None


@dataclass(frozen=True)
class Delivery:
    """What became of the events of one trial of the pattern push. Each event is due once at each subscriber, so
    `expected` is events times subscribers; `reach` is the delivered share of that."""

    subscribers: int
    published: int
    expected: int
    delivered: int
    duplicates: int
    reach: float | None


@dataclass(frozen=True)
class Step:
    """A packet of a ladder. Times are nanoseconds since the first packet was sent; one that never arrived was lost.
    `is_up` if it went from the client to the server."""

    is_up: bool
    sent_ns: int
    arrived_ns: int | None
    label: str
    bytes: int
    retransmission: bool


@dataclass(frozen=True)
class Ladder:
    """The packets of one conversation over a link with the round-trip time `rtt_ns`. `left_out` packets followed that
    are not in `steps`."""

    protocol: str
    rtt_ns: int
    packets: int
    bytes: int
    retransmissions: int
    first_byte_ns: int | None
    first_byte_rtts: float | None
    steps: tuple[Step, ...]
    left_out: int
    pcap: str | None = None
    """The pcap file of all its packets, compressed by zlib, in base64; None if it was too large to be kept."""


@dataclass(frozen=True)
class ClientUse:
    """What the load processes used during the measured phase, all of them together. `cpu_share_max` is that of the
    busiest one, in cores."""

    processes: int | None = None
    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    cpu_share_max: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    context_switches_voluntary: int | None = None
    context_switches_involuntary: int | None = None


@dataclass(frozen=True)
class WorkerUse:
    """What one worker of the server did."""

    worker: int
    pid: int | None
    accepts: int
    requests: int
    cpu_s: float | None


@dataclass(frozen=True)
class Death:
    """A worker that ended by itself."""

    worker: int
    reason: str
    restarted: bool


@dataclass(frozen=True)
class ServerUse:
    """What the server used during the measured phase, all of its processes together."""

    cpu_user_s: float | None = None
    cpu_system_s: float | None = None
    rss_bytes: int | None = None
    pss_bytes: int | None = None
    context_switches_voluntary: int | None = None
    context_switches_involuntary: int | None = None
    pss_bytes_before: int | None = None
    """Before the first client came."""
    workers: tuple[WorkerUse, ...] = ()
    deaths: tuple[Death, ...] = ()


@dataclass(frozen=True)
class HopUse:
    """What a proxy in the path used during the measured phase, and what it adds to the latency of one request alone,
    which was measured before."""

    kind: str
    cpu_user_s: float | None
    cpu_system_s: float | None
    added_latency_ns: float | None


@dataclass(frozen=True)
class WireUse:
    """What both ends sent over the link during the measured phase; bytes of IP."""

    packets: int
    bytes: int


@dataclass(frozen=True)
class RequestUse:
    """What became of one request of a mix. `complaint` says why its first wrong answer was wrong."""

    completed: int
    errors: Mapping[str, int]
    complaint: str | None
    latency_ns: Distribution | None


@dataclass(frozen=True)
class Judged:
    """A threshold on a trial: the figure, in the unit (ns, share, count or per_s), and whether it held. None where it
    was not measured."""

    threshold: str
    unit: str
    value: float | None
    held: bool | None


@dataclass(frozen=True)
class Doubt:
    """A reason not to trust a trial. A fatal one means that no verdict may rest on it."""

    kind: str
    fatal: bool
    detail: str


@dataclass(frozen=True)
class Trial:
    """One run of one scenario. `where` names the file and the place in it, for errors about its content."""

    scenario: Scenario
    round: int
    seed: int
    started: str
    valid: bool
    counts: Counts | None
    offered_per_s: float | None
    throughput_per_s: float | None
    latency_ns: Distribution | None
    service_ns: Distribution | None
    lateness_ns: Distribution | None
    intervals: tuple[Interval, ...]
    client: ClientUse
    server: ServerUse
    doubts: tuple[Doubt, ...]
    error: str | None
    where: str
    requests: Mapping[str, RequestUse] = field(default_factory=dict)
    """Of a mix, by name."""
    thresholds: tuple[Judged, ...] = ()
    delivery: Delivery | None = None
    confirm_ns: Distribution | None = None
    """How long publishes waited for the broker to confirm them."""
    tally: Mapping[str, int] | None = None
    """What the pattern counts beside exchanges, by name."""
    figures: Mapping[str, float] | None = None
    """What a probe gave, where there was no load."""
    hops: tuple[HopUse, ...] = ()
    """From the client to the server."""
    wire: WireUse | None = None
    ladder: Ladder | None = None
    first_byte_rtts: float | None = None
    """Round trips until the first byte of an answer, the median over the conversations that were captured."""


@dataclass(frozen=True)
class Unsupported:
    """A scenario that makes no sense or cannot run on that machine."""

    scenario: Scenario
    why: str


@dataclass(frozen=True)
class WireBytes:
    """Bytes above TCP or UDP that a client sent and received."""

    sent_bytes: float
    received_bytes: float


@dataclass(frozen=True)
class Counted:
    """The bytes of an exchange of 64 bytes each way, counted on a connection: `first` with all handshakes, `later` the
    mean of `exchanges` others. None where they could not be counted, and `why_not` says why."""

    tls: str
    first: WireBytes | None
    later: WireBytes | None
    exchanges: int
    why_not: str | None


@dataclass(frozen=True)
class ProtocolFacts:
    """What a protocol declares of itself, question and answer, and the bytes that were counted."""

    declared: Mapping[str, str]
    counted: tuple[Counted, ...]


@dataclass(frozen=True)
class Run:
    """A result file."""

    path: Path
    suite: str
    description: str
    command: tuple[str, ...]
    seed: int
    rounds: int
    started: str
    finished: str | None
    status: Literal["complete", "running", "interrupted"]
    environment: Mapping[str, Any]
    unsupported: tuple[Unsupported, ...]
    trials: tuple[Trial, ...]
    protocols: Mapping[str, ProtocolFacts] = field(default_factory=dict)


def load_run(path: Path) -> Run:
    """The run in a result file. UsageError, in one line, if there is none or it is not one that this version reads."""
    return _run(path, read_document(path, KIND, SCHEMA_VERSION, "run.schema.json"))


def read_document(path: Path, kind: str, newest: int, schema: str) -> dict[str, Any]:
    """A JSON file that wirebench wrote, of a kind and no newer than a schema version, checked against the schema of
    that name. UsageError, in one line, if it is not."""
    data = _read_json(path)
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise UsageError(f'{path}: not a wirebench result file: it has no "kind": "{kind}"')
    version = data.get("schema")
    if isinstance(version, int) and version > newest:
        raise UsageError(
            f"{path}: has schema version {version}, and this wirebench reads up to {newest}; update wirebench"
        )
    error = best_match(_validator(schema).iter_errors(data))
    if error is not None:
        raise UsageError(f"{path}: {error.json_path}: {_rule(error)}")
    return data


def _read_json(path: Path) -> Any:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; name a result file, like results/runs/quick.json") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder; name a result file in it") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if raw.startswith(_GZIP_MAGIC):
        raw = _decompressed(path, raw)
    if not raw.strip():
        raise UsageError(f"{path}: is empty; a run that has ended leaves a whole file")
    try:
        data = json.loads(raw.decode(), parse_constant=_no_constant, parse_float=_finite)
        if b"\\ud" in raw.lower():  # an escape may spell half a character, which no output could hold
            json.dumps(data, ensure_ascii=False).encode()
    except UnicodeError:
        raise UsageError(f"{path}: not a wirebench result file: it is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(raw.decode().rstrip()) or error.msg.startswith("Unterminated")
        what = "is cut short" if cut else "is not valid JSON"
        raise UsageError(f"{path}: {what}: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is not valid JSON: {error}") from None
    return data


def _decompressed(path: Path, raw: bytes) -> bytes:
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as error:
        what = "is cut short" if isinstance(error, EOFError) else "cannot be decompressed"
        raise UsageError(f"{path}: {what}: {error}") from None


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number; what was not measured is null")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"{text} is out of range")
    return value


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((files("bench") / schema).read_text(encoding="utf-8")))


def _rule(error: jsonschema.ValidationError) -> str:
    """What a value should be, in one short line: the message of the validator repeats the whole value."""
    if len(error.message) <= 160:
        return " ".join(error.message.split())
    return f"does not keep the rule {error.validator}: {json.dumps(error.validator_value):.120}"


def _take(cls: type[Record], data: Mapping[str, Any], **made: Any) -> Record:
    """An object of a dataclass from the names that it knows; `made` are the fields that are more than JSON. A field
    with a default is one that files of earlier versions do not have."""
    plain = {
        f.name: data[f.name]
        for f in fields(cls)  # type: ignore[arg-type]  # a dataclass
        if f.name not in made and (f.name in data or f.default is MISSING)
    }
    return cls(**plain, **made)


def _run(path: Path, data: Mapping[str, Any]) -> Run:
    scenarios: dict[str, Scenario] = {}

    def scenario(record: Mapping[str, Any]) -> Scenario:
        # One object for each scenario, however many trials: later stages group by identity-cheap keys.
        made = _take(Scenario, record)
        return scenarios.setdefault(repr(made), made)

    return _take(
        Run,
        data,
        path=path,
        command=tuple(data["command"]),
        unsupported=tuple(Unsupported(scenario(item["scenario"]), item["why"]) for item in data["unsupported"]),
        trials=tuple(
            _trial(record, scenario(record["scenario"]), f"{path}: $.trials[{index}]")
            for index, record in enumerate(data["trials"])
        ),
        protocols={name: facts_of(facts) for name, facts in data.get("protocols", {}).items()},
    )


def facts_of(data: Mapping[str, Any]) -> ProtocolFacts:
    """A protocol's entry under "protocols", as an object."""

    def wire_bytes(record: Mapping[str, Any] | None) -> WireBytes | None:
        return None if record is None else _take(WireBytes, record)

    counted = tuple(
        _take(Counted, each, first=wire_bytes(each["first"]), later=wire_bytes(each["later"]))
        for each in data["counted"]
    )
    return ProtocolFacts(data["declared"], counted)


def _trial(data: Mapping[str, Any], scenario: Scenario, where: str) -> Trial:
    def distribution(key: str, of: Mapping[str, Any] = data) -> Distribution | None:
        return None if of.get(key) is None else _take(Distribution, of[key])

    server = data["server"]
    wire = data["wire"] or {}
    first_bytes = (wire.get("captured") or {}).get("first_byte_rtts") or {}
    return _take(
        Trial,
        data,
        scenario=scenario,
        counts=None if data["counts"] is None else _take(Counts, data["counts"]),
        latency_ns=distribution("latency_ns"),
        service_ns=distribution("service_ns"),
        lateness_ns=distribution("lateness_ns"),
        confirm_ns=distribution("confirm_ns", data.get("delivery") or {}),
        intervals=tuple(_take(Interval, interval) for interval in data["intervals"]),
        client=ClientUse() if data["client"] is None else _take(ClientUse, data["client"]),
        server=ServerUse()
        if server is None
        else _take(
            ServerUse,
            server,
            workers=tuple(_take(WorkerUse, worker) for worker in server["workers"]),
            deaths=tuple(_take(Death, death) for death in server["deaths"]),
        ),
        doubts=tuple(_take(Doubt, doubt) for doubt in data["doubts"]),
        where=where,
        requests={
            name: _take(RequestUse, found, latency_ns=distribution("latency_ns", found))
            for name, found in (data.get("requests") or {}).items()
        },
        thresholds=tuple(_take(Judged, judged) for judged in data.get("thresholds") or ()),
        hops=tuple(_take(HopUse, hop) for hop in data.get("hops") or ()),
        delivery=None if data.get("delivery") is None else _take(Delivery, data["delivery"]),
        wire=_wire_use(wire),
        ladder=None if wire.get("ladder") is None else ladder_of(wire["ladder"]),
        first_byte_rtts=first_bytes.get("p50"),
    )


def _wire_use(wire: Mapping[str, Any]) -> WireUse | None:
    ways = [wire[way] for way in ("up", "down") if way in wire]
    if not ways:
        return None
    return WireUse(sum(way["offered"] for way in ways), sum(way["offered_bytes"] for way in ways))


def ladder_of(data: Mapping[str, Any]) -> Ladder:
    """A ladder under "wire", as an object."""
    return _take(Ladder, data, steps=tuple(_take(Step, step, is_up=step["from"] == "client") for step in data["steps"]))
