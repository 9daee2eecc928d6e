"""Many objects at once: each waits, first come first served, for a connection of a pool, or has a stream of its own.
Some of them may be urgent: those that are asked for last, as what a page is found to need when it is read."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench import contract
from bench.contract import Exchange, Opcode
from bench.conversation import Conversation, Line, Means
from bench.errors import CallError
from bench.wire.priorities import MOST_URGENT

_TIMEOUT_S = 60.0


class Page(Conversation):
    """The pool is the page's own, as a browser's is for one host."""

    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._objects: int = words["objects"]
        self._size: int = words["pool"] or self._objects
        self._keeps = words["keep"] == "yes"
        self._asked = contract.exchange(Opcode.BYTES, means.payload_bytes)
        self._urgent: int = words["urgent"]
        self._asked_urgently = replace(self._asked, urgency=MOST_URGENT) if words["told"] == "yes" else self._asked
        self._expected = contract.pattern(means.payload_bytes)
        self._lines: list[Line] = []
        """Connections that are kept for the next page."""

    async def converse(self) -> None:
        free: asyncio.Queue[Line | None] = asyncio.Queue()
        """A connection for whoever comes next; None is leave to open one."""
        kept = [line for line in self._lines if line.opened]
        for line in kept:
            for _ in range(line.calls_at_once):
                free.put_nowait(line)
        room = self._size - len(kept)
        opened: list[Line] = list(kept)

        async def fetch(asked: Exchange) -> None:
            nonlocal room
            if free.empty() and room:
                room -= 1
                line: Line | None = None
            else:
                self._means.tally("waited", free.empty())
                line = await free.get()
            if line is None:
                line = await self._means.open()
                self._means.tally("opened")
                opened.append(line)
                for _ in range(line.calls_at_once - 1):
                    free.put_nowait(line)
            self._means.tally("calls")
            reply = await line.call(asked, _TIMEOUT_S)
            if reply.status != 200:
                raise CallError("status", f"an object was answered with {reply.status}")
            if reply.body != self._expected:
                raise CallError("content", "an object is not what it has to be")
            free.put_nowait(line)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(fetch(self._asked)) for _ in range(self._objects - self._urgent)]
                urgent = [group.create_task(fetch(self._asked_urgently)) for _ in range(self._urgent)]
                if urgent:
                    await asyncio.wait(urgent)
                    for task in tasks:
                        task.cancel()
        except* CallError as errors:
            self._drop(opened)
            raise errors.exceptions[0] from None
        self._lines = opened
        if not self._keeps or self._urgent:  # what is still on its way to an urgent page is not waited for
            self._drop(opened)

    def _drop(self, lines: list[Line]) -> None:
        for line in lines:
            line.abort()
        self._lines = []
