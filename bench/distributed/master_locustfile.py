"""The locustfile of the master's Locust process. It says to its starter: `listening` (`port`, `web_port`) once it is;
`connected`, `message` (with the `data`), `report` (`seconds`, `report_bytes`) and `gone` (`why`), each with the
`worker`; `clock` (`samples`: when it was asked, when the worker answered, when the answer was here, in nanoseconds of
both ends); `stop` when somebody stops the test in the web UI. It is told `send` (a message) with `to`, `ask_clock` (a
worker), `begin` (how many users), and `show`: what was measured since the last, for the web UI.
"""

import os
import time
from typing import Any

import gevent
import msgpack
from locust import events
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner
from locust.stats import StatsEntry, StatsError
from locust.web import WebUI

from bench.distributed.engine_user import Engine
from bench.distributed.line import standard_line
from bench.distributed.names import CLOCK, MESSAGE, REPORT

__all__ = ["Engine"]

_QUESTIONS = 8
"""How often a worker is asked for its clock at a time; the fastest answer tells most."""

_LOOK_S = 0.25


def _begin(environment: Environment, runner: MasterRunner, web_ui: WebUI, **_: Any) -> None:
    master = _Master(environment, runner, web_ui)
    for serve in (master.announce, master.obey, master.look_for_missing):
        gevent.spawn(serve)


events.init.add_listener(_begin)


class _Master:
    def __init__(self, environment: Environment, runner: MasterRunner, web_ui: WebUI) -> None:
        self._runner = runner
        self._web_ui = web_ui
        self._line = standard_line()
        self._samples: dict[str, list[list[int]]] = {}
        self._present: set[str] = set()
        self._ending = False
        runner.register_message(MESSAGE, self._on_message)
        runner.register_message(CLOCK, self._on_clock)
        environment.events.worker_connect.add_listener(self._on_connect)
        environment.events.worker_report.add_listener(self._on_report)
        environment.events.test_stopping.add_listener(self._on_stopping)
        environment.process_exit_code = 0

    def announce(self) -> None:
        """Say where the workers and the web UI's users find us, once they do."""
        while self._web_ui.server is None or not self._web_ui.server.started:
            gevent.sleep(0.01)
        self._line.say("listening", port=self._runner.server.port, web_port=self._web_ui.server.server_port)

    def obey(self) -> None:
        """Do what the starter says; end when it has gone."""
        for told in self._line.told():
            if "send" in told:
                self._runner.send_message(MESSAGE, told["send"], told["to"])
            elif "ask_clock" in told:
                self._samples[told["ask_clock"]] = []
                self._ask(told["ask_clock"])
            elif "begin" in told:
                gevent.spawn(self._runner.start, told["begin"], told["begin"])
            else:
                self._show(told["show"])
        self._ending = True
        self._runner.quit()
        os._exit(0)

    def look_for_missing(self) -> None:
        """Tell of workers that Locust no longer hears, or that have left."""
        while True:
            gevent.sleep(_LOOK_S)
            here = {worker.id for worker in self._runner.clients.values() if worker.state != STATE_MISSING}
            for name in self._present - here:
                missing = name in self._runner.clients
                self._line.say("gone", worker=name, why="is no longer heard of" if missing else "has left")
            self._present &= here

    def _on_connect(self, client_id: str, **_: Any) -> None:
        self._present.add(client_id)
        self._line.say("connected", worker=client_id)

    def _on_message(self, msg: Any, **_: Any) -> None:
        self._line.say("message", worker=msg.node_id, data=msg.data)

    def _on_report(self, client_id: str, data: dict[str, Any]) -> None:
        seconds = data.get(REPORT)
        if seconds:
            self._line.say("report", worker=client_id, seconds=seconds, report_bytes=len(msgpack.dumps(data)))

    def _on_stopping(self, **_: Any) -> None:
        if not self._ending:
            self._line.say("stop")

    def _ask(self, name: str) -> None:
        self._runner.send_message(CLOCK, {"asked": time.monotonic_ns()}, name)

    def _on_clock(self, msg: Any, **_: Any) -> None:
        samples = self._samples.get(msg.node_id)
        if samples is None:
            return
        samples.append([msg.data["asked"], msg.data["answered"], time.monotonic_ns()])
        if len(samples) < _QUESTIONS:
            self._ask(msg.node_id)
        else:
            self._line.say("clock", worker=msg.node_id, samples=self._samples.pop(msg.node_id))

    def _show(self, shown: dict[str, Any]) -> None:
        """Put what was measured in one second among Locust's own statistics, as if its users had done it."""
        stats = self._runner.stats
        method, name, second = shown["method"], shown["name"], int(shown["at_s"])
        until_s = shown["at_s"] + 1
        entry = StatsEntry(stats, name, method)
        entry.start_time = shown["began_s"]
        entry.last_request_timestamp = until_s
        entry.num_requests = shown["completed"] + shown["errors"]
        entry.num_none_requests = entry.num_failures = shown["errors"]
        entry.num_reqs_per_sec = {second: entry.num_requests}
        entry.num_fail_per_sec = {second: shown["errors"]}
        entry.response_times = dict(shown["times_ms"])
        if shown["times_ms"]:
            entry.total_response_time = sum(ms * count for ms, count in shown["times_ms"])
            entry.min_response_time, entry.max_response_time = shown["times_ms"][0][0], shown["times_ms"][-1][0]
        for whole in (stats.total, stats.entries[(name, method)]):
            if not whole.num_requests:
                whole.start_time = shown["began_s"]  # what was before is no part of the rate
            whole.extend(entry)
        if shown["errors"]:
            key = StatsError.create_key(method, name, shown["error"])
            error = stats.errors.setdefault(key, StatsError(method, name, shown["error"], first_seen=until_s))
            error.occurrences += shown["errors"]
            error.last_seen = until_s
