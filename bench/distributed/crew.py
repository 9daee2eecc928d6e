"""Who offers a load together, from the command line."""

import socket
from dataclasses import dataclass
from typing import Literal, get_args

from bench.address import parse_place
from bench.errors import UsageError
from bench.quantities import parse_duration_ns
from bench.scenario import Scenario

MASTER_PORT = 5557
WEB_PORT = 8089
"""Both are Locust's own."""

LostPolicy = Literal["share", "stop"]


@dataclass(frozen=True)
class Crew:
    """So many workers, which are waited for, where they and the users of the web UI find the master (host and port; 0
    for any), and what happens when one is late or lost: others share its part, or all stop."""

    workers: int
    lost: LostPolicy
    wait_s: float
    bind: tuple[str, int]
    web: tuple[str, int]


def parse_crew(
    distributed: bool,
    workers: int | None,
    lost: str | None,
    wait: str | None,
    bind: str | None,
    web: str | None,
    load_processes: int,
) -> Crew | None:
    """A crew from the options of `wirebench load`; None without --distributed. Raises UsageError."""
    if not distributed:
        options = {"expect-workers": workers, "lost-workers": lost, "wait": wait, "bind": bind, "web": web}
        for option, value in options.items():
            if value is not None:
                raise UsageError(f"--{option}: only --distributed has workers")
        return None
    if load_processes > 1:
        raise UsageError("--load-processes: a worker is one load process; start more workers instead")
    if lost not in (None, *get_args(LostPolicy)):
        raise UsageError(f"--lost-workers: {lost!r:.60} is no policy; write share or stop")
    return Crew(
        workers or 1,
        "stop" if lost == "stop" else "share",
        parse_duration_ns(wait or "60s", "--wait") / 1e9,
        parse_place(bind or f"*:{MASTER_PORT}", "--bind", MASTER_PORT),
        parse_place(web or f"127.0.0.1:{WEB_PORT}", "--web", WEB_PORT),
    )


def check_crew(crew: Crew, scenario: Scenario) -> None:
    """Raises UsageError for what cannot be spread over workers, and for places that are taken."""
    if scenario.link is not None:
        raise UsageError("--link: a lab is on one machine; leave out --link or --distributed")
    connections = scenario.concurrency.connections
    if connections < crew.workers:
        raise UsageError(
            f"--expect-workers: {crew.workers} workers cannot share {connections} "
            f"connection{'s' if connections > 1 else ''}; each needs one"
        )
    for option, (host, port) in (("--bind", crew.bind), ("--web", crew.web)):
        try:
            found = socket.getaddrinfo(
                None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            with socket.socket(found[0][0], socket.SOCK_STREAM) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(found[0][4])
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"{option}: cannot listen at {host}:{port}: {reason}; choose another place") from None
