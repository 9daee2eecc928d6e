"""A process that starts a broker for whoever started it, and ends it when told to, or when its starter has gone:
programs of others do not notice the latter. `python -m bench.brokerhost` is told name and CPUs in a line of JSON,
says `ready` with address and pids or `error` with a message, and stops the broker when another line comes, or the end
of its input."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from bench import registry
from bench.brokers import RunningBroker, choose
from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import ServerFailedError, WirebenchError

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 30.0

Start = Callable[[Sequence[int]], AbstractContextManager[RunningBroker]]


@contextlib.contextmanager
def hosted(name: str, cpus: Sequence[int]) -> Iterator[RunningBroker]:
    """A broker that runs while the context lasts. Raises ServerFailedError."""
    host = ChildProcess("bench.brokerhost")
    try:
        host.send({"name": name, "cpus": list(cpus)})
        event = host.next_event(_START_TIMEOUT_S)
        if event is None or event["event"] != "ready":
            raise ServerFailedError(f"the broker {name} did not start in time" if event is None else event["message"])
        yield RunningBroker(name, event["address"], tuple(event["pids"]))
        host.send({"ask": "stop"})
        host.wait(_STOP_TIMEOUT_S)
    except ChildEndedError as error:
        raise ServerFailedError(f"the broker {name}: its host {error}") from None
    finally:
        host.kill()


def _say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def main() -> None:
    spec = json.loads(sys.stdin.readline() or "null")
    if spec is None:
        return
    start = cast(Start, registry.load(choose(spec["name"]).start))
    try:
        with start(spec["cpus"]) as broker:
            _say("ready", address=broker.address, pids=broker.pids)
            sys.stdin.readline()
    except WirebenchError as error:
        _say("error", message=str(error))


if __name__ == "__main__":
    main()
