"""Verdicts in words, from the records that a folder of claims keeps (see `results/README.md`)."""

from collections.abc import Mapping
from typing import Any

from analysis.metrics import metric_named

EVERYWHERE = "everywhere"
"""The condition of a claim that has only one."""


def finding_line(finding: Mapping[str, Any]) -> str:
    """How a rule stands and what was measured, in a line."""
    return f"{finding['standing']:<12} {finding_words(finding)}"


def finding_words(finding: Mapping[str, Any]) -> str:
    """A rule and what was measured."""
    where = "" if finding["condition"] == EVERYWHERE else f"{finding['condition']}: "
    return f"{where}{finding['say']}: {measured_words(finding)}"


def measured_words(finding: Mapping[str, Any]) -> str:
    """What was measured, beside what was expected."""
    if finding["measured"] is None:
        return f"not measured ({finding['why_not']})" if finding["why_not"] else "not measured"
    words, interval = figure_words(finding)
    if finding["against"]:
        words += f" that of {finding['against']}"
    if interval:
        words += f" ({interval})"
    words += f" in {_title(finding)}" if finding["against"] else f", {expected_words(finding)} expected"
    if finding["why_not"]:
        words += f"; no verdict: {finding['why_not']}"
    return "; ".join(filter(None, (words, set_aside_words(finding))))


def set_aside_words(finding: Mapping[str, Any]) -> str:
    """How many rounds did not count; empty if all did. Folders of earlier versions do not say: all did in those."""
    aside = finding.get("set_aside", 0)
    return f"{aside} of {aside + finding['measured']['n']} rounds set aside, being in serious doubt" if aside else ""


def figure_words(finding: Mapping[str, Any]) -> tuple[str, str]:
    """What was measured, and its interval: both empty if nothing was, the second if there is none."""
    measured = finding["measured"]
    if measured is None:
        return "", ""
    metric = metric_named(finding["metric"])
    assert metric is not None  # see `bench.claim`

    def spell(value: float) -> str:
        return f"{value:.3g}×" if finding["against"] else metric.show(value)

    if measured["low"] is None:
        return spell(measured["value"]), ""
    return spell(measured["value"]), f"{spell(measured['low'])} to {spell(measured['high'])}"


def crossing_words(claim: Mapping[str, Any], crossing: Mapping[str, Any]) -> str:
    """Where a rule begins to hold, or ends to, on the scale of the conditions: the two that this lies between tell its
    unit."""
    scale = sorted((each["at"], each["name"]) for each in claim.get("conditions", ()) if each["at"] is not None)
    below = [f"{name} ({at:g})" for at, name in scale if at <= crossing["at"]]
    above = [f"{name} ({at:g})" for at, name in scale if at > crossing["at"]]
    between = f", between {below[-1]} and {above[0]}" if below and above else ""
    return f"{crossing['say']}: this changes at about {crossing['at']:.3g}{between}"


def _title(finding: Mapping[str, Any]) -> str:
    metric = metric_named(finding["metric"])
    assert metric is not None
    return metric.title


def expected_words(finding: Mapping[str, Any]) -> str:
    """What a rule expects."""
    if finding["against"]:
        margin = f"{finding['margin']:.0%}"
        return {
            "less": f"less than {finding['against']} by {margin} or more",
            "more": f"more than {finding['against']} by {margin} or more",
            "no-more": f"no more than {finding['against']}, but for {margin}",
            "same": f"as {finding['against']}, within {margin}",
        }[finding["kind"]]
    metric = metric_named(finding["metric"])
    assert metric is not None
    tolerance = f" ± {metric.show(finding['margin'])}" if finding["kind"] == "equals" and finding["margin"] else ""
    return f"{finding['kind']} {metric.show(finding['value'])}{tolerance}"
