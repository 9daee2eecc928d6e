"""One file a plot. Each has `plots(group)`, which yields what that plot can show of a group of scenarios: nothing where
the group has nothing for it. Importing one imports matplotlib, so they are named here and imported late."""

PLOTS = ("throughput", "latency", "load_curve", "event_rate", "percentiles", "over_time", "cpu", "workers", "memory")
"""The plots of a report, in its order."""
