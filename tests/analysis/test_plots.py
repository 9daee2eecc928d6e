"""Plots: what they show, and that their SVG works in a page, light and dark."""

import importlib
import itertools
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_run import Plan, build_run

from analysis.load_results import Run, load_run
from analysis.metrics import P99, THROUGHPUT
from analysis.plots import PLOTS, crossing, effects, heat_map, rounds, style
from analysis.plots.crossing import Point, Track
from analysis.plots.rounds import Bout, Lane
from analysis.plots.style import GRID, INK, MUTED, PALETTE, SERIES, SURFACE, Plot
from analysis.stats import Estimate
from analysis.summary import Group, groups


def drawn(group: Group) -> dict[str, Plot]:
    plots = (plot for name in PLOTS for plot in importlib.import_module(f"analysis.plots.{name}").plots(group))
    return {plot.name: plot for plot in plots}


@pytest.fixture(scope="module")
def by_group(run: Run) -> dict[str, dict[str, Plot]]:
    return {group.name: drawn(group) for group in groups(run)}


def test_each_group_gets_the_plots_it_has_figures_for(by_group: dict[str, dict[str, Plot]]) -> None:
    common = ["over-time", "heat-map", "cpu", "memory"]
    assert sorted(by_group["protocols"]) == sorted(["throughput", "latency", "percentiles-0", "ecdf-0", *common])
    assert "workers" in by_group["execution"]
    # Open loads: the load curve has throughput and latency, and each ladder its percentiles.
    assert sorted(by_group["rates"]) == sorted(
        ["load-curve", "percentiles-0", "percentiles-1", "ecdf-0", "ecdf-1", *common]
    )
    assert len([name for name in by_group["payload"] if name.startswith("percentiles")]) == 3


def numbers(plot: Plot) -> set[float]:
    """Every x value that is drawn in the first axes of a plot."""
    return {float(x) for line in plot.figure.axes[0].lines for x in np.atleast_1d(np.asarray(line.get_xdata(), float))}


def test_throughput_shows_every_round_the_median_and_the_interval(
    run: Run, by_group: dict[str, dict[str, Plot]]
) -> None:
    shown = numbers(by_group["protocols"]["throughput"])
    for summary in groups(run)[0].summaries:
        estimate = summary.estimate(THROUGHPUT)
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        assert {*summary.by_round(THROUGHPUT).values(), estimate.value, estimate.low, estimate.high} <= shown


def test_rounds_in_serious_doubt_are_hollow(by_group: dict[str, dict[str, Plot]]) -> None:
    lines = by_group["protocols"]["throughput"].figure.axes[0].lines
    hollow = [line for line in lines if line.get_marker() == "o" and line.get_markerfacecolor() == SURFACE.light]
    assert [len(np.atleast_1d(np.asarray(line.get_xdata()))) for line in hollow] == [3]  # udp: three of five rounds


def test_a_percentile_curve_ends_at_the_exact_maximum_and_at_its_last_sample(
    run: Run, by_group: dict[str, dict[str, Plot]]
) -> None:
    axes = by_group["protocols"]["percentiles-0"].figure.axes[0]
    tcp = next(s for s in groups(run)[0].summaries if s.scenario.protocol == "tcp")
    distributions = [trial.latency_ns for trial in tcp.trials if trial.latency_ns is not None]
    end = np.log10(sum(distribution.count for distribution in distributions))
    markers = [
        (
            float(np.atleast_1d(np.asarray(line.get_xdata(), float))[0]),
            float(np.atleast_1d(np.asarray(line.get_ydata(), float))[0]),
        )
        for line in axes.lines
        if line.get_marker() != "None" and len(np.atleast_1d(np.asarray(line.get_xdata()))) == 1
    ]
    assert (pytest.approx(end), max(distribution.max for distribution in distributions)) in markers


def test_every_axis_has_a_unit(by_group: dict[str, dict[str, Plot]]) -> None:
    for plots in by_group.values():
        for plot in plots.values():
            assert plot.figure.axes[-1].get_xlabel()
            assert plot.caption.endswith(".")
            assert plot.alt.endswith(".")


def test_a_plot_inside_a_page_takes_its_colours_from_the_page(by_group: dict[str, dict[str, Plot]]) -> None:
    for group in ("protocols", "rates"):
        for plot in by_group[group].values():
            svg = style.inline_svg(style.to_svg(plot.figure, ground=False), "a-name", 'says "so" & <more>')
            root = ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
            assert root.get("aria-label") == 'says "so" & <more>'
            assert root.get("viewBox", "").startswith("0 0 440 ")
            # Every colour is a variable of the page's palette.
            assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == [], plot.name
            assert set(re.findall(r"var\(--([a-z0-9-]+)\)", svg)) <= {colour.name for colour in PALETTE}
            assert all(element.get("id", "a-name-").startswith("a-name-") for element in root.iter())
            assert "://" not in svg
            assert "DejaVu" not in svg
            assert "<text" in svg


def test_the_same_figures_give_the_same_bytes(run: Run) -> None:
    first, second = (drawn(groups(run)[0])["throughput"] for _ in range(2))
    assert style.to_svg(first.figure, ground=True) == style.to_svg(second.figure, ground=True)


def test_names_are_data_whatever_they_look_like(tmp_path: Path) -> None:
    names = ["$x_{1}$", "<b>&amp;\"'", "日本語 🚀", "_" * 90, "a" * 300]
    data = build_run(plans=[Plan(f"g{n}", "http1") for n in range(len(names))], rounds=3)
    for trial in data["trials"]:
        name = names[int(trial["scenario"]["group"][1:])]
        trial["scenario"] |= {"protocol": name, "name": name, "group": "g"}
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    for plot in drawn(groups(load_run(path))[0]).values():
        svg = style.to_svg(plot.figure, ground=True)
        ET.fromstring(svg)
        assert "$x_{1}$" in svg
        assert "日本語" in svg
        assert style.to_png(plot.figure).startswith(b"\x89PNG")


def test_a_run_with_next_to_nothing_in_it_is_drawn(tmp_path: Path) -> None:
    data = build_run(plans=[Plan("g", "http1")], rounds=1)
    data["trials"][0] |= {"latency_ns": None, "service_ns": None, "intervals": [], "client": None, "server": None}
    data["trials"][0]["throughput_per_s"] = 0.0
    path = tmp_path / "bare.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    plots = drawn(groups(load_run(path))[0])
    assert list(plots) == ["throughput"]
    assert style.to_svg(plots["throughput"].figure, ground=False)


def linear(colour: str) -> NDArray[np.float64]:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, contrast ratio."""
    darker, lighter = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009.
VISIONS = {
    "full": np.eye(3),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_page_and_from_one_another(scheme: str) -> None:
    def value(colour: style.Colour) -> str:
        return colour.light if scheme == "light" else colour.dark

    for colour in (INK, MUTED, *SERIES):
        assert contrast(value(colour), value(SURFACE)) >= 4.5, colour.name
    assert contrast(value(GRID), value(SURFACE)) < 2
    for vision, matrix in VISIONS.items():
        seen = {colour.name: lab(matrix @ linear(value(colour))) for colour in SERIES}
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) >= 14, (vision, one, other)


def test_the_palette_css_sets_every_colour_for_both_schemes() -> None:
    css = style.palette_css()
    light, dark = css.split("@media")
    for colour in PALETTE:
        assert f"--{colour.name}: {colour.light};" in light
        assert f"--{colour.name}: {colour.dark};" in dark


def test_the_cumulative_curve_of_all_rounds_goes_from_none_to_all(by_group: dict[str, dict[str, Plot]]) -> None:
    curves = [line for line in by_group["protocols"]["ecdf-0"].figure.axes[0].lines if line.get_linewidth() == 1.8]
    for line in curves[::2]:  # each is followed by its sample in the legend
        shares = np.asarray(line.get_ydata(), float)
        assert (shares[0], shares[-1]) == (0, 1)
        assert np.all(np.diff(shares) >= 0)
        assert np.all(np.diff(np.asarray(line.get_xdata(), float)) >= 0)


def test_the_heat_map_holds_every_answer_in_its_time(run: Run) -> None:
    group = groups(run)[0]
    (made,) = heat_map.plots(group)
    patches = made.figure.axes[0].patches
    assert patches
    assert len({patch.get_alpha() for patch in patches}) > 1
    for summary in group.summaries:
        found = heat_map._map(group, summary)
        assert found is not None
        assert np.allclose(found.shares.sum(axis=1), 1)  # no answer is left out of its column
        assert len(found.times_s) == len(found.shares) + 1


def test_rounds_of_both_sides_are_joined_and_doubtful_ones_are_hollow() -> None:
    lanes = (Lane("one", 0, {0: 2e6, 1: 3e6}, frozenset({1})), Lane("other", 1, {0: 4e6, 2: 5e6}))
    limited = Bout("and it is quick", "", (Lane("one", 0, {0: 2e6}),), (None, 3e6))
    made = rounds.plot("rounds", P99, [Bout("one is faster", "RTT 1 ms", lanes, None), limited])
    axes = made.figure.axes[0]
    (joined,) = axes.collections[0].get_segments()
    assert [x for x, _ in joined] == [2e6, 4e6]  # the one round that both have
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == SURFACE.light and line.get_marker() == "o"]
    assert [list(np.asarray(line.get_xdata())) for line in hollow] == [[3e6]]
    assert "grey band" in made.caption


def test_the_words_of_a_rule_are_shown_whole() -> None:
    words = "pushed over a WebSocket, an event takes the way to the server and the way back, and no time of its own"
    made = rounds.plot("rounds", P99, [Bout(words, "RTT 1 ms", (Lane("one", 0, {0: 2e6}),), None)])
    (label,) = [text.get_text() for text in made.figure.axes[0].texts if "WebSocket" in text.get_text()]
    assert " ".join(label.split("\n")) == f"RTT 1 ms: {words}"
    assert max(map(len, label.split("\n"))) <= 64


def test_sides_cross_where_the_verdict_says() -> None:
    def track(side: str, place: int, *values: float) -> Track:
        places = zip((1.0, 20.0, 100.0), values, strict=True)
        return Track(side, place, tuple(Point(at, Estimate(value, value, value, 3), (value,)) for at, value in places))

    conditions = [("1 event a second", 1.0), ("20 events a second", 20.0), ("100 events a second", 100.0)]
    made = crossing.plot("c", P99, [track("a", 0, 1e6, 1e6, 1e6), track("b", 1, 4e6, 25e4, 1e5)], conditions, [10.5])
    axes = made.figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")  # the scales that the crossing is found on
    assert [label.get_text().count("\n") for label in axes.get_xticklabels()] == [0, 1, 0]  # none runs into another


def test_effects_beyond_the_scale_are_at_its_edge() -> None:
    found = [
        effects.Effect("far", "upheld", Estimate(1e-3, 5e-4, 2e-3, 5)),
        effects.Effect("no", "undecided", Estimate(1.0, None, None, 2)),
    ]
    axes = effects.plot("effects", found).figure.axes[0]
    edge = next(line for line in axes.lines if line.get_marker() == "<")
    left, right = axes.get_xlim()
    assert left < float(np.asarray(edge.get_xdata())[0]) < 1 < right


def test_shortened_pictures_say_and_draw_the_same() -> None:
    figure = style.drawn(style.new_figure, 100)
    axes = style.add_axes(figure, 0, 0, 0, 0)
    axes.text(0.5, 0.5, "0.00415 of 12.3456")
    axes.plot([0, 0, 1], [0, 1, 1])
    svg = style.inline_svg(style.to_svg(figure, ground=False), "name", "0.123456 is said")
    assert "0.00415 of 12.3456" in svg
    assert "0.123456 is said" in svg
    assert ET.fromstring(svg).tag == "svg"
    path = "M 1 2 \nL 1 3 \nL 1 4 \nL 1 4 \nL 1 2 \nL 5 2 \nL 6 7 \nz \nM 0 0 \nC 1 1 2 2 3 3 \nL 3 9 \n"
    assert style._shortened_path(path) == "M1 2V4V2H5L6 7zM0 0C1 1 2 2 3 3V9"
