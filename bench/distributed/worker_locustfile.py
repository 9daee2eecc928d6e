"""The locustfile of a worker's Locust process. It says `connected` to its starter once the master has answered, and
`message` (with the `data`) for each message; it is told `send` (a message) and `seconds` (to go with the next report).
Questions about the clock are answered here, where no pipe adds its delay.
"""

import os
import time
from typing import Any

import gevent
import locust.runners
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from bench.distributed.engine_user import Engine
from bench.distributed.line import standard_line
from bench.distributed.names import CLOCK, MESSAGE, REPORT

__all__ = ["Engine"]

locust.runners.MASTER_HEARTBEAT_TIMEOUT = 10
_clock = time.monotonic_ns
_seconds: list[dict[str, Any]] = []


def _begin(environment: Environment, runner: WorkerRunner, **_: Any) -> None:
    line = standard_line()
    runner.register_message(CLOCK, lambda msg, **_: runner.send_message(CLOCK, {**msg.data, "answered": _clock()}))
    runner.register_message(MESSAGE, lambda msg, **_: line.say("message", data=msg.data))
    line.say("connected", name=runner.client_id)
    gevent.spawn(_obey, runner)


def _obey(runner: WorkerRunner) -> None:
    for told in standard_line().told():
        if "send" in told:
            runner.send_message(MESSAGE, told["send"])
        else:
            _seconds.append(told["second"])
    runner.quit()
    os._exit(0)


def _report(data: dict[str, Any], **_: Any) -> None:
    data[REPORT] = _seconds[:]
    _seconds.clear()


events.init.add_listener(_begin)
events.report_to_master.add_listener(_report)
