"""A probe in the place of a trial: run in a process of its own, and kept as result files hold trials."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench import resultfile
from bench.childprocess import ChildEndedError, ChildProcess
from bench.trial import NO_FIGURES

_TIMEOUT_S = 60.0
_NONE = "none"


@dataclass(frozen=True)
class ProbeScenario:
    """What a probe is asked, in the place of a scenario."""

    probe: str
    words: tuple[tuple[str, Any], ...]
    group: str

    @property
    def name(self) -> str:
        """Short and readable."""
        words = ",".join(f"{key}={value}" for key, value in self.words)
        return f"probe {self.probe}" + (f":{words}" if words else "")

    def record(self) -> dict[str, Any]:
        """As result files hold scenarios; there is no load, and no server that it goes to."""
        return {
            **dict.fromkeys(("protocol", "stack", "tier", "execution", "load", "connections", "link"), _NONE),
            **dict.fromkeys(("payload_bytes", "warmup_ns", "duration_ns", "timeout_ns"), 0),
            "name": self.name,
            "group": self.group,
            "pattern": "probe",
            "operation": self.name.removeprefix("probe "),
            "workers": 1,
            "queue_limit": None,
        }


def run_probe(scenario: ProbeScenario, round_number: int, seed: int) -> dict[str, Any]:
    """The record of one run of a probe. One that gave no figures says why under "error"."""
    record = {**NO_FIGURES, "scenario": scenario.record(), "round": round_number, "seed": seed}
    record["started"] = resultfile.now()
    child = ChildProcess("bench.probes")
    try:
        child.send({"probe": scenario.probe, "words": dict(scenario.words), "seed": seed})
        event: Mapping[str, Any] | None = child.next_event(_TIMEOUT_S)
    except ChildEndedError as error:
        return {**record, "error": f"the probe {scenario.probe} {error}"}
    finally:
        child.kill()
    if event is None:
        return {**record, "error": f"the probe {scenario.probe} gave no answer for {_TIMEOUT_S:g} s"}
    if event["event"] == "error":
        return {**record, "error": event["message"]}
    return {**record, "figures": event["figures"], "valid": True, "error": None}
