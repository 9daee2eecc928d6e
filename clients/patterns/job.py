"""Work that outlives its request. The client submits it for a handle, and learns of its end by asking again and again,
by a request that is held back until the end, or by events that are pushed to it. With `request` there is no handle: one
request waits for the work, and who loses the connection has lost the answer.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from bench import contract
from bench.contract import Opcode
from bench.conversation import Conversation, Means
from bench.errors import CallError
from clients.patterns.answers import ask

_HOLD_MS = 10_000
"""How long a long poll may be held back."""

_MS = 1_000_000


class Job(Conversation):
    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._follow = {
            "request": self._request,
            "short-poll": self._short_poll,
            "long-poll": self._long_poll,
            "push": self._push,
        }[words["by"]]
        self._for_ms = words["for"] // _MS
        self._steps: int = words["steps"]
        self._every_s = words["every"] / 1e9
        self._growth = 1 + words["backoff"] / 100
        self._leave: float = words["leave"]

    async def converse(self) -> None:
        await self._follow()

    async def _request(self) -> None:
        asked = contract.exchange(Opcode.WORK, 0, 0, self._for_ms)
        if self._leave:
            calling = asyncio.ensure_future(self._means.call(asked))
            await asyncio.sleep(self._for_ms / 1000 * self._leave)
            self._means.tally("left")
            self._means.leave()
            try:
                await calling
            except CallError:
                self._means.tally("lost")  # nobody can ask for that answer any more: the work has to be done again
        reply = await self._means.call(asked)
        if (reply.status, reply.body) != (200, contract.WORK_BODY):
            raise CallError("status", f"the work was answered with {reply.status}")

    async def _submit(self) -> int:
        return int((await ask(self._means, contract.submit_job(self._for_ms, self._steps)))["id"])

    async def _come_back(self) -> None:
        """The client loses its connection once, and comes back when some of the work is done."""
        if self._leave:
            self._means.tally("left")
            self._means.leave()
            await asyncio.sleep(self._for_ms / 1000 * self._leave)

    async def _short_poll(self) -> None:
        job_id = await self._submit()
        await self._come_back()
        interval_s, due_s = self._every_s, time.monotonic()
        while not self._is_done(await ask(self._means, contract.read_job(job_id, 0))):
            due_s += interval_s
            interval_s *= self._growth
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def _long_poll(self) -> None:
        job_id = await self._submit()
        await self._come_back()
        while not self._is_done(
            await ask(self._means, contract.read_job(job_id, _HOLD_MS), _HOLD_MS / 1000 + self._for_ms / 1000 + 5)
        ):
            pass

    async def _push(self) -> None:
        job_id = await self._submit()
        await self._come_back()
        events = self._means.events(f"job-{job_id}", 0)
        try:
            async for data in events:
                self._means.tally("progress")
                if self._is_done(json.loads(data)):
                    return
        finally:
            await events.aclose()  # type: ignore[attr-defined]
        raise CallError("closed", "the events ended before the job did")

    def _is_done(self, state: dict[str, Any]) -> bool:
        if state.get("state") not in ("running", "done"):
            raise CallError("content", f"a job's state is not known: {state.get('state')!r}")
        return bool(state["state"] == "done")
