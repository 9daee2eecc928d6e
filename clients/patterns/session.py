"""A client that is known to its server: it logs in, and each conversation is another visit in its session."""

import json
from collections.abc import Mapping
from typing import Any

from bench import contract
from bench.contract import Exchange
from bench.conversation import Conversation, Means
from bench.errors import CallError


class Session(Conversation):
    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._kept: str = words["kept"]
        self._stays = words["connection"] == "kept"
        self._session = ""
        self._visits = 0

    async def converse(self) -> None:
        if not self._session:
            await self._log_in()
        try:
            await self._visit()
        finally:
            if not self._stays:
                self._means.leave()

    async def _visit(self) -> None:
        status, answer = await self._ask(contract.visit_session(self._kept, self._session))
        # A visit whose answer was lost may have counted: the server may know of more than the client, not of less.
        if status == 200 and answer["visits"] > self._visits:
            self._session, self._visits = answer["session"], answer["visits"]
            return
        self._means.tally("broken")
        await self._log_in()

    async def _log_in(self) -> None:
        _, answer = await self._ask(contract.create_session(self._kept), (200,))
        self._means.tally("logins")
        self._session, self._visits = answer["session"], 0

    async def _ask(self, exchange: Exchange, allowed: tuple[int, ...] = (200, 401)) -> tuple[int, dict[str, Any]]:
        status, body = await self._means.call(exchange)
        if status not in allowed:
            what = body[:200].decode("utf-8", "replace")
            raise CallError("status", f"{exchange.method} {exchange.path} was answered with {status}: {what}")
        return status, json.loads(body) if status == 200 else {}
