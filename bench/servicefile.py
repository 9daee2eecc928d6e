"""A wirebench.toml: what it says of a service, its load and its thresholds.

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

import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.address import SCHEMES
from bench.errors import UsageError
from bench.mix import Mix
from bench.ownservice import OwnService
from bench.protocols import PROTOCOLS
from bench.quantities import parse_duration_ns, parse_whole
from bench.registry import choose
from bench.serviceprocess import PORT, Command, Ready
from bench.servicerequests import read_mix
from bench.thresholds import Threshold, check_together, parse_threshold
from bench.tomltable import Table

OUTPUT = "wirebench-service.log"

SERVICE_KEYS = ("command", "url", "cwd", "env", "ready", "output", "insecure", "cacert", "tls")
_READY_KEYS = ("path", "port", "timeout")
LOAD_KEYS = ("load", "connections", "warmup", "duration", "timeout")
"""The keys of a scenario that the table [load] has."""


def read(path: Path) -> OwnService:
    """What a wirebench.toml says. Files that it names are looked for from its folder. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
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
    whole = Table(document, str(path), ("service", "request", "load"))
    service = whole.table("service", SERVICE_KEYS)
    load = whole.table("load", (*LOAD_KEYS, "seed", "thresholds"))
    url = service.text("url")
    protocol = protocol_of(url, service.at("url"))
    mix = read_mix(whole, protocol, path.parent)
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
        target = own.target(1)
    except UsageError as error:
        raise UsageError(f"{service.where}: {error}") from None
    own.scenario(target, {})
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


def _read_command(service: Table, folder: Path) -> Command | None:
    if "command" not in service:
        service.refuse(("cwd", "env", "output"), "means nothing without a command")
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


def _read_ready(service: Table) -> Ready | None:
    ready = service.table("ready", _READY_KEYS)
    if "ready" not in service and "command" not in service:
        return None
    path = ready.text("path", "") or None
    if path is not None and not path.startswith("/"):
        raise UsageError(f"{ready.at('path')}: {path!r:.60} does not begin with /")
    port = parse_whole(ready.values["port"], 1, 65535, ready.at("port")) if "port" in ready else None
    return Ready(path, port, parse_duration_ns(ready.text("timeout", "30s"), ready.at("timeout")))


def _read_thresholds(load: Table, mix: Mix) -> tuple[Threshold, ...]:
    where = load.at("thresholds")
    if not isinstance(load.values.get("thresholds", []), list):
        raise UsageError(f'{where}: must be a list, like ["p99 < 20ms"]')
    thresholds = tuple(parse_threshold(text, where) for text in load.texts("thresholds"))
    for threshold in thresholds:
        if threshold.request:
            choose(threshold.request, (request.name for request in mix), where)
    check_together(thresholds, where)
    return thresholds
