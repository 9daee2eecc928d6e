"""Answers for people: a table, and what must be known beside it."""

from collections.abc import Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table

from bench.peers.comparison import BUSY, ENOUGH_PAIRS, Answer, Question, Setting, Unit
from bench.peers.programs import PROGRAMS
from bench.quantities import format_duration, format_rate, spell_duration

_COLUMNS = ("what", "figures (medians)", "answer", "least – most", "95 % interval", "target", "met")


def print_answers(answers: Sequence[Answer], setting: Setting, versions: dict[str, str | None], file: IO[str]) -> None:
    """To a terminal in its own width; to anything else as Markdown."""
    rows = [_row(answer) for answer in answers]
    console = Console(file=file, highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        table = Table(*_COLUMNS, box=box.SIMPLE_HEAD)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    else:
        for cells in (_COLUMNS, ("---",) * len(_COLUMNS), *rows):
            print(f"| {' | '.join(cells)} |", file=file)
        print(file=file)
    for note in _notes(answers, setting, versions):
        print(f"{note}\n", file=file)


def format_value(value: float, unit: Unit) -> str:
    """A figure in its unit."""
    match unit:
        case "requests/s":
            return format_rate(value)
        case "ns":
            return format_duration(value)
        case "%":
            return f"{value:.2g} %"
        case "B":
            return f"{value / 1000:.3g} kB"


def format_answer(value: float, question: Question) -> str:
    """A ratio or a figure."""
    return f"{value:.3g} ×" if question.is_ratio else format_value(value, question.unit)


def _row(answer: Answer) -> tuple[str, ...]:
    question, found, values, medians = answer.question, answer.estimate(), answer.values(), answer.medians()
    sign = "≥" if question.better == "higher" else "≤"
    target = f"{sign} {format_answer(question.target, question)}"
    if found is None or medians is None:
        why = "not installed" if answer.missing else "void"
        return question.title, why, "", "", "", target, "not measured"
    return (
        question.title,
        ", ".join(f"{side} {format_value(m, question.unit)}" for side, m in zip(question.sides, medians, strict=True)),
        format_answer(found.value, question),
        f"{format_answer(min(values), question)} – {format_answer(max(values), question)}",
        ""
        if found.low is None or found.high is None
        else f"{format_answer(found.low, question)} – {format_answer(found.high, question)}",
        target,
        "yes" if answer.met() else "no",
    )


def _notes(answers: Sequence[Answer], setting: Setting, versions: dict[str, str | None]) -> list[str]:
    installed = [program for program in PROGRAMS if program.find()]
    missing = [program for program in PROGRAMS if not program.find()]
    told = ", ".join(f"{p.name} {versions[p.name] or '(version not told)'}" for p in installed) or "no peer installed"
    duration = spell_duration(setting.duration_s * 1_000_000_000)
    pairs = "1 pair" if setting.pairs == 1 else f"{setting.pairs} pairs"
    notes = [f"{pairs} of {duration} on each side, interleaved; {setting.placement}; {told}"]
    if setting.pairs < ENOUGH_PAIRS:
        notes.append(
            f"Fewer than {ENOUGH_PAIRS} pairs give no interval, and the targets are for {ENOUGH_PAIRS} or more."
        )
    if missing:
        notes.append("Not installed: " + "; ".join(f"{program.name} ({program.get})" for program in missing))
    notes += [
        f"{answer.question.name}: wirebench used {share:.0%} of its core: the server was the limit, or others here were"
        for answer in answers
        if (share := answer.core_share()) is not None and share < BUSY
    ]
    notes += [f"Void: {answer.question.name}: {reason}" for answer in answers for reason in answer.voids]
    return notes
