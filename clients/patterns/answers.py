"""Answers that are JSON."""

import json
from typing import Any

from bench.contract import Exchange
from bench.conversation import Means
from bench.errors import CallError


async def ask(means: Means, exchange: Exchange, timeout_s: float | None = None) -> dict[str, Any]:
    """The JSON object that a request is answered with. Raises CallError for any other answer."""
    reply = await means.call(exchange, timeout_s)
    if reply.status != 200:
        what = reply.body[:200].decode("utf-8", "replace")
        raise CallError("status", f"{exchange.method} {exchange.path} was answered with {reply.status}: {what}")
    try:
        found = json.loads(reply.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CallError("content", f"{exchange.method} {exchange.path} was answered with no JSON object")
    return found
