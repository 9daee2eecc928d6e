"""The page of a run of claims: every verdict, with what was expected beside what was measured. One file that needs
nothing else, beside the folder's result files, which it links to."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.verdict import Verdict
from analysis.verdict_words import EVERYWHERE, expected_words, figure_words
from bench import __version__
from bench.resultfile import write_atomically

_WIDEST = 3.0
"""The powers of two that the mark of a ratio reaches to in both directions."""
_WIDTH, _HEIGHT, _EDGE = 144.0, 20.0, 4.0


def write_claims_page(folder: Path, chapters: Mapping[str, str]) -> Path:
    """Write the page of a folder of claims (see `results/README.md`), and give its path. `chapters` are their titles by
    name, in their order. Raises OutputError if it cannot be written."""
    run = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    records: list[dict[str, Any]] = run["claims"]
    counts = Counter(record["verdict"] for record in records)
    verdicts = [str(verdict) for verdict in Verdict if counts[str(verdict)]]
    by_chapter = [
        (title, [_claim(record) for record in records if record["chapter"] == name]) for name, title in chapters.items()
    ]
    here = files("analysis.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = folder / "index.html"
    text = environment.from_string((here / "claims.html").read_text(encoding="utf-8")).render(
        run=run,
        records=records,
        counts=", ".join(f"{counts[verdict]} {verdict}" for verdict in verdicts),
        verdicts=verdicts,
        chapters=[(title, claims) for title, claims in by_chapter if claims],
        version=__version__,
        css=Markup(_css()),
        js=Markup((here / "claims.js").read_text(encoding="utf-8")),
    )
    write_atomically(page, text)
    return page


def _css() -> str:
    from analysis.plots import style

    here = files("analysis.report")
    return style.palette_css() + "".join(
        (here / name).read_text(encoding="utf-8") for name in ("report.css", "claims.css")
    )


def _claim(record: Mapping[str, Any]) -> dict[str, Any]:
    findings: Sequence[Mapping[str, Any]] = record["findings"]
    known, verdict = record["expected"], record["verdict"]
    decided = (Verdict.UPHELD, Verdict.REFUTED, Verdict.CONDITIONAL)
    return {
        **record,
        "changed": known is not None and verdict in decided and verdict != known,
        "has_conditions": any(finding["condition"] != EVERYWHERE for finding in findings),
        "has_ratios": any(finding["against"] for finding in findings),
        "rows": [_row(finding) for finding in findings],
    }


def _row(finding: Mapping[str, Any]) -> dict[str, Any]:
    measured, interval = figure_words(finding)
    return {
        **{key: finding[key] for key in ("say", "condition", "standing", "why_not")},
        "expected": expected_words(finding),
        "measured": measured,
        "interval": interval,
        "mark": _mark(finding) if finding["against"] and finding["measured"] is not None else "",
    }


def _mark(finding: Mapping[str, Any]) -> Markup:
    """A ratio and its interval on a logarithmic scale, with 1 in the middle and the margin around it."""

    def x(ratio: float) -> float:
        power = max(-_WIDEST, min(_WIDEST, math.log2(ratio)))
        return _EDGE + (power + _WIDEST) / (2 * _WIDEST) * (_WIDTH - 2 * _EDGE)

    measured, middle = finding["measured"], _HEIGHT / 2
    low, high = x(1 / (1 + finding["margin"])), x(1 + finding["margin"])
    line = ""
    if measured["low"] is not None:
        line = (
            f'<line x1="{x(measured["low"]):.1f}" x2="{x(measured["high"]):.1f}" y1="{middle}" y2="{middle}"'
            ' stroke="currentColor" stroke-width="2"/>'
        )
    words, interval = figure_words(finding)
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{words}, {interval or "no interval"}">'
        f'<rect x="{low:.1f}" y="2" width="{high - low:.1f}" height="{_HEIGHT - 4:g}" fill="var(--grid)"/>'
        f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="0" y2="{_HEIGHT:g}" stroke="var(--muted)"/>{line}'
        f'<circle cx="{x(measured["value"]):.1f}" cy="{middle}" r="3.5" fill="currentColor"/></svg>'
    )
