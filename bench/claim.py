"""A claim: a sentence about performance, why it should hold, what is put side by side, and the rules that decide. All
of it stands in a file, before anything is measured.

    sentence = "A stateful backend loses its sessions when it restarts"
    why = "What a process keeps in memory ends with it."
    source = "RFC 7519, section 1"
    expect = "upheld"                    # what is known to come out; another verdict is exit status 1
    note = "..."                         # why that is right, if it surprises

    [scenario]                           # keys of scenarios, for all sides
    protocol = "http1"

    [sides.memory]                       # and for each side
    pattern = "session:kept=memory"

    [[conditions]]                       # where there are several: each side is run under each
    name = "RTT 40 ms"
    at = 40                              # where it lies, if conditions lie on a line
    link = "rtt=40ms"

    [[rules]]
    say = "every session in memory is lost"
    metric = "tally_broken"
    of = "memory"
    equals = 8                           # or above, below; less_than, more_than, no_more_than or same_as another side
    within = 0

In the place of a scenario there may be a probe (see `bench.probes`): `probe = "workers"`. Sides then hold its words,
and metrics are its figures.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from analysis.metrics import PROBED, Metric, metric_named
from analysis.sides import group_of
from analysis.verdict import ROUNDS, Kind, Rule, Verdict
from analysis.verdict_words import EVERYWHERE
from bench.claims import claim_files
from bench.doubts import DoubtKind
from bench.errors import UsageError
from bench.plan import Suite, why_unsupported
from bench.probes import PROBES
from bench.probing import ProbeScenario
from bench.quantities import parse_duration_ns, parse_share, parse_size_bytes
from bench.registry import choose
from bench.scenario import KEYS, Scenario, parse_scenario

_ABOUT = ("sentence", "why", "source", "note", "although", "despite", "expect", "rounds")
_KEYS = (*_ABOUT, "scenario", "probe", "sides", "conditions", "rules")
_COMPARED = {"less_than": "less", "more_than": "more", "no_more_than": "no-more", "same_as": "same"}
_VALUED = ("equals", "above", "below")
_RULE_KEYS = ("say", "metric", "of", *_COMPARED, *_VALUED, "by", "within", "when")
_EXPECTED = (Verdict.UPHELD, Verdict.REFUTED, Verdict.CONDITIONAL)


@dataclass(frozen=True)
class Condition:
    """Under what the sides are run. `at` is where it lies on a line of conditions."""

    name: str
    at: float | None
    values: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Claim:
    """One claim, as its file says it."""

    id: str
    chapter: str
    sentence: str
    why: str
    source: str
    note: str
    """Why what is known to come out is right, where it surprises; empty where it does not."""
    although: str
    """Why sides may be compared that differ in more than one thing; empty where they do not."""
    despite: tuple[str, ...]
    """Kinds of doubts that say what the claim is about, and so nothing against it."""
    expect: Verdict | None
    rounds: int
    probe: str
    """What measures in the place of a load; empty for a load."""
    sides: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]
    """Each side's name and its keys of scenarios, with those that all share."""
    conditions: tuple[Condition, ...]
    rules: tuple[Rule, ...]

    @property
    def scale(self) -> dict[str, float]:
        """Where conditions lie, as far as they do."""
        return {condition.name: condition.at for condition in self.conditions if condition.at is not None}

    def probes(self) -> dict[tuple[str, str], ProbeScenario]:
        """What the probe is asked for each condition and side."""
        return {
            (condition.name, side): ProbeScenario(
                self.probe, (*values, *condition.values), group_of(condition.name, side)
            )
            for condition in self.conditions
            for side, values in self.sides
        }

    def scenarios(self, changes: Mapping[str, Any]) -> dict[tuple[str, str], Scenario]:
        """The scenario of each condition and side. `changes` are keys that a run sets for all. Raises UsageError."""
        return {
            (condition.name, side): parse_scenario(
                {**dict(values), **dict(condition.values), **changes},
                f"claim {self.id}",
                group_of(condition.name, side),
            )
            for condition in self.conditions
            for side, values in self.sides
        }

    def suite(self, changes: Mapping[str, Any]) -> Suite:
        """Its scenarios as a suite. Those that cannot be had here are in `unsupported`."""
        scenarios = list(self.scenarios(changes).values())
        why = {scenario: why_unsupported(scenario) for scenario in scenarios}
        return Suite(
            self.id,
            self.sentence,
            self.rounds,
            tuple(scenario for scenario, reason in why.items() if reason is None),
            tuple((scenario, reason) for scenario, reason in why.items() if reason is not None),
        )


def read_claim(claim_id: str) -> Claim:
    """A claim that comes with wirebench. Raises UsageError."""
    files = claim_files()
    chapter, file = files[choose(claim_id, files, "claim")]
    return parse_claim(claim_id, chapter, file.read_text(encoding="utf-8"))


def parse_claim(claim_id: str, chapter: str, text: str) -> Claim:
    """A claim from the text of its file. Raises UsageError naming the claim, the key and what is allowed."""
    where = f"claim {claim_id}"
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not valid TOML: {error}") from None
    for key in document:
        choose(key, _KEYS, where)
    sentence, why, source = (_text(document, key, where) for key in ("sentence", "why", "source"))
    expect = document.get("expect")
    if expect is not None:
        expect = Verdict(choose(str(expect), _EXPECTED, f"{where}: expect"))
    probe = document.get("probe", "")
    if probe:
        choose(str(probe), PROBES, f"{where}: probe")
    allowed = PROBES[probe].words if probe else KEYS
    shared, sides = _table(document, "scenario", where), _table(document, "sides", where)
    if not sides:
        raise UsageError(f"{where}: sides: there is nothing to measure; write a table [sides.NAME]")
    for name, keys in sides.items():
        for key in keys:
            choose(key, allowed, f"{where}: sides.{name}")
    conditions = tuple(
        _condition(entry, allowed, where) for entry in document.get("conditions", [{"name": EVERYWHERE}])
    )
    rules = tuple(
        _rule(entry, f"{where}: rule {number}", probe, tuple(sides), tuple(each.name for each in conditions))
        for number, entry in enumerate(document.get("rules", ()), 1)
    )
    if not rules:
        raise UsageError(f"{where}: rules: nothing decides; write a table [[rules]]")
    claim = Claim(
        claim_id,
        chapter,
        sentence,
        why,
        source,
        _text(document, "note", where) if "note" in document else "",
        _text(document, "although", where) if "although" in document else "",
        tuple(choose(str(kind), DoubtKind, f"{where}: despite") for kind in document.get("despite", ())),
        expect,
        int(document.get("rounds", ROUNDS)),
        str(probe),
        tuple((name, tuple({**shared, **keys}.items())) for name, keys in sides.items()),
        conditions,
        rules,
    )
    if not probe:
        claim.scenarios({})  # which refuses what no scenario can be
    return claim


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    if key not in table:
        raise UsageError(f"{where}: {key} is missing")
    if not isinstance(table[key], str) or not table[key].strip():
        raise UsageError(f"{where}: {key}: {table[key]!r:.60} is no text")
    return " ".join(table[key].split())


def _table(document: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    found = document.get(key, {})
    if not isinstance(found, dict):
        raise UsageError(f"{where}: {key}: not a table")
    return found


def _condition(entry: Mapping[str, Any], allowed: Iterable[str], where: str) -> Condition:
    name = _text(entry, "name", f"{where}: conditions")
    values = {key: value for key, value in entry.items() if key not in ("name", "at")}
    for key in values:
        choose(key, allowed, f"{where}: condition {name}")
    at = entry.get("at")
    return Condition(name, None if at is None else float(at), tuple(values.items()))


def _rule(entry: Mapping[str, Any], where: str, probe: str, sides: Sequence[str], conditions: Sequence[str]) -> Rule:
    for key in entry:
        choose(key, _RULE_KEYS, where)
    say, name, of = (_text(entry, key, where) for key in ("say", "metric", "of"))
    if probe:
        name = f"{PROBED}{choose(name, PROBES[probe].figures, f'{where}: metric')}"
    metric = metric_named(name)
    if metric is None:
        raise UsageError(f"{where}: metric: {name!r} is unknown; results/README.md lists them")
    choose(of, sides, f"{where}: of")
    kinds = [key for key in (*_COMPARED, *_VALUED) if key in entry]
    if len(kinds) != 1:
        raise UsageError(f"{where}: {say}: one of {', '.join((*_COMPARED, *_VALUED))} decides, not {len(kinds)}")
    (key,) = kinds
    kind: Kind = _COMPARED.get(key, key)  # type: ignore[assignment]
    assert kind in get_args(Kind)
    when = tuple(entry.get("when", ()))
    for condition in when:
        choose(condition, conditions, f"{where}: when")
    if key in _COMPARED:
        against = choose(str(entry[key]), sides, f"{where}: {key}")
        margin = _number(entry.get("within" if kind in ("no-more", "same") else "by", "5%"), None, where)
        if against == of or (kind == "same" and not 0 < margin < 10) or margin < 0:
            raise UsageError(
                f"{where}: {say}: this can never hold, or never fail: the sides and the margin decide nothing"
            )
        return Rule(say, name, of, kind, against, 0.0, margin, when)
    value = _number(entry[key], metric, where)
    margin = _number(entry.get("within", 0), metric, where)
    _check_bounds(kind, value, margin, metric, f"{where}: {say}")
    return Rule(say, name, of, kind, "", value, margin, when)


def _number(given: object, metric: Metric | None, where: str) -> float:
    """A number, or text with a unit: nanoseconds of durations, bytes of sizes, parts of shares."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    text = str(given)
    if metric is None:  # a margin, which may be more than the whole
        if not re.fullmatch(r"\d{1,4}(\.\d+)?%", text):
            raise UsageError(f"{where}: {text!r} is not a margin like 5% or 200%")
        return float(text[:-1]) / 100
    if text.endswith("%"):
        return parse_share(text, where)
    if metric.name.endswith("_bytes"):
        return float(parse_size_bytes(text, where))
    return float(parse_duration_ns(text, where))


def _check_bounds(kind: Kind, value: float, margin: float, metric: Metric, where: str) -> None:
    """Raises UsageError for a rule that any figure fulfils, or none."""
    most = 1.0 if metric.name.endswith("_share") or metric.name == "delivery_reach" else float("inf")
    holds_somewhere = {
        "equals": value + margin >= 0 and value - margin <= most,
        "above": value < most,
        "below": value > 0,
    }[kind]
    fails_somewhere = {
        "equals": value - margin > 0 or value + margin < most,
        "above": value >= 0,
        "below": value <= most,
    }[kind]
    if not holds_somewhere:
        raise UsageError(f"{where}: this can never hold: {metric.name} is from 0 to {most:g}")
    if not fails_somewhere:
        raise UsageError(f"{where}: this can never fail: {metric.name} is from 0 to {most:g}")
