"""Which scenarios may be compared with one another: those that differ in one thing.

A comparison of protocols is only as fair as the code that speaks them, so two protocols are compared only where the
same stacks speak both, in one tier and with the same TLS; two stacks only on one protocol and with the same TLS; two
versions of TLS, or two paths (`via`), only where all else is the same. What differs in more than one of these is not
matched, and gets no verdict (`unmatched-stacks`).
"""

from collections.abc import Iterable

from analysis.load_results import Scenario

UNMATCHED = "unmatched-stacks"
"""The doubt about a comparison of what is not matched."""

MATTERS = ("protocol", "stack", "client", "tls", "via")
"""What compared scenarios may differ in, but in one only. The tier follows from these."""


def varying_matters(scenarios: Iterable[Scenario]) -> tuple[str, ...]:
    """Which of them differ between these."""
    every = list(scenarios)
    return tuple(matter for matter in MATTERS if len({getattr(scenario, matter) for scenario in every}) > 1)


def are_matched(scenarios: Iterable[Scenario]) -> bool:
    """Whether all of these may be compared with each other."""
    every = list(scenarios)
    differs = varying_matters(every)
    return len(differs) < 2 and (differs != ("protocol",) or len({scenario.tier for scenario in every}) == 1)


def all_but(matter: str, scenario: Scenario) -> tuple[str, ...]:
    """What scenarios must share to be compared by `matter`."""
    tier = (scenario.tier,) if matter == "protocol" else ()
    return (*(getattr(scenario, other) for other in MATTERS if other != matter), *tier)


def show_tls(tls: str) -> str:
    """ "TLS 1.3", "DTLS 1.2", "no TLS"."""
    if tls.startswith("dtls"):
        return f"DTLS {tls.removeprefix('dtls')}"
    return "no TLS" if tls == "off" else f"TLS {tls}"


def show_conditions(scenario: Scenario) -> str:
    """What protocols must share: "lean tier, TLS 1.3" or "library tier: hypercorn, no TLS"."""
    spoken_by = [scenario.stack] if scenario.stack != "lean" else []
    if scenario.client != "lean":
        spoken_by += ["lean"] * (not spoken_by) + [f"from {scenario.client}"]
    if scenario.tier == "library" and not spoken_by:
        spoken_by = ["lean ends around a library"]
    tier = f"{scenario.tier} tier" + (f": {' '.join(spoken_by)}" if spoken_by else "")
    path = "" if scenario.via == "none" else f", via {scenario.via}"
    return f"{tier}, {show_tls(scenario.tls)}{path}"
