"""The requests of a wirebench.toml: what each asks for, with which data, and what its answers must be."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bench import openapi
from bench.address import Address
from bench.contract import Exchange, Security, foreign_exchange
from bench.errors import UsageError
from bench.mix import Checks, Mix, NamedRequest
from bench.quantities import parse_size_bytes, parse_whole
from bench.registry import choose
from bench.tomltable import Table

if TYPE_CHECKING:
    from bench.load.grpc_lookup import Reflection

MAX_REQUESTS = 100
MAX_ROWS = 100_000

REQUEST_KEYS = (
    *("name", "method", "path", "headers", "body", "body-file", "json", "weight", "data", "order"),
    *("openapi", "operation", "proto", "check"),
)
CHECK_KEYS = ("status", "headers", "contains", "json", "max-size")

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}")  # RFC 9110, 5.6.2
_FIELD_VALUE = re.compile(r"[\t !-~\x80-\xff]*")  # RFC 9110, 5.5
_PATH = re.compile(r"/[^\x00-\x1f\x7f#]*")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.-]*)\}")
_FRAMING = ("host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "keep-alive", "expect")
"""Fields that the client writes itself, or that change how a message is read."""


def read_mix(whole: Table, protocol: str, folder: Path) -> Mix:
    """The requests of the whole file. Files that they name are looked for from `folder`. Raises UsageError."""
    tables = whole.values.get("request", [])
    if not isinstance(tables, list) or not tables:
        raise UsageError(f"{whole.where}: there is no request; write one or more tables [[request]]")
    if len(tables) > MAX_REQUESTS:
        raise UsageError(f"{whole.where}: {len(tables)} requests are more than {MAX_REQUESTS}")
    mix: list[NamedRequest] = []
    for number, values in enumerate(tables, start=1):
        table = Table(values, f"{whole.where}: request {number}", REQUEST_KEYS)
        request = _read_request(table, protocol, folder)
        if request.name in (other.name for other in mix):
            raise UsageError(f"{table.where}: another request is named {request.name!r:.60}; give it a name of its own")
        mix.append(request)
    if protocol == "websocket" and len({(e.path, e.fields) for request in mix for e in request.exchanges}) > 1:
        raise UsageError(
            f"{whole.where}: all messages go over the same connections: give them one path and one headers"
        )
    return tuple(mix)


def _read_request(table: Table, protocol: str, folder: Path) -> NamedRequest:
    spoken = _SPEAK[protocol](table, folder)
    rows, columns = _read_data(table, folder)
    order = choose(table.text("order", "round-robin"), ("round-robin", "random"), table.at("order"))
    if "data" not in table:
        table.refuse(("order",), "means nothing without data")
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
        _read_checks(table.table("check", CHECK_KEYS), protocol),
        float(weight),
        "random" if order == "random" else "round-robin",
        spoken.unknown_method,
    )


def told_by_server(mix: Mix, address: Address, security: Security | None) -> Mix:
    """The mix with the messages of methods that the file does not describe written as the server says by reflection,
    which has to run by now. Raises TargetError, UsageError."""
    if not any(request.method for request in mix):
        return mix
    from bench.load.grpc_lookup import reflection

    with reflection(address.host, address.port, security) as server:
        return tuple(_told(request, server) if request.method else request for request in mix)


def _told(request: NamedRequest, server: "Reflection") -> NamedRequest:
    try:
        found = server.method(request.method)
        exchanges = tuple(replace(e, body=found.call(e.body.decode()).request) for e in request.exchanges)
    except UsageError as error:
        said = str(error).replace("--message: ", "json: ").replace("--method: ", "")
        raise UsageError(f"request {request.name}: {said}") from None
    return replace(request, exchanges=exchanges, method="")


@dataclass(frozen=True)
class _Spoken:
    """What a request says, with placeholders. `encode` gives the body of the text that it comes to."""

    name: str
    method: str
    path: str
    fields: tuple[tuple[str, str], ...] = ()
    body: str = ""
    body_is_json: bool = False
    encode: Callable[[str], bytes] = str.encode
    unknown_method: str = ""
    """The method of gRPC that only the server can tell of."""

    def fill(self, values: dict[str, str], table: Table) -> Exchange:
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


def _read_data(table: Table, folder: Path) -> tuple[list[list[str]], list[str]]:
    """Rows, and the names of their columns; one empty row where there is no data."""
    if "data" not in table:
        return [[]], []
    where = table.at("data")
    path = folder / table.text("data")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns, rows = next(reader, []), []
            for row in reader:
                if len(row) not in (0, len(columns)):
                    raise UsageError(
                        f"{where}: {path}: line {reader.line_num} has {len(row)} cells, and the head {len(columns)}"
                    )
                rows += [row] if row else []
    except OSError as error:
        raise UsageError(f"{where}: cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{where}: {path} is not a CSV file in UTF-8: {error}") from None
    if not rows or len(rows) > MAX_ROWS:
        raise UsageError(f"{where}: {path} has {len(rows)} rows under its head; allowed are 1 to {MAX_ROWS}")
    for name in columns:
        if not _PLACEHOLDER.fullmatch(f"{{{name}}}") or columns.count(name) > 1:
            raise UsageError(f"{where}: {path}: {name!r:.60} is no name of a column: letters, digits and _, each once")
    return rows, columns


def _speak_http(table: Table, folder: Path) -> _Spoken:
    table.refuse(("proto",), "is for requests over grpc://")
    body, is_json = _read_body(table, folder)
    method, path = _read_operation(table, folder)
    method = method or table.text("method", "POST" if body else "GET")
    path = path or table.text("path")
    if not _METHOD.fullmatch(method) or method == "CONNECT":
        raise UsageError(
            f"{table.at('method')}: {method!r:.60} is no method that is carried; write one like GET or POST"
        )
    if not _PATH.fullmatch(path):
        raise UsageError(f"{table.at('path')}: {path!r:.80} is no path that begins with /")
    fields = _read_fields(table)
    if is_json and "content-type" not in dict(fields):
        fields = (*fields, ("content-type", "application/json"))
    return _Spoken(f"{method} {path}"[:100], method, path, fields, body, is_json)


def _speak_websocket(table: Table, folder: Path) -> _Spoken:
    table.refuse(("proto",), "is for requests over grpc://")
    table.refuse(("method", "openapi", "operation"), "messages over WebSocket have none")
    body, is_json = _read_body(table, folder)
    path = table.text("path", "/")
    if not _PATH.fullmatch(path):
        raise UsageError(f"{table.at('path')}: {path!r:.80} is no path that begins with /")
    return _Spoken(f"message {body}"[:60].strip(), "GET", path, _read_fields(table), body, is_json)


def _speak_grpc(table: Table, folder: Path) -> _Spoken:
    from bench.load.grpc_lookup import method_in_file, split_method

    table.refuse(("path", "body", "body-file", "openapi", "operation"), "calls have a method, and a message as json")
    method = table.text("method").strip("/")
    body = _json_text(table) if "json" in table else "{}"
    try:
        split_method(method)
        if "proto" not in table:
            return _Spoken(method, "POST", f"/{method}", _read_fields(table), body, True, unknown_method=method)
        found = method_in_file(folder / table.text("proto"), method)
    except UsageError as error:
        raise UsageError(f"{table.where}: {str(error).replace('--', '')}") from None

    def encode(message: str) -> bytes:
        try:
            return found.call(message).request
        except UsageError as error:
            raise UsageError(f"{table.at('json')}: {str(error).replace('--message: ', '')}") from None

    return _Spoken(method, "POST", found.path, _read_fields(table), body, True, encode)


_SPEAK: dict[str, Callable[[Table, Path], _Spoken]] = {
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


def _read_body(table: Table, folder: Path) -> tuple[str, bool]:
    """The body, and whether it is JSON, in which values are escaped."""
    match table.one_of("body", "body-file", "json"):
        case "body":
            return table.text("body"), False
        case "body-file":
            path, text = table.file("body-file", folder)
            return text, path.suffix == ".json"
        case "json":
            return _json_text(table), True
    return "", False


def _json_text(table: Table) -> str:
    try:
        return json.dumps(table.values["json"], ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{table.at('json')}: is no JSON: {error}") from None


def _read_operation(table: Table, folder: Path) -> tuple[str, str]:
    """Method and path of an operation of OpenAPI; empty where there is none."""
    if "openapi" not in table:
        table.refuse(("operation",), "means nothing without openapi, the file that has it")
        return "", ""
    table.refuse(("method", "path"), "the operation says it; leave it out, or leave out openapi")
    path, text = table.file("openapi", folder)
    return openapi.find_operation(text, path, table.text("operation"), table.where)


def _read_fields(table: Table) -> tuple[tuple[str, str], ...]:
    fields = []
    for name, value in table.words("headers").items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise UsageError(f"{table.at('headers')}: {name!r:.60} is no name of a header field")
        if name.lower() in _FRAMING:
            raise UsageError(f"{table.at('headers')}: {name}: the client writes that itself")
        fields.append((name.lower(), value))
    return tuple(fields)


def _read_checks(check: Table, protocol: str) -> Checks:
    check.refuse(*_UNCHECKED.get(protocol, ((), "")))
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
