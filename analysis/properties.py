"""The protocol property table: what each protocol declares of itself, and the bytes that were counted."""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.load_results import Counted, ProtocolFacts, WireBytes
from analysis.matching import show_tls
from analysis.metrics import show_number

FIRST = "bytes of the first echo"
LATER = "bytes of a later echo"
_QUESTIONS = {"flow_control": "flow and congestion control", "errors": "error handling"}


@dataclass(frozen=True)
class PropertyTable:
    """A column for each protocol. `rows` are questions with the answer of each, as one or more lines."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


def property_table(protocols: Mapping[str, ProtocolFacts]) -> PropertyTable:
    """The table of these protocols, in their order."""
    every = list(protocols.values())
    questions = dict.fromkeys(question for facts in every for question in facts.declared)
    rows: list[tuple[str, tuple[tuple[str, ...], ...]]] = [
        (_words(question), tuple((facts.declared.get(question, ""),) for facts in every)) for question in questions
    ]
    if any(facts.counted for facts in every):
        rows.append((FIRST, tuple(tuple(_line(each, each.first) for each in facts.counted) for facts in every)))
        rows.append((LATER, tuple(tuple(_line(each, each.later) for each in facts.counted) for facts in every)))
    return PropertyTable(tuple(protocols), tuple(rows))


def _words(question: str) -> str:
    return _QUESTIONS.get(question, question.replace("_", " "))


def _line(counted: Counted, wire: WireBytes | None) -> str:
    """ "↑ 113 ↓ 153, no TLS"."""
    if wire is None:
        return f"not counted, {show_tls(counted.tls)}: {counted.why_not or 'unknown'}"
    return f"↑ {show_number(wire.sent_bytes)} ↓ {show_number(wire.received_bytes)}, {show_tls(counted.tls)}"
