"""Which scenarios may be compared with one another.

A comparison of protocols is only as fair as the code that speaks them: two protocols are compared only where the same
stacks speak both, in one tier and with the same TLS. One protocol may be compared across stacks and across versions of
TLS: that is a question about those. Whatever differs in both is not matched, and gets no verdict (`unmatched-stacks`).
"""

from collections.abc import Iterable

from analysis.load_results import Scenario

UNMATCHED = "unmatched-stacks"
"""The doubt about a comparison of what is not matched."""

Conditions = tuple[str, str, str, str]


def conditions(scenario: Scenario) -> Conditions:
    """What two protocols must share to be compared: tier, stack of the server, stack of the client, TLS."""
    return scenario.tier, scenario.stack, scenario.client, scenario.tls


def are_matched(scenarios: Iterable[Scenario]) -> bool:
    """Whether all of these may be compared with each other."""
    every = list(scenarios)
    return len({scenario.protocol for scenario in every}) < 2 or len(set(map(conditions, every))) < 2


def show_tls(tls: str) -> str:
    """ "TLS 1.3", "DTLS 1.2", "no TLS"."""
    if tls.startswith("dtls"):
        return f"DTLS {tls.removeprefix('dtls')}"
    return "no TLS" if tls == "off" else f"TLS {tls}"


def show_conditions(scenario: Scenario) -> str:
    """ "lean tier, TLS 1.3" or "library tier: hypercorn, no TLS"."""
    spoken_by = [scenario.stack] if scenario.stack != "lean" else []
    if scenario.client != "lean":
        spoken_by += ["lean"] * (not spoken_by) + [f"from {scenario.client}"]
    if scenario.tier == "library" and not spoken_by:
        spoken_by = ["lean ends around a library"]
    tier = f"{scenario.tier} tier" + (f": {' '.join(spoken_by)}" if spoken_by else "")
    return f"{tier}, {show_tls(scenario.tls)}"
