"""Workers that are not there: they speak Locust's messages to a real master, many from one process, and make up what
they report. `python -m tests.distributed.crowd PORT COUNT [wirebench=VERSION] [locust=VERSION]`."""

import json
import sys
import time
from typing import Any

import msgpack
import numpy as np
import zmq

from bench.distributed.names import CLOCK, MESSAGE, REPORT
from bench.distributed.worker import hello
from bench.lab.probes import HostLoad
from bench.load.histogram import Histogram

REPORT_S = 3.0
SAMPLES_PER_S = 10_000


def second_of_latencies() -> str:
    """A second as a busy worker has it: ten thousand latencies around half a millisecond."""
    histogram = Histogram()
    histogram.record(np.random.default_rng(1).lognormal(13, 0.5, SAMPLES_PER_S).astype(np.int64))
    return histogram.encode()


class Somebody:
    """One such worker."""

    def __init__(self, context: "zmq.Context[Any]", port: int, number: int, said: dict[str, Any], hdr: str) -> None:
        self.name = f"crowd_{number:032x}"
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.IDENTITY, self.name.encode())
        self.socket.connect(f"tcp://127.0.0.1:{port}")
        self._said = said
        self._hdr = hdr
        self._measure_ns = self._end_ns = 0
        self._reported = 0
        self._spec: dict[str, Any] = {}
        self._next_report_s = time.monotonic() + REPORT_S * (number % 100) / 100
        self._next_beat_s = 0.0
        self.over = ""
        self.report_bytes = 0
        self._send("client_ready", self._said["locust"])

    def _send(self, kind: str, data: Any) -> int:
        packed = msgpack.dumps((kind, data, self.name))
        self.socket.send(packed)
        return len(packed)

    def beat(self, now_s: float) -> None:
        """What is due by itself: heartbeats, reports, the result."""
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + 1
            state = {"state": "running", "current_cpu_usage": 1.0, "current_memory_usage": 1}
            self._send("heartbeat", state)
        if not self._measure_ns:
            return
        if time.monotonic_ns() >= self._end_ns:
            self._measure_ns = 0
            self._send(MESSAGE, {"say": "result", "seconds": self._seconds(), **self._result()})
        elif now_s >= self._next_report_s:
            self._next_report_s += REPORT_S
            stats = {"stats": [], "errors": {}, "stats_total": {}, "user_classes_count": {"Engine": 1}, "user_count": 1}
            self.report_bytes = self._send("stats", {**stats, REPORT: self._seconds()})

    def _seconds(self) -> list[dict[str, Any]]:
        until = min(time.monotonic_ns(), self._end_ns) - (self._end_ns - self._spec["duration_ns"])
        seconds = range(self._reported, max(self._reported, until // 1_000_000_000))
        self._reported = seconds.stop
        return [{"second": n, "completed": SAMPLES_PER_S, "errors": 0, "hdr": self._hdr} for n in seconds]

    def _result(self) -> dict[str, Any]:
        whole = Histogram()
        interval = {"completed": 0, "errors": 0, "hdr": self._hdr}
        result = {
            "completed": SAMPLES_PER_S * self._reported, "done_in_window": SAMPLES_PER_S * self._reported,
            "measured_ns": self._spec["duration_ns"], "errors": {}, "dropped": 0,
            "latency": self._hdr, "service": self._hdr, "lateness": whole.encode(),
            "intervals": [interval] * self._spec["intervals"], "tally": {}, "delivery": None, "cpu_user_s": 0.1,
            "cpu_system_s": 0.1, "context_switches_voluntary": 0, "context_switches_involuntary": 0,
        }  # fmt: skip
        load = vars(HostLoad(1.0, 0.0, 0.0))
        return {
            "result": result, "memory": {"rss_bytes": 1, "pss_bytes": 1}, "host_load": [load, load], "margin_ns": 1,
        }  # fmt: skip

    def take(self) -> None:
        """Whatever the master says."""
        kind, data, _ = msgpack.loads(self.socket.recv(), strict_map_key=False)
        if kind == "ack":
            self._send(MESSAGE, {**self._said, "seconds": []})
        elif kind == CLOCK:
            self._send(CLOCK, {**data, "answered": time.monotonic_ns()})
        elif kind == "spawn":
            self._send("spawning", None)
            self._send("spawning_complete", {"user_classes_count": {"Engine": 1}, "user_count": 1})
        elif kind == MESSAGE:
            match data["say"]:
                case "part":
                    self._spec = data["spec"]
                    self._send(MESSAGE, {"say": "ready", "seconds": []})
                case "start":
                    self._measure_ns = data["start_ns"] + self._spec["warmup_ns"]
                    self._end_ns = self._measure_ns + self._spec["duration_ns"]
                case "done" | "refused":
                    self.over = data.get("message", "done")


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    said = {**hello(), **dict(word.split("=") for word in sys.argv[3:])}
    context = zmq.Context()
    hdr = second_of_latencies()
    crowd = {}
    poller = zmq.Poller()
    for number in range(count):
        somebody = Somebody(context, port, number, said, hdr)
        crowd[somebody.socket] = somebody
        poller.register(somebody.socket, zmq.POLLIN)
    while not all(somebody.over for somebody in crowd.values()):
        for socket, _ in poller.poll(50):
            crowd[socket].take()
        now_s = time.monotonic()
        for somebody in crowd.values():
            somebody.beat(now_s)
    print(json.dumps({"over": sorted({s.over for s in crowd.values()}),
                      "report_bytes": max(s.report_bytes for s in crowd.values())}))  # fmt: skip
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
