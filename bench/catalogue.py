"""What there is to choose from, with a line about each: what `wirebench list` shows.

Protocols, stacks and patterns bring their line themselves, so that nothing heavy is imported; that of an execution
model is the first sentence of the module that makes it.
"""

import sys
import tomllib
from importlib import resources
from typing import Any

from bench import registry
from bench.output import columns
from bench.patterns import PATTERNS
from bench.protocols import PROTOCOLS
from bench.proxies import HOPS
from bench.suites import suite_names

LOADS = {
    "closed:64": "64 connections, each with one request in flight: an answer makes room for the next request",
    "closed:8x16": "8 connections with 16 requests in flight on each",
    "open:5000/s": "5,000 requests a second, evenly spaced, answered or not",
    "poisson:5000/s": "5,000 requests a second on average, as independent users send them",
    "burst:10/1s": "ten requests at once, every second",
    "ramp:100-5000/s@60s": "from 100 to 5,000 requests a second within a minute",
    "stages:1000/s@10s,5000/s@30s": "one rate after another",
}
OPERATIONS = {
    "echo": "answers with the body it was sent (--payload)",
    "bytes": "answers with --payload bytes of a fixed pattern; bytes:chunk=1KiB in pieces",
    "upload": "reads a body (--payload) and answers with its length and SHA-256",
    "work": "work:cpu=100us,wait=5ms burns that much CPU, then waits that long",
    "health": "answers “ok”",
    "create-todo": "adds to the todo list; of the answer, with the new todo, only the status is checked",
    "read-todos": "answers with the first todos; read-todos:limit=10 says how many",
    "read-todos-stream": "the same, each todo in a piece of its own",
}
LINKS = {
    "rtt=40ms": "round-trip time, half of it each way; delay=20ms says one way",
    "jitter=2ms": "spread of the delay: uniform within ± 2 ms, or with shape=normal its σ; order is kept",
    "loss=1%": "share of packets lost; with burst=5 in runs of five on average",
    "duplicate=1%": "share of packets that arrive twice",
    "reorder=1%": "share of packets that skip the delay, and overtake",
    "rate=20mbit": "bits a second; queue=100ms (or 64KiB) is what may wait for its turn, the rest is dropped",
    "mtu=1280": "largest packet of the devices at both ends",
    "pmtu=1300B": "larger packets vanish on the way, without a word",
    "block=udp:443": "what never gets through: udp, tcp, icmp or a port of either; several with +",
    "up.rate=1mbit": "any of these for one direction: up is from client to server, down from server to client",
    "loopback": "no link: both ends on the machine's own loopback",
}
SERVICE = {
    "service.url": "where it is, like http://127.0.0.1:{port}; the scheme says the protocol, {port} is a free port",
    "service.command": "what starts it: a text (no shell) or a list of words, with {port}; $PORT is set too",
    "service.cwd": "where it is started, from the folder of the file, which is the default",
    "service.env": "a table of texts, added to the environment",
    "service.ready": '{ path = "/health", port = 8080, timeout = "30s" }: by default once its port takes connections',
    "service.output": "the file that has what it writes; wirebench-service.log by default",
    "service.insecure, cacert, tls": "as the options of wirebench load",
    "request.name": "what results call it; by default method and path",
    "request.method, path": "by default GET, with a body POST; {column} stands for a value of the data",
    "request.headers": "a table of texts",
    "request.body, body-file, json": "one of: a text, the file that has it, or what is sent as JSON",
    "request.weight": "how often it is asked for, against the others; 1 by default",
    "request.data, order": "a CSV file, whose columns fill {column}s row by row; round-robin (default) or random",
    "request.openapi, operation": "a document (JSON or YAML) and an operationId of it, in the place of method and path",
    "request.proto, json": "over grpc://, with method = package.Service/Method: the .proto file (by default the server "
    "is asked: reflection), and the one message that the method takes; an answer that streams counts once it has ended",
    "request.check.status": "a status, or a list of those that are right; by default any of 2xx and 3xx",
    "request.check.headers": "a table of header fields that must be there: a text, or true for any value",
    "request.check.contains": "a text, or a list of texts, that must be in the body",
    "request.check.json": 'paths and values of a body of JSON, like { "user.name" = "ann", "items.0.id" = 1 }',
    "request.check.max-size": "the longest body, like 16KiB",
    "load.load, connections, timeout, seed": "as the options of wirebench load, which go before them",
    "load.warmup, duration": "the same; wirebench capacity and ab have lengths of their own",
    "load.thresholds": "a list, like p99 < 20ms, max of NAME < 1s, errors < 0.1%, dropped <= 0, rate > 500/s",
}
"""The keys of a wirebench.toml (see `bench.ownservice`), by table."""

KINDS = ("protocols", "patterns", "executions", "stacks", "suites", "operations", "loads", "links", "hops", "service")


def catalogue() -> dict[str, Any]:
    """Names and lines of every kind, and under "unsupported" which protocols do not go with which execution models."""
    return {
        "protocols": {name: protocol.line for name, protocol in PROTOCOLS.items()},
        "patterns": {name: pattern.line for name, pattern in PATTERNS.items()},
        "executions": {name: _first_sentence(reference) for name, reference in registry.EXECUTIONS.items()},
        "stacks": {name: stack.line for name, stack in registry.STACKS.items()},
        "suites": {name: _suite_line(name) for name in suite_names()},
        "operations": dict(OPERATIONS),
        "loads": dict(LOADS),
        "links": dict(LINKS),
        "hops": {name: hop.line for name, hop in HOPS.items()},
        "service": dict(SERVICE),
        "unsupported": [
            {"protocol": protocol, "execution": execution, "why": why}
            for protocol, facts in PROTOCOLS.items()
            for execution, reference in registry.EXECUTIONS.items()
            if (why := registry.load(reference)().unsupported(facts.transport_kind, facts.lives)) is not None
        ],
    }


def show(found: dict[str, Any], kinds: tuple[str, ...]) -> str:
    """The catalogue's entries of these kinds, for people."""
    parts = [f"{kind}\n{columns(found[kind].items(), indent=2)}" for kind in kinds]
    if "patterns" in kinds:
        parts.append(_words_of_patterns())
    if "protocols" in kinds or "executions" in kinds:
        parts.append(_combinations(found["unsupported"]))
    return "\n\n".join(parts)


def properties() -> dict[str, Any]:
    """What each protocol declares of itself, and the bytes that its lean ends were counted to exchange, without TLS and
    with its newest version."""
    from bench import wirecount

    return wirecount.describe(
        (name, tls)
        for name, protocol in PROTOCOLS.items()
        for tls in protocol.tls
        if tls != "1.2" or tls == protocol.tls[-1]
    )


def show_properties(properties: dict[str, Any]) -> str:
    """The property table for people: a block for each protocol."""
    from analysis.load_results import facts_of
    from analysis.properties import property_table

    facts = {name: facts_of(record) for name, record in properties.items()}
    made = property_table(facts)
    blocks = []
    for column, name in enumerate(made.names):
        rows = []
        for question, answers in made.rows:
            for number, line in enumerate(answers[column]):
                rows.append([question if number == 0 else "", line])
        blocks.append(f"{name}: {PROTOCOLS[name].line}\n{columns(rows, indent=2)}")
    note = (
        "↑ bytes that the client sends, ↓ that it receives, counted above TCP or UDP: the first exchange on a new\n"
        "connection, with every handshake above TCP, and the mean of later ones. An exchange is an echo of 64\n"
        "bytes; of sse, an event of 64 bytes that is published on one connection and delivered on another."
    )
    return "\n\n".join([*blocks, note])


def _words_of_patterns() -> str:
    words = [
        [f"{name}:{word}={facts.default}", facts.line]
        for name, pattern in PATTERNS.items()
        for word, facts in pattern.words.items()
    ]
    tallies = [
        [f"{name}: {tally}", line]
        for name, pattern in PATTERNS.items()
        for tally, line in {**pattern.tallies, **pattern.server_tallies, **pattern.server_totals}.items()
    ]
    return "\n".join(
        [
            "words of patterns, as they are by default; several with commas",
            columns(words, indent=2),
            "",
            "what patterns count beside exchanges",
            columns(tallies, indent=2),
        ]
    )


def _combinations(unsupported: list[dict[str, str]]) -> str:
    refused = {(item["protocol"], item["execution"]): item["why"] for item in unsupported}
    reasons = list(dict.fromkeys(refused.values()))
    marks = {why: f"no ({number})" for number, why in enumerate(reasons, start=1)}
    rows = [["", *PROTOCOLS]]
    for execution in registry.EXECUTIONS:
        cells = [marks.get(refused.get((protocol, execution), ""), "yes") for protocol in PROTOCOLS]
        rows.append([execution, *cells])
    notes = [f"  ({number}) {why}" for number, why in enumerate(reasons, start=1)]
    return "\n".join(["which protocol goes with which execution model", columns(rows, indent=2), *notes])


def _first_sentence(reference: str) -> str:
    registry.load(reference)
    text = " ".join((sys.modules[reference.partition(":")[0]].__doc__ or "").split("\n\n")[0].split())
    return text.rstrip(".").replace("`", "")


def _suite_line(name: str) -> str:
    text = resources.files("bench.suites").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text).get("description", ""))
