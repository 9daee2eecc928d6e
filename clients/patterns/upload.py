"""A payload to the server: as one body, or a request for each piece. What is cut as one body begins anew; what is cut
between pieces goes on from where the server says that it is.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from bench import contract
from bench.contract import Opcode
from bench.conversation import Conversation, Means
from bench.errors import CallError
from clients.patterns.answers import ask


class Upload(Conversation):
    def __init__(self, means: Means, words: Mapping[str, Any]) -> None:
        self._means = means
        self._as = words["as"]
        self._chunk_bytes: int = words["chunk"]
        self._cut: float = words["cut"]
        self._payload = contract.pattern(means.payload_bytes)
        digest = hashlib.sha256(self._payload)
        self._digest = digest.hexdigest().encode()
        self._receipt = contract.upload_receipt(len(self._payload), digest.digest())

    async def converse(self) -> None:
        if self._as == "whole":
            await self._whole()
        else:
            await self._chunks()

    async def _whole(self) -> None:
        asked = contract.exchange(Opcode.UPLOAD, len(self._payload))
        if self._cut:
            self._means.tally("cuts")
            sent = await self._means.cut_call(asked, self._cut)
            self._means.tally("body_bytes", sent)
        self._means.tally("body_bytes", len(self._payload))
        reply = await self._means.call(asked)
        self._check(reply.status, reply.body)

    async def _chunks(self) -> None:
        means, payload = self._means, self._payload
        upload_id: str = (await ask(means, contract.create_upload(len(payload))))["id"]
        offset = 0
        cut_at = int(len(payload) * self._cut) if self._cut else len(payload)
        while offset < len(payload):
            chunk = payload[offset : offset + self._chunk_bytes]
            asked = contract.write_chunk(upload_id, offset, chunk)
            if offset + len(chunk) > cut_at:
                share = (cut_at - offset) / len(chunk)
                cut_at = len(payload)
                means.tally("cuts")
                means.tally("body_bytes", await means.cut_call(asked, share))
                offset = (await ask(means, contract.upload_offset(upload_id)))["offset"]
                continue
            means.tally("body_bytes", len(chunk))
            offset = (await ask(means, asked))["offset"]
        reply = await means.call(contract.finish_upload(upload_id, self._digest))
        self._check(reply.status, reply.body)

    def _check(self, status: int, body: bytes) -> None:
        if status != 200:
            raise CallError("status", f"the upload was answered with {status}: {body[:200]!r}")
        if body != self._receipt:
            raise CallError("content", "the receipt is of another payload")
