"""Runs microbenchmarks in pyperf's processes, and shows what came out."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.childprocess import ROOT
from bench.errors import LoadFailedError, UsageError
from bench.micro import BENCHMARKS
from bench.output import columns
from bench.placement import choose_placement
from bench.quantities import format_duration
from bench.registry import choose


def run_micro(names: Sequence[str], fast: bool, out: Path | None) -> tuple[str, str]:
    """Time these benchmarks, or all. Gives a table, and pyperf's JSON, which is kept at `out`. Raises UsageError, and
    LoadFailedError if pyperf fails."""
    for name in names:
        choose(name, BENCHMARKS, "NAME")
    if out is not None and out.exists():
        raise UsageError(f"--out: {out} exists already; choose another name, or remove it first")
    with tempfile.TemporaryDirectory(prefix="wirebench-micro-") as folder:
        path = out or Path(folder) / "micro.json"
        _run_pyperf([*(["--fast"] if fast else []), "--only", ",".join(names), "--output", str(path)])
        return _table(path), path.read_text(encoding="utf-8")


def _run_pyperf(arguments: Sequence[str]) -> None:
    cpus = choose_placement(1).load
    pinned = ["--affinity", ",".join(map(str, cpus))] if cpus else []
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bench.micro", "--quiet", "--inherit-environ", "PYTHONPATH", *pinned, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        process_group=0,
    )
    try:
        errors = process.communicate()[1]
    finally:
        if process.returncode is None:  # interrupted
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise LoadFailedError(f"pyperf failed: {' | '.join(errors.strip().splitlines()[-2:]) or 'it said nothing'}")


def _table(path: Path) -> str:
    import pyperf

    suite: Any = pyperf.BenchmarkSuite.load(str(path))
    rows = [["", "median", "spread (MAD)"]]
    for benchmark in suite.get_benchmarks():
        median, spread = benchmark.median(), benchmark.median_abs_dev() if benchmark.get_nvalue() > 1 else 0.0
        rows.append([benchmark.get_name(), format_duration(median * 1e9), f"{spread / median:.1%}"])
    return columns(rows, right=(1, 2))
