"""A server that runs already, by its address: what `wirebench load` sends to it, and one trial against it.

Over http and h2c any server will do: its statuses are checked, 2xx and 3xx being good. If `--operation` names an
operation of wirebench's own service, the answers' content is checked too. tcp and udp speak wirebench's own frames (see
`bench.wire.frames`), so there the content is always checked.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from bench import resultfile
from bench.errors import LoadFailedError, TargetError, UsageError
from bench.lab import probes
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses, Progress
from bench.placement import Placement
from bench.plan import PlannedTrial
from bench.resultfile import ResultFile
from bench.run import Watcher, head
from bench.scenario import Scenario, parse_operation, parse_payload, parse_scenario
from bench.trial import NO_FIGURES, conclude, load_specs

SCHEMES = {"http": "http1", "h2c": "http2", "tcp": "tcp", "udp": "udp"}
"""The protocol that each scheme of an address stands for."""

UNKNOWN = "not known"
"""What the record says of a server that was not started here: its execution model and stack."""

_DEFAULT_PORT = 80
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # RFC 9110, 5.6.2: a token


@dataclass(frozen=True)
class Target:
    """A server's address and what to ask of it. `authority` is what requests call it, `host` what to connect to."""

    url: str
    protocol: str
    host: str
    port: int
    authority: str
    request: Request
    operation: str


def parse_target(url: str, operation: str | None, method: str | None, payload: str | None) -> Target:
    """Reads an address like http://127.0.0.1:8080/path, h2c://…, tcp://host:port or udp://host:port, with the options
    that say what to send. Raises UsageError."""
    parts, protocol = _split(url)
    if protocol in ("http1", "http2"):
        default_port: int | None = _DEFAULT_PORT
        path = (quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/") + (
            f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
        )
    else:
        default_port = None
        if parts.path not in ("", "/") or parts.query:
            raise UsageError(f"{url}: {parts.scheme} addresses have no path; write {parts.scheme}://host:port")
        operation = operation or "echo"
        path = "/"
    host = parts.hostname
    if not host or re.search(r"[\s\x00-\x1f\x7f]", parts.netloc):
        raise UsageError(f"{url}: there is no host in it; write one like {parts.scheme}://127.0.0.1:8080")
    try:
        port = parts.port or default_port
    except ValueError:
        raise UsageError(f"{url}: the port is not a number from 1 to 65535") from None
    if not port:
        raise UsageError(f"{url}: there is no port in it; write {parts.scheme}://{host}:PORT")
    authority = f"[{host}]:{port}" if ":" in host else host if port == default_port else f"{host}:{port}"
    request, spelled = _request(url, path, operation, method, payload)
    return Target(url, protocol, host, port, authority, request, spelled)


def _split(url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"{url}: not an address: {error}") from None
    allowed = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    if "://" not in url:
        raise UsageError(
            f"{url}: there is no scheme in it; allowed are {allowed}, like http://{url or '127.0.0.1:8080'}"
        )
    if parts.scheme not in SCHEMES:
        raise UsageError(f"{url}: the scheme {parts.scheme}:// is not one of those allowed: {allowed}")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{url}: a user or password in the address is not supported")
    return parts, SCHEMES[parts.scheme]


def _request(
    url: str, path: str, operation: str | None, method: str | None, payload: str | None
) -> tuple[Request, str]:
    size = None if payload is None else parse_payload(payload, "--payload")
    if operation is not None:
        if method is not None:
            raise UsageError("--method: an operation says its method itself; leave out --method or --operation")
        if path != "/":
            raise UsageError(f"{url}: an operation says its path itself; leave out {path} or --operation")
        asked = parse_operation(operation, "--operation")
        return Request(asked.opcode, 64 if size is None else size, asked.a, asked.b), str(asked)
    method = method or ("POST" if size else "GET")
    if not _METHOD.fullmatch(method):
        raise UsageError(f"--method: {method!r} is not a method of HTTP; write one like GET or POST")
    if method == "CONNECT":
        raise UsageError("--method: CONNECT opens a tunnel, and a tunnel gives no answers to measure")
    return Request(payload_bytes=size or 0, foreign=(method, path)), f"{method} {path}"


def target_scenario(target: Target, values: dict[str, str]) -> Scenario:
    """The scenario of a load against a target. `values` are keys of a scenario as users write them (load, duration
    ...)."""
    scenario = parse_scenario({"protocol": target.protocol, **values}, "command line", target.url[:300])
    return replace(scenario, payload_bytes=target.request.payload_bytes)


def scenario_record(target: Target, scenario: Scenario) -> dict[str, Any]:
    """The scenario as result files hold it: what is not known of the server is said to be so."""
    spelled = {"operation": target.operation[:300], "execution": UNKNOWN, "stack": UNKNOWN, "tier": UNKNOWN}
    name = f"{target.protocol} {scenario.load} {target.operation} {target.url}"
    return {**scenario.record(), **spelled, "name": name[:300]}


def resolve(target: Target) -> str:
    """The IP address behind the target's host, looked up once and not for every connection. Raises TargetError."""
    kind = socket.SOCK_DGRAM if target.protocol == "udp" else socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(target.host, target.port, type=kind)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"{target.url}: the host {target.host} cannot be found: {reason}") from None
    return str(found[0][4][0])


def run_load(
    target: Target,
    scenario: Scenario,
    seed: int,
    load_processes: int,
    placement: Placement,
    watcher: Watcher,
) -> dict[str, Any]:
    """One trial against a server that runs already, as result files hold it: nothing is known of that server's side.

    Raises TargetError if it cannot be reached or does not give a right answer to a first request.
    """
    trial: dict[str, Any] = {
        **NO_FIGURES,
        "scenario": scenario_record(target, scenario),
        "round": 0,
        "seed": seed,
        "started": resultfile.now(),
    }
    specs = [
        replace(spec, request=target.request, authority=target.authority)
        for spec in load_specs(scenario, resolve(target), target.port, seed, load_processes, placement)
    ]
    watcher.trial_begins(PlannedTrial(scenario, 0, seed))
    try:
        trial = _measured(trial, scenario, specs, watcher.progress)
    except LoadFailedError as error:
        trial = {**trial, "error": str(error)}
    watcher.trial_ended(trial)
    return trial


def target_results(trial: dict[str, Any], placement: Placement, command: Sequence[str]) -> ResultFile:
    """A run of this trial alone, as a result file holds it."""
    title = f"load against {trial['scenario']['group']}"
    results = ResultFile(None, head("load", title, 1, trial["seed"], placement, command), [])
    results.add(trial)
    results.finish("complete")
    return results


def _measured(
    trial: dict[str, Any], scenario: Scenario, specs: list[LoadSpec], on_progress: Callable[[Progress], None]
) -> dict[str, Any]:
    with LoadProcesses(len(specs), on_progress) as load:
        load.connect(specs)
        window = load.release()
        load.watch(window.measure_ns)
        before = probes.host_load()
        load.watch(window.end_ns)
        after = probes.host_load()
        memory = probes.memory(load.pids())
        results = load.results()
    return conclude(trial, scenario, results, memory, before, after)
