"""What must hold before anything is started, so that a long run does not fail in its middle."""

import contextlib
from collections.abc import Iterable

from bench.errors import UnsupportedError
from bench.scenario import Scenario

SPARE_FILES = 128
"""Open files of a process beyond its connections: libraries, pipes, timers."""

_ENOUGH = 65_536


def check(scenarios: Iterable[Scenario]) -> None:
    """Raise UnsupportedError if a scenario needs more than this machine gives. The limit of open files is raised as far
    as it goes; servers and load processes inherit that."""
    limit = raise_open_files()
    for scenario in scenarios:
        need = scenario.concurrency.connections + SPARE_FILES
        if need > limit:
            raise UnsupportedError(
                f"{scenario.name}: {scenario.concurrency.connections} connections need {need} open files, and a process"
                f" may have {limit} here; raise that with: ulimit -Hn {need}"
            )


def raise_open_files() -> int:
    """Raise this process's limit of open files to the most that it may have. Gives that."""
    import resource  # not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, _ENOUGH) if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(ValueError, OSError):  # macOS says infinity, and refuses some of it
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
