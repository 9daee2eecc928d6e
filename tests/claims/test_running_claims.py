"""`wirebench claims` with real servers: verdicts, what is kept, and going on after an interruption."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from analysis import simulation
from analysis.load_claims import load_claims
from analysis.load_results import Run, load_run
from analysis.stats import Estimate
from analysis.verdict import MODES, Finding, Judged, Rule, Standing, Verdict
from bench import claims, cli, display
from bench.claim import Claim, read_claim
from bench.claiming import ClaimRun, ClaimsFolder, Done, judge_claim
from bench.placement import choose_placement


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of claims in the place of those that come with wirebench: one that holds, one that is known to and does
    not, one that cannot be had."""
    folder = tmp_path / "claims"
    folder.mkdir()
    text = """
sentence = "It answers"
why = "It is there."
source = "RFC 9110"
expect = "{expect}"
despite = ["generator-saturated", "errors"]  # of a busy machine
[scenario]
protocol = "{protocol}"
load = "open:300/s"
connections = "2"
duration = "200ms"
warmup = "50ms"
[sides.one]
[[rules]]
say = "requests fail"
metric = "errors"
of = "one"
{rule}
"""
    made = {
        "holds": text.format(expect="upheld", protocol="http1", rule="equals = 0"),
        "fails": text.format(expect="upheld", protocol="http1", rule="above = 0"),
        "cannot": text.format(expect="upheld", protocol="websocket", rule="equals = 0").replace(
            "[sides.one]", '[sides.one]\nstack = "grpcio"'
        ),
    }
    for name, content in made.items():
        (folder / f"{name}.toml").write_text(content)
    monkeypatch.setattr(
        "bench.claimview.claim_files", files := lambda: {name: ("http", folder / f"{name}.toml") for name in made}
    )
    monkeypatch.setattr("bench.claim.claim_files", files)
    return tmp_path / "out"


def run(out: Path, *options: str) -> int:
    return cli.main(["claims", "--quick", "--out", str(out), *options])


def verdicts(out: Path) -> dict[str, str]:
    return {one["id"]: one["verdict"] for one in json.loads((out / "claims.json").read_text())["claims"]}


def test_verdicts(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junit = own.parent / "junit.xml"
    assert run(own, "--junit", str(junit)) == 1
    assert verdicts(own) == {"holds": "upheld", "fails": "refuted", "cannot": "unsupported here"}
    said = capsys.readouterr()
    assert "known is that it is upheld" in said.out
    assert "no server for websocket" in said.out
    assert "3 claims: 1 upheld, 1 refuted, 1 unsupported here" in said.out
    assert "refuted" in said.err  # as they come
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert sorted(path.name for path in own.iterdir()) == ["claims.json", "fails.json", "holds.json"]


def test_a_run_goes_on_where_it_was(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(own, "holds") == 0
    before = (own / "holds.json").stat().st_mtime_ns
    assert run(own) == 1
    assert "1 of 3 claims have their verdict" in capsys.readouterr().err
    assert (own / "holds.json").stat().st_mtime_ns == before
    assert set(verdicts(own)) == {"holds", "fails", "cannot"}
    assert load_claims(own).waiting == ()
    assert json.loads((own / "claims.json").read_text())["finished"]


def test_a_run_that_was_interrupted_keeps_what_it_measured_and_says_what_waits(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: ClaimRun, _: object) -> None:
        if run.claim.id == "fails":
            raise KeyboardInterrupt
        run.done = Done(run.claim, Judged(Verdict.UPHELD, ()), 3, 1.0, None)

    monkeypatch.setattr(ClaimRun, "measure", interrupted)
    assert run(own) == 130
    assert "1 of 3 claims have their verdict" in capsys.readouterr().err
    kept = load_claims(own)
    assert json.loads((own / "claims.json").read_text())["finished"] is None
    assert ([one["id"] for one in kept.claims], kept.waiting) == (["holds"], ("fails", "cannot"))
    monkeypatch.setattr(simulation, "_CLAIMS", 1)
    assert cli.main(["report", str(own)]) == 0
    assert "2 of the 3 claims that were chosen have no verdict yet (fails, cannot)" in (own / "index.html").read_text()


def test_a_verdict_on_a_claim_that_has_changed_since_is_none(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(own, "cannot") == 0
    assert json.loads((own / "claims.json").read_text())["finished"]
    file = own.parent / "claims" / "cannot.toml"
    file.write_text(file.read_text().replace("It is there", "It is not"))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ClaimRun, "measure", interrupted)
    assert run(own, "cannot") == 130
    assert "0 of 1 claims have their verdict" in capsys.readouterr().err
    assert json.loads((own / "claims.json").read_text())["finished"] is None


UNSURE = Finding(Rule("it is so", "errors", "one", "equals"), "", Standing.UNDECIDED, Estimate(1.0, 0.0, 2.0, 3))


@pytest.mark.parametrize(
    ("keeping_s", "expected_more", "rounds_of_holds"),
    [
        # 501 s were gone; the last 400 would end at 1,601, when "holds" has all the rounds that it may have.
        (0.0, ["holds", "fails", "holds", "holds"], 12),
        # At 1,401 s another 100 do not fit.
        (50.0, ["holds", "fails", "holds"], 9),
    ],
)
def test_what_is_undecided_gets_more_rounds_when_all_have_a_verdict_while_the_time_lasts(
    own: Path, monkeypatch: pytest.MonkeyPatch, keeping_s: float, expected_more: list[str], rounds_of_holds: int
) -> None:
    """Rounds of "holds" take 100 s, those of "fails" 400 s, of 1,500 s, and what they gave some time to be kept."""
    measured = []
    now_s = 1000.0

    def measure(run: ClaimRun, _: object) -> None:
        nonlocal now_s
        measured.append(run.claim.id)
        run.batches += 1
        run.last_s = {"holds": 100.0, "fails": 400.0, "cannot": 1.0}[run.claim.id]
        now_s += run.last_s + keeping_s
        judged = Judged(Verdict.UNDECIDED, (UNSURE,) if run.claim.id != "cannot" else ())
        run.done = Done(run.claim, judged, 3 * run.batches, run.last_s * run.batches, None)

    monkeypatch.setattr(ClaimRun, "measure", measure)
    monkeypatch.setattr("bench.claiming.time", SimpleNamespace(monotonic=lambda: now_s))
    assert run(own) == 3
    first, more = measured[:3], measured[3:]
    assert sorted(first) == ["cannot", "fails", "holds"]
    assert more == expected_more  # what could not be measured at all is not tried again
    rounds = {one["id"]: one["rounds"] for one in json.loads((own / "claims.json").read_text())["claims"]}
    assert rounds == {"holds": rounds_of_holds, "fails": 6, "cannot": 3}


def test_what_was_undecided_gets_its_rounds_after_an_interruption(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = dataclasses.replace(MODES["quick"], most=2)
    monkeypatch.setitem(MODES, "quick", quick)
    measure, batches = ClaimRun.measure, []

    def interrupted_in_the_second(run: ClaimRun, *arguments: Any) -> None:
        batches.append(run.batches)
        if batches == [0, 1]:
            with (own / "holds.json").open() as file:
                kept = json.load(file)
            kept["trials"].append({**kept["trials"][0], "round": 3})
            (own / "holds.json").write_text(json.dumps(kept))
            raise KeyboardInterrupt
        measure(run, *arguments)

    def undecided(claim: Claim, run: Run) -> Judged:
        decided = judge_claim(claim, run)
        return dataclasses.replace(decided, verdict=Verdict.UNDECIDED)

    monkeypatch.setattr(ClaimRun, "measure", interrupted_in_the_second)
    monkeypatch.setattr("bench.claiming.judge_claim", undecided)
    assert run(own, "holds") == 130
    assert json.loads((own / "claims.json").read_text())["finished"] is None
    assert run(own, "holds") == 0  # as one family they are judged anew
    assert batches == [0, 1, 1]
    trials = json.loads((own / "holds.json").read_text())["trials"]
    assert [trial["round"] for trial in trials] == list(range(6))
    assert len({trial["seed"] for trial in trials}) == 6
    (one,) = load_claims(own).claims
    assert (one["rounds"], one["findings"][0]["measured"]["n"]) == (6, 6)
    assert run(own, "holds") == 0
    assert batches == [0, 1, 1]  # it had what it could have


def test_more_rounds_of_a_claim_are_new_ones_and_judged_with_those_before(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = read_claim("holds")
    placement = choose_placement(1)
    folder = ClaimsFolder(own, MODES["quick"], 1, placement, [], [claim])
    one = ClaimRun(claim, MODES["quick"], folder, placement)
    scenarios = list(claim.scenarios({}).values())

    def measure(rounds_before: int) -> None:
        with display.watch("", scenarios, 3, rounds_before=rounds_before) as watcher:
            one.measure(lambda _run: watcher)

    measure(0)
    measure(3)
    trials = json.loads((own / "holds.json").read_text())["trials"]
    assert [trial["round"] for trial in trials] == list(range(6))
    assert len({trial["seed"] for trial in trials}) == 6
    (finding,) = one.done.judged.findings
    assert finding.measured is not None
    assert (one.done.rounds, finding.measured.n) == (6, 6)
    assert "[3/3] round 6 of 6" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("doubtful", "standing", "set_aside"),
    [
        ((), Standing.HOLDS, 0),
        ((1,), Standing.HOLDS, 1),
        ((1, 4), Standing.HOLDS, 2),
        ((1, 3, 4), Standing.UNDECIDED, 0),
    ],
)
def test_a_round_in_serious_doubt_is_set_aside_unless_many_are(
    own: Path, doubtful: tuple[int, ...], standing: Standing, set_aside: int
) -> None:
    """In its place stands a figure that would contradict the rule."""
    assert run(own, "holds") == 0
    kept = json.loads((own / "holds.json").read_text())
    kept["trials"] = [{**kept["trials"][0], "round": number} for number in range(6)]
    for number in doubtful:
        trial = kept["trials"][number]
        trial["doubts"] = [{"kind": "little-law-violated", "fatal": True, "detail": "by a test"}]
        trial["counts"] = {**trial["counts"], "errors": {"closed": 1}}
    (own / "holds.json").write_text(json.dumps(kept))
    (finding,) = judge_claim(read_claim("holds"), load_run(own / "holds.json")).findings
    assert (finding.standing, finding.set_aside) == (standing, set_aside)
    assert ("contradict each other" in finding.why_not) is (standing is Standing.UNDECIDED)
    assert finding.measured is not None
    assert finding.measured.n == 6 - set_aside


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "not the verdicts"),
        ("[]", "not the verdicts"),
        ('{"kind":"x","schema":1,"mode":"quick"}', "another version"),
    ],
)
def test_a_folder_of_something_else(own: Path, capsys: pytest.CaptureFixture[str], content: str, why: str) -> None:
    own.mkdir()
    (own / "claims.json").write_text(content)
    assert run(own) == 2
    assert why in capsys.readouterr().err
    assert (own / "claims.json").read_text() == content


def test_a_folder_of_another_mode(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(own, "cannot") == 0
    assert cli.main(["claims", "--thorough", "--out", str(own), "cannot"]) == 2
    assert "mode quick" in capsys.readouterr().err


def test_a_folder_of_another_machine(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(own, "cannot") == 0
    kept = (own / "claims.json").read_text()
    elsewhere = json.loads(kept)
    elsewhere["environment"]["cpu"]["model"] = "another"
    (own / "claims.json").write_text(json.dumps(elsewhere))
    assert run(own, "cannot") == 2
    assert "on another machine" in capsys.readouterr().err
    (own / "claims.json").write_text(kept)
    assert run(own, "cannot") == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("nothing",), "'nothing' is unknown"),
        (("--quick", "--thorough"), "choose one"),
        (("webrtc",), "no claim in webrtc"),
    ],
)
def test_bad_input(own: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], why: str) -> None:
    assert cli.main(["claims", "--out", str(own), *options]) == 2
    assert why in capsys.readouterr().err


def test_list_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["claims", "--list", "--json", "-"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {one["id"] for one in listed} == set(claims.claim_files())
    assert cli.main(["claims", "--list", "state"]) == 0
    assert "stateful-restart" in capsys.readouterr().out
