"""How scenarios are named beside one another: by what differs between them, with what they share said once."""

from collections.abc import Iterable, Sequence

from analysis.load_results import Scenario
from analysis.matching import show_tls
from bench.quantities import spell_duration, spell_size

FIELDS = (
    "protocol",
    "stack",
    "client",
    "tls",
    "handshake",
    "fast_open",
    "via",
    "pattern",
    "operation",
    "payload_bytes",
    "execution",
    "workers",
    "load",
    "connections",
    "link",
    "beside",
    "restart",
    "warmup_ns",
    "duration_ns",
    "timeout_ns",
    "queue_limit",
)
"""The choices of a scenario, in the order of a label. `tier` follows from others, `name` from all of them."""

CONTESTANT_FIELDS = (
    "protocol",
    "stack",
    "client",
    "tls",
    "handshake",
    "fast_open",
    "via",
    "pattern",
    "execution",
    "workers",
)
"""What a comparison is between. The other fields say what they were all asked to do."""


_DEFAULTS = {
    "stack": "lean",
    "client": "lean",
    "tls": "off",
    "handshake": "full",
    "fast_open": "off",
    "via": "none",
    "pattern": "request-response",
    "restart": 0.0,
    "beside": None,
}


def varying(scenarios: Iterable[Scenario], among: Sequence[str] = FIELDS) -> tuple[str, ...]:
    """The fields that tell these scenarios apart."""
    every = list(scenarios)
    fields = [field for field in among if len({getattr(scenario, field) for scenario in every}) > 1]
    if "connections" in fields and all(scenario.is_closed for scenario in every):
        fields.remove("connections")  # a closed load says it itself
    return tuple(fields)


def label(scenario: Scenario, among: Sequence[str]) -> str:
    """What a scenario is called where only these fields differ. What is as it is by default goes unsaid, unless that
    leaves nothing."""
    fields = [field for field in among if not (field == "workers" and "execution" in among)]
    said = [field for field in fields if _DEFAULTS.get(field) != getattr(scenario, field)] or fields[:1]
    return " · ".join(_word(scenario, field, "workers" in among) for field in said) or scenario.name


def shared(scenarios: Sequence[Scenario]) -> str:
    """What these scenarios have in common, in one line."""
    first, apart = scenarios[0], varying(scenarios)
    # A closed load says its connections; whatever else is the same but tells a reader nothing stays out.
    unsaid = {*apart, "pattern", "timeout_ns", "queue_limit", "warmup_ns", "connections"}
    if first.execution == "single":
        unsaid.add("workers")  # it has one by its nature
    by_default = ("client", "tls", "handshake", "fast_open", "via", "restart", "beside")
    unsaid |= {field for field in by_default if getattr(first, field) == _DEFAULTS[field]}
    if first.is_push:
        unsaid -= {"pattern", "connections"} - set(apart)
        unsaid.add("operation")
    words = [
        _word(first, field, False) + (" stack" if field == "stack" else "") for field in FIELDS if field not in unsaid
    ]
    if "warmup_ns" not in apart and first.warmup_ns:
        words.append(f"after {spell_duration(first.warmup_ns)} of warm-up")
    return ", ".join(words)


def _word(scenario: Scenario, field: str, with_workers: bool) -> str:
    value = getattr(scenario, field)
    match field:
        case "payload_bytes":
            return spell_size(value)
        case "execution" if with_workers and value != "single":
            return f"{value} × {scenario.workers}"
        case "workers":
            return f"{value} worker{'s' if value != 1 else ''}"
        case "connections":
            return f"{value} {'subscribers' if scenario.is_push else 'connections'}"
        case "client":
            return f"from {value}"
        case "tls":
            return show_tls(value)
        case "handshake":
            return f"{value} handshake"
        case "fast_open":
            return f"TCP Fast Open {value}"
        case "restart":
            return f"server restarted at {value:.0%}" if value else "server not restarted"
        case "via":
            return "no hops" if value == "none" else f"via {value}"
        case "beside":
            return f"beside {value}" if value else "nothing beside it"
        case "warmup_ns":
            return f"warm-up {spell_duration(value)}"
        case "duration_ns":
            return f"{spell_duration(value)} a trial"
        case "timeout_ns":
            return f"timeout {spell_duration(value)}"
        case "queue_limit":
            return f"queue of {value}" if value is not None else "queue without limit"
    return str(value)
