"""A scenario: one full choice of protocol, stack, pattern, execution model, link and load. Frozen, and spelled one
way."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, get_args

from bench import registry
from bench.contract import (
    MAX_BLOCK_US,
    MAX_BODY_BYTES,
    MAX_READ_BYTES,
    MAX_WORK_CPU_US,
    MAX_WORK_WAIT_MS,
    OPERATIONS,
    SEEDED_TODOS,
    TODO_LIMIT,
    Exchange,
    Handshake,
    Opcode,
    exchange,
)
from bench.errors import UsageError
from bench.lab.kernel import FAST_OPEN, parse_kernel
from bench.lab.link import BACKENDS, LOOPBACK, Link, parse_link
from bench.patterns import spelled
from bench.protocols import PROTOCOLS, TLS_VERSIONS
from bench.proxies import NO_HOPS, parse_via
from bench.quantities import (
    parse_arguments,
    parse_duration_ns,
    parse_rate_per_s,
    parse_share,
    parse_size_bytes,
    parse_whole,
    spell_duration,
    spell_rate,
    spell_size,
)
from bench.schedule import Closed, Concurrency, Load, parse_concurrency, parse_load

MAX_WORKERS = 256


@dataclass(frozen=True)
class Operation:
    """An operation of the service with its arguments, spelled like "echo" or "work:cpu=100us,wait=5ms"."""

    opcode: Opcode
    a: int = 0
    b: int = 0

    def __str__(self) -> str:
        match self.opcode:
            case Opcode.WORK:
                return f"work:cpu={spell_duration(self.a * 1000)},wait={spell_duration(self.b * 1_000_000)}"
            case Opcode.BLOCK:
                return f"block:for={spell_duration(self.a * 1000)}" + (",offload=yes" if self.b else "")
            case Opcode.FILE if self.b:
                return "file:offload=yes"
            case Opcode.BYTES if self.b:
                return f"bytes:chunk={spell_size(self.b)}"
            case Opcode.READ_TODOS | Opcode.READ_TODOS_STREAM:
                return f"{self.opcode.word}:limit={self.a}"
            case _:
                return self.opcode.word


@dataclass(frozen=True)
class Beside:
    """A load beside the one that is measured, spelled like "block:for=200ms@2/s"."""

    operation: Operation
    rate_per_s: float

    def __str__(self) -> str:
        return f"{self.operation}@{spell_rate(self.rate_per_s)}"


@dataclass(frozen=True)
class Scenario:
    """One full choice. The field names are the keys of suites, and with dashes the options of commands."""

    protocol: str
    load: Load
    execution: str = "single"
    workers: int = 1
    operation: Operation = Operation(Opcode.ECHO)
    payload_bytes: int = 64
    connections: Concurrency = Concurrency(64)  # noqa: RUF009 (frozen, so one will do for all)
    """What an open load may use; a closed load says it itself."""
    stack: str = "lean"
    """What speaks the protocol as the server."""
    client: str = "lean"
    """What speaks the protocol as the client."""
    tls: str = ""
    """The version of TLS, or "off"; what the protocol runs with by itself, where nothing is said."""
    handshake: Handshake = "full"
    fast_open: str = "off"
    """Whether the first bytes of a connection go with its SYN (TCP Fast Open, RFC 7413): "off" or "on"."""
    pattern: str = "request-response"
    link: Link | None = None
    """The network between both ends; None for loopback."""
    link_backend: str = "own"
    """What delays and loses the packets of a link: the lab's own router, or the kernel's netem."""
    kernel: tuple[tuple[str, str], ...] = ()
    """Parameters of the kernel (sysctls) that both ends of a link have, beside what it has by itself."""
    beside: Beside | None = None
    """Other requests that the server has to answer meanwhile, which are not measured."""
    restart: float = 0.0
    """The server is killed and started again after this share of the measured window; 0 for never."""
    via: str = NO_HOPS
    """The hops between both ends, from the client to the server (see `bench.proxies`)."""
    warmup_ns: int = 500_000_000
    duration_ns: int = 2_000_000_000
    timeout_ns: int = 5_000_000_000
    """How long an answer may take from when its request was sent."""
    queue_limit: int = 10_000
    """How many requests of an open load may wait for a free connection; one more is dropped, and counted."""
    group: str = "run"

    def __post_init__(self) -> None:
        if not self.tls:
            object.__setattr__(self, "tls", PROTOCOLS[self.protocol].tls[0])

    @property
    def concurrency(self) -> Concurrency:
        return self.load.concurrency if isinstance(self.load, Closed) else self.connections

    @property
    def link_kernel(self) -> dict[str, str]:
        """The kernel parameters of both ends of the link: those that were asked for, and what the scenario needs."""
        needed = {FAST_OPEN: "3"} if self.fast_open == "on" else {}
        return {**needed, **dict(self.kernel)}

    @property
    def exchange(self) -> Exchange:
        return exchange(self.operation.opcode, self.payload_bytes, self.operation.a, self.operation.b)

    @property
    def name(self) -> str:
        """Short, unique among scenarios that differ in what is usually varied, and readable in a table."""
        workers = f"×{self.workers}" if self.execution != "single" else ""
        words = [self.protocol]
        if self.tls != PROTOCOLS[self.protocol].tls[0]:
            words.append(f"tls{self.tls}")
        if self.handshake != "full":
            words.append(self.handshake)
        if self.fast_open == "on":
            words.append("fast-open")
        if self.stack != "lean":
            words.append(self.stack)
        if self.client != "lean":
            words.append(f"from {self.client}")
        if self.pattern != "request-response":
            words.append(self.pattern)
        words += [f"{self.execution}{workers}", str(self.load), str(self.operation), spell_size(self.payload_bytes)]
        if self.via != NO_HOPS:
            words.append(f"via {self.via}")
        if self.link is not None:
            words.append(f"over {self.link}")
            words += ["by netem"] if self.link_backend == "netem" else []
        words += [f"beside {self.beside}"] if self.beside else []
        words += [f"restarted at {self.restart:.0%}"] if self.restart else []
        words += [f"{name.removeprefix('net.ipv4.')}={value}" for name, value in self.kernel]
        return " ".join(words)

    @property
    def tier(self) -> str:
        """The tier that both ends belong to: lean, or library if either is one or is built on one."""
        built_on_library = PROTOCOLS[self.protocol].library != ""
        return "lean" if self.stack == self.client == "lean" and not built_on_library else "library"

    def record(self) -> dict[str, Any]:
        """The scenario as result files hold it."""
        fields = asdict(self)
        fields.update(
            name=self.name,
            tier=self.tier,
            operation=str(self.operation),
            link=str(self.link or LOOPBACK),
            kernel=dict(self.kernel),
            beside=None if self.beside is None else str(self.beside),
            load=str(self.load),
            connections=str(self.concurrency),
        )
        return fields


def parse_operation(text: str, where: str) -> Operation:
    """Reads "echo", "bytes:chunk=1KiB", "work:cpu=100us,wait=5ms", "block:for=1ms,offload=yes"."""
    name, arguments = parse_arguments(text, where, "arguments", "work:cpu=100us,wait=5ms")
    opcode = OPERATIONS[registry.choose(name, OPERATIONS, where)]
    a = b = 0
    if opcode is Opcode.WORK:
        a = parse_duration_ns(arguments.pop("cpu", "0s"), f"{where}: cpu") // 1000
        b = parse_duration_ns(arguments.pop("wait", "0s"), f"{where}: wait") // 1_000_000
        if a > MAX_WORK_CPU_US or b > MAX_WORK_WAIT_MS:
            raise UsageError(f"{where}: work is bounded to cpu={MAX_WORK_CPU_US}us and wait={MAX_WORK_WAIT_MS}ms")
    elif opcode is Opcode.BYTES:
        b = parse_size_bytes(arguments.pop("chunk", "0B"), f"{where}: chunk")
    elif opcode in (Opcode.BLOCK, Opcode.FILE):
        b = int(registry.choose(arguments.pop("offload", "no"), ("no", "yes"), f"{where}: offload") == "yes")
        if opcode is Opcode.BLOCK:
            a = parse_duration_ns(arguments.pop("for", "1ms"), f"{where}: for") // 1000
            if a > MAX_BLOCK_US:
                raise UsageError(f"{where}: for: a handler blocks for {MAX_BLOCK_US // 1_000_000} s at most")
    elif opcode in (Opcode.READ_TODOS, Opcode.READ_TODOS_STREAM):
        a = parse_whole(arguments.pop("limit", TODO_LIMIT), 0, SEEDED_TODOS, f"{where}: limit")
    if arguments:
        raise UsageError(f"{where}: {name} takes no argument named {next(iter(arguments))!r}")
    return Operation(opcode, a, b)


def parse_beside(text: str, where: str) -> Beside:
    """Reads "block:for=200ms@2/s"."""
    operation, at, rate = text.rpartition("@")
    if not at:
        raise UsageError(f"{where}: {text!r} has no rate; write an operation and how often, like block:for=200ms@2/s")
    return Beside(parse_operation(operation, where), parse_rate_per_s(rate, where))


def parse_payload(text: str, where: str) -> int:
    """Bytes of a payload, within what every server takes."""
    size = parse_size_bytes(text, where)
    if size > MAX_BODY_BYTES:
        raise UsageError(f"{where}: {text!r} is more than {spell_size(MAX_BODY_BYTES)}, the most that servers take")
    return size


def parse_network(text: str, where: str) -> Link | None:
    """The network between both ends: a link, or loopback (None)."""
    return None if text.strip() == LOOPBACK else parse_link(text, where)


def _parse_restart(text: str, where: str) -> float:
    share = parse_share(text, where)
    if share == 1:
        raise UsageError(f"{where}: {text!r}: a server that is restarted at the end is not seen to work again")
    return share


_PARSERS: dict[str, Callable[[Any, str], Any]] = {
    "protocol": lambda v, w: registry.choose(v, PROTOCOLS, w),
    "execution": lambda v, w: registry.choose(v, registry.EXECUTIONS, w),
    "stack": lambda v, w: registry.choose(v, (k for k, stack in registry.STACKS.items() if stack.servers), w),
    "client": lambda v, w: registry.choose(v, (k for k, stack in registry.STACKS.items() if stack.clients), w),
    "tls": lambda v, w: registry.choose(v, TLS_VERSIONS, w),
    "handshake": lambda v, w: registry.choose(v, get_args(Handshake), w),
    "fast_open": lambda v, w: registry.choose(v, ("off", "on"), w),
    "pattern": spelled,
    "beside": parse_beside,
    "restart": _parse_restart,
    "link": parse_network,
    "link_backend": lambda v, w: registry.choose(v, BACKENDS, w),
    "kernel": parse_kernel,
    "via": parse_via,
    "workers": lambda v, w: parse_whole(v, 1, MAX_WORKERS, w),
    "operation": parse_operation,
    "payload": parse_payload,
    "load": parse_load,
    "connections": parse_concurrency,
    "warmup": parse_duration_ns,
    "duration": parse_duration_ns,
    "timeout": parse_duration_ns,
    "queue_limit": lambda v, w: parse_whole(v, 0, 10_000_000, w),
}
KEYS = tuple(_PARSERS)
"""The keys of a scenario as users write them, in suites and (with dashes) on the command line."""

_FIELDS = {"payload": "payload_bytes", "warmup": "warmup_ns", "duration": "duration_ns", "timeout": "timeout_ns"}


def parse_value(key: str, value: object, where: str) -> Any:
    """What a key's value means; `where` names the place of the value in errors."""
    if not isinstance(value, str) and key not in ("workers", "queue_limit"):
        raise UsageError(f"{where}: {value!r} must be written as text, in quotes")
    return _PARSERS[key](value, where)


def parse_scenario(values: dict[str, str | int], where: str, group: str) -> Scenario:
    """A scenario from words. `where` names the file or command line in errors; each error names the key too."""
    fields: dict[str, Any] = {"group": group}
    for key, value in values.items():
        registry.choose(key, KEYS, where)
        fields[_FIELDS.get(key, key)] = parse_value(key, value, f"{where}: {key}")
    for key in ("protocol", "load"):
        if key not in fields:
            raise UsageError(f"{where}: {key} is missing")
    scenario = Scenario(**fields)
    if not isinstance(scenario.load, Closed) and (total := scenario.load.duration_ns) is not None:
        fields["duration_ns"] = total
        scenario = Scenario(**fields)
    if scenario.duration_ns == 0:
        raise UsageError(f"{where}: duration: must be longer than 0s")
    if scenario.timeout_ns == 0:
        raise UsageError(f"{where}: timeout: must be longer than 0s")
    if scenario.operation.opcode is Opcode.FILE and scenario.payload_bytes > MAX_READ_BYTES:
        raise UsageError(
            f"{where}: payload: {spell_size(MAX_READ_BYTES)} is the most that is read of the file at a time"
        )
    if scenario.kernel and scenario.link is None:
        raise UsageError(
            f"{where}: kernel: the machine's own kernel is left as it is; a link has ends of its own: add one"
        )
    if scenario.execution == "single" and scenario.workers != 1:
        raise UsageError(
            f"{where}: workers: the execution model single has one worker; choose another model for {scenario.workers}"
        )
    return scenario
