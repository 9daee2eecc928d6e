"""Options that several commands have, and how a shell completes their values."""

from collections.abc import Callable
from typing import Annotated

import typer

from bench import registry
from bench.protocols import PROTOCOLS
from bench.suites import suite_names


def _complete(names: Callable[[], list[str]]) -> Callable[[str], list[str]]:
    """Completes a name; after a comma, the next one."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in names() if name.startswith(last) and name not in taken]

    return complete


def _operations() -> list[str]:
    from bench.contract import OPERATIONS

    return list(OPERATIONS)


complete_protocol = _complete(lambda: list(PROTOCOLS))
complete_execution = _complete(lambda: list(registry.EXECUTIONS))
complete_operation = _complete(_operations)
complete_suite = _complete(suite_names)

Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON there; - for standard output.")
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="What everything random is drawn from. [default: drawn, and kept]"),
]
OWN_FILE = "wirebench.toml"
"""What is read where no server is named."""
File = Annotated[
    str | None, typer.Option(metavar="FILE", help=f"What describes a service of your own. [default: ./{OWN_FILE}]")
]
LoadProcesses = Annotated[
    int, typer.Option(metavar="N", min=1, max=64, help="Processes that generate the load together.")
]

_LINK = "Network between both ends, like rtt=40ms,loss=1%,rate=20mbit, or loopback: see wirebench list links."
_KERNEL = "Kernel parameters of both ends of a link, like tcp_congestion_control=reno,initcwnd=4."
Link = Annotated[str | None, typer.Option(metavar="LINK", help=_LINK)]
Links = Annotated[list[str] | None, typer.Option(metavar="LINK", help=f"{_LINK} May be repeated.")]
_BACKEND = "What delays and loses packets: own, or netem where the kernel has it."
LinkBackend = Annotated[str | None, typer.Option(metavar="NAME", help=_BACKEND)]
LinkBackends = Annotated[list[str] | None, typer.Option("--link-backend", metavar="NAME,…", help=_BACKEND)]
Vias = Annotated[
    list[str] | None,
    typer.Option(
        "--via", metavar="HOP,…", help="Hops from the client to the server: see wirebench list hops. May be repeated."
    ),
]
Kernel = Annotated[str | None, typer.Option(metavar="NAME=VALUE,…", help=_KERNEL)]
Kernels = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE,…", help=f"{_KERNEL} May be repeated.")]

_Several = list[str] | None
Protocols = Annotated[_Several, typer.Option(metavar="NAME,…", help="Protocols.", autocompletion=complete_protocol)]
Executions = Annotated[
    _Several, typer.Option(metavar="NAME,…", help="Execution models.", autocompletion=complete_execution)
]
Workers = Annotated[_Several, typer.Option(metavar="N,…", help="Workers of the models that have several.")]
Operations = Annotated[
    _Several,
    typer.Option(
        metavar="NAME,…",
        help="Operations, like echo or work:cpu=100us.",
        autocompletion=complete_operation,
    ),
]
TlsVersions = Annotated[_Several, typer.Option(metavar="VERSION,…", help="TLS: off, 1.2 or 1.3.")]
Connections = Annotated[_Several, typer.Option(metavar="N,…", help="Connections of an open load, like 64 or 8x16.")]
Payloads = Annotated[_Several, typer.Option(metavar="SIZE,…", help="Sizes of the body, like 64B or 16KiB.")]
Timeouts = Annotated[_Several, typer.Option(metavar="TIME,…", help="How long an answer may take.")]

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="What is compared, like latency_p99_ns; may be repeated. [default: throughput, latency, CPU, failures]",
    ),
]
CompareExports = Annotated[
    list[str] | None,
    typer.Option(metavar="FORMAT=FILE", help="Write it as markdown, junit, github or csv too; - to show it."),
]
Margin = Annotated[str, typer.Option(metavar="SHARE", help="A difference of less than this is none.")]
Command = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="How your server starts in a checkout (in this folder of it), with {port} for its port.",
    ),
]
AbUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="What it is asked. [default: http://127.0.0.1:{port}/]"),
]
Build = Annotated[str | None, typer.Option(metavar="COMMAND", help="What is run in each checkout first.")]
PairedLoads = Annotated[
    _Several,
    typer.Option(metavar="LOAD,…", help="Loads. [default: the file's, or closed:4 or one that is lighter]"),
]
PairedDurations = Annotated[_Several, typer.Option(metavar="TIME,…", help="How long a trial is. [default: 1s]")]
PairedOut = Annotated[str | None, typer.Option(metavar="FOLDER", help="Where it is kept. [default: results/ab/TIME]")]
