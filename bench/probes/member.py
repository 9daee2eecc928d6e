"""A member of a group that talks, as a process told and answering in lines of JSON. `peer_member` and `relay_member`
are the two kinds, each with the ways it knows to others.

Told first is {"name", "address"}, then what to do (`ask`): what its kind does to open a way; "speak" {"messages",
"message_bytes", "every_s"} sends; "listen" asks what has come. It says `joined` for each way that is open, and `heard`
{"delays_ns"}, each from when its message was sent. It ends when its input does.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any


def say(event: str, **fields: Any) -> None:
    """Tell who started this process."""
    print(json.dumps({"event": event, **fields}), flush=True)


class Member:
    """What both kinds do."""

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        self._name = name
        self._ways: list[Callable[[str], object]] = []
        self._delays_ns: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def speak(self, messages: int, message_bytes: int, every_s: float) -> None:
        due_s = time.monotonic()
        for _ in range(messages):
            message = f"{self._name} {time.monotonic_ns()} ".ljust(message_bytes, "x")
            for send in self._ways:
                send(message)
            due_s += every_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def listen(self) -> None:
        say("heard", delays_ns=self._delays_ns)

    def do(self, ask: str, **fields: Any) -> None:
        """Begin what is asked."""
        asked: Callable[..., Coroutine[Any, Any, None]] = getattr(self, ask)
        self.begin(asked(**fields))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done; a failure of it ends the process."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def opened(self, send: Callable[[str], object]) -> None:
        """There is one more way: `send` takes a message to one other member, or to the server."""
        self._ways.append(send)
        say("joined")

    def heard(self, message: str) -> None:
        """A message has come."""
        now_ns = time.monotonic_ns()
        name, sent_ns, _ = message.split(" ", 2)
        if name != self._name:  # the server gives a speaker its own words too
            self._delays_ns.append(now_ns - int(sent_ns))

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise SystemExit(f"{type(error).__name__}: {error}")


async def live(kind: type[Member]) -> None:
    """Be a member of that kind until the input ends."""
    told = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    member = kind(**json.loads(await told.readline()))
    while line := await told.readline():
        member.do(**json.loads(line))
