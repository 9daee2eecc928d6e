"""What processes cost, read from outside."""

import os
import subprocess
import sys

import pytest

from bench.lab import probes
from bench.lab.probes import Usage


def usage(cpu_s: float, user_s: float, system_s: float) -> Usage:
    return Usage(cpu_s, user_s, system_s, 0, 0)


def test_exact_cpu_time_is_split_as_the_samples_between_say() -> None:
    spent = probes.spent(usage(1.0, 0.8, 0.2), usage(1.5, 0.9, 0.5))
    assert spent.cpu_user_s == pytest.approx(0.5 * 0.25)
    assert spent.cpu_system_s == pytest.approx(0.5 * 0.75)


def test_without_a_sample_between_the_whole_life_says_how_to_split() -> None:
    spent = probes.spent(usage(1.0, 0.8, 0.2), usage(1.001, 0.8, 0.2))
    assert spent.cpu_user_s == pytest.approx(0.0008)
    assert spent.cpu_system_s == pytest.approx(0.0002)


def test_nothing_is_negative() -> None:
    spent = probes.spent(usage(1.0, 0.8, 0.2), usage(0.9, 0.7, 0.2))
    assert (spent.cpu_user_s, spent.cpu_system_s) == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells no more than ticks")
def test_cpu_time_is_finer_than_a_tick() -> None:
    """A process that computes for a millisecond at a time is seen to compute, by its own measure."""
    code = """
import sys, time
for line in sys.stdin:
    begin = time.process_time_ns()
    while time.process_time_ns() < begin + 1_000_000: pass
    print(time.process_time_ns(), flush=True)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        seen = []
        for _ in range(2):
            child.stdin.write("go\n")
            child.stdin.flush()
            own_s = int(child.stdout.readline()) / 1e9
            seen.append(probes.usage([child.pid]))
            assert own_s <= seen[-1].cpu_s < own_s + 0.005
        assert 0.001 < sum(vars(probes.spent(*seen))[name] for name in ("cpu_user_s", "cpu_system_s")) < 0.01
        child.stdin.close()


def test_a_process_that_is_gone_is_left_out() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert probes.usage([os.getpid(), child.pid]).cpu_s > 0
    assert probes.memory([child.pid]).rss_bytes == 0
