"""Probes give the figures that they declare, and those have the order that nature gives them."""

import io
import json
import random

import pytest

from bench.claim import read_claim
from bench.claims import claim_files
from bench.errors import UsageError
from bench.probes import PROBES, Probe, sidecars, tunnel
from bench.probes.__main__ import main
from bench.probing import ProbeScenario, run_probe

PROBED = [claim for claim in map(read_claim, claim_files()) if claim.probe]


def ask(probe: str, **words: object) -> dict[str, float]:
    trial = run_probe(ProbeScenario(probe, tuple(words.items()), "test"), 0, 0)
    assert trial["error"] is None
    figures: dict[str, float] = trial["figures"]
    return figures


FIRST_ASKED = {claim.probe: next(iter(claim.probes().values())) for claim in PROBED}
"""What the first side of a claim asks each probe."""
LONG = {"hole": pytest.mark.long, "tunnel": pytest.mark.long}  # sixteen labs; transfers of ten seconds


@pytest.mark.parametrize(
    "scenario", [pytest.param(asked, id=name, marks=LONG.get(name, ())) for name, asked in FIRST_ASKED.items()]
)
def test_every_probe(scenario: ProbeScenario) -> None:
    trial = run_probe(scenario, 0, 0)
    if trial["error"] is not None and "CPUs" in trial["error"]:
        pytest.skip(trial["error"])
    assert trial["error"] is None
    assert trial["figures"].keys() == PROBES[scenario.probe].figures.keys()
    assert all(value >= 0 for value in trial["figures"].values())


def test_every_probe_is_asked_by_a_claim() -> None:
    assert {claim.probe for claim in PROBED} == set(PROBES)


def test_copy_on_write() -> None:
    child = ask("cow", megabytes=40, written=0.5)
    assert child["child_private_bytes"] == pytest.approx(20_000_000, abs=5_000_000)


def test_what_does_not_fit_into_the_buffers_is_not_taken() -> None:
    found = ask("receive-buffer")
    assert 0 < found["taken_bytes"] <= found["buffers_bytes"]


def test_a_probe_that_fails_says_why() -> None:
    trial = run_probe(ProbeScenario("formats", (("format", "runes"),), "test"), 0, 0)
    assert "KeyError: 'runes'" in trial["error"]
    assert not trial["valid"]


def test_sidecars_speak_no_protocol_that_is_none() -> None:
    with pytest.raises(UsageError, match="http9"):
        sidecars.measure("http9", "0%")


def test_what_a_probe_draws_comes_from_the_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = random.getstate()
    monkeypatch.setattr("bench.probes.__main__.PROBES", {"drawn": Probe("", "random:random", {}, {})})
    try:
        monkeypatch.setattr("sys.stdin", io.StringIO('{"probe": "drawn", "words": {}, "seed": 7}'))
        assert main() == 0
    finally:
        random.setstate(before)
    assert json.loads(capsys.readouterr().out)["figures"] == random.Random(7).random()


def test_each_transfer_through_a_tunnel_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = random.getstate()
    seeds: list[int] = []

    def transfer(_carrier: str, _loss: str, _size_bytes: int, seed: int) -> tuple[float, int]:
        seeds.append(seed)
        return 1.0, 1

    monkeypatch.setattr(tunnel, "_transfer", transfer)
    try:
        for _ in range(2):
            random.seed(7)
            tunnel.measure("udp", "1%", 1)
    finally:
        random.setstate(before)
    assert sorted(seeds[:4]) == sorted(seeds[4:])
    assert len(set(seeds)) == 4
