"""A POST that is sent again when no answer comes. Without a key the server cannot tell a second try from a second
comment, so what was stored and not heard of is stored twice."""

import asyncio
from collections.abc import Mapping
from itertools import count
from typing import Any

from bench import contract
from bench.conversation import Conversation, Means
from bench.errors import CallError
from clients.patterns.answers import ask

_BACKOFF_S = 0.01
"""Before the first try that is not the first; it doubles with each, and is shortened by chance by up to a half."""

_AGAIN = ("closed", "timeout", "reset", "refused")
"""Failures after which nobody knows whether the server has acted."""


class Comment(Conversation):
    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._has_key = words["key"] == "yes"
        self._tries: int = words["tries"]
        self._numbers = count()
        self._name = f"{means.topic}-{means.random.getrandbits(64):016x}"

    async def converse(self) -> None:
        text = f"{self._name}-{next(self._numbers)}"
        asked = contract.create_comment(text, text if self._has_key else None)
        wait_s = _BACKOFF_S
        for left in reversed(range(self._tries)):
            try:
                await ask(self._means, asked)
                return
            except CallError as error:
                if error.kind not in _AGAIN or not left:
                    raise
            self._means.leave()
            self._means.tally("retries")
            await asyncio.sleep(wait_s * (1 - self._means.random.random() / 2))
            wait_s *= 2

    async def finish(self) -> dict[str, int]:
        """What the server's store has, after all conversations."""
        found = await ask(self._means, contract.count_comments())
        return {"stored": found["comments"], "duplicates": found["comments"] - found["texts"]}
