"""A service of the user's own, as the wirebench.toml in its repository describes it.

    [service]
    command = "uvicorn app:app --port {port}"
    url = "http://127.0.0.1:{port}"
    ready = { path = "/health", timeout = "20s" }

    [[request]]                          # one or more
    name = "read"
    path = "/users/{id}"                 # a column of the data
    data = "users.csv"
    weight = 3
    check.json = { "user.name" = "ann" }

    [load]
    load = "open:200/s"
    thresholds = ["p99 < 20ms", "errors < 0.1%", "rate > 150/s"]

`wirebench list service` says what all the keys mean (`bench.catalogue.SERVICE`). Every key that is unknown, missing or
contradicts another ends as one line: file, table, key, and what is allowed.
"""

import contextlib
import csv
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench import openapi
from bench.address import SCHEMES, parse_address, parse_security
from bench.contract import Exchange, foreign_exchange
from bench.errors import TrialInterruptedError, UsageError
from bench.mix import Checks, Mix, NamedRequest
from bench.placement import Placement
from bench.protocols import PROTOCOLS
from bench.quantities import parse_duration_ns, parse_size_bytes, parse_whole
from bench.registry import choose
from bench.run import Watcher
from bench.scenario import Scenario
from bench.schedule import Open
from bench.serviceprocess import PORT, Command, Ready, ServiceProcess, await_ready, check_port_is_free, free_port
from bench.target import Target, mix_target, run_load, target_scenario
from bench.thresholds import Threshold, check_together, judge, parse_threshold

FILE = "wirebench.toml"
OUTPUT = "wirebench-service.log"
MAX_REQUESTS = 100
MAX_ROWS = 100_000

_SERVICE_KEYS = ("command", "url", "cwd", "env", "ready", "output", "insecure", "cacert", "tls")
_READY_KEYS = ("path", "port", "timeout")
_REQUEST_KEYS = (
    *("name", "method", "path", "headers", "body", "body-file", "json", "weight", "data", "order"),
    *("openapi", "operation", "proto", "check"),
)
_CHECK_KEYS = ("status", "headers", "contains", "json", "max-size")
LOAD_KEYS = ("load", "connections", "warmup", "duration", "timeout")
"""The keys of a scenario that the table [load] has."""

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # RFC 9110, 5.6.2
_FIELD_VALUE = re.compile(r"[\t !-~\x80-\xff]*")  # RFC 9110, 5.5
_PATH = re.compile(r"/[^\x00-\x1f\x7f#]*")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
_FRAMING = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "keep-alive", "expect")
"""Fields that the client writes itself, or that change how a message is read."""


def why_unsupported(_scenario: Scenario, _words: Mapping[str, Any]) -> str:
    """Why the pattern mix is none for suites."""
    return f"a mix is what a {FILE} describes: write one with wirebench init, and run it with wirebench load"


@dataclass(frozen=True)
class OwnService:
    """What a wirebench.toml says. `command` is None where the service is not started here."""

    path: Path
    url: str
    """With `{port}` where the port is of the kernel's choice."""
    command: Command | None
    ready: Ready | None
    """None where nothing is started and nothing is said about it: the load itself will see."""
    insecure: bool
    cacert: str | None
    tls: str | None
    mix: Mix
    load: Mapping[str, str]
    """Keys of a scenario, as users write them."""
    seed: int | None
    thresholds: tuple[Threshold, ...]

    def target(self, port: int) -> Target:
        """Where the load goes, if the service has that port. Raises UsageError."""
        address = parse_address(self.url.replace(PORT, str(port)))
        security = parse_security(address, self.insecure, self.cacert, self.tls)
        return mix_target(address, security, self.mix, self.url)

    def scenario(self, target: Target, changes: Mapping[str, str]) -> Scenario:
        """The scenario of a load against it: the file's, with `changes` to keys of a scenario. Raises UsageError."""
        scenario = target_scenario(target, {**self.load, **changes})
        self._check_rate(scenario)
        return scenario

    def repeated(self) -> "OwnService":
        """The same for a measurement of many trials, which says itself how long they are, and judges them itself: no
        warm-up, no duration and no thresholds."""
        kept = {key: value for key, value in self.load.items() if key not in ("warmup", "duration")}
        return replace(self, load=kept, thresholds=())

    def _check_rate(self, scenario: Scenario) -> None:
        if not isinstance(scenario.load, Open):
            return
        most = max(max(stage.from_per_s, stage.to_per_s) for stage in scenario.load.stages)
        for threshold in self.thresholds:
            if threshold.metric == "rate" and not threshold.is_upper and threshold.limit > most:
                raise UsageError(
                    f"{self.path}: load: thresholds: {threshold.text!r} can never hold: the load "
                    f"{scenario.load} offers {most:g}/s at most"
                )


@dataclass(frozen=True)
class Running:
    """A service that is ready for load, and where that goes."""

    own: OwnService
    target: Target
    process: ServiceProcess | None
    """None where the service was not started here."""

    def trial(
        self, scenario: Scenario, seed: int, load_processes: int, placement: Placement, watcher: Watcher
    ) -> dict[str, Any]:
        """One trial at the scenario's load, as result files hold it, with the thresholds judged. Raises
        TargetError, and UnsupportedError where a link cannot be had."""
        try:
            trial = run_load(self.target, scenario, seed, load_processes, placement.load_only(), watcher, self.process)
        except TrialInterruptedError as interrupt:
            trial = interrupt.trial
            raise TrialInterruptedError({**trial, "thresholds": judge(self.own.thresholds, trial)}) from None
        return {**trial, "thresholds": judge(self.own.thresholds, trial)}


@contextlib.contextmanager
def running(own: OwnService, placement: Placement) -> Iterator[Running]:
    """The service, started if the file says how, and ready. Whatever was started is ended with the context.

    Raises UsageError, ServerFailedError.
    """
    port = free_port() if PORT in own.url else 0
    target = own.target(port)
    address = target.address
    with contextlib.ExitStack() as stack:
        process = None
        if own.command is not None:
            if not port and PROTOCOLS[address.protocol].transport_kind == "stream":
                check_port_is_free(address.host, address.port)
            process = stack.enter_context(ServiceProcess(own.command, port or address.port, placement.server))
        if own.ready is not None:
            await_ready(address, own.ready, process)
        yield Running(own, target, process)


# The file


def read(path: Path) -> OwnService:
    """What a wirebench.toml says. Files that it names are looked for from its folder. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"{path}: there is no such file; write one with wirebench init, or name the address of a server"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a text file in UTF-8") from None
    return parse(text, path)


def parse(text: str, path: Path) -> OwnService:
    """What this text says in the place of the file. Raises UsageError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    return from_document(document, path)


def from_document(document: Mapping[str, Any], path: Path) -> OwnService:
    """What these tables say in the place of the file's. Raises UsageError."""
    whole = _Table(document, str(path), ("service", "request", "load"))
    service = whole.table("service", _SERVICE_KEYS)
    load = whole.table("load", (*LOAD_KEYS, "seed", "thresholds"))
    url = service.text("url")
    protocol = protocol_of(url, service.at("url"))
    mix = _read_mix(whole, protocol, path.parent)
    thresholds = _read_thresholds(load, mix)
    cacert = service.text("cacert", "")
    own = OwnService(
        path,
        url,
        _read_command(service, path.parent),
        _read_ready(service),
        service.flag("insecure"),
        str(path.parent / cacert) if cacert else None,
        service.text("tls", "") or None,
        mix,
        {key: load.text(key) for key in LOAD_KEYS if key in load},
        parse_whole(load.values["seed"], 0, 2**63, f"{load.where}: seed") if "seed" in load else None,
        thresholds,
    )
    if PORT in url and own.command is None:
        raise UsageError(f"{service.where}: url: {PORT} is for a service that is started here; add its command")
    try:
        own.scenario(own.target(1), {})
    except UsageError as error:
        raise UsageError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None
    return own


def protocol_of(url: str, where: str) -> str:
    """The protocol that an address stands for. Raises UsageError for one that carries no mix."""
    scheme = url.partition("://")[0]
    carried = [name for name, known in SCHEMES.items() if PROTOCOLS[known.protocol].mixed_client]
    if "://" not in url or scheme not in carried:
        shown = ", ".join(f"{name}://" for name in carried)
        raise UsageError(f"{where}: {url!r:.80}: requests are carried over {shown}")
    if url.partition("://")[2].partition("/")[2]:
        raise UsageError(f"{where}: {url!r:.80} has a path; requests say their paths themselves")
    return SCHEMES[scheme].protocol


class _Table:
    """A table of the file, whose keys are known. Every way to read a key raises UsageError for what it must not be."""

    def __init__(self, values: object, where: str, keys: Iterable[str]) -> None:
        if not isinstance(values, dict):
            raise UsageError(f"{where}: must be a table")
        self.values: dict[str, Any] = values
        self.where = where
        for key in values:
            choose(key, keys, where)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def at(self, key: str) -> str:
        """The place of a key, for errors."""
        return f"{self.where}: {key}"

    def table(self, key: str, keys: Iterable[str]) -> "_Table":
        """A table in this one; empty where there is none."""
        return _Table(self.values.get(key, {}), self.at(key), keys)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; one without a default must be there."""
        if key not in self.values:
            if default is None:
                raise UsageError(f"{self.where}: {key} is missing")
            return default
        return _text(self.values[key], self.at(key))

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise UsageError(f"{self.at(key)}: {value!r:.60} is neither true nor false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """One text, or a list of them."""
        value = self.values.get(key, [])
        return tuple(_text(each, self.at(key)) for each in (value if isinstance(value, list) else [value]))

    def words(self, key: str) -> dict[str, str]:
        """A table of texts."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise UsageError(f"{self.at(key)}: must be a table of texts")
        return {name: _text(each, f"{self.at(key)}: {name}") for name, each in value.items()}

    def one_of(self, *keys: str) -> str | None:
        """Which of these keys there is, if any."""
        there = [key for key in keys if key in self.values]
        if len(there) > 1:
            raise UsageError(f"{self.where}: {' and '.join(there)} contradict each other; leave one of them out")
        return there[0] if there else None


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r:.60} must be written as text, in quotes")
    return value


def _read_command(service: _Table, folder: Path) -> Command | None:
    if "command" not in service:
        for key in ("cwd", "env", "output"):
            if key in service:
                raise UsageError(f"{service.at(key)}: means nothing without a command")
        return None
    if isinstance(service.values["command"], str):
        try:
            words = tuple(shlex.split(service.text("command")))
        except ValueError as error:
            raise UsageError(
                f"{service.at('command')}: {str(error).lower()}; a list of words needs no quotes"
            ) from None
    else:
        words = service.texts("command")
    if not words:
        raise UsageError(f"{service.at('command')}: is empty")
    cwd = folder / service.text("cwd", ".")
    if not cwd.is_dir():
        raise UsageError(f"{service.at('cwd')}: there is no folder {cwd}")
    return Command(words, cwd, (folder / service.text("output", OUTPUT)).resolve(), service.words("env"))


def _read_ready(service: _Table) -> Ready | None:
    ready = service.table("ready", _READY_KEYS)
    if "ready" not in service and "command" not in service:
        return None
    path = ready.text("path", "") or None
    if path is not None and not path.startswith("/"):
        raise UsageError(f"{ready.at('path')}: {path!r:.60} does not begin with /")
    port = parse_whole(ready.values["port"], 1, 65535, ready.at("port")) if "port" in ready else None
    return Ready(path, port, parse_duration_ns(ready.text("timeout", "30s"), ready.at("timeout")))


def _read_thresholds(load: _Table, mix: Mix) -> tuple[Threshold, ...]:
    where = load.at("thresholds")
    if not isinstance(load.values.get("thresholds", []), list):
        raise UsageError(f'{where}: must be a list, like ["p99 < 20ms"]')
    thresholds = tuple(parse_threshold(text, where) for text in load.texts("thresholds"))
    for threshold in thresholds:
        if threshold.request:
            choose(threshold.request, (request.name for request in mix), where)
    check_together(thresholds, where)
    return thresholds


# Requests


def _read_mix(whole: _Table, protocol: str, folder: Path) -> Mix:
    tables = whole.values.get("request", [])
    if not isinstance(tables, list) or not tables:
        raise UsageError(f"{whole.where}: there is no request; write one or more tables [[request]]")
    if len(tables) > MAX_REQUESTS:
        raise UsageError(f"{whole.where}: {len(tables)} requests are more than {MAX_REQUESTS}")
    mix: list[NamedRequest] = []
    for number, values in enumerate(tables, start=1):
        table = _Table(values, f"{whole.where}: request {number}", _REQUEST_KEYS)
        request = _read_request(table, protocol, folder)
        if request.name in (other.name for other in mix):
            raise UsageError(f"{table.where}: another request is named {request.name!r:.60}; give it a name of its own")
        mix.append(request)
    if protocol == "websocket" and len({(e.path, e.fields) for request in mix for e in request.exchanges}) > 1:
        raise UsageError(
            f"{whole.where}: all messages go over the same connections: give them one path and one headers"
        )
    return tuple(mix)


def _read_request(table: _Table, protocol: str, folder: Path) -> NamedRequest:
    spoken = _SPEAK[protocol](table, folder)
    rows, columns = _read_data(table, folder)
    order = choose(table.text("order", "round-robin"), ("round-robin", "random"), table.at("order"))
    if "order" in table and "data" not in table:
        raise UsageError(f"{table.at('order')}: means nothing without data")
    weight = table.values.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < 1e9:
        raise UsageError(f"{table.at('weight')}: {weight!r:.60} is not a number above 0")
    name = table.text("name", spoken.name)
    if not re.fullmatch(r"[^\x00-\x1f\x7f<>]{1,100}", name) or name != name.strip():
        raise UsageError(f"{table.at('name')}: {name!r:.60} is not a line of 1 to 100 characters without < and >")
    exchanges = tuple(spoken.fill(dict(zip(columns, row, strict=True)), table) for row in rows)
    return NamedRequest(
        name,
        exchanges,
        _read_checks(table.table("check", _CHECK_KEYS), protocol),
        float(weight),
        "random" if order == "random" else "round-robin",
    )


@dataclass(frozen=True)
class _Spoken:
    """What a request says, with placeholders. `make` gives the body of the text that it comes to."""

    name: str
    method: str
    path: str
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    body_is_json: bool = False
    encode: Callable[[str], bytes] = str.encode

    def fill(self, values: dict[str, str], table: _Table) -> Exchange:
        """The request with the values of a row of data. Raises UsageError."""
        path = _fill(self.path, values, lambda value: quote(value, safe=""))
        if left := _PLACEHOLDER.search(path):
            raise UsageError(
                f"{table.where}: the path {self.path!r:.80} needs a value for {left[0]}; give data with such a column"
            )
        body = _fill(self.body, values, lambda value: json.dumps(value)[1:-1] if self.body_is_json else value)
        fields = tuple((name, _fill(value, values, str)) for name, value in self.fields)
        for name, value in fields:
            if not _FIELD_VALUE.fullmatch(value) or value != value.strip():
                raise UsageError(f"{table.at('headers')}: {name}: {value!r:.60} is no value of a header field")
        return foreign_exchange(self.method, _escape(path), self.encode(body), fields=fields)


def _fill(text: str, values: dict[str, str], escape: Callable[[str], str]) -> str:
    """A text with the columns in the place of their names; other braces stay."""
    if not values or "{" not in text:
        return text
    return _PLACEHOLDER.sub(lambda found: escape(values[found[1]]) if found[1] in values else found[0], text)


def _escape(path: str) -> str:
    """A path as requests spell it; what is escaped already stays so."""
    return quote(path, safe="/%:@!$&'()*+,;=?~-._")


def _read_data(table: _Table, folder: Path) -> tuple[list[list[str]], list[str]]:
    """Rows, and the names of their columns; one empty row where there is no data."""
    if "data" not in table:
        return [[]], []
    where = table.at("data")
    path = folder / table.text("data")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns, rows = next(reader, []), [row for row in reader if row]
    except OSError as error:
        raise UsageError(f"{where}: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{where}: {path} is not a CSV file in UTF-8: {error}") from None
    if not rows or len(rows) > MAX_ROWS:
        raise UsageError(f"{where}: {path} has {len(rows)} rows under its head; allowed are 1 to {MAX_ROWS}")
    for name in columns:
        if not _PLACEHOLDER.fullmatch(f"{{{name}}}") or columns.count(name) > 1:
            raise UsageError(f"{where}: {path}: {name!r:.60} is no name of a column: letters, digits and _, each once")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise UsageError(f"{where}: {path}: row {number} has {len(row)} cells, and the head {len(columns)}")
    return rows, columns


def _speak_http(table: _Table, folder: Path) -> _Spoken:
    _refuse(table, ("proto",), "is for requests over grpc://")
    body, is_json = _read_body(table, folder)
    method, path = _read_operation(table, folder)
    method = method or table.text("method", "POST" if body else "GET")
    path = path or table.text("path")
    if not _METHOD.fullmatch(method) or method in ("CONNECT", "HEAD"):
        raise UsageError(
            f"{table.at('method')}: {method!r:.60} is no method that is carried; write one like GET or POST"
        )
    if not _PATH.fullmatch(path):
        raise UsageError(f"{table.at('path')}: {path!r:.80} is no path that begins with /")
    fields = _read_fields(table)
    if is_json and "content-type" not in dict(fields):
        fields = (*fields, ("content-type", "application/json"))
    return _Spoken(f"{method} {path}"[:100], method, path, fields, body, is_json)


def _speak_websocket(table: _Table, folder: Path) -> _Spoken:
    _refuse(table, ("proto",), "is for requests over grpc://")
    _refuse(table, ("method", "openapi", "operation"), "messages over WebSocket have none")
    body, is_json = _read_body(table, folder)
    path = table.text("path", "/")
    if not _PATH.fullmatch(path):
        raise UsageError(f"{table.at('path')}: {path!r:.80} is no path that begins with /")
    return _Spoken(f"message {body}"[:60].strip(), "GET", path, _read_fields(table), body, is_json)


def _speak_grpc(table: _Table, folder: Path) -> _Spoken:
    from bench.load.grpc_lookup import method_in_file

    _refuse(table, ("path", "body", "body-file", "openapi", "operation"), "calls have a method, and a message as json")
    method = table.text("method")
    try:
        found = method_in_file(folder / table.text("proto"), method)
    except UsageError as error:
        raise UsageError(f"{table.where}: {str(error).replace('--', '')}") from None
    body = _json_text(table) if "json" in table else "{}"

    def encode(message: str) -> bytes:
        try:
            return found.call(message).request
        except UsageError as error:
            raise UsageError(f"{table.at('json')}: {str(error).replace('--message: ', '')}") from None

    return _Spoken(method.strip("/"), "POST", found.call("{}").path, _read_fields(table), body, True, encode)


_SPEAK: dict[str, Callable[[_Table, Path], _Spoken]] = {
    "http1": _speak_http,
    "http2": _speak_http,
    "http3": _speak_http,
    "websocket": _speak_websocket,
    "grpc": _speak_grpc,
}
"""How the tables of requests are read, by protocol."""

_UNCHECKED = {
    "websocket": (("status", "headers"), "messages over WebSocket have none"),
    "grpc": (
        ("status", "headers", "contains", "json"),
        "of a call the status must be OK, and only its size is looked at",
    ),
}
"""The checks that answers over a protocol do not have."""


def _refuse(table: _Table, keys: Iterable[str], why: str) -> None:
    for key in keys:
        if key in table:
            raise UsageError(f"{table.at(key)}: {why}")


def _read_body(table: _Table, folder: Path) -> tuple[str, bool]:
    """The body, and whether it is JSON, in which values are escaped."""
    match table.one_of("body", "body-file", "json"):
        case "body":
            return table.text("body"), False
        case "body-file":
            path = folder / table.text("body-file")
            try:
                return path.read_text(encoding="utf-8"), path.suffix == ".json"
            except OSError as error:
                raise UsageError(f"{table.at('body-file')}: cannot read {path}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise UsageError(f"{table.at('body-file')}: {path} is not a text file in UTF-8") from None
        case "json":
            return _json_text(table), True
    return "", False


def _json_text(table: _Table) -> str:
    try:
        return json.dumps(table.values["json"], ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{table.at('json')}: is no JSON: {error}") from None


def _read_operation(table: _Table, folder: Path) -> tuple[str, str]:
    """Method and path of an operation of OpenAPI; empty where there is none."""
    if "openapi" not in table:
        _refuse(table, ("operation",), "means nothing without openapi, the file that has it")
        return "", ""
    _refuse(table, ("method", "path"), "the operation says it; leave it out, or leave out openapi")
    return openapi.find_operation(folder / table.text("openapi"), table.text("operation"), table.where)


def _read_fields(table: _Table) -> tuple[tuple[str, str], ...]:
    fields = []
    for name, value in table.words("headers").items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise UsageError(f"{table.at('headers')}: {name!r:.60} is no name of a header field")
        if name.lower() in _FRAMING:
            raise UsageError(f"{table.at('headers')}: {name}: the client writes that itself")
        fields.append((name.lower(), value))
    return tuple(fields)


def _read_checks(check: _Table, protocol: str) -> Checks:
    _refuse(check, *_UNCHECKED.get(protocol, ((), "")))
    statuses = check.values.get("status", [])
    statuses = statuses if isinstance(statuses, list) else [statuses]
    headers: dict[str, str | None] = {}
    given = check.values.get("headers", {})
    for name, value in (given if isinstance(given, dict) else {"": given}).items():
        if (value is not True and not isinstance(value, str)) or not name:
            raise UsageError(f"{check.at('headers')}: must be a table of texts, or true where any value will do")
        headers[name.lower()] = None if value is True else value
    wanted = check.values.get("json", {})
    if not isinstance(wanted, dict):
        raise UsageError(f'{check.at("json")}: must be a table of paths and values, like {{ "user.name" = "ann" }}')
    size = parse_size_bytes(check.text("max-size"), check.at("max-size")) if "max-size" in check else None
    return Checks(
        tuple(parse_whole(status, 200, 599, check.at("status")) for status in statuses),
        tuple(headers.items()),
        check.texts("contains"),
        tuple(wanted.items()),
        size,
    )
