"""Runs claims: each one's scenarios in rounds, judged as soon as there are enough of them, with more where nothing is
decided yet. Everything is kept in a folder: a result file for each claim, and the verdicts; a run that was interrupted
goes on there."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from analysis.load_claims import KIND, SCHEMA_VERSION, VERDICTS, has_changed
from analysis.load_results import Run, Trial, load_run
from analysis.matching import are_matched
from analysis.metrics import metric_named
from analysis.sides import group_of
from analysis.summary import Summary
from analysis.verdict import Finding, Judged, Rule, Verdict, adjusted, judge, judge_rule
from bench import environment, resultfile
from bench.claim import Claim
from bench.claims import CHAPTERS
from bench.errors import UsageError
from bench.placement import Placement
from bench.plan import plan_trials
from bench.probing import run_probe
from bench.resultfile import ResultFile, write_atomically
from bench.run import Watcher, head
from bench.trial import run_trial

CLAIMS = Path("results/claims")
"""Where the folders of runs go that nobody named a place for."""


@dataclass(frozen=True)
class Mode:
    """How much is measured for a verdict. `most` is how many times the rounds of a claim it may take to decide."""

    name: str
    rounds: int | None
    """None for as many as the claim says."""
    most: int


MODES = {mode.name: mode for mode in (Mode("quick", 3, 1), Mode("normal", None, 2), Mode("thorough", 10, 3))}


@dataclass(frozen=True)
class Done:
    """A claim that was run."""

    claim: Claim
    judged: Judged
    rounds: int
    seconds: float
    file: str | None
    """The result file's name, where anything was measured."""


class ClaimsFolder:
    """What a run of claims keeps."""

    def __init__(
        self,
        path: Path,
        mode: Mode,
        seed: int,
        placement: Placement,
        command: Sequence[str],
        chosen: Sequence[Claim],
    ) -> None:
        """For the verdicts on these claims. Goes on with what is there. Raises UsageError if that is of another
        version, or no run of claims; OutputError if nothing can be written there."""
        self.path = path
        self._head: dict[str, Any] = {
            "kind": KIND,
            "schema": SCHEMA_VERSION,
            "mode": mode.name,
            "seed": seed,
            "command": list(command),
            "environment": environment.describe(placement),
            "chapters": CHAPTERS,
            "started": resultfile.now(),
            "finished": None,
        }
        self._claims = chosen
        self._chosen = [claim.id for claim in chosen]
        self._records: dict[str, dict[str, Any]] = {}
        if (path / VERDICTS).exists():
            self._go_on(path / VERDICTS)
        self._write()

    def _go_on(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kind, schema, mode = found["kind"], found["schema"], found["mode"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UsageError(f"{path}: not the verdicts of a run of claims; choose another folder with --out") from None
        if (kind, schema) != (KIND, SCHEMA_VERSION):
            raise UsageError(f"{path}: written by another version of wirebench; choose another folder with --out")
        if mode != self._head["mode"]:
            raise UsageError(
                f"{path}: a run in the mode {mode}; go on with --{mode}, or choose another folder with --out"
            )
        self._head |= {"seed": found["seed"], "started": found["started"], "finished": found.get("finished")}
        self._records = {record["id"]: record for record in found["claims"]}
        self._chosen = list(dict.fromkeys([*found.get("chosen", self._records), *self._chosen]))

    @property
    def seed(self) -> int:
        """What everything random is drawn from."""
        return int(self._head["seed"])

    def is_done(self, claim: Claim) -> bool:
        """Whether there is a verdict on the claim as it stands now."""
        record = self._records.get(claim.id)
        return record is not None and record["fingerprint"] == fingerprint(claim)

    def keep(self, done: Sequence[Done]) -> None:
        """Keep these verdicts in place of those that there were on the same claims. Raises OutputError."""
        self._records |= {one.claim.id: record(one) for one in done}
        self._head["finished"] = None
        self._write()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The verdicts so far."""
        return list(self._records.values())

    def text(self) -> str:
        """The verdicts as JSON."""
        return json.dumps({**self._head, "chosen": self._chosen, "claims": self.records}, indent=1) + "\n"

    def _write(self) -> None:
        if not (self._records.keys() >= set(self._chosen) and all(map(self.is_done, self._claims))):
            self._head["finished"] = None
        elif self._head["finished"] is None:
            self._head["finished"] = resultfile.now()
        write_atomically(self.path / VERDICTS, self.text())


def fingerprint(claim: Claim) -> str:
    """What changes when a claim does."""
    return hashlib.sha256(repr(claim).encode()).hexdigest()[:16]


def run_claims(
    claims: Sequence[Claim],
    mode: Mode,
    folder: ClaimsFolder,
    placement: Placement,
    watcher: Callable[[Claim], Watcher],
    on_verdict: Callable[[Done], None],
) -> list[Done]:
    """Run those that have no verdict yet, and keep each as it comes; in the end all of them, judged as one family.
    `watcher` is made for each claim. Raises OutputError."""
    done = []
    for claim in claims:
        if folder.is_done(claim):
            continue
        one = run_claim(claim, mode, folder, placement, watcher)
        folder.keep([one])
        on_verdict(one)
        done.append(one)
    together = adjusted({one.claim.id: one.judged for one in done}, {one.claim.id: one.claim.scale for one in done})
    done = [dataclasses.replace(one, judged=together[one.claim.id]) for one in done]
    folder.keep(done)
    return done


def run_claim(
    claim: Claim, mode: Mode, folder: ClaimsFolder, placement: Placement, watcher: Callable[[Claim], Watcher]
) -> Done:
    """One claim, until it is decided or has had its share."""
    begun_s = time.monotonic()
    contestants: tuple[Any, ...]
    if claim.probe:
        contestants = tuple(claim.probes().values())
    else:
        suite = claim.suite({})
        if suite.unsupported:
            scenario, why = suite.unsupported[0]
            return Done(claim, Judged(Verdict.UNSUPPORTED, (), why=f"{scenario.group}: {why}"), 0, 0.0, None)
        contestants = suite.scenarios
    rounds = mode.rounds or claim.rounds
    path = folder.path / f"{claim.id}.json"
    path.unlink(missing_ok=True)  # of a run that was interrupted in the middle of this claim
    results = ResultFile(path, head(claim.id, claim.sentence, rounds, folder.seed, placement, []), [])
    planned = plan_trials(contestants, rounds * mode.most, folder.seed)
    watching = watcher(claim)
    judged = Judged(Verdict.UNDECIDED, ())
    so_far = 0
    while so_far < rounds * mode.most and judged.verdict is Verdict.UNDECIDED:
        for trial in islice(planned, len(contestants) * rounds):
            watching.trial_begins(trial)
            if claim.probe:
                probed: Any = trial.scenario
                measured = run_probe(probed, trial.round, trial.seed)
            else:
                measured = run_trial(trial.scenario, trial.round, trial.seed, 1, placement, watching.progress)
            results.add(measured)
            watching.trial_ended(measured)
        so_far += rounds
        results.finish("complete")
        judged = judge_claim(claim, load_run(path))
        if _is_hopeless(judged):
            break
    return Done(claim, judged, so_far, time.monotonic() - begun_s, path.name)


def _is_hopeless(judged: Judged) -> bool:
    """Whether more rounds would change nothing: what was not measured will not be."""
    return all(finding.measured is None for finding in judged.findings)


def judge_claim(claim: Claim, run: Run) -> Judged:
    """The verdict on a claim by the trials of a run of its scenarios."""
    summaries: dict[str, Summary] = {}
    by_group: dict[str, list[Trial]] = {}
    for trial in run.trials:
        by_group.setdefault(trial.scenario.group, []).append(trial)
    for group, trials in by_group.items():
        summaries[group] = Summary(trials[0].scenario, tuple(trials))
    return judge(list(_findings(claim, summaries)), claim.scale)


def _findings(claim: Claim, summaries: Mapping[str, Summary]) -> Iterator[Finding]:
    for condition in claim.conditions:
        for rule in claim.rules:
            if not rule.conditions or condition.name in rule.conditions:
                yield _finding(claim, rule, condition.name, summaries)


def _finding(claim: Claim, rule: Rule, condition: str, summaries: Mapping[str, Summary]) -> Finding:
    metric = metric_named(rule.metric)
    assert metric is not None  # see `bench.claim`
    one = summaries[group_of(condition, rule.of)]
    if not rule.against:
        return judge_rule(rule, condition, one.by_round(metric), why_not=_why_not(claim, one))
    other = summaries[group_of(condition, rule.against)]
    why_not = _why_not(claim, one) or _why_not(claim, other)
    if why_not is None and not claim.although and not are_matched((one.scenario, other.scenario)):
        why_not = "the sides differ in more than one thing"
    return judge_rule(rule, condition, one.by_round(metric), other.by_round(metric), why_not)


def _why_not(claim: Claim, summary: Summary) -> str | None:
    if failures := summary.failures:
        return f"{summary.scenario.name}: failed: {failures[0].error}"
    reasons = [tally.words for tally in summary.doubts if tally.fatal and tally.kind not in claim.despite]
    return f"{summary.scenario.name}: {' and '.join(reasons)}" if reasons else None


def record(done: Done) -> dict[str, Any]:
    """A verdict as the folder keeps it."""
    claim, judged = done.claim, done.judged
    return {
        "id": claim.id,
        "chapter": claim.chapter,
        "sentence": claim.sentence,
        "mechanism": claim.why,
        "source": claim.source,
        "note": claim.note,
        "fingerprint": fingerprint(claim),
        "verdict": str(judged.verdict),
        "expected": None if claim.expect is None else str(claim.expect),
        "why": judged.why,
        "rounds": done.rounds,
        "seconds": round(done.seconds, 1),
        "file": done.file,
        "sides": [name for name, _ in claim.sides],
        "conditions": [{"name": condition.name, "at": condition.at} for condition in claim.conditions],
        "findings": [_finding_record(finding) for finding in judged.findings],
        "crossings": [{"say": crossing.rule.say, "at": crossing.at} for crossing in judged.crossings],
    }


def _finding_record(finding: Finding) -> dict[str, Any]:
    rule, measured, comparison = finding.rule, finding.measured, finding.comparison
    return {
        "say": rule.say,
        "condition": finding.condition,
        "standing": str(finding.standing),
        "metric": rule.metric,
        "of": rule.of,
        "kind": rule.kind,
        "against": rule.against or None,
        "value": None if rule.against else rule.value,
        "margin": rule.margin,
        "measured": None if measured is None else dataclasses.asdict(measured),
        "p_holm": None if comparison is None else comparison.p_holm,
        "why_not": finding.why_not or None,
    }


def changed(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The claims whose verdict is known, and is another now."""
    return [record for record in records if has_changed(record)]
