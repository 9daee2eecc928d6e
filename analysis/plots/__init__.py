"""One file a plot. Each has `plots(group)`, which yields what that plot can show of a group of scenarios: nothing where
the group has nothing for it. Plots of what claims say (`crossing`, `effects`, `rounds`, `verdicts`) and of packets
(`ladder`) have `plot` instead, and are given what they show. Importing one imports matplotlib, so they are named here
and imported late."""

PLOTS = (
    "throughput",
    "latency",
    "load_curve",
    "event_rate",
    "percentiles",
    "ecdf",
    "over_time",
    "heat_map",
    "cpu",
    "workers",
    "memory",
)
"""The plots of a report, in its order."""

OF_CLAIMS = ("load_curve", "event_rate", "percentiles", "ecdf", "heat_map", "cpu", "workers")
"""Those of a claim's page, which has the rounds of each rule besides."""
