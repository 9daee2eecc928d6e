"""Which CPUs the server and the load get: disjoint ones wherever there are two, so that neither steals from the
other."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """CPU numbers for each side; empty where processes are not placed (one CPU, or a system that cannot)."""

    server: tuple[int, ...]
    load: tuple[int, ...]

    def load_only(self) -> "Placement":
        """The same for a load whose server was placed by somebody else."""
        return Placement((), self.load)

    def __str__(self) -> str:
        if not self.load:
            return "not placed"
        if not self.server:
            return f"load on CPU {','.join(map(str, self.load))}"
        server, load = (",".join(map(str, cpus)) for cpus in (self.server, self.load))
        return f"server on CPU {server}; load on CPU {load}"


def choose_placement(load_processes: int) -> Placement:
    """The last CPUs for the load, one for each of its processes as far as they go, and the others for the server."""
    if not hasattr(os, "sched_getaffinity"):
        return Placement((), ())
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return Placement((), ())
    split = len(cpus) - min(load_processes, len(cpus) - 1)
    return Placement(tuple(cpus[:split]), tuple(cpus[split:]))
