"""Reads a folder of claims: the verdicts, and what they rest on. Everything behind this module can trust what it gets.

`claims.json` is checked against `bench/claims.schema.json`; results/README.md explains the fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.load_results import read_document
from analysis.metrics import metric_named
from analysis.verdict import Standing, Verdict
from bench.errors import UsageError

KIND, SCHEMA_VERSION = "wirebench-claims", 1
VERDICTS = "claims.json"

Record = Mapping[str, Any]
"""A claim's entry, or one of its findings, as the file holds it."""

_DECIDED = (Verdict.UPHELD, Verdict.REFUTED, Verdict.CONDITIONAL)


@dataclass(frozen=True)
class ClaimsRun:
    """A folder of claims. `chapters` are the titles of those that have claims, by name, in their order; `waiting` are
    the claims that were chosen and have no verdict, because the run was interrupted or goes on."""

    folder: Path
    mode: str
    seed: int
    command: tuple[str, ...]
    environment: Mapping[str, Any]
    started: str
    chapters: Mapping[str, str]
    waiting: tuple[str, ...]
    claims: tuple[Record, ...]

    def again(self, claims: Sequence[str]) -> str:
        """The command that measures these claims as this run did."""
        mode = "" if self.mode == "normal" else f" --{self.mode}"
        return f"wirebench claims {' '.join(claims)}{mode} --seed {self.seed}"


def load_claims(folder: Path) -> ClaimsRun:
    """The run of claims in a folder. UsageError, in one line, if there is none or this version cannot read it."""
    path = folder / VERDICTS
    if not path.exists():
        raise UsageError(f"{folder}: holds no {VERDICTS}; name a folder that `wirebench claims --out FOLDER` wrote")
    data = read_document(path, KIND, SCHEMA_VERSION, "claims.schema.json")
    for claim in data["claims"]:
        for finding in claim["findings"]:
            if metric_named(finding["metric"]) is None:
                raise UsageError(
                    f"{path}: {claim['id']}: the figure {finding['metric']!r:.80} is of another version of wirebench; "
                    "run the claims again"
                )
    titles = data.get("chapters", {})
    named = {claim["chapter"]: titles.get(claim["chapter"], claim["chapter"]) for claim in data["claims"]}
    measured = {claim["id"] for claim in data["claims"]}
    return ClaimsRun(
        folder=folder,
        mode=data["mode"],
        seed=data["seed"],
        command=tuple(data["command"]),
        environment=data["environment"],
        started=data["started"],
        chapters={name: named[name] for name in dict.fromkeys((*titles, *named)) if name in named},
        waiting=tuple(claim for claim in data.get("chosen", ()) if claim not in measured),
        claims=tuple(data["claims"]),
    )


def has_changed(claim: Record) -> bool:
    """Whether a verdict is known, and is another now."""
    return claim["expected"] is not None and claim["verdict"] in _DECIDED and claim["verdict"] != claim["expected"]


_TELLING = {
    Verdict.UPHELD: (Standing.HOLDS,),
    Verdict.REFUTED: (Standing.CONTRADICTED,),
    Verdict.CONDITIONAL: (Standing.CONTRADICTED, Standing.HOLDS),
    Verdict.UNDECIDED: (Standing.UNDECIDED,),
    Verdict.UNSUPPORTED: (),
}


def effects_of(claim: Record) -> list[Record]:
    """The findings that a verdict is told by: of those that stand as it says, the first that compares sides, or else
    the first. That is one finding; two of a claim that depends on a condition; none if nothing was measured."""
    measured = [finding for finding in claim["findings"] if finding["measured"] is not None]
    found = []
    for standing in _TELLING[Verdict(claim["verdict"])]:
        alike = [finding for finding in measured if finding["standing"] == standing]
        found += sorted(alike, key=lambda finding: finding["against"] is None)[:1]
    return found
