"""A process that starts a program of others for whoever started it, and ends it when told to, or when its starter has
gone: such programs do not notice the latter. `python -m bench.programhost` is told in a line of JSON what to start
("module:function" of a context manager that gives a dataclass, and its arguments), says `ready` with what that gave or
`error` with a message, and leaves the context when another line comes, or the end of its input."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any, cast

from bench import registry
from bench.childprocess import ChildEndedError, ChildProcess
from bench.errors import ServerFailedError, UnsupportedError, WirebenchError

_START_TIMEOUT_S = 90.0
_STOP_TIMEOUT_S = 30.0

Start = Callable[..., AbstractContextManager[Any]]


@contextlib.contextmanager
def hosted(name: str, start: str, arguments: Mapping[str, Any], within: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A program that runs while the context lasts: the fields of what `start` gave. `name` is for messages, `within` as
    for ChildProcess. Raises ServerFailedError, and UnsupportedError where it cannot run here."""
    host = ChildProcess("bench.programhost", within)
    try:
        host.send({"start": start, "arguments": arguments})
        event = host.next_event(_START_TIMEOUT_S)
        if event is None:
            raise ServerFailedError(f"{name} did not start in time")
        if event["event"] != "ready":
            raise (UnsupportedError if event["unsupported"] else ServerFailedError)(event["message"])
        yield event["gave"]
    except ChildEndedError as error:
        raise ServerFailedError(f"{name}: its host {error}") from None
    finally:
        if not host.closed:  # after an error too: only the host ends what it has started
            host.send({"ask": "stop"})
            host.wait(_STOP_TIMEOUT_S)
        host.kill()


def _say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def main() -> None:
    spec = json.loads(sys.stdin.readline() or "null")
    if spec is None:
        return
    start = cast(Start, registry.load(spec["start"]))
    try:
        with start(**spec["arguments"]) as gave:
            _say("ready", gave=asdict(gave))
            sys.stdin.readline()
    except WirebenchError as error:
        _say("error", message=str(error), unsupported=isinstance(error, UnsupportedError))


if __name__ == "__main__":
    main()
