"""The page of a run of claims, from a folder that was made by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from analysis.report.claims import write_claims_page

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text'"
CHAPTERS = {"http": "The versions of HTTP", "state": "State"}


def finding(**changes: Any) -> dict[str, Any]:
    return {
        "say": "one is faster",
        "condition": "everywhere",
        "standing": "holds",
        "metric": "latency_p50_ns",
        "of": "one",
        "kind": "less",
        "against": "other",
        "value": None,
        "margin": 0.05,
        "measured": {"value": 0.5, "low": 0.25, "high": 20.0, "n": 5},
        "p_holm": 0.06,
        "why_not": None,
        **changes,
    }


def claim(claim_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": claim_id,
        "chapter": "http",
        "sentence": f"{claim_id} is so",
        "mechanism": "It does less.",
        "source": "RFC 9110",
        "note": "",
        "fingerprint": "0",
        "verdict": "upheld",
        "expected": None,
        "why": "",
        "rounds": 5,
        "seconds": 1.0,
        "file": f"{claim_id}.json",
        "findings": [finding()],
        "crossings": [],
        **changes,
    }


@pytest.fixture
def page(tmp_path: Path) -> str:
    valued = {"against": None, "kind": "equals", "value": 4e6, "margin": 1e6, "measured": None, "why_not": "it failed"}
    claims = [
        claim("first", crossings=[{"say": "one is faster", "at": 11.66}]),
        claim("second", findings=[finding(**valued), finding(condition="RTT 40 ms")], verdict="undecided"),
        claim("third", chapter="state", verdict="refuted", expected="upheld", sentence=HOSTILE, mechanism=HOSTILE),
        claim("fourth", verdict="unsupported here", why=HOSTILE, findings=[], file=None, rounds=0),
    ]
    run = {
        "kind": "wirebench-claims",
        "schema": 1,
        "mode": "quick",
        "seed": 7,
        "command": ["wirebench", "claims", HOSTILE],
        "environment": {"CPU": {"model": HOSTILE}},
        "started": "2026-01-01T00:00:00.000+00:00",
        "claims": claims,
    }
    (tmp_path / "claims.json").write_text(json.dumps(run))
    return write_claims_page(tmp_path, CHAPTERS).read_text()


def test_every_claim_is_there_with_its_verdict(page: str) -> None:
    found = re.findall(r'<article class="claim" id="(\w+)" data-verdict="([a-z ]+)"', page)
    assert found == [
        ("first", "upheld"),
        ("second", "undecided"),
        ("fourth", "unsupported here"),
        ("third", "refuted"),
    ]
    assert "4 claims: 1 upheld, 1 refuted, 1 undecided, 1 unsupported here." in page
    assert "wirebench claims first --seed 7" in page
    assert "changes at about 11.7" in page
    assert "Known is that it is upheld" in page


def test_what_was_expected_stands_beside_what_was_measured(page: str) -> None:
    assert "less than other by 5% or more" in page
    assert "0.5×" in page
    assert "0.25× to 20×" in page
    assert "equals 4 ms ± 1 ms" in page
    assert "not measured" in page
    assert "it failed" in page


def test_text_is_text_and_nothing_comes_from_elsewhere(page: str) -> None:
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//", page)
    assert set(re.findall(r'href="([^"#]+)"', page)) == {
        "data:,",
        "first.json",
        "second.json",
        "third.json",
        "claims.json",
    }
