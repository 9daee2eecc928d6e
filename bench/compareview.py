"""What `wirebench compare`, `ab`, `aa` and `export` show and write, and the exit statuses that follow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.history import fingerprint, machine
from analysis.load_results import Run, load_run
from analysis.regression import ALPHA, Change, RunComparison, choose_metrics, compare_runs
from analysis.simulation import Gates
from bench import registry
from bench.errors import UsageError
from bench.output import check_json, columns, write_json
from bench.quantities import parse_share


@dataclass(frozen=True)
class Export:
    """A format and where it goes."""

    format: str
    file: str


def parse_exports(texts: Sequence[str], formats: Mapping[str, str]) -> tuple[Export, ...]:
    """Reads "junit=FILE". Raises UsageError, and OutputError for what cannot be written."""
    found = []
    for text in texts:
        name, equals, file = text.partition("=")
        registry.choose(name, formats, "--export: format")
        if not equals or not file:
            raise UsageError(f"--export: {text!r:.200}: write where it goes, like {name}=FILE, or {name}=- to show it")
        check_json(file)
        found.append(Export(name, file))
    return tuple(found)


def write_exports(exports: Sequence[Export], formats: Mapping[str, str], of: RunComparison | Run) -> None:
    """Write all of them. Raises OutputError."""
    for export in exports:
        write_json(export.file, registry.load(formats[export.format])(of))


def parse_margin(text: str) -> float:
    """A margin as a share. Raises UsageError."""
    margin = parse_share(text, "--margin")
    if not 0 < margin < 1:
        raise UsageError(f"--margin: {text!r}: a margin is more than 0% and less than 100%")
    return margin


def compare(base: Path, head: Path, metrics: Sequence[str], margin: float, across_machines: bool) -> RunComparison:
    """Two result files. Raises UsageError for files of different machines, unless that is asked for."""
    chosen = choose_metrics(metrics)
    one, other = load_run(base), load_run(head)
    if fingerprint(one.environment) != fingerprint(other.environment) and not across_machines:
        raise UsageError(
            f"{base} and {head} were measured in different environments, which differ in "
            f"{_differences(one, other)}; compare them all the same with --across-machines"
        )
    return compare_runs(one, other, chosen, margin)


def _differences(one: Run, other: Run) -> str:
    sides = [machine(run.environment) for run in (one, other)]
    return ", ".join(
        f"{group} {name}"
        for group, values in sides[0].items()
        for name in values
        if values[name] != sides[1][group][name]
    )


def exit_code(comparison: RunComparison) -> int:
    """1 if anything is worse, 3 if nothing could be said of anything, else 0."""
    if comparison.change is Change.WORSE:
        return 1
    return 0 if comparison.is_valid else 3


def comparison_json(comparison: RunComparison) -> str:
    return json.dumps(comparison.record(), indent=1)


def show_comparison(comparison: RunComparison) -> str:
    """A table for each scenario, and what follows from it."""
    lines = [
        f"base  {comparison.base}",
        f"head  {comparison.head}",
    ]
    for scenario in dict.fromkeys(answer.scenario for answer in comparison.answers):
        answers = [answer for answer in comparison.answers if answer.scenario == scenario]
        of = "pairs" if comparison.paired else "trials"
        rows = [["", "base", "head", f"difference ({answers[0].confidence:.1%} interval)", of, ""]]
        for answer in answers:
            show = answer.metric.show
            figures = ["" if value is None else show(value) for value in (answer.base, answer.head)]
            said = answer.question.why_not or answer.effect_words
            rows.append([answer.metric.title, *figures, said, str(answer.n), str(answer.change)])
        lines += ["", scenario, columns(rows, right=(1, 2, 4), indent=2)]
    for side, names in (("base", comparison.only_in_base), ("head", comparison.only_in_head)):
        lines += ["", f"only in {side}: {', '.join(names)}"] if names else []
    return "\n".join([*lines, "", _verdict(comparison)])


def _verdict(comparison: RunComparison) -> str:
    worse = [f"{one.metric.title} of {one.scenario}" for one in comparison.answers if one.change is Change.WORSE]
    margin = f"by more than the margin of {comparison.margin:.0%}"
    if worse:
        return f"worse {margin}: {'; '.join(worse)}"
    if not comparison.is_valid:
        return "not valid: nothing was measured that an answer may rest on"
    counts = {change: sum(one.change is change for one in comparison.answers) for change in Change}
    said = ", ".join(f"{number} {change}" for change, number in counts.items() if number)
    more = "" if not counts[Change.UNKNOWN] else "; what is unknown takes more trials, or a quieter machine"
    apart = "" if comparison.paired else "; the two were measured apart, so what else the machine did is in it too"
    return f"nothing is worse {margin}: {said}{more}{apart}"


# A against A


def aa_json(noise: Mapping[str, float], gates: Sequence[Gates], comparison: RunComparison, pair_s: float) -> str:
    """What `wirebench aa` found, as JSON."""
    record = {
        "kind": "wirebench-aa",
        "schema": 1,
        "noise": dict(noise),
        "pair_s": pair_s,
        "comparison": comparison.record(),
        "gates": [
            {
                "slowdown": one.slowdown,
                "gates": one.gates,
                "worse": one.worse,
                "worse_comparisons": one.worse_comparisons,
                "pairs": one.pairs,
            }
            for one in gates
        ],
    }
    return json.dumps(record, indent=1)


def show_aa(noise: Mapping[str, float], gates: Sequence[Gates], comparison: RunComparison, pair_s: float) -> str:
    """The noise of this machine, and how often a gate would be right on it."""
    rows = [["", "noise of a trial"], *([name, f"{share:.1%}"] for name, share in noise.items())]
    table = [["head slower by", "gates that say worse", "comparisons that say worse", "pairs", "time"]]
    for one in gates:
        minutes = one.pairs * pair_s / 60
        table.append(
            [
                f"{one.slowdown:.0%}",
                f"{one.worse:.1%}",
                f"{one.worse_comparisons:.2%}",
                f"{one.pairs:.0f}",
                f"{minutes:.1f} min",
            ]
        )
    right = is_quiet(gates)
    verdict = "" if right else ": too noisy for a gate"
    return "\n".join(
        [
            show_comparison(comparison),
            "",
            columns(rows, right=(1,)),
            "",
            f"{gates[0].gates} gates each, drawn from these pairs with their sides changed by chance",
            columns(table, right=range(5)),
            "",
            f"false alarms: {gates[0].worse_comparisons:.2%} of comparisons, of which {ALPHA:.0%} are allowed{verdict}",
        ]
    )


def is_quiet(gates: Sequence[Gates]) -> bool:
    """Whether two equal sides are called worse no more often than is allowed."""
    return gates[0].worse_comparisons <= ALPHA
