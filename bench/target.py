"""A server that runs already, by its address: what `wirebench load` sends to it, and one trial against it.

Over HTTP, WebSocket and gRPC any server will do: the status of its answers is checked (over HTTP 2xx and 3xx are good,
over gRPC OK; over WebSocket any message is an answer). If `--operation` names an operation of wirebench's own service,
the answers' content is checked too. tcp and udp speak wirebench's own frames (see `bench.wire.frames`), and WebRTC its
own signalling, so there the content is always checked. With `--topic` events are pushed through a topic of wirebench's
own service, and their deliveries are measured.
"""

import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bench import resultfile
from bench.address import ANY_TLS, Address, parse_address, parse_security
from bench.contract import MIN_EVENT_BYTES, Security
from bench.errors import LoadFailedError, TargetError, TrialInterruptedError, UsageError
from bench.lab import probes
from bench.lab.network import Network, network
from bench.lab.relay import Reach
from bench.load import grpc_lookup
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, Progress
from bench.mix import Mix, encode_mix
from bench.placement import Placement
from bench.plan import PlannedTrial
from bench.protocols import PROTOCOLS
from bench.resultfile import ResultFile, Status
from bench.run import Watcher, head
from bench.scenario import Scenario, parse_operation, parse_payload, parse_scenario
from bench.schedule import Closed
from bench.serviceprocess import ServiceProcess
from bench.trial import NO_FIGURES, conclude, host_between, load_specs

UNKNOWN = "not known"
"""What the record says of a server that was not started here: its execution model, stack and tier."""

DEFAULTS = {"connections": "64", "warmup": "1s", "duration": "10s", "timeout": "5s"}
"""Keys of a scenario, as far as nothing else is said."""

DEFAULT_LOAD = "closed:64"
DEFAULT_PUSH_LOAD = "open:100/s"
_DEFAULT_BYTES = 64
_LOOK_NS = 250_000_000
"""How often a service is looked after while it is under load."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # RFC 9110, 5.6.2
_TOPIC = re.compile(r"[A-Za-z0-9._~-]{1,200}")
_HTTP = ("http1", "http2", "http3")


@dataclass(frozen=True)
class Wanted:
    """What the command line says of the request, option by option; None is not given."""

    operation: str | None = None
    method: str | None = None
    payload: str | None = None
    message: str | None = None
    proto: str | None = None
    topic: str | None = None


@dataclass(frozen=True)
class Target:
    """A server's address and what to ask of it; `operation` is how records spell that."""

    address: Address
    security: Security | None
    request: Request
    operation: str
    topic: str = ""
    """Where events are pushed through, if the pattern is push."""
    mix: Mix = ()
    """What is asked in the place of `request`, if the pattern is mix."""
    label: str = ""
    """What records call it, where its address is another one each time."""

    @property
    def called(self) -> str:
        return (self.label or self.address.url)[:300]

    @property
    def pattern(self) -> str:
        if self.mix:
            return "mix"
        return "push" if self.topic else "request-response"

    @property
    def protocol(self) -> str:
        return self.address.protocol

    @property
    def tls(self) -> str:
        """The version of TLS as records spell it."""
        if "off" not in (known := PROTOCOLS[self.protocol].tls):
            return known[0]
        return "off" if self.security is None else self.security.tls or ANY_TLS


def parse_target(url: str, wanted: Wanted, insecure: bool, cacert: str | None, tls: str | None) -> Target:
    """A target from the command line. Raises UsageError; for a gRPC method, which is looked up, TargetError too."""
    address = parse_address(url)
    security = parse_security(address, insecure, cacert, tls)
    _check_wanted(address, wanted)
    if wanted.topic is not None:
        return Target(address, security, _push_request(address, wanted), "push", wanted.topic)
    if wanted.operation is not None or address.protocol not in (*_HTTP, "websocket", "grpc"):
        return Target(address, security, *_own_request(address, wanted))
    if address.protocol == "grpc":
        return Target(address, security, *_call(address, security, wanted))
    return Target(address, security, *_foreign_request(address, wanted))


def mix_target(address: Address, security: Security | None, mix: Mix, label: str) -> Target:
    """A target that is asked for the requests of a mix."""
    operation = mix[0].name if len(mix) == 1 else f"{len(mix)} requests: {', '.join(request.name for request in mix)}"
    return Target(address, security, Request(), operation, mix=mix, label=label)


def _check_wanted(address: Address, wanted: Wanted) -> None:
    """Raises UsageError for options that mean nothing together, or nothing to the protocol."""
    protocol, scheme = address.protocol, address.scheme
    if protocol == "grpc":
        if wanted.method is None and (wanted.message is not None or wanted.proto is not None):
            option = "--message" if wanted.message is not None else "--proto"
            raise UsageError(f"{option}: which method is it for? Name it: --method package.Service/Method")
        if wanted.method is not None and wanted.payload is not None:
            raise UsageError("--payload: a method says itself what it takes; write it as JSON: --message '{…}'")
    else:
        for option, value in (("--message", wanted.message), ("--proto", wanted.proto)):
            if value is not None:
                raise UsageError(f"{option}: only gRPC has such; {scheme}:// addresses take --payload SIZE")
        if wanted.method is not None and protocol not in _HTTP:
            raise UsageError(f"--method: requests over {scheme}:// have no method")
    if wanted.operation is not None and wanted.method is not None:
        raise UsageError("--method: an operation says its method itself; leave out --method or --operation")
    if "push" not in (patterns := PROTOCOLS[protocol].patterns):
        if wanted.topic is not None:
            raise UsageError(f"--topic: {protocol} carries no pushed events; use sse+http://, ws:// or grpc://")
    elif wanted.topic is None and "request-response" not in patterns:
        raise UsageError(f"--topic: which topic of a wirebench server? {scheme}:// takes pushed events: --topic NAME")


def _push_request(address: Address, wanted: Wanted) -> Request:
    assert wanted.topic is not None
    for option, value in (("--operation", wanted.operation), ("--method", wanted.method)):
        if value is not None:
            raise UsageError(f"{option}: events are pushed through a topic, not asked for; leave out one of the two")
    if not _TOPIC.fullmatch(wanted.topic):
        raise UsageError(f"--topic: {wanted.topic!r:.60} is not a name of letters, digits and . _ ~ -")
    _check_no_path(address, "a topic")
    size = _size(wanted, _DEFAULT_BYTES)
    if size < MIN_EVENT_BYTES:
        raise UsageError(f"--payload: a pushed event has at least {MIN_EVENT_BYTES} bytes, not {size}")
    return Request(payload_bytes=size)


def _own_request(address: Address, wanted: Wanted) -> tuple[Request, str]:
    """An operation of wirebench's own service."""
    _check_no_path(address, "an operation")
    asked = parse_operation(wanted.operation or "echo", "--operation")
    return Request(asked.opcode, _size(wanted, _DEFAULT_BYTES), asked.a, asked.b), str(asked)


def _check_no_path(address: Address, what: str) -> None:
    if address.path != "/":
        raise UsageError(f"{address.url}: {what} says its path itself; leave out {address.path} or --{what.split()[1]}")


def _foreign_request(address: Address, wanted: Wanted) -> tuple[Request, str]:
    """A request of a server of somebody else's."""
    path = address.path
    if address.protocol == "websocket":
        return Request(payload_bytes=_size(wanted, _DEFAULT_BYTES), foreign=("GET", path)), f"message {path}"
    size = _size(wanted, 0)
    method = wanted.method or ("POST" if size else "GET")
    if not _TOKEN.fullmatch(method):
        raise UsageError(f"--method: {method!r} is not a method of HTTP; write one like GET or POST")
    if method == "CONNECT":
        raise UsageError("--method: CONNECT opens a tunnel, and a tunnel gives no answers to measure")
    return Request(payload_bytes=size, foreign=(method, path)), f"{method} {path}"


def _size(wanted: Wanted, default: int) -> int:
    return default if wanted.payload is None else parse_payload(wanted.payload, "--payload")


def _call(address: Address, security: Security | None, wanted: Wanted) -> tuple[Request, str]:
    """A call of a gRPC server: an operation of our service, if no method is named."""
    if wanted.method is None:
        return _own_request(address, wanted)
    asked = "{}" if wanted.message is None else wanted.message
    if wanted.proto is not None:
        call = grpc_lookup.look_up_in_file(Path(wanted.proto), wanted.method, asked)
    else:
        call = grpc_lookup.look_up_by_reflection(address.host, address.port, wanted.method, asked, security)
    body = call.request.decode("latin-1")
    return Request(payload_bytes=len(body), foreign=("POST", call.path), body=body), f"call {call.path}"


def target_scenario(target: Target, values: Mapping[str, str], where: str = "command line") -> Scenario:
    """The scenario of a load against a target. `values` are keys of a scenario as users write them (load, duration
    ...), and `where` they stand is for errors."""
    is_push = target.pattern == "push"
    given = {"protocol": target.protocol, "pattern": target.pattern, **DEFAULTS, **values}
    given.setdefault("load", DEFAULT_PUSH_LOAD if is_push else DEFAULT_LOAD)
    scenario = parse_scenario({**given}, where, target.called)
    if is_push and isinstance(scenario.load, Closed):
        raise UsageError(
            f"--load: a publisher needs a rate, like {DEFAULT_PUSH_LOAD}; --connections says how many listen"
        )
    return replace(scenario, payload_bytes=target.request.payload_bytes)


def scenario_record(target: Target, scenario: Scenario) -> dict[str, Any]:
    """The scenario as result files hold it: what is not known of the server is said to be so."""
    spelled = {"execution": UNKNOWN, "stack": UNKNOWN, "tier": UNKNOWN, "tls": target.tls}
    name = f"{target.protocol} {scenario.load} {target.operation} {target.called}"
    return {**scenario.record(), **spelled, "operation": target.operation[:300], "name": name[:300]}


def resolve(target: Target) -> str:
    """The IP address behind the target's host, looked up once and not for every connection. Raises TargetError."""
    address = target.address
    is_stream = PROTOCOLS[address.protocol].transport_kind == "stream"
    kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"{address.url}: the host {address.host} cannot be found: {reason}") from None
    return str(found[0][4][0])


def no_figures(target: Target, scenario: Scenario, seed: int) -> dict[str, Any]:
    """The record of a trial that begins now."""
    return {
        **NO_FIGURES,
        "scenario": scenario_record(target, scenario),
        "round": 0,
        "seed": seed,
        "started": resultfile.now(),
    }


def target_specs(
    target: Target, scenario: Scenario, host: str, seed: int, processes: int, placement: Placement
) -> list[LoadSpec]:
    """What each load process is asked to do; `host` is where the target is reached."""
    address, mix = target.address, encode_mix(target.mix)
    return [
        replace(
            spec,
            request=target.request,
            authority=address.authority,
            security=target.security,
            topic=target.topic,
            mix=mix,
        )
        for spec in load_specs(scenario, host, address.port, seed, processes, placement)
    ]


def run_load(
    target: Target,
    scenario: Scenario,
    seed: int,
    load_processes: int,
    placement: Placement,
    watcher: Watcher,
    service: ServiceProcess | None = None,
) -> dict[str, Any]:
    """One trial against a server that runs already, as result files hold it: nothing is known of that server's side,
    unless it is a `service` of the user's own that was started here.

    Raises TargetError if it cannot be reached or does not give a right answer to a first request, UnsupportedError
    where the link cannot be had, TrialInterruptedError for an interrupt while it is measured.
    """
    trial = no_figures(target, scenario, seed)
    address = target.address
    is_stream = PROTOCOLS[address.protocol].transport_kind == "stream"
    reach = Reach(resolve(target), address.port, "stream" if is_stream else "datagram")
    link = network(scenario, seed, (reach,))
    processes = min(load_processes, scenario.concurrency.connections)
    specs = target_specs(target, scenario, link.server_host, seed, processes, placement)
    watcher.trial_begins(PlannedTrial(scenario, 0, seed))
    try:
        trial, interrupted = _measured(trial, scenario, specs, link, watcher.progress, service)
    except LoadFailedError as error:
        trial, interrupted = {**trial, "error": str(error)}, False
    watcher.trial_ended(trial)
    if interrupted:
        raise TrialInterruptedError(trial)
    return trial


def target_results(
    trial: dict[str, Any],
    placement: Placement,
    command: Sequence[str],
    status: Status = "complete",
    service: Path | None = None,
) -> ResultFile:
    """A run of this trial alone, as a result file holds it. `service` is the folder of a service of the user's own."""
    title = f"load against {trial['scenario']['group']}"
    results = ResultFile(None, head("load", title, 1, trial["seed"], placement, command, service), [])
    results.add(trial)
    results.finish(status)
    return results


def _measured(
    trial: dict[str, Any],
    scenario: Scenario,
    specs: list[LoadSpec],
    link: Network,
    on_progress: Callable[[Progress], None],
    service: ServiceProcess | None,
) -> tuple[dict[str, Any], bool]:
    """The trial, and whether it was interrupted: then it holds what was measured until then."""
    interrupted = False
    with link, LoadProcesses(len(specs), on_progress, link.client) as load:
        load.connect(specs)
        window = load.release()
        _watch(load, window.measure_ns, service)
        if service is not None and (death := service.death()) is not None:
            raise LoadFailedError(f"before anything was measured, the service {death}")
        used = probes.usage(service.pids()) if service is not None else None
        before, sent_before = probes.host_load(), link.account()
        try:
            _watch(load, window.end_ns, service)
        except KeyboardInterrupt:
            load.stop()
            interrupted = True
        after, sent_after = probes.host_load(), link.account()
        if service is not None and used is not None:
            trial["server"] = _service_record(service, used)
        trial["wire"] = link.carried(sent_before, sent_after)
        memory = probes.memory(load.pids())
        results = load.results()
    return conclude(trial, scenario, results, memory, host_between(before, after)), interrupted


def _watch(load: LoadProcesses, until_ns: int, service: ServiceProcess | None) -> None:
    """Wait until then. If the service ends before, the load ends too."""
    while service is not None and (left_ns := until_ns - time.monotonic_ns()) > 0:
        load.watch(until_ns - max(0, left_ns - _LOOK_NS))
        if service.death() is not None:
            load.stop()
            return
    load.watch(until_ns)


def _service_record(service: ServiceProcess, before: probes.Usage) -> dict[str, Any]:
    """What a service used since `before`, and whether it has ended by itself."""
    death = service.death()
    if death is not None:
        unknown = dict.fromkeys(field.name for kind in (probes.Spent, probes.Memory) for field in fields(kind))
        return {**unknown, "workers": [], "deaths": [{"worker": 0, "reason": death, "restarted": False}]}
    pids = service.pids()
    spent, memory = probes.spent(before, probes.usage(pids)), probes.memory(pids)
    return {**asdict(spent), **asdict(memory), "workers": [], "deaths": []}
