"""An upload that is compressed, made a document, and announced: the client calls for each of these in its turn, and
waits for all of them."""

from collections.abc import Mapping
from typing import Any

from bench import contract
from bench.contract import Exchange
from bench.conversation import Conversation, Means
from bench.errors import CallError
from bench.wire.stages import STAGES, restore


class Chain(Conversation):
    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._upload = contract.pattern(means.payload_bytes)

    async def converse(self) -> None:
        await self._called(contract.exchange(contract.Opcode.UPLOAD, self._means.payload_bytes))
        body = self._upload
        for stage in STAGES:
            body = await self._called(contract.stage(stage, body))
        try:
            is_right = restore(body) == self._upload
        except ValueError:
            is_right = False
        if not is_right:
            raise CallError("content", "what came out of the last stage is not what was uploaded")
        await self._called(contract.publish(self._means.topic, b"%d bytes are ready" % len(body)))

    async def _called(self, exchange: Exchange) -> bytes:
        status, body = await self._means.call(exchange)
        if status != 200:
            raise CallError("status", f"{exchange.method} {exchange.path} was answered with {status}")
        return body
