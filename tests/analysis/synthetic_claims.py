"""A folder of claims that was made by hand: every verdict, sides along conditions, a probe, and hostile text."""

import json
from pathlib import Path
from typing import Any

from synthetic_ladders import https_run
from synthetic_run import Plan, build_run

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'text'"
CONDITIONS = {"RTT 1 ms": 1.0, "RTT 20 ms": 20.0}


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
        "sides": ["one", "other"],
        "conditions": [{"name": "everywhere", "at": None}],
        "findings": [finding()],
        "crossings": [],
        **changes,
    }


def verdicts(**changes: Any) -> dict[str, Any]:
    """claims.json."""
    valued = {"against": None, "kind": "equals", "value": 4e6, "margin": 1e6, "measured": None, "why_not": "it failed"}
    probed = {
        "against": None,
        "kind": "equals",
        "metric": "probe_encoded_bytes",
        "of": "json",
        "value": 120.0,
        "margin": 5.0,
    }
    return {
        "kind": "wirebench-claims",
        "schema": 1,
        "mode": "quick",
        "seed": 7,
        "command": ["wirebench", "claims", HOSTILE],
        "environment": {"CPU": {"model": HOSTILE}},
        "chapters": {"state": "State", "http": "The versions of HTTP", "formats": "Formats"},
        "started": "2026-01-01T00:00:00.000+00:00",
        "finished": None,
        "chosen": ["first", "waits"],
        "claims": [
            claim(
                "first",
                verdict="conditional",
                conditions=[{"name": name, "at": at} for name, at in CONDITIONS.items()],
                findings=[finding(condition=name) for name in CONDITIONS],
                crossings=[{"say": "one is faster", "at": 11.66}],
            ),
            claim(
                "second",
                verdict="undecided",
                expected="refuted",
                note="Both cost the same.",
                findings=[finding(**valued)],
                file="lost.json",
            ),
            claim(
                "third",
                chapter="state",
                verdict="refuted",
                expected="upheld",
                sentence=HOSTILE,
                mechanism=HOSTILE,
                file=None,
            ),
            claim("fourth", verdict="unsupported here", why=HOSTILE, findings=[], file=None, rounds=0),
            claim("ways", note="The course forgets the handshake.", findings=[finding(of="one", condition="x")]),
            claim(
                "probed",
                chapter="state",
                sides=["json"],
                findings=[finding(**probed, measured={"value": 121.0, "low": 120.0, "high": 122.0, "n": 3})],
            ),
        ],
        **changes,
    }


def claims_folder(folder: Path) -> Path:
    """The folder; `lost.json` is missing in it."""
    folder.mkdir(parents=True, exist_ok=True)
    sides = {"one": "http2", "other": "http1"}
    plans = [
        Plan(f"{condition}: {side}", protocol, tls="1.3" if condition == "RTT 20 ms" else "off")
        for condition in CONDITIONS
        for side, protocol in sides.items()
    ]
    ladders = https_run(rounds=1)
    ladders["trials"] = ladders["trials"][:2]
    for trial in ladders["trials"]:
        trial["scenario"]["group"] = f"everywhere: {trial['scenario']['name']}"
    files = {"first": build_run(plans=plans, rounds=3), "ways": ladders, "probed": _probed()}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "claims.json").write_text(json.dumps(verdicts()), encoding="utf-8")
    return folder


def _probed() -> dict[str, Any]:
    """A probe's run, in which there was no load."""
    run = build_run(plans=[Plan("everywhere: json", "http1", pattern="probe")], rounds=3)
    measured = ("counts", "offered_per_s", "throughput_per_s", "client", "server")
    nothing = dict.fromkeys((*measured, "latency_ns", "service_ns", "lateness_ns")) | {"intervals": []}
    for number, trial in enumerate(run["trials"]):
        trial.update(nothing, figures={"encoded_bytes": 120 + number})
    return run
