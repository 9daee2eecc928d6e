"""A program that makes calls while it has work of its own. What it gets done meanwhile is counted in units of about
100 µs: none by one that waits for each call; by one with threads, or with an event loop, whatever the calls leave.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import contract
from bench.contract import Opcode
from bench.conversation import Conversation, Means
from bench.errors import CallError

_UNIT_S = 100e-6
_WAIT_MS = 50
"""How long the server takes for each call."""


class Callers(Conversation):
    """One conversation is all of the calls."""

    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._calls: int = words["calls"]
        self._run = {"sync": self._sync, "threads": self._threads, "async": self._async, "lean": self._lean}[
            words["how"]
        ]
        self._asked = contract.exchange(Opcode.WORK, 0, 0, _WAIT_MS)
        self._client: Any = None

    async def converse(self) -> None:
        await self._run()

    def _library(self, kind: str) -> Any:
        if self._client is None:
            import httpx

            is_http2 = self._means.http_version == "2"
            self._client = getattr(httpx, kind)(
                http1=not is_http2,
                http2=is_http2,
                limits=httpx.Limits(max_connections=self._calls),
                timeout=30,
                trust_env=False,
            )
        return self._client

    def _check(self, status: int, body: bytes) -> None:
        if (status, body) != (200, contract.WORK_BODY):
            raise CallError("status", f"a call was answered with {status}")

    async def _sync(self) -> None:
        import httpx

        client = self._library("Client")
        for _ in range(self._calls):
            self._means.tally("calls")
            try:
                answer = client.get(self._means.url(self._asked.path))
            except httpx.HTTPError as error:
                raise CallError("closed", str(error)) from None
            self._check(answer.status_code, answer.content)

    async def _threads(self) -> None:
        import httpx

        client = self._library("Client")

        def call() -> None:
            try:
                answer = client.get(self._means.url(self._asked.path))
            except httpx.HTTPError as error:
                raise CallError("closed", str(error)) from None
            self._check(answer.status_code, answer.content)

        self._means.tally("calls", self._calls)
        with ThreadPoolExecutor(self._calls) as pool:
            calls = [pool.submit(call) for _ in range(self._calls)]
            while not all(each.done() for each in calls):
                self._work()
            for each in calls:
                each.result()

    async def _async(self) -> None:
        import httpx

        client = self._library("AsyncClient")

        async def call() -> None:
            try:
                answer = await client.get(self._means.url(self._asked.path))
            except httpx.HTTPError as error:
                raise CallError("closed", str(error)) from None
            self._check(answer.status_code, answer.content)

        self._means.tally("calls", self._calls)
        await self._beside(call)

    async def _lean(self) -> None:
        async def call() -> None:
            line = await self._means.open()
            try:
                reply = await line.call(self._asked, 30)
            finally:
                line.abort()
            self._check(reply.status, reply.body)

        self._means.tally("calls", self._calls)
        await self._beside(call)

    async def _beside(self, call: Any) -> None:
        """All calls at once, and the program's own work beside them."""
        calls = [asyncio.ensure_future(call()) for _ in range(self._calls)]
        while not all(each.done() for each in calls):
            self._work()
            await asyncio.sleep(0)
        await asyncio.gather(*calls)

    def _work(self) -> None:
        until = time.perf_counter() + _UNIT_S
        while time.perf_counter() < until:
            pass
        self._means.tally("units")
