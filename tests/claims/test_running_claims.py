"""`wirebench claims` with real servers: verdicts, what is kept, and going on after an interruption."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis import simulation
from analysis.load_claims import load_claims
from analysis.verdict import Judged, Verdict
from bench import claims, cli
from bench.claim import Claim
from bench.claiming import Done


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
    def interrupted(claim: Claim, *_: object) -> Done:
        if claim.id == "fails":
            raise KeyboardInterrupt
        return Done(claim, Judged(Verdict.UPHELD, ()), 3, 1.0, None)

    monkeypatch.setattr("bench.claiming.run_claim", interrupted)
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

    def interrupted(*_: object) -> Done:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.claiming.run_claim", interrupted)
    assert run(own, "cannot") == 130
    assert "0 of 1 claims have their verdict" in capsys.readouterr().err
    assert json.loads((own / "claims.json").read_text())["finished"] is None


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
