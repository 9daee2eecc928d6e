"""What `wirebench capacity` says in the end: the answer in text, and the exit status."""

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.capacity_words import facts, plan_words, rate_words, stopped
from bench.output import columns
from bench.quantities import format_rate
from bench.ratesearch import Reason

_STATUS = {
    Reason.OBJECTIVE: 0,
    Reason.MAX_RATE: 0,
    Reason.UNMET: 1,
    Reason.GENERATOR: 3,
    Reason.DISTURBED: 3,
    Reason.UNCONFIRMED: 3,
}


def exit_code(record: Mapping[str, Any]) -> int:
    """0 if there is a capacity, 1 if the objectives are met at no rate, 3 if nothing valid could be measured."""
    answer = record["searches"][0]
    reason = Reason(answer["reason"])
    return _STATUS.get(reason, 3 if answer["rate_per_s"] is None else 0)


def capacity_view(record: Mapping[str, Any]) -> str:
    """The whole answer in text."""
    return "\n\n".join(part for part in _parts(record) if part)


def _parts(record: Mapping[str, Any]) -> Iterator[str]:
    answer = record["searches"][0]
    yield f"{answer['subject']}\ncapacity  {rate_words(answer)}\nstopped   {stopped(answer)}"
    yield columns(facts(record))
    if record["plan"]:
        yield _plan(record)
    yield "\n".join(f"doubt: {doubt}" for doubt in record["doubts"])


def _plan(record: Mapping[str, Any]) -> str:
    wanted = record["settings"]["plan"]
    rows = [["unit", "usable each", "units", "N+1", "N+1 at best"]]
    for line in record["plan"]:
        least = "–" if line["least"] is None else str(line["least"])
        rows.append(
            [line["subject"], format_rate(line["usable_per_s"]), str(line["units"]), str(line["with_spare"]), least]
        )
    return f"{plan_words(wanted)}\n{columns(rows, right=range(1, 5), indent=2)}"
