"""Options that several commands have, and how a shell completes their values."""

from collections.abc import Callable
from typing import Annotated

import typer

from bench import registry
from bench.contract import OPERATIONS
from bench.suites import suite_names


def _complete(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Completes a name; after a comma, the next one."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last) and name not in taken]

    return complete


complete_protocol = _complete(lambda: list(registry.PROTOCOLS))
complete_execution = _complete(lambda: list(registry.EXECUTIONS))
complete_operation = _complete(lambda: list(OPERATIONS))
complete_suite = _complete(suite_names)

Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON there; - for standard output.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="What everything random is drawn from. [default: drawn, and kept]")]
LoadProcesses = Annotated[int, typer.Option(min=1, max=64, help="Processes that generate the load together.")]
