"""The locustfile of a worker's Locust process. It says `connected` to its starter once the master has answered, and
`message` (with the `data`) for each message; it is told `send` (a message) and `second` (to go with the next report, or
a message before that). Questions about the clock are answered here, where no pipe adds its delay.
"""

import os
import time
from typing import Any

import gevent
import locust.runners
from gevent.event import AsyncResult
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from bench.distributed.engine_user import Engine
from bench.distributed.line import standard_line
from bench.distributed.names import CLOCK, MESSAGE, REPORT

__all__ = ["Engine"]

locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10
_clock = time.monotonic_ns
_joined: AsyncResult = AsyncResult()
_seconds: list[dict[str, Any]] = []


def _begin(environment: Environment, runner: WorkerRunner, **_: Any) -> None:
    line = standard_line()
    runner.register_message(CLOCK, lambda msg, **_: runner.send_message(CLOCK, {**msg.data, "answered": _clock()}))
    runner.register_message(MESSAGE, lambda msg, **_: line.say("message", data=msg.data))
    _joined.set(runner)
    line.say("connected", name=runner.client_id)


def _obey() -> None:
    for told in standard_line().told():
        if "send" in told:
            _joined.get().send_message(MESSAGE, {**told["send"], "seconds": _take_seconds()})
        else:
            _seconds.append(told["second"])
    if not _joined.ready():
        os._exit(1)  # Locust would go on to look for its master
    _joined.get().quit()  # upon which Locust takes leave of the master, and ends


def _report(data: dict[str, Any], **_: Any) -> None:
    data[REPORT] = _take_seconds()


def _take_seconds() -> list[dict[str, Any]]:
    taken = _seconds[:]
    _seconds.clear()
    return taken


events.init.add_listener(_begin)
events.report_to_master.add_listener(_report)
gevent.spawn(_obey)
