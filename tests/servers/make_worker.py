"""A worker without an execution model around it."""

from collections.abc import Callable
from typing import Any

from servers.control import ServerSpec
from servers.service import Service
from servers.worker import Deferrals, Run, Worker

SPEC = ServerSpec(
    protocol="", connection="", execution="", workers=1, host="127.0.0.1", port=0, backlog=16, cpus=(), grace_s=1.0
)


def make_worker(
    run: Run, later: Callable[[float, Callable[[], None]], object], slot: Any, deferrals: Deferrals | None = None
) -> Worker:
    """A worker that runs requests and waits as it is told, and whose inbox runs callbacks at once."""

    def post(callback: Callable[[], None]) -> None:
        callback()

    return Worker(Service(), run, later, lambda: post, slot, SPEC, deferrals or Deferrals())
