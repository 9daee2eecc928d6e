"""A load process: `python -m bench.load`, with a JSON spec (LoadSpec) as the first line of standard input.

Events on standard output, one JSON line each: `connected` (all connections stand and the first answer was right);
`progress`, every second of the measured window, the last at its end; `result`; or `error` (one line for the user).
After `connected` the process waits for a second input line that names the start, in nanoseconds of CLOCK_MONOTONIC,
which all processes of one machine share. A further line has the load end sooner than it was to. End of input means that
the starter has gone: the process ends. Having given its result it keeps its connections and waits for that end, so that
both sides can be looked at as they were under load.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import uvloop

from bench import registry
from bench.errors import WirebenchError
from bench.load.engine import Runnable
from bench.load.spec import PROGRESS_S, LoadSpec
from bench.patterns import pattern_of
from bench.schedule import parse_concurrency, parse_load


def _emit(event: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


def _make_engine(spec: LoadSpec) -> Runnable:
    target: dict[str, Any] = {
        "host": spec.host,
        "port": spec.port,
        "security": spec.security,
        "concurrency": parse_concurrency(spec.connections, "connections").share(spec.process, spec.processes),
        "timeout_ns": spec.timeout_ns,
    }
    make: Callable[..., Runnable] = registry.load(pattern_of(spec.pattern).engine)
    return make(spec, parse_load(spec.load, "load"), target)


def _end(_: object) -> None:
    os._exit(1)


async def _report_progress(engine: Runnable, from_ns: int, end_ns: int) -> None:
    """Every second but the last, which is reported when all of it is known; and none that is over already."""
    period_ns = int(PROGRESS_S * 1e9)
    over = max(0, time.monotonic_ns() - from_ns) // period_ns
    for at_ns in range(from_ns + (over + 1) * period_ns, end_ns, period_ns):
        await asyncio.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9))
        _emit("progress", **engine.recorder.progress(at_ns))


async def _heed(commands: asyncio.StreamReader, engine: Runnable, stopped: asyncio.Event) -> None:
    """Do what further lines of input say, until the starter has gone."""
    while await commands.readline():
        engine.stop()
        stopped.set()


async def _usage_at(when_ns: int, stopped: asyncio.Event) -> resource.struct_rusage:
    """What was used until then, or until the load was told to end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, (when_ns - time.monotonic_ns()) / 1e9)):
            await stopped.wait()
    return resource.getrusage(resource.RUSAGE_SELF)


async def _run(spec: LoadSpec) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    engine = _make_engine(spec)
    await engine.connect()
    _emit("connected", pid=os.getpid())
    line = await commands.readline()
    if not line:
        return
    start_ns = json.loads(line)["start_ns"]
    measure_ns = start_ns + spec.warmup_ns
    end_ns = measure_ns + spec.duration_ns
    stopped = asyncio.Event()
    starter_gone = loop.create_task(_heed(commands, engine, stopped))
    starter_gone.add_done_callback(_end)
    progress = loop.create_task(_report_progress(engine, measure_ns, end_ns))
    before = loop.create_task(_usage_at(measure_ns, stopped))
    after = loop.create_task(_usage_at(end_ns, stopped))
    if not engine.makes_cycles and registry.load(spec.client).transport_kind != "session":
        # Nothing on the hot path makes cycles; a collection in mid-run would only be a pause. Libraries may need it, as
        # connections do that come and go.
        gc.freeze()
        gc.disable()
    await engine.run(start_ns, measure_ns, end_ns, spec.intervals)
    progress.cancel()
    _emit("progress", **engine.recorder.progress())  # so that what was reported adds up to the result
    starter_gone.remove_done_callback(_end)
    a, b = await before, await after
    _emit(
        "result",
        **engine.recorder.result(),
        delivery=engine.delivery(),
        tally=dict(engine.tally),
        cpu_user_s=b.ru_utime - a.ru_utime,
        cpu_system_s=b.ru_stime - a.ru_stime,
        context_switches_voluntary=b.ru_nvcsw - a.ru_nvcsw,
        context_switches_involuntary=b.ru_nivcsw - a.ru_nivcsw,
    )
    await starter_gone
    engine.close()
    await asyncio.sleep(0)
    os._exit(0)


def main() -> int:
    spec = LoadSpec.from_json(sys.stdin.readline())
    if spec.cpus:
        os.sched_setaffinity(0, spec.cpus)
    try:
        uvloop.run(_run(spec))
    except WirebenchError as error:
        _emit("error", message=str(error))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
