"""What published events cost at each rate: the figures, and the plots of them."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_run import SUBSCRIBERS, Plan, build_run

from analysis.load_results import Run, load_run
from analysis.metrics import BY_NAME
from analysis.plots import PLOTS
from analysis.plots.style import Plot
from analysis.summary import Group, groups

RATES = (1_000, 10_000, 100_000)
"""Of deliveries: the synthetic machine offers those."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    plans = [Plan("g", name, load=f"open:{rate}/s", pattern="push") for rate in RATES for name in ("sse", "websocket")]
    data = build_run(plans=plans, rounds=3)
    for trial in data["trials"]:
        trial["server"]["pss_bytes_before"] = trial["server"]["pss_bytes"] - 1_000_000
        trial["wire"] = {way: {"offered": 3000, "offered_bytes": 200_000} for way in ("up", "down")}
    path = tmp_path_factory.mktemp("events") / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return load_run(path)


def test_costs_are_those_of_an_event_and_of_a_subscriber(run: Run) -> None:
    trial = run.trials[0]
    assert trial.delivery is not None
    published = trial.delivery.published

    def figure(name: str) -> float | None:
        return BY_NAME[name].of(trial)

    assert figure("events_per_s") == published / 2
    assert figure("packets_per_event") == 6000 / published
    assert figure("wire_bytes_per_event") == 400_000 / published
    assert figure("requests_per_event") == sum(worker.requests for worker in trial.server.workers) / published
    assert figure("server_pss_bytes_per_client") == 1_000_000 / SUBSCRIBERS
    cpu_s = (trial.server.cpu_user_s or 0) + (trial.server.cpu_system_s or 0)
    assert figure("server_cpu_us_per_s_per_client") == pytest.approx(cpu_s * 1e6 / 2 / SUBSCRIBERS)


def test_what_was_not_counted_has_no_cost(run: Run) -> None:
    trial = replace(run.trials[0], wire=None, server=replace(run.trials[0].server, pss_bytes_before=None, workers=()))
    costs = ("packets_per_event", "wire_bytes_per_event", "requests_per_event", "server_pss_bytes_per_client")
    assert [BY_NAME[name].of(trial) for name in costs] == [None] * 4
    assert BY_NAME["events_per_s"].of(replace(trial, delivery=None)) is None


def drawn(group: Group) -> dict[str, Plot]:
    plots = (plot for name in PLOTS for plot in importlib.import_module(f"analysis.plots.{name}").plots(group))
    return {plot.name: plot for plot in plots}


def test_events_at_several_rates_have_plots_of_their_own(run: Run) -> None:
    (group,) = groups(run)
    plots = drawn(group)
    assert "load-curve" not in plots
    assert [len(plots[name].figure.axes) for name in ("event-delay", "event-costs", "client-costs")] == [2, 3, 2]
    costs = plots["event-costs"].figure.axes[-1]
    assert costs.get_xscale() == "log"
    assert costs.get_xlabel() == "events published per second, logarithmic"
    estimates = [s.estimate(BY_NAME["wire_bytes_per_event"]) for s in group.summaries]
    shown = {float(y) for line in costs.lines for y in line.get_ydata()}  # type: ignore[union-attr]
    assert {estimate.value for estimate in estimates if estimate is not None} <= shown


def test_what_nobody_counted_has_no_panel(run: Run, tmp_path: Path) -> None:
    data = json.loads(Path(run.path).read_text())
    for trial in data["trials"]:
        trial["wire"] = None
        del trial["server"]["pss_bytes_before"]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    plots = drawn(groups(load_run(path))[0])
    assert [len(plots[name].figure.axes) for name in ("event-delay", "event-costs", "client-costs")] == [2, 1, 1]
