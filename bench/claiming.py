"""Runs claims: each one's scenarios in rounds, judged as soon as there are enough of them. When all have their verdict,
those on which nothing is decided get more rounds, as long as the time of the mode lasts. Everything is kept in a
folder: a result file for each claim, and the verdicts; a run that was interrupted goes on there."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from analysis.history import machine
from analysis.load_claims import KIND, SCHEMA_VERSION, VERDICTS, has_changed
from analysis.load_results import Run, Trial, load_run
from analysis.matching import are_matched
from analysis.metrics import metric_named
from analysis.sides import group_of
from analysis.summary import Summary
from analysis.verdict import Finding, Judged, Mode, Rule, Verdict, adjusted, judge, judge_rule
from bench import environment, resultfile
from bench.claim import Claim
from bench.claims import CHAPTERS
from bench.errors import UsageError
from bench.placement import Placement
from bench.plan import PlannedTrial, plan_trials
from bench.probing import run_probe
from bench.resultfile import ResultFile, write_atomically
from bench.run import Watcher, head
from bench.trial import run_trial

CLAIMS = Path("results/claims")
"""Where the folders of runs go that nobody named a place for."""


MOST_SET_ASIDE = 1 / 3
"""The share of rounds that may be set aside for a fatal doubt, which a busy machine raises now and then. Where more
have it, it is no accident: it says something of what is measured, and no verdict may leave it out."""


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
        if machine(found["environment"]) != machine(self._head["environment"]):
            raise UsageError(
                f"{path}: measured on another machine (CPU, kernel, Python or placement differ); choose another folder "
                "with --out"
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

    def kept(self, claim: Claim) -> dict[str, Any] | None:
        """The verdict that there is on the claim as it stands now, if what was measured for it is there too."""
        record = self._records[claim.id] if self.is_done(claim) else None
        return None if record is None or (record["file"] and not (self.path / record["file"]).exists()) else record

    def keep(self, done: Sequence[Done], finished: bool = False) -> None:
        """Keep these verdicts in place of those that there were on the same claims. With `finished` nothing more is to
        come. Raises OutputError."""
        self._records |= {one.claim.id: record(one) for one in done}
        self._head["finished"] = resultfile.now() if finished else None
        self._write()

    @property
    def is_finished(self) -> bool:
        """Whether nothing more is to come on any of the claims."""
        return self._head["finished"] is not None

    @property
    def seconds(self) -> float:
        """What the verdicts so far have taken."""
        return float(sum(record["seconds"] for record in self._records.values()))

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
        write_atomically(self.path / VERDICTS, self.text())


def fingerprint(claim: Claim) -> str:
    """What changes when a claim does."""
    return hashlib.sha256(repr(claim).encode()).hexdigest()[:16]


def run_claims(
    claims: Sequence[Claim],
    mode: Mode,
    folder: ClaimsFolder,
    placement: Placement,
    watcher: Callable[["ClaimRun"], Watcher],
    on_verdict: Callable[[Done], None],
) -> None:
    """Run those that have no verdict yet, and keep each as it comes; then more rounds for what is undecided, the claims
    with the fewest first, and of those the quickest, where they fit into the mode's time, of which what the folder has
    already has taken its part; in the end all of them, judged as one family. `watcher` is made for each batch, and
    `on_verdict` told whenever one was judged. Raises OutputError; UsageError where a file of the folder cannot be
    read."""
    if folder.is_finished:
        return
    until_s = time.monotonic() + mode.limit_s - folder.seconds
    runs = [ClaimRun(claim, mode, folder, placement) for claim in claims]

    def go_on(run: ClaimRun) -> None:
        run.measure(watcher)
        folder.keep([run.done])
        on_verdict(run.done)

    for run in runs:
        if folder.kept(run.claim) is None:
            go_on(run)
    while undecided := [run for run in runs if run.wants_more and time.monotonic() + run.last_s < until_s]:
        go_on(min(undecided, key=lambda run: (run.batches, run.last_s)))
    done = [run.done for run in runs]
    together = adjusted({one.claim.id: one.judged for one in done}, {one.claim.id: one.claim.scale for one in done})
    folder.keep([dataclasses.replace(one, judged=together[one.claim.id]) for one in done], finished=True)


class ClaimRun:
    """One claim that is measured, a batch of rounds at a time, and judged after each on all of them. It goes on with
    what the folder has of it."""

    def __init__(self, claim: Claim, mode: Mode, folder: ClaimsFolder, placement: Placement) -> None:
        self.claim = claim
        self.done = Done(claim, Judged(Verdict.UNDECIDED, ()), 0, 0.0, None)
        self.batches = 0
        self.last_s = 0.0
        """How long the last batch took."""
        self.rounds = mode.rounds_of(claim.rounds)
        """Of a batch."""
        self._most = mode.most
        self._folder = folder
        self._placement = placement
        self._contestants: tuple[Any, ...] = ()
        self._planned: Iterator[PlannedTrial] = iter(())
        self._results: ResultFile | None = None
        if (kept := folder.kept(claim)) is not None:
            self._take_up(kept)

    def _take_up(self, kept: Mapping[str, Any]) -> None:
        rounds, seconds, file = kept["rounds"], kept["seconds"], kept["file"]
        if file is None:
            judged = Judged(Verdict(kept["verdict"]), (), why=kept["why"])
        else:
            self.batches = rounds // self.rounds
            self.last_s = seconds / self.batches
            run = load_run(self._path)
            # Without those of a batch that was interrupted.
            whole = tuple(trial for trial in run.trials if trial.round < rounds)
            judged = judge_claim(self.claim, dataclasses.replace(run, trials=whole))
        self.done = Done(self.claim, judged, rounds, seconds, file)

    @property
    def wants_more(self) -> bool:
        """Whether nothing is decided, and more rounds could change that: what was not measured at all will not be."""
        judged = self.done.judged
        is_measured = any(finding.measured is not None for finding in judged.findings)
        return judged.verdict is Verdict.UNDECIDED and is_measured and self.batches < self._most

    def measure(self, watcher: Callable[["ClaimRun"], Watcher]) -> None:
        """Another batch. Raises OutputError."""
        begun_s = time.monotonic()
        if self._results is None and (why := self._begin()):
            self.done = Done(self.claim, Judged(Verdict.UNSUPPORTED, (), why=why), 0, 0.0, None)
            return
        assert self._results is not None
        watching = watcher(self)
        for trial in islice(self._planned, len(self._contestants) * self.rounds):
            watching.trial_begins(trial)
            if self.claim.probe:
                probed: Any = trial.scenario
                measured = run_probe(probed, trial.round, trial.seed)
            else:
                measured = run_trial(trial.scenario, trial.round, trial.seed, 1, self._placement, watching.progress)
            self._results.add(measured)
            watching.trial_ended(measured)
        self._results.finish("complete")
        self.batches += 1
        judged = judge_claim(self.claim, load_run(self._path))
        self.last_s = time.monotonic() - begun_s
        self.done = Done(
            self.claim, judged, self.batches * self.rounds, self.done.seconds + self.last_s, self._path.name
        )

    @property
    def _path(self) -> Path:
        return self._folder.path / f"{self.claim.id}.json"

    def _begin(self) -> str:
        """Gives why the claim cannot be tested here; nothing if it can."""
        if self.claim.probe:
            self._contestants = tuple(self.claim.probes().values())
        else:
            suite = self.claim.suite({})
            if suite.unsupported:
                scenario, why = suite.unsupported[0]
                return f"{scenario.group}: {why}"
            self._contestants = suite.scenarios
        self._planned = plan_trials(self._contestants, self.rounds * self._most, self._folder.seed)
        kept = self._kept_trials()
        for _ in kept:
            next(self._planned)
        description = head(self.claim.id, self.claim.sentence, self.rounds, self._folder.seed, self._placement, [])
        self._results = ResultFile(self._path, description, [], kept)
        return ""

    def _kept_trials(self) -> list[dict[str, Any]]:
        """Those that the verdict so far rests on."""
        if not self.batches:
            return []
        trials = json.loads(self._path.read_text(encoding="utf-8"))["trials"]
        return [trial for trial in trials if trial["round"] < self.done.rounds]


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
    sides = [summaries[group_of(condition, side)] for side in (rule.of, rule.against) if side]
    doubtful = frozenset[int]().union(*(side.doubtful_rounds(claim.despite) for side in sides))
    why_not = next(filter(None, (_why_not(claim, side, len(doubtful)) for side in sides)), None)
    if why_not is None and not claim.although and not are_matched([side.scenario for side in sides]):
        why_not = "the sides differ in more than one thing"
    if why_not is not None:
        doubtful = frozenset()  # then all that was measured is shown, and nothing follows from it
    figures = [
        {number: value for number, value in side.by_round(metric).items() if number not in doubtful} for side in sides
    ]
    against = figures[1] if rule.against else None
    return dataclasses.replace(judge_rule(rule, condition, figures[0], against, why_not), set_aside=len(doubtful))


def _why_not(claim: Claim, summary: Summary, doubtful: int) -> str | None:
    """`doubtful` rounds of the rule have a trial in doubt."""
    if failures := summary.failures:
        return f"{summary.scenario.name}: failed: {failures[0].error}"
    if doubtful <= MOST_SET_ASIDE * len(summary.trials):
        return None
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
        "set_aside": finding.set_aside,
    }


def changed(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The claims whose verdict is known, and is another now."""
    return [record for record in records if has_changed(record)]
