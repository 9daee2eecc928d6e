"""What a history keeps of a run, and the changes that are found in series whose levels are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_run import Plan, build_run

from analysis.history import RECENT, Series, change_points, entry, fingerprint, read_entry, series
from analysis.load_results import load_run
from analysis.metrics import FAILED, P50, THROUGHPUT, Metric
from analysis.plots.trend import trend
from bench.errors import UsageError


def made(values: Any, metric: Metric = P50) -> Series:
    return Series("m", "a", "h", metric, tuple(map(str, range(len(values)))), tuple(values), (None,) * len(values))


def noisy(levels: list[tuple[int, float]], seed: int, noise: float = 0.03) -> Any:
    generator = np.random.default_rng(seed)
    return np.concatenate([level * np.exp(generator.normal(0, noise, n)) for n, level in levels])


def test_a_change_of_level_is_found_where_it_is() -> None:
    (change,) = change_points(made(noisy([(40, 100.0), (30, 112.0)], 1)))
    assert abs(change.index - 40) <= 2
    assert change.ratio == pytest.approx(1.12, abs=0.02)
    assert change.is_worse
    (change,) = change_points(made(noisy([(40, 100.0), (30, 112.0)], 1), THROUGHPUT))
    assert not change.is_worse


def test_several_changes_are_found() -> None:
    found = change_points(made(noisy([(50, 100.0), (30, 120.0), (40, 90.0)], 2)))
    assert [round(change.index, -1) for change in found] == [50, 80]
    assert [change.is_worse for change in found] == [True, False]


def test_a_change_below_the_floor_is_none() -> None:
    values = noisy([(60, 100.0), (60, 103.0)], 3, noise=0.005)
    assert change_points(made(values)) == []
    assert len(change_points(made(values), floor=0.02)) == 1


def test_the_commit_is_that_of_what_was_measured(tmp_path: Path) -> None:
    record = build_run(plans=[Plan("run", "http1")], rounds=1)
    path = tmp_path / "run.json"
    for service, commit in (({}, "own"), ({"service": {"commit": "theirs", "dirty": False}}, "theirs")):
        record["environment"] |= {"wirebench": {"commit": "own"}, **service}
        path.write_text(json.dumps(record))
        assert entry(load_run(path))["commit"] == commit


def test_noise_and_spikes_are_no_change() -> None:
    wrong = 0
    for seed in range(100):
        values = noisy([(100, 100.0)], seed, noise=0.05)
        values[np.random.default_rng(seed).integers(0, 100, 4)] *= 2
        wrong += len(change_points(made(values)))
    assert wrong <= 2


def test_what_has_no_ratio_has_no_change() -> None:
    assert change_points(made([0.0] * 20 + [0.5] * 20, FAILED)) == []
    assert change_points(made([0.0] * 20 + [5.0] * 20)) == []
    assert change_points(made([100.0] * 8)) == []


def test_of_a_long_series_the_last_runs_are_looked_at() -> None:
    values = noisy([(RECENT, 50.0), (RECENT, 100.0), (200, 120.0)], 4)
    (change,) = change_points(made(values))
    assert abs(change.index - 2 * RECENT) <= 2


def test_a_picture_draws_levels_where_changes_were_looked_for() -> None:
    one = made(noisy([(RECENT, 50.0), (RECENT, 100.0)], 4))
    dots, level = trend([(one, change_points(one))]).axes[0].lines
    assert len(np.asarray(dots.get_xdata())) == 2 * RECENT
    assert list(np.asarray(level.get_xdata())) == [RECENT, 2 * RECENT - 1]
    assert np.asarray(level.get_ydata()) == pytest.approx([100.0, 100.0], rel=0.01)


def test_an_entry_holds_the_figures_of_valid_trials(tmp_path: Path) -> None:
    data = build_run(plans=[Plan("run", "http1"), Plan("run", "tcp")], rounds=5)
    for trial in data["trials"]:
        trial["valid"] = trial["scenario"]["protocol"] == "http1"
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    kept = read_entry(json.dumps(entry(load_run(path))), "here")
    (only,) = kept["scenarios"].values()
    assert only["name"].startswith("http1")
    assert only["metrics"][THROUGHPUT.name]["n"] == 5
    (one, *_) = series([kept, kept], scenario="http1", metrics=[THROUGHPUT])
    assert len(one.values) == 2
    assert series([kept], scenario="udp") == []
    for trial in data["trials"]:
        trial["valid"] = False
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match="no trial is valid"):
        entry(load_run(path))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "wirebench-history", "schema": 1}', '{"kind": 1}'])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an entry"):
        read_entry(text, "there")


def test_a_machine_is_told_by_what_its_figures_depend_on() -> None:
    environment = build_run(plans=[Plan("run", "http1")], rounds=1)["environment"]
    same = environment | {"wirebench": {"commit": "other"}, "memory": {"total_bytes": 8_231_374_848 + 4096}}
    other = environment | {"cpu": {"model": "Another CPU"}}
    assert fingerprint(environment) == fingerprint(same)
    assert fingerprint(environment) != fingerprint(other)
