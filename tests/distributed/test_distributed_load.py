"""`wirebench load --distributed` and `wirebench worker`: real Locust processes, real engines, real ends."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.load_results import load_run
from bench.load.histogram import new_hdr
from bench.serverprocess import ServerProcess
from tests.commands.conftest import ROOT, Command
from tests.run_file import read_run_file

DEADLINE_S = 90.0
Serve = Callable[..., ServerProcess]
Process = "subprocess.Popen[str]"


class Master:
    """A running `wirebench load --distributed`, and what it says."""

    def __init__(self, wirebench: Command, url: str, workers: int, *arguments: str) -> None:
        places = ("--bind", "127.0.0.1:0", "--web", "127.0.0.1:0", "--expect-workers", str(workers))
        self.process = wirebench.start("load", url, "--distributed", *places, *arguments, "--json", "load.json")
        self.file = wirebench.folder / "load.json"
        self.said: list[str] = []
        self.port, self.web = self.until(r"--master HOST:(\d+)   web UI: (\S+)").groups()

    def until(self, pattern: str) -> "re.Match[str]":
        """Wait until it says that."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip("\n"))
            if match := re.search(pattern, line):
                return match
        pytest.fail(f"it never said {pattern}: {self.said}")

    def end(self, status: int) -> dict[str, Any]:
        """Wait for its end; gives the trial."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        self.said += err.splitlines()
        assert self.process.returncode == status, (self.said, out)
        data = read_run_file(self.file)
        load_run(self.file)
        trial: dict[str, Any] = data["trials"][0]
        return {**trial, "status": data["status"]}


def start_workers(wirebench: Command, master: Master, count: int) -> "list[subprocess.Popen[str]]":
    return [wirebench.start("worker", "--master", f"127.0.0.1:{master.port}") for _ in range(count)]


def ended(workers: "list[subprocess.Popen[str]]") -> list[int]:
    for worker in workers:
        worker.communicate(timeout=DEADLINE_S)
    return [worker.returncode for worker in workers]


def family(*processes: "subprocess.Popen[str]") -> list[psutil.Process]:
    return [child for process in processes for child in psutil.Process(process.pid).children(recursive=True)]


def gone(processes: list[psutil.Process]) -> bool:
    return psutil.wait_procs(processes, timeout=10)[1] == []


def crowd(master: Master, count: int, *said: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.distributed.crowd", master.port, str(count), *said]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)


def hear(process: "subprocess.Popen[str]") -> dict[str, Any]:
    out, _ = process.communicate(timeout=DEADLINE_S)
    heard: dict[str, Any] = json.loads(out)
    return heard


def test_a_master_and_workers_that_only_pretend(wirebench: Command) -> None:
    """What a master does, without the seconds that real workers take to start; one of them is of another version."""
    options = ("--load", "open:20000/s", "--connections", "4", "--lost-workers", "stop")
    options += ("--warmup", "0s", "--duration", "1s")
    master = Master(wirebench, "http://127.0.0.1:1/", 2, *options)
    stranger = crowd(master, 1, "wirebench=0.0.1")
    assert hear(stranger) == {
        "over": [f"it is wirebench 0.0.1, the master is {wirebench_version()}"],
        "report_bytes": 0,
    }
    assert master.until("turned away")
    processes = family(master.process)
    workers = crowd(master, 2)
    trial = master.end(0)
    assert hear(workers)["over"] == ["done"]
    assert gone(processes)
    assert trial["error"] is None
    assert trial["counts"]["completed"] == 2 * 10_000
    assert [worker["state"] for worker in trial["workers"]["each"]] == ["finished", "finished"]
    for worker in trial["workers"]["each"]:
        assert abs(worker["clock_offset_ns"]) <= worker["clock_error_ns"]  # they share the master's clock
    assert any(re.match(r" +1 s   20,000/s   p50 441 µs ", line) for line in master.said)


def wirebench_version() -> str:
    from bench import __version__

    return __version__


def test_a_master_that_does_not_answer(wirebench: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        place = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = wirebench("worker", "--master", place, "--wait", "100ms")
    assert done.returncode == 2
    assert done.stderr == (
        f"wirebench: error: no master answers at {place} after 0.1 s; "
        "start one there with wirebench load --distributed, or wait longer with --wait\n"
    )


def test_workers_that_do_not_come(wirebench: Command) -> None:
    master = Master(wirebench, "http://127.0.0.1:1/", 2, "--wait", "100ms")
    trial = master.end(3)
    assert trial["error"] == "0 of 2 workers came within 0.1 s"


@pytest.mark.long
@pytest.mark.alone
def test_four_workers_add_up_bit_for_bit(serve: Serve, wirebench: Command, tmp_path: Path) -> None:
    """And the web UI shows their rate and percentiles while they load."""
    server = serve()
    options = ("--operation", "echo", "--load", "open:800/s", "--duration", "25s")
    master = Master(wirebench, f"http://{server.address}", 4, *options)
    workers = start_workers(wirebench, master, 4)
    master.until("^ +8 s ")
    processes = family(master.process, *workers)
    shown = json.loads(urllib.request.urlopen(f"{master.web}stats/requests").read())
    (entry, total) = shown["stats"]
    assert (entry["method"], entry["name"], total["name"]) == ("http1", "echo", "Aggregated")
    assert shown["state"] == "running"
    assert shown["worker_count"] == 4
    assert total["current_rps"] == pytest.approx(800, rel=0.02)
    assert total["total_rps"] == pytest.approx(800, rel=0.02)
    assert 0 < total["median_response_time"] < 5
    page = look(master.web, tmp_path)
    assert "Aggregated" in page
    assert "RUNNING" in page.upper()
    trial = master.end(trial_status(master))
    assert ended(workers) == [0] * 4
    assert gone(processes)
    each = trial["workers"]["each"]
    assert [worker["state"] for worker in each] == ["finished"] * 4
    summed = new_hdr()
    for worker in each:
        summed.decode_and_add(worker["latency_ns"]["hdr"])
        assert abs(worker["clock_offset_ns"]) <= worker["clock_error_ns"]
        assert worker["throughput_per_s"] == pytest.approx(200, rel=0.02)
        assert worker["margin_ns"] > 0
    assert summed.encode().decode() == trial["latency_ns"]["hdr"]
    assert trial["counts"]["completed"] == trial["latency_ns"]["count"] == summed.total_count == 800 * 25
    seconds = [line for line in master.said if re.match(r" +\d+ s  ", line)]
    assert [int(line.split()[0]) for line in seconds] == list(range(1, 26))


def trial_status(master: Master) -> int:
    """0, or 3 where the machine is too busy for the load."""
    return master.process.wait(DEADLINE_S)


def look(url: str, profile: Path) -> str:
    """What a browser shows of a page, as HTML."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile / 'chromium'}")
    command = [browser, *flags, "--virtual-time-budget=4000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.long
@pytest.mark.alone
def test_a_worker_that_is_killed_is_replaced(serve: Serve, wirebench: Command) -> None:
    options = ("--operation", "echo", "--load", "open:400/s", "--duration", "12s")
    master = Master(wirebench, f"http://{serve().address}", 3, *options)
    workers = start_workers(wirebench, master, 3)
    master.until("^ +2 s ")
    processes = family(master.process, *workers)
    workers[0].kill()
    master.until("is lost: it has left")
    master.until("the others take up its part")
    trial = master.end(3)
    assert ended(workers) == [-signal.SIGKILL, 0, 0]
    assert gone(processes)
    (lost,) = [worker for worker in trial["workers"]["each"] if worker["state"] == "lost"]
    assert lost["why"] == "has left"
    assert lost["completed"] > 0
    counts = trial["counts"]
    assert counts["offered"] == pytest.approx(400 * 12, abs=2)
    assert counts["dropped"] == lost["dropped"] > 0
    others = [worker for worker in trial["workers"]["each"] if worker is not lost]
    assert [worker["parts"] for worker in others] == [2, 2]
    last = trial["intervals"][-2]
    assert last["completed"] == pytest.approx(400 * last["duration_ns"] / 1e9, rel=0.05)
    assert "worker-lost" in [doubt["kind"] for doubt in trial["doubts"]]


@pytest.mark.long
@pytest.mark.parametrize("how", ["interrupted", "stopped in the web UI", "by policy"])
def test_a_run_that_ends_early_keeps_what_it_has(serve: Serve, wirebench: Command, how: str) -> None:
    options = ("--operation", "echo", "--load", "closed:4", "--duration", "60s", "--lost-workers", "stop")
    master = Master(wirebench, f"http://{serve().address}", 2, *options)
    workers = start_workers(wirebench, master, 2)
    master.until("^ +2 s ")
    processes = family(master.process, *workers)
    expected = [0, 0]
    if how == "interrupted":
        master.process.send_signal(signal.SIGINT)
    elif how == "by policy":
        workers[0].send_signal(signal.SIGINT)
        expected = [130, 0]
    else:
        with contextlib.suppress(http.client.RemoteDisconnected):  # the run may be over before Locust has answered
            urllib.request.urlopen(urllib.request.Request(f"{master.web}stop", method="POST"))
    trial = master.end(130 if how == "interrupted" else 3)
    assert ended(workers) == expected
    assert gone(processes)
    assert trial["status"] == ("interrupted" if how == "interrupted" else "complete")
    assert trial["counts"]["completed"] > 0
    assert 2_000_000_000 < trial["scenario"]["duration_ns"] < 30_000_000_000
    assert "stopped-early" in [doubt["kind"] for doubt in trial["doubts"]]


@pytest.mark.long
def test_a_master_that_is_killed_leaves_nothing_running(serve: Serve, wirebench: Command) -> None:
    master = Master(wirebench, f"http://{serve().address}", 1, "--operation", "echo", "--duration", "60s")
    workers = start_workers(wirebench, master, 1)
    master.until("^ +1 s ")
    processes = family(master.process, *workers)
    master.process.kill()
    _, err = workers[0].communicate(timeout=DEADLINE_S)
    assert workers[0].returncode == 3
    assert "the master at" in err.splitlines()[-1]
    assert gone(processes)


@pytest.mark.long
def test_locust_itself_is_killed(serve: Serve, wirebench: Command) -> None:
    options = ("--operation", "echo", "--load", "open:100/s", "--duration", "60s")
    master = Master(wirebench, f"http://{serve().address}", 1, *options)
    workers = start_workers(wirebench, master, 1)
    master.until("^ +2 s ")
    processes = family(master.process, *workers)
    (locust,) = psutil.Process(master.process.pid).children()
    locust.kill()
    trial = master.end(3)
    assert ended(workers) == [3]
    assert gone(processes)
    assert trial["counts"]["completed"] >= 200
    assert "Locust's master was killed by SIGKILL" in trial["stopped"]


@pytest.mark.long
def test_a_server_that_is_not_there(wirebench: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    master = Master(wirebench, f"http://127.0.0.1:{port}/", 1)
    workers = start_workers(wirebench, master, 1)
    _, err = master.process.communicate(timeout=DEADLINE_S)
    assert master.process.returncode == 2
    assert re.search(r"error: worker 1 \(.*\): cannot connect to 127.0.0.1 port \d+: Connection refused", err)
    assert ended(workers) == [0]


@pytest.mark.long
@pytest.mark.alone
def test_machines_whose_clocks_differ(serve: Serve, wirebench: Command, need: Callable[[str], str]) -> None:
    """A time namespace has a CLOCK_MONOTONIC of its own, as another machine has: here 5,000 s ahead."""
    elsewhere = (need("unshare"), "--time", "--fork", "--kill-child", "--monotonic", "5000")
    if subprocess.run([*elsewhere, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows us no time namespace")
    options = ("--topic", "t", "--load", "open:200/s", "--connections", "4", "--duration", "5s")
    master = Master(wirebench, f"sse+http://{serve('sse').address}", 2, *options)
    workers = start_workers(wirebench, master, 1)
    command = [*elsewhere, sys.executable, "-m", "bench", "worker", "--master", f"127.0.0.1:{master.port}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    workers.append(
        subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    )
    trial = master.end(trial_status(master))
    assert ended(workers) == [0, 0]
    here, there = sorted(trial["workers"]["each"], key=lambda worker: worker["clock_offset_ns"])
    assert abs(here["clock_offset_ns"]) <= here["clock_error_ns"] < 50_000_000
    assert abs(there["clock_offset_ns"] - 5_000 * 10**9) <= there["clock_error_ns"] < 50_000_000
    assert there["margin_ns"] > 0
    assert trial["delivery"]["reach"] == 1.0
    for worker in (here, there):  # one of them publishes: delays from one clock to the other are as those within one
        assert worker["completed"] == 2 * 200 * 5
        assert worker["latency_ns"]["p50"] < 50_000_000


@pytest.mark.long
@pytest.mark.alone
def test_a_worker_that_falls_silent_is_lost(serve: Serve, wirebench: Command) -> None:
    options = ("--operation", "echo", "--load", "open:200/s", "--duration", "20s")
    master = Master(wirebench, f"http://{serve().address}", 2, *options)
    workers = start_workers(wirebench, master, 2)
    master.until("^ +2 s ")
    workers[0].send_signal(signal.SIGSTOP)  # Locust beside it goes on
    master.until(r"is lost: it has reported nothing for 1\d s")
    workers[0].send_signal(signal.SIGCONT)
    trial = master.end(3)
    assert ended(workers) == [0, 0]
    assert sorted(worker["state"] for worker in trial["workers"]["each"]) == ["finished", "lost"]
    assert trial["counts"]["offered"] == pytest.approx(200 * 20, abs=2)


@pytest.mark.long
@pytest.mark.alone
def test_a_worker_that_is_late_is_done_without(serve: Serve, wirebench: Command) -> None:
    options = ("--operation", "echo", "--load", "open:200/s", "--duration", "10s", "--wait", "8s")
    master = Master(wirebench, f"http://{serve().address}", 2, *options)
    workers = start_workers(wirebench, master, 1)
    master.until(r"1 of 2 workers came within 8 s; it begins without the others")
    late = crowd(master, 1)
    trial = master.end(trial_status(master))
    assert ended(workers) == [0]
    assert hear(late)["over"] == ["it came too late, or is one too many"]
    assert trial["counts"]["offered"] == 2000
    assert "worker-lost" in [doubt["kind"] for doubt in trial["doubts"]]


@pytest.mark.long
@pytest.mark.alone
def test_five_hundred_workers_report_to_one_master(wirebench: Command) -> None:
    """The seconds are shown as they pass, and what one interval of reports costs is less than that."""
    options = ("--load", "open:5000000/s", "--connections", "500", "--duration", "15s")
    master = Master(wirebench, "http://127.0.0.1:1/", 500, *options)
    workers = crowd(master, 500)
    master.until(r"\(500 of 500\)")
    master.until("^ +3 s   5,000,000/s ")
    locust = max(family(master.process), key=lambda process: sum(process.cpu_times()[:2]))
    processes = (locust, psutil.Process(master.process.pid))
    began_s, before = time.monotonic(), [sum(process.cpu_times()[:2]) for process in processes]
    master.until("^ +12 s   5,000,000/s ")
    wall_s = time.monotonic() - began_s
    shares = [(sum(p.cpu_times()[:2]) - was) / wall_s for p, was in zip(processes, before, strict=True)]
    trial = master.end(0)
    heard = hear(workers)
    each = trial["workers"]["each"]
    print(f"over {wall_s:.1f} s: Locust {shares[0]:.0%} of a core, harness {shares[1]:.0%};", heard)
    assert heard["report_bytes"] < 12_000
    assert max(shares) < 0.9
    assert [worker["state"] for worker in each] == ["finished"] * 500
    assert trial["counts"]["completed"] == 500 * 15 * 10_000
