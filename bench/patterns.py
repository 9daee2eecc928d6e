"""The patterns: how the two sides talk. Each names what it needs of a protocol, and runs on every one that has it.

A pattern is spelled as its name, or with words of its own: `job:by=long-poll,every=100ms`. What the words may be stands
here; what they do, in the pattern's engine (`bench.load`) and, for conversations, in `clients.patterns`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.contract import DISCONNECT, POLICIES
from bench.errors import UsageError
from bench.quantities import parse_arguments, parse_duration_ns, parse_share, parse_size_bytes, parse_whole


@dataclass(frozen=True)
class Word:
    """A word of a pattern's own: what it means, what it is by default, and how it is read (text and place of error)."""

    line: str
    default: str
    parse: Callable[[str, str], Any]


@dataclass(frozen=True)
class Pattern:
    """One pattern. References are "module:name", imported only when they are used."""

    line: str
    """What it is, in a few words."""
    engine: str
    """What makes the engine of a load process: called with its LoadSpec, the load, and what every engine is given."""
    needs: tuple[str, ...]
    """The fields of a Protocol that must not be empty. The first is where the reference of its client stands."""
    conversation: str = ""
    """What one conversation does (see `bench.conversation`), where the pattern is made of those."""
    words: Mapping[str, Word] = field(default_factory=dict)
    further_needs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """What it needs besides if a word has that value."""
    tallies: Mapping[str, str] = field(default_factory=dict)
    """What it counts beside exchanges, in a few words each."""
    server_words: tuple[str, ...] = ()
    """Its words that the server is told, as arguments of its process (see `bench.serverprocess`)."""
    server_tallies: Mapping[str, str] = field(default_factory=dict)
    """What the server counts for it in the measured time, in a few words each: fields of its workers' counts."""
    server_totals: Mapping[str, str] = field(default_factory=dict)
    """Likewise, what it counts since its start."""
    store: str = ""
    """Its word that says where the server keeps things, which may be a program of its own (see `bench.stores`)."""
    server: str = ""
    """What takes the place of a server, where the protocol's own is not what is talked to: made with the words and CPUs
    (see `bench.brokerserver`)."""
    unsupported: str = ""
    """What says why a scenario makes no sense, given that and the words, where there is more to it than `needs`."""
    in_one_load: bool = False
    """Whether all of it happens in one load process."""
    in_one_process: bool = False
    """Whether a server has to be one process, because what is asked for later is known to the one that was told."""
    has_events: bool = False
    """Whether what counts is deliveries of published events, and not answers."""


def choice(*allowed: str) -> Callable[[str, str], str]:
    """Reads one of these words."""

    def parse(text: str, where: str) -> str:
        from bench.registry import choose  # which knows protocols, and these know patterns

        return choose(text, allowed, where)

    return parse


def whole(low: int, high: int) -> Callable[[str, str], int]:
    """Reads a whole number within bounds."""
    return lambda text, where: parse_whole(text, low, high, where)


def duration(low_ns: int, high_ns: int) -> Callable[[str, str], int]:
    """Reads a duration within bounds, in nanoseconds."""

    def parse(text: str, where: str) -> int:
        found = parse_duration_ns(text, where)
        if not low_ns <= found <= high_ns:
            raise UsageError(f"{where}: {text!r} is not within {low_ns // 1_000_000}ms to {high_ns // 1_000_000_000}s")
        return found

    return parse


def chunk(text: str, where: str) -> int:
    """Reads the size of a piece, in bytes."""
    found = parse_size_bytes(text, where)
    if not 1 <= found <= 1 << 26:
        raise UsageError(f"{where}: {text!r} is not within 1B to 64MiB")
    return found


_MS = 1_000_000
_PUBLISHED = {"polls": "requests for events", "empty": "polls that brought none"}

_BROKER = Word("which broker", "embedded", choice("embedded", "rabbitmq", "redis", "nats"))
_BROKERED = {
    "confirmed": "messages that the broker confirmed",
    "unconfirmed": "messages that it did not confirm",
    "lost": "confirmed messages that a reader never got",
    "redelivered": "deliveries that were not the first",
}

PATTERNS = {
    "request-response": Pattern("one request, one answer", "bench.load.engine:make_engine", ("client",)),
    "mix": Pattern(
        "requests of several names, drawn by weight, with checks on their answers: from a wirebench.toml",
        "bench.load.mixing:make_engine",
        ("mixed_client",),
        unsupported="bench.ownservice:why_unsupported",
    ),
    "connect": Pattern(
        "a connection for each request: opened, one request and its answer, closed",
        "bench.load.connecting:make_engine",
        ("client", "is_connected"),
    ),
    "push": Pattern(
        "one publisher, many subscribers: each event is delivered to all of them",
        "bench.load.push:make_engine",
        ("subscriber", "publisher"),
        unsupported="bench.load.push:why_unsupported",
        words={
            "cut": Word("every connection is cut once, after this share of the measured time", "0%", parse_share),
            "slow": Word("how many of the subscribers never read", "0", whole(0, 10_000)),
            "policy": Word(
                "subscribers that are too slow: disconnect, drop-oldest or block", DISCONNECT, choice(*POLICIES)
            ),
        },
        tallies={
            "cuts": "connections cut",
            "gaps": "events that a subscriber never got although later ones came",
        },
        server_words=("policy",),
        server_tallies={
            "dropped": "events that the server dropped for a subscriber that was too slow",
        },
        server_totals={  # what came about in the warm-up may last to the end
            "disconnected": "subscribers that the server sent away because they were too slow, since its start",
            "held": "publishes that the server acknowledged only when slow subscribers had room, since its start",
        },
        has_events=True,
    ),
    "stream": Pattern(
        "messages of one long-lived call in both directions, each answered by one",
        "bench.load.engine:make_engine",
        ("stream_client",),
    ),
    "short-poll": Pattern(
        "as push, but every subscriber asks for events at intervals, and is answered at once",
        "bench.load.polling:make_engine",
        ("caller", "publisher"),
        words={"every": Word("from one poll to the next", "200ms", duration(_MS, 60_000 * _MS))},
        tallies=_PUBLISHED,
        has_events=True,
    ),
    "long-poll": Pattern(
        "as push, but every subscriber asks for events, and is answered when there are any",
        "bench.load.polling:make_engine",
        ("caller", "publisher"),
        words={"wait": Word("how long a poll may be held back", "10s", duration(_MS, 60_000 * _MS))},
        tallies=_PUBLISHED,
        has_events=True,
    ),
    "upload": Pattern(
        "a payload to the server: as one body, or in pieces that go on where they were cut",
        "bench.load.conversing:make_engine",
        ("caller",),
        "clients.patterns.upload:Upload",
        unsupported="bench.load.conversing:why_uncuttable",
        in_one_process=True,
        words={
            "as": Word("one body, or a request for each piece", "whole", choice("whole", "chunks")),
            "chunk": Word("the size of a piece", "64KiB", chunk),
            "cut": Word("the connection is cut once, after this share of the payload", "0%", parse_share),
        },
        tallies={"body_bytes": "bytes of bodies that were sent", "calls": "requests", "cuts": "connections cut"},
    ),
    "job": Pattern(
        "work that outlives its request: submitted for a handle, and then asked for, waited for, or watched",
        "bench.load.conversing:make_engine",
        ("caller",),
        "clients.patterns.job:Job",
        in_one_process=True,
        words={
            "by": Word(
                "how the end is learnt",
                "long-poll",
                choice("request", "short-poll", "long-poll", "push"),
            ),
            "for": Word("how long the work takes", "200ms", duration(_MS, 60_000 * _MS)),
            "steps": Word("in how many steps", "4", whole(1, 1000)),
            "every": Word("from one short poll to the next", "50ms", duration(_MS, 60_000 * _MS)),
            "backoff": Word("what the interval grows by, in percent", "0", whole(0, 1000)),
            "leave": Word("the client's connection is lost once, after so much of the time", "0%", parse_share),
        },
        further_needs={("by", "push"): "subscriber"},
        tallies={"calls": "requests", "progress": "steps heard of", "left": "connections lost", "lost": "answers lost"},
    ),
    "page": Pattern(
        "many objects at once, over a pool of connections or the streams of one: a page is done when all are there",
        "bench.load.conversing:make_engine",
        ("caller",),
        "clients.patterns.page:Page",
        unsupported="bench.load.conversing:why_not_urgent",
        words={
            "objects": Word("how many objects a page has", "24", whole(1, 10_000)),
            "pool": Word("how many connections there may be; 0 for as many as there are objects", "6", whole(0, 1000)),
            "keep": Word("whether connections are kept for the next page", "yes", choice("yes", "no")),
            "urgent": Word(
                "how many of the objects are urgent: they are asked for last, and the page is done with them, and left",
                "0",
                whole(0, 10_000),
            ),
            "told": Word("whether the server is told what is urgent (RFC 9218)", "no", choice("yes", "no")),
        },
        tallies={"calls": "requests", "opened": "connections opened", "waited": "requests that waited for one"},
        further_needs={("told", "yes"): "priorities"},
    ),
    "comment": Pattern(
        "a POST that is tried again when its answer is lost, with an idempotency key or without",
        "bench.load.conversing:make_engine",
        ("caller",),
        "clients.patterns.comment:Comment",
        words={
            "key": Word("whether tries carry a key that makes them one", "yes", choice("yes", "no")),
            "tries": Word("how often a comment is sent at most", "5", whole(1, 100)),
        },
        tallies={
            "calls": "requests",
            "retries": "of them not the first of their comment",
            "stored": "comments that the server has, at the end",
            "duplicates": "of them stored more than once",
        },
    ),
    "session": Pattern(
        "a client that its server knows: it has logged in, and comes again and again",
        "bench.load.conversing:make_engine",
        ("caller",),
        "clients.patterns.session:Session",
        store="kept",
        unsupported="bench.stores:why_unsupported",
        words={
            "kept": Word(
                "where sessions are kept: memory, sqlite, redis or token",
                "memory",
                choice("memory", "sqlite", "redis", "token"),
            ),
            "connection": Word(
                "whether the client's connection is kept, or new each time", "kept", choice("kept", "new")
            ),
        },
        tallies={"calls": "requests", "logins": "logins", "broken": "sessions that the server had lost"},
    ),
    "chain": Pattern(
        "an upload is sent, compressed, made a document and announced: four calls, each after the other",
        "bench.load.conversing:make_engine",
        ("caller",),
        "clients.patterns.chain:Chain",
        tallies={"calls": "requests"},
    ),
    "pipeline": Pattern(
        "the same through topics of a broker: the client publishes the upload, workers do the rest",
        "bench.load.pipeline:make_engine",
        ("through_brokers",),
        server="bench.brokerserver:BrokerServer",
        unsupported="bench.brokerserver:why_unsupported",
        in_one_load=True,
        words={"broker": _BROKER},
        tallies=_BROKERED,
        has_events=True,
    ),
    "pubsub": Pattern(
        "one publisher, many readers, and a broker between them that keeps what they have not read",
        "bench.load.pubsub:make_engine",
        ("through_brokers",),
        server="bench.brokerserver:BrokerServer",
        unsupported="bench.brokerserver:why_unsupported",
        in_one_load=True,
        words={
            "broker": _BROKER,
            "readers": Word("how many subscriptions, with a reader each", "1", whole(1, 1000)),
            "prefetch": Word("messages that a reader may hold and not have acknowledged", "500", whole(1, 100_000)),
            "ack": Word("whether readers acknowledge before the work or after", "after", choice("before", "after")),
            "away": Word("the share of the measured time, in its middle, without a reader", "0%", parse_share),
            "crash": Word("the chance that a reader ends in the middle of its work on a message", "0%", parse_share),
            "poison": Word("the share of messages that no reader can work on", "0%", parse_share),
        },
        tallies={
            **_BROKERED,
            "crashes": "readers that ended in the middle of their work",
            "rejected": "messages that a reader could not work on",
            "dead_letters": "messages that are kept for that reason",
        },
        has_events=True,
    ),
    "callers": Pattern(
        "a program that makes k calls while it has work of its own: waiting for each, in threads, or all at once",
        "bench.load.conversing:make_engine",
        ("caller", "http_version"),
        "clients.patterns.callers:Callers",
        words={
            "how": Word("what calls", "sync", choice("sync", "threads", "async", "lean")),
            "calls": Word("how many calls", "20", whole(1, 1000)),
        },
        tallies={"calls": "requests", "units": "units of the program's own work done meanwhile (about 100 µs each)"},
    ),
}


def parse_pattern(text: str, where: str) -> tuple[Pattern, dict[str, Any]]:
    """The pattern that a spelling names, with its words read. Raises UsageError."""
    name, pattern, given = _read(text, where)
    words = {
        key: word.parse(given.get(key, word.default), f"{where}: {name}: {key}") for key, word in pattern.words.items()
    }
    return pattern, words


def spelled(text: str, where: str) -> str:
    """A pattern as scenarios hold it: what is as it is by default goes unsaid. Raises UsageError."""
    parse_pattern(text, where)
    name, pattern, given = _read(text, where)
    meant = {key: given[key] for key, word in pattern.words.items() if given.get(key, word.default) != word.default}
    return f"{name}:{','.join(f'{key}={text}' for key, text in meant.items())}" if meant else name


def _read(text: str, where: str) -> tuple[str, Pattern, dict[str, str]]:
    """A pattern's name, the pattern, and the words that are given for it, as text."""
    from bench.registry import choose

    name, given = parse_arguments(text, where, "words", "job:by=push,for=200ms")
    pattern = PATTERNS[choose(name, PATTERNS, where)]
    for key in given:
        if key not in pattern.words:
            known = f"those it has: {', '.join(pattern.words)}" if pattern.words else "it has none"
            raise UsageError(f"{where}: {name} has no word {key!r}; {known}")
    return name, pattern, given


def pattern_of(text: str) -> Pattern:
    """The pattern that a scenario names."""
    return PATTERNS[text.partition(":")[0]]
