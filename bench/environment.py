"""The environment that a result was measured in, as read back from the system. What cannot be read is "unavailable"."""

import importlib.metadata
import locale
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench import __version__
from bench.placement import Placement

UNAVAILABLE = "unavailable"

_SYSCTLS = (
    "net.core.somaxconn",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_fastopen",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_no_metrics_save",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_wmem",
    "net.ipv4.ip_local_port_range",
)
_PACKAGES = ("uvloop", "httptools", "hpack", "hdrhistogram", "numpy")


def describe(placement: Placement, service: Path | None = None) -> dict[str, Any]:
    """Groups of name and value, as result files hold them. `service` is a folder of the repository of a service that is
    measured, if it has one of its own."""
    return {
        "wirebench": {"version": __version__, **_own_revision()},
        **({} if service is None else {"service": _revision(service)}),
        "cpu": {
            "model": _try(_cpu_model),
            "cores": psutil.cpu_count(logical=False) or UNAVAILABLE,
            "threads": os.cpu_count() or UNAVAILABLE,
            "usable": _try(lambda: len(os.sched_getaffinity(0))),
            "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "turbo_off": _read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
            "hypervisor": _try(_hypervisor),
        },
        "memory": {"total_bytes": psutil.virtual_memory().total, "cgroup_limit": _read("/sys/fs/cgroup/memory.max")},
        "kernel": {"system": platform.system(), "release": platform.release(), "machine": platform.machine()},
        "limits": {"open_files": _try(_open_files), "cgroup_cpu": _read("/sys/fs/cgroup/cpu.max")},
        "clock": {"source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource")},
        "sysctls": {name: _read("/proc/sys/" + name.replace(".", "/")) for name in _SYSCTLS},
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "gil": "on" if getattr(sys, "_is_gil_enabled", lambda: True)() else "off",
        },
        "packages": {name: _try(partial(importlib.metadata.version, name)) for name in _PACKAGES},
        "placement": {"server_cpus": list(placement.server), "load_cpus": list(placement.load)},
    }


def _try(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (OSError, ValueError, LookupError, AttributeError, subprocess.SubprocessError):
        return UNAVAILABLE


def _read(path: str) -> str:
    text: str = _try(lambda: " ".join(Path(path).read_text(encoding="ascii").split()))
    return text


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding=locale.getpreferredencoding(False)).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or UNAVAILABLE


def _hypervisor() -> str:
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    if " hypervisor" not in flags:
        return "none"
    vendor = _read("/sys/class/dmi/id/sys_vendor")
    return "yes" if vendor == UNAVAILABLE else f"yes ({vendor})"


def _open_files() -> int:
    import resource  # not on every system

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _own_revision() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {"commit": UNAVAILABLE, "dirty": UNAVAILABLE}
    return _revision(root, ":(top,exclude)results")  # measuring what is to be committed changes no code


def _revision(folder: Path, *but: str) -> dict[str, Any]:
    """What is checked out where a folder is, and whether the repository has anything beside it; `but` are pathspecs."""

    def run(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    return {
        "commit": _try(lambda: run("rev-parse", "HEAD")),
        "dirty": _try(lambda: bool(run("status", "--porcelain", "--", ":/", *but))),
    }
