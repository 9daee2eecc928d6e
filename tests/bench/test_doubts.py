"""Each doubt has a case that trips it, and a sound trial trips none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from bench.doubts import DoubtKind, Host, find_doubts
from bench.scenario import parse_scenario
from bench.thresholds import exit_code

QUIET = Host(steal_share=0.0, runnable_per_cpu=0.5)


def scenario(load: str):
    return parse_scenario({"protocol": "http1", "load": load, "duration": "1s"}, "test", "g")


def latency(p50: int = 1_000_000, mean: float = 1_000_000.0, count: int = 64_000) -> dict[str, Any]:
    return {
        "count": count,
        "mean": mean,
        "min": 1,
        "p50": p50,
        "p90": p50,
        "p99": p50 * 2,
        "p999": p50 * 3,
        "max": p50 * 4,
    }


SOUND: dict[str, Any] = {
    "counts": {"offered": 64_000, "sent": 64_000, "completed": 64_000, "errors": {}, "dropped": 0},
    "offered_per_s": None,
    "throughput_per_s": 64_000.0,  # 64 in flight, 1 ms each
    "latency_ns": latency(),
    "service_ns": latency(),
    "lateness_ns": None,
    "intervals": [{"completed": 6400} for _ in range(10)],
    "client": {"cpu_share_max": 0.6},
    "server": {"deaths": []},
    "wire": None,
}
OPEN: dict[str, Any] = {**SOUND, "offered_per_s": 64_000.0, "lateness_ns": latency(p50=20_000)}


@pytest.mark.parametrize(("load", "trial"), [("closed:64", SOUND), ("open:64000/s", OPEN)])
def test_a_sound_trial_has_no_doubts(load: str, trial: dict[str, Any]) -> None:
    assert find_doubts(scenario(load), trial, QUIET) == []


def saturate(trial: dict[str, Any]) -> None:
    trial["client"]["cpu_share_max"] = 0.97


def fall_behind(trial: dict[str, Any]) -> None:
    trial["throughput_per_s"] = 60_000.0


def be_late(trial: dict[str, Any]) -> None:
    trial["lateness_ns"]["p99"] = 5_000_000


def break_little(trial: dict[str, Any]) -> None:
    trial["latency_ns"]["mean"] = 400_000.0


def drift(trial: dict[str, Any]) -> None:
    trial["intervals"] = [{"completed": 8000 if n < 5 else 4800} for n in range(10)]


def sample_little(trial: dict[str, Any]) -> None:
    trial["latency_ns"]["count"] = 900


def sample_nothing(trial: dict[str, Any]) -> None:
    trial["latency_ns"] = trial["service_ns"] = trial["lateness_ns"] = None
    trial["counts"] = {"offered": 0, "sent": 0, "completed": 0, "errors": {}, "dropped": 0}
    trial["offered_per_s"] = trial["throughput_per_s"] = 0.0


def fail(share: float) -> Callable[[dict[str, Any]], None]:
    def change(trial: dict[str, Any]) -> None:
        trial["counts"]["errors"] = {"timeout": int(64_000 * share)}

    return change


def drop(trial: dict[str, Any]) -> None:
    trial["counts"]["dropped"] = 6400


def die(trial: dict[str, Any]) -> None:
    trial["server"]["deaths"] = [{"worker": 1, "reason": "was killed by SIGKILL", "restarted": True}]


@pytest.mark.parametrize(
    ("change", "kind", "fatal", "word"),
    [
        (saturate, DoubtKind.GENERATOR_SATURATED, True, "97%"),
        (fall_behind, DoubtKind.GENERATOR_SATURATED, True, "93.8%"),
        (be_late, DoubtKind.PACING_LATE, False, "5 ms"),
        (drift, DoubtKind.NOT_STEADY, False, "-40%"),
        (sample_little, DoubtKind.TOO_FEW_SAMPLES, False, "too few for p99"),
        (sample_nothing, DoubtKind.TOO_FEW_SAMPLES, True, "nothing was answered"),
        (fail(0.001), DoubtKind.ERRORS, False, "64 timeout"),
        (fail(0.05), DoubtKind.ERRORS, True, "5.00%"),
        (drop, DoubtKind.ERRORS, True, "6400 dropped"),
        (die, DoubtKind.SERVER_RESTARTED, True, "killed by SIGKILL"),
    ],
)
def test_each_doubt_is_tripped(
    change: Callable[[dict[str, Any]], None], kind: DoubtKind, fatal: bool, word: str
) -> None:
    trial = copy.deepcopy(OPEN)
    change(trial)
    (doubt,) = find_doubts(scenario("open:64000/s"), trial, QUIET)
    assert (doubt.kind, doubt.fatal) == (kind, fatal)
    assert word in doubt.detail


def test_a_machine_without_ports_is_not_the_servers_failure() -> None:
    trial = copy.deepcopy(OPEN)
    trial["counts"]["errors"] = {"no-port": 64}
    doubts = find_doubts(scenario("open:64000/s"), trial, QUIET)
    assert {doubt.kind: doubt.fatal for doubt in doubts} == {DoubtKind.NO_PORTS: True, DoubtKind.ERRORS: False}
    judged = {"threshold": "errors < 0.01%", "held": False}
    assert exit_code({**trial, "error": None, "doubts": [d.record() for d in doubts], "thresholds": [judged]}) == 3


def test_littles_law_is_checked_on_closed_loads() -> None:
    trial = copy.deepcopy(SOUND)
    break_little(trial)
    (doubt,) = find_doubts(scenario("closed:64"), trial, QUIET)
    assert (doubt.kind, doubt.fatal) == (DoubtKind.LITTLE_LAW_VIOLATED, True)


@pytest.mark.parametrize(
    "host", [Host(steal_share=0.05, runnable_per_cpu=0.5), Host(steal_share=0.0, runnable_per_cpu=9.0)]
)
def test_a_noisy_host(host: Host) -> None:
    (doubt,) = find_doubts(scenario("closed:64"), SOUND, host)
    assert (doubt.kind, doubt.fatal) == (DoubtKind.NOISY_HOST, False)


def test_a_load_that_changes_is_not_held_against_itself() -> None:
    trial = copy.deepcopy(OPEN)
    drift(trial)
    assert find_doubts(scenario("ramp:1000-64000/s@1s"), trial, QUIET) == []


@pytest.mark.parametrize(("first", "second", "steady"), [(4, 12, True), (3, 12, False)])
def test_a_round_more_in_one_half_is_no_drift(first: int, second: int, steady: bool) -> None:
    """Four connections that go round a few times: what was in flight when measuring began does not count, either."""
    trial = copy.deepcopy(SOUND)
    trial["intervals"] = [{"completed": first}, {"completed": second}]
    trial["throughput_per_s"], trial["latency_ns"]["mean"] = 4.0, 1e9
    found = [doubt.kind for doubt in find_doubts(scenario("closed:4"), trial, QUIET)]
    assert found == ([] if steady else [DoubtKind.NOT_STEADY])


LINKED: dict[str, Any] = {
    **OPEN,
    "wire": {
        "router_refused": 0,
        "router_late_ns": {"p50": 20_000, "p99": 90_000, "max": 2_000_000},
        "nodes": {"client": {"link_packets_dropped": 0}, "server": {"link_packets_dropped": 0}},
    },
}


def test_a_link_that_is_late_or_loses_what_it_should_not() -> None:
    asked = {"protocol": "http1", "load": "open:64000/s", "duration": "1s", "link": "rtt=40ms"}
    linked = parse_scenario(asked, "test", "g")
    assert find_doubts(linked, LINKED, QUIET) == []
    late = copy.deepcopy(LINKED)
    late["wire"]["router_late_ns"]["p99"] = 3_000_000
    (doubt,) = find_doubts(linked, late, QUIET)
    assert (doubt.kind, doubt.fatal) == (DoubtKind.LINK_LATE, False)
    assert "3 ms" in doubt.detail
    lossy = copy.deepcopy(LINKED)
    lossy["wire"]["nodes"]["server"]["link_packets_dropped"] = 7
    (doubt,) = find_doubts(linked, lossy, QUIET)
    assert (doubt.kind, doubt.fatal) == (DoubtKind.LINK_LATE, True)
    assert doubt.detail.startswith("7 packets")


def test_littles_law_knows_that_few_requests_do_not_fill_a_window() -> None:
    """One exchange of 400 ms, and half of another, in a window of 800 ms."""
    slow = copy.deepcopy(SOUND)
    slow["throughput_per_s"] = 1.25
    slow["counts"]["completed"] = 1
    slow["latency_ns"] = latency(p50=400_000_000, mean=4e8, count=1)
    assert DoubtKind.LITTLE_LAW_VIOLATED not in {d.kind for d in find_doubts(scenario("closed:1"), slow, QUIET)}


def test_littles_law_knows_that_one_stall_may_lie_across_the_edge_of_a_window() -> None:
    """All stood still for a sixth of the window as it began: those requests are counted elsewhere."""
    stalled = copy.deepcopy(SOUND)
    stalled["latency_ns"]["mean"] = 850_000.0
    asked = scenario("closed:64")
    stalled["latency_ns"]["max"] = asked.duration_ns // 6
    assert find_doubts(asked, stalled, QUIET) == []
    stalled["latency_ns"]["max"] = 4_000_000
    assert [doubt.kind for doubt in find_doubts(asked, stalled, QUIET)] == ["little-law-violated"]


def worker(**changes: Any) -> dict[str, Any]:
    return {"host": "a", "why": None, "dropped": 0, "margin_ns": 4_000_000, "clock_error_ns": 20_000, **changes}


def shared(*workers: dict[str, Any], **changes: Any) -> list[tuple[str, bool, str]]:
    trial = {**copy.deepcopy(SOUND), "workers": {"expected": 2, "each": list(workers)}, **changes}
    return [(d.kind.value, d.fatal, d.detail) for d in find_doubts(scenario("closed:64"), trial, QUIET)]


def test_workers_that_were_there_all_the_time_are_no_doubt() -> None:
    assert shared(worker(), worker()) == []


def test_a_worker_that_is_lost_or_did_not_come() -> None:
    ((kind, fatal, detail),) = shared(worker(), worker(why="has left", dropped=1_234))
    assert (kind, fatal) == ("worker-lost", True)
    assert "a worker on a has left: 1,234 of its requests" in detail
    ((kind, fatal, detail),) = shared(worker())
    assert (kind, fatal) == ("worker-lost", False)
    assert "1 of 2 workers did not come" in detail


def test_a_worker_that_hears_of_the_start_too_late() -> None:
    ((kind, fatal, detail),) = shared(worker(), worker(margin_ns=-30_000_000))
    assert (kind, fatal) == ("worker-late", True)
    assert "30 ms after the start" in detail


def test_clocks_that_are_not_known_well_enough_for_delays_between_machines() -> None:
    delivery = {"subscribers": 1, "expected": 1, "delivered": 1, "duplicates": 0}
    far = (worker(), worker(clock_error_ns=90_000))
    assert shared(*far) == []  # a latency that begins and ends on one machine
    ((kind, fatal, detail),) = shared(*far, delivery=delivery)
    assert (kind, fatal) == ("clocks-apart", False)
    assert "110 us" in detail.replace("µs", "us")
    assert shared(worker(), worker(), delivery=delivery) == []


def test_a_run_that_was_stopped() -> None:
    ((kind, fatal, detail),) = shared(worker(), worker(), stopped="it was interrupted")
    assert (kind, fatal) == ("stopped-early", True)
    assert "it was interrupted" in detail
