"""CPUs, limits and settings of this machine, and how busy it is."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.doctor.check import Check
from bench.placement import choose_placement
from bench.preflight import SPARE_FILES, raise_open_files

_CONNECTIONS = 10_000
"""What a test of many connections opens."""

_SOMAXCONN = 4096
_PORTS = 20_000
_BUSY = 0.25
"""The load average for each CPU from which on a machine is not quiet."""


def machine() -> Iterator[Check]:
    """All of it. Nothing is changed but this process's own limits."""
    yield _cpus()
    yield _pinning()
    yield from _quota()
    yield from _governor()
    yield from _turbo()
    yield _clock_source()
    yield _open_files()
    yield from _sysctls()
    yield _load_average()


def read(path: str) -> str | None:
    """A small file of the system as one line; None where it cannot be read."""
    try:
        return " ".join(Path(path).read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return None


def _usable() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpus() -> Check:
    usable = _usable()
    if usable >= 2:
        return Check("machine", "CPUs", "ok", f"{usable} usable")
    return Check(
        "machine",
        "CPUs",
        "warn",
        "1 usable: load and server take it from each other",
        "give this machine two or more CPUs",
    )


def _pinning() -> Check:
    if not hasattr(os, "sched_setaffinity"):
        return Check(
            "machine", "pinning", "warn", "this system cannot pin a process to a CPU", "use Linux for quiet figures"
        )
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        return Check(
            "machine", "pinning", "warn", f"not allowed: {error.strerror}", "allow sched_setaffinity in the sandbox"
        )
    return Check("machine", "pinning", "ok", str(choose_placement(1)))


def _quota() -> Iterator[Check]:
    quota = read("/sys/fs/cgroup/cpu.max")
    if quota is None or quota.startswith("max"):
        return
    allowed, period = map(int, quota.split())
    state = f"the control group may use {allowed / period:.2g} CPUs, and is stopped when it has"
    yield Check("machine", "CPU quota", "warn", state, "run outside of it, or raise cpu.max")


def _governor() -> Iterator[Check]:
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor is None:
        yield Check("machine", "governor", "ok", "not visible (as in most virtual machines)")
    elif governor == "performance":
        yield Check("machine", "governor", "ok", governor)
    else:
        fix = "cpupower frequency-set -g performance"
        yield Check("machine", "governor", "warn", f"{governor}: the clock follows the load", fix)


def _turbo() -> Iterator[Check]:
    off = read("/sys/devices/system/cpu/intel_pstate/no_turbo")
    if off == "0":
        fix = "echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo"
        yield Check("machine", "turbo", "warn", "on: the clock follows the temperature", fix)
    elif off == "1":
        yield Check("machine", "turbo", "ok", "off")


def _clock_source() -> Check:
    source = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source in ("hpet", "acpi_pm"):
        fix = "boot with clocksource=tsc, if the CPU's is constant"
        return Check("machine", "clock source", "warn", f"{source}: reading the clock takes a system call", fix)
    return Check("machine", "clock source", "ok", source or "not visible")


def _open_files() -> Check:
    limit, need = raise_open_files(), _CONNECTIONS + SPARE_FILES
    if limit >= need:
        return Check("machine", "open files", "ok", "no limit" if limit > 1 << 40 else f"{limit:,}")
    return Check(
        "machine",
        "open files",
        "warn",
        f"{limit:,} at most: too few for {_CONNECTIONS:,} connections",
        f"ulimit -Hn {need} as root, or nofile in /etc/security/limits.conf",
    )


def _sysctls() -> Iterator[Check]:
    if sys.platform != "linux":
        return
    backlog = read("/proc/sys/net/core/somaxconn")
    if backlog is not None and int(backlog) < _SOMAXCONN:
        found = f"{backlog}: of many connections at once, some are refused"
        yield Check("machine", "somaxconn", "warn", found, f"sysctl -w net.core.somaxconn={_SOMAXCONN}")
    else:
        yield Check("machine", "somaxconn", "ok", backlog or "not visible")
    ports = read("/proc/sys/net/ipv4/ip_local_port_range")
    first, last = map(int, ports.split()) if ports else (0, 65535)
    if last - first < _PORTS:
        fix = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
        yield Check("machine", "local ports", "warn", f"{first}–{last}: so many connections, and no more", fix)
    else:
        yield Check("machine", "local ports", "ok", f"{first}–{last}" if ports else "not visible")


def _load_average() -> Check:
    average = os.getloadavg()[0]
    if average > _BUSY * _usable():
        return Check("machine", "load average", "warn", f"{average:.2f}: other work runs", "stop it, or wait a minute")
    return Check("machine", "load average", "ok", f"{average:.2f}")
