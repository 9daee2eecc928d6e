"""A comparison as Markdown, for a pull request's comment or a step summary."""

from analysis.regression import Answer, Change, RunComparison

_SIGNS = {Change.WORSE: "🔴 worse", Change.BETTER: "🟢 better", Change.SAME: "same", Change.UNKNOWN: "unknown"}


def markdown(comparison: RunComparison) -> str:
    """A table with a row for each scenario and metric, what is worse first."""
    order = list(_SIGNS)
    answers = sorted(comparison.answers, key=lambda answer: order.index(answer.change))
    lines = [
        f"### wirebench: {comparison.change}",
        "",
        f"`{_cell(comparison.head)}` against `{_cell(comparison.base)}`, margin {comparison.margin:.0%}, "
        + ("measured in pairs" if comparison.paired else "measured apart"),
        "",
        "| | scenario | metric | base | head | difference | n |",
        "| --- | --- | --- | ---: | ---: | --- | ---: |",
        *(_row(answer) for answer in answers),
    ]
    for side, names in (("base", comparison.only_in_base), ("head", comparison.only_in_head)):
        if names:
            lines += ["", f"Only in {side}: {', '.join(map(_cell, names))}"]
    return "\n".join(lines) + "\n"


def _row(answer: Answer) -> str:
    show = answer.metric.show
    figures = ("" if value is None else show(value) for value in (answer.base, answer.head))
    cells = (_SIGNS[answer.change], answer.scenario, answer.metric.title, *figures)
    return f"| {' | '.join(map(_cell, cells))} | {_cell(answer.effect_words or answer.question.why_not)} | {answer.n} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
