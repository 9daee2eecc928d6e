"""Writes a wirebench.toml from answers (see `bench.servicefile` for what it says)."""

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import servicefile
from bench.errors import UsageError
from bench.resultfile import write_atomically
from bench.servicerequests import read_mix
from bench.thresholds import check_together, parse_threshold
from bench.tomltable import Table

LOAD, DURATION = "open:100/s", "10s"
THRESHOLDS = ("p99 < 100ms", "errors < 1%")


_HTTP = ("A request, as method and path", "GET /")
QUESTIONS = {
    "http1": _HTTP,
    "http2": _HTTP,
    "http3": _HTTP,
    "websocket": ("A message", "hello"),
    "grpc": ("A call, as package.Service/Method, and its .proto file unless the server tells of it (reflection)", ""),
}
"""How a request is asked for, by protocol, and what it is by default."""


@dataclass(frozen=True)
class Answers:
    """What somebody says of a service. An empty command: it runs already; an empty path: it is ready once its port
    takes connections."""

    command: str
    url: str
    ready_path: str
    requests: Sequence[str]
    """Each as QUESTIONS says for the protocol."""
    load: str
    duration: str
    thresholds: Sequence[str]


def write(path: Path, answers: Answers, force: bool) -> None:
    """Write the file. Raises UsageError for answers that make none, and, unless by `force`, where there is one already;
    OutputError."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; --force replaces it")
    text = _spell(answers)
    servicefile.parse(text, path)
    write_atomically(path, text)


def check_request(request: str, protocol: str, path: Path) -> None:
    """Raises UsageError for a request that makes no sense over a protocol, in the file that is to be at `path`."""
    table = tomllib.loads(_spell_request(request, protocol))
    read_mix(Table(table, "the answer", ("request",)), protocol, path.parent)


def split_thresholds(text: str) -> list[str]:
    """Thresholds with commas between them; "-" for none. Raises UsageError for what is none."""
    thresholds = [] if text == "-" else [each.strip() for each in text.split(",")]
    check_together([parse_threshold(each, "the threshold") for each in thresholds], "the thresholds")
    return thresholds


def _spell(answers: Answers) -> str:
    service = []
    if answers.command:
        service.append(f"command = {_quoted(answers.command)}   # {{port}} is a free port, as $PORT is")
    service.append(f"url = {_quoted(answers.url)}")
    if answers.ready_path:
        service.append(f'ready = {{ path = {_quoted(answers.ready_path)}, timeout = "30s" }}')
    protocol = servicefile.protocol_of(answers.url, "url")
    requests = [_spell_request(request, protocol) for request in answers.requests]
    thresholds = "".join(f"    {_quoted(threshold)},\n" for threshold in answers.thresholds)
    load = f"load = {_quoted(answers.load)}\nduration = {_quoted(answers.duration)}"
    parts = [
        "# What wirebench asks of this service. All that may stand here: wirebench list service",
        "\n".join(["[service]", *service]),
        *requests,
        f"[load]\n{load}\nthresholds = [\n{thresholds}]",
    ]
    return "\n\n".join(parts) + "\n"


def _spell_request(request: str, protocol: str) -> str:
    if protocol == "websocket":
        keys = {"body": request}
    elif protocol == "grpc":
        method, _, proto = request.strip().partition(" ")
        keys = {"method": method, "proto": proto.strip()} if proto else {"method": method}
    else:
        method, _, path = request.strip().rpartition(" ")
        keys = {"method": method.strip(), "path": path} if method else {"path": path}
    return "\n".join(["[[request]]", *(f"{key} = {_quoted(value)}" for key, value in keys.items())])


def _quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
