"""Which scenarios a command line means.

With a suite, the options that name contestants (protocol, execution, stack, pattern) choose among its scenarios, and
all others set what these are asked to do, in place of what the suite says. Without a suite, the options spell scenarios
of their own: every combination of the values given. Without either, it is the suite `quick`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from bench.errors import UnsupportedError, UsageError
from bench.plan import Suite, read_suite, single_suite
from bench.scenario import Scenario, parse_value

CONTESTANTS = ("protocol", "execution", "stack", "client", "tls", "handshake", "fast_open", "pattern")
"""The keys whose values are names, and which a suite's scenarios are chosen by."""

_DEFAULTS = {"protocol": ["http1"], "load": ["closed:64"]}
_NOTHING = re.compile(r"(?!)")
_BEGINS = {
    "load": re.compile(r"\s*[a-z]+:"),
    "pattern": re.compile(r"\s*[a-z-]+(:|$)"),
    "operation": re.compile(r"\s*[a-z]+(:|$)"),
    "link": _NOTHING,
    "via": _NOTHING,
    "beside": _NOTHING,
    "kernel": _NOTHING,
}
"""What a value begins with, where values hold commas themselves; a piece that does not belongs to the one before."""


def split_values(key: str, given: Iterable[str]) -> list[str]:
    """The values of an option that was given several times, or once with commas."""
    begins = _BEGINS.get(key)
    values: list[str] = []
    for text in given:
        first, *others = text.split(",")
        values.append(first)
        for piece in others:
            if begins is not None and not begins.match(piece):
                values[-1] += f",{piece}"
            else:
                values.append(piece)
    return [value.strip() for value in values]


def choose_suite(name: str | None, options: Mapping[str, Sequence[str] | None]) -> Suite:
    """The suite that a command line means. `options` holds what was given for each key of a scenario.

    Raises UsageError for a value that cannot be read, UnsupportedError if nothing is left that makes sense.
    """
    given = {key: split_values(key, texts) for key, texts in options.items() if texts}
    for key, values in given.items():
        for value in values:
            parse_value(key, value, f"--{key.replace('_', '-')}")
    if name is None and given:
        suite = single_suite({**_DEFAULTS, **given}, "command line")
    else:
        suite = read_suite(name or "quick", {key: v for key, v in given.items() if key not in CONTESTANTS})
        suite = _narrowed(suite, {key: v for key, v in given.items() if key in CONTESTANTS})
    if not suite.scenarios:
        scenario, why = suite.unsupported[0]
        raise UnsupportedError(f"{scenario.name} is not supported: {why}")
    if "workers" in given and not any(str(scenario.workers) in given["workers"] for scenario in suite.scenarios):
        raise UsageError(
            f"--workers: the execution model single has one worker, not {given['workers'][0]}; add --execution"
        )
    return suite


def _narrowed(suite: Suite, wanted: Mapping[str, list[str]]) -> Suite:
    def fits(scenario: Scenario) -> bool:
        for key, values in wanted.items():
            value = getattr(scenario, key)
            # A pattern's name alone means it with whatever words.
            if value not in values and not (key == "pattern" and value.partition(":")[0] in values):
                return False
        return True

    scenarios = tuple(scenario for scenario in suite.scenarios if fits(scenario))
    unsupported = tuple((scenario, why) for scenario, why in suite.unsupported if fits(scenario))
    if not scenarios and not unsupported:
        asked = " and ".join(f"--{key.replace('_', '-')} {','.join(values)}" for key, values in wanted.items())
        raise UsageError(f"the suite {suite.name} has no scenario with {asked}; leave the suite out to run just that")
    return replace(suite, scenarios=scenarios, unsupported=unsupported)
