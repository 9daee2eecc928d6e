"""Sides of a question that are whole trials: scenarios, run as `wirebench run` runs them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.peers.comparison import Measure, Question, Sample, Setting
from bench.peers.process import VoidError
from bench.scenario import parse_scenario
from bench.trial import run_trial

Words = dict[str, str | int]
"""A scenario as suites spell it."""


def run_words(words: Words, setting: Setting) -> dict[str, Any]:
    """One trial. Raises VoidError if it gave no figures or has wrong answers."""
    scenario = parse_scenario({"warmup": "500ms", "duration": f"{setting.duration_s}s", **words}, "peers", "peers")
    trial = run_trial(scenario, 0, 0, 1, setting.placement, lambda _progress: None)
    if trial["error"]:
        raise VoidError(trial["error"])
    counts = trial["counts"]
    if counts["errors"] or counts["dropped"] or not counts["completed"]:
        raise VoidError(f"{scenario.name}: errors {counts['errors']}, {counts['dropped']} dropped")
    return trial


def compare_rates(name: str, title: str, sides: tuple[str, str], words: tuple[Words, Words], target: float) -> Question:
    """Requests a second of one scenario against those of another, both closed."""
    return Question(name, title, sides, "requests/s", "higher", target, (), partial(_open_rates, words))


def _rate(words: Words, setting: Setting) -> Sample:
    trial = run_words(words, setting)
    return Sample(trial["throughput_per_s"], trial["client"]["cpu_share_max"])


@contextmanager
def _open_rates(words: tuple[Words, Words], setting: Setting) -> Iterator[Sequence[Measure]]:
    yield [partial(_rate, side, setting) for side in words]


def compare_servers(
    name: str, title: str, sides: tuple[str, str], words: tuple[Words, Words], target: float
) -> Question:
    """Requests that one server answers in a second of its CPU time, against another. What limits the rate may be the
    generator, where the server is a fast one; what a request costs the server is the same then."""
    return Question(name, title, sides, "requests/s", "higher", target, (), partial(_open_servers, words))


@contextmanager
def _open_servers(words: tuple[Words, Words], setting: Setting) -> Iterator[Sequence[Measure]]:
    yield [partial(_per_cpu_second, side, setting) for side in words]


def _per_cpu_second(words: Words, setting: Setting) -> Sample:
    trial = run_words(words, setting)
    server = trial["server"]
    return Sample(trial["throughput_per_s"] * setting.duration_s / (server["cpu_user_s"] + server["cpu_system_s"]))


def deliveries(name: str, title: str, words: Words, target: float) -> Question:
    """Deliveries that the server makes in a second of its CPU time, under a push scenario."""
    return Question(name, title, ("wirebench",), "requests/s", "higher", target, (), partial(_open_deliveries, words))


@contextmanager
def _open_deliveries(words: Words, setting: Setting) -> Iterator[Sequence[Measure]]:
    yield (partial(_per_cpu_second, words, setting),)


def delivery_delay(name: str, title: str, words: Words, target_ns: float) -> Question:
    """The p99 of the time from when an event was due to its delivery."""
    return Question(name, title, ("wirebench",), "ns", "lower", target_ns, (), partial(_open_delay, words))


@contextmanager
def _open_delay(words: Words, setting: Setting) -> Iterator[Sequence[Measure]]:
    yield (lambda: Sample(run_words(words, setting)["latency_ns"]["p99"]),)
