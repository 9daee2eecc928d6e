"""A small service to try wirebench on: an ASGI application, for uvicorn or any other server of such.

GET  /health        ok
GET  /items         a list
GET  /items/{id}    one item, 404 for an id that is not from 1 to 100
POST /orders        takes {"item": id}, answers 201 with the order
GET  /report        slow on purpose: 30 ms
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

ITEMS = {str(number): {"id": number, "name": f"item {number}"} for number in range(1, 101)}
REPORT_S = 0.03
_orders = itertools.count(1)

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """The application."""
    if scope["type"] != "http":
        return
    status, answer = await respond(scope["method"], scope["path"], receive)
    body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
    kind = b"text/plain" if isinstance(answer, str) else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond(method: str, path: str, receive: Receive) -> tuple[int, Any]:
    """Status and body of the answer."""
    match method, path.strip("/").split("/"):
        case "GET", ["health"]:
            return 200, "ok"
        case "GET", ["items"]:
            return 200, list(ITEMS.values())[:10]
        case "GET", ["items", number] if number in ITEMS:
            return 200, ITEMS[number]
        case "POST", ["orders"]:
            wanted = json.loads(await read(receive))
            return 201, {"order": next(_orders), "item": wanted["item"]}
        case "GET", ["report"]:
            await asyncio.sleep(REPORT_S)
            return 200, {"items": len(ITEMS)}
    return 404, {"error": f"{method} {path} is not here"}


async def read(receive: Receive) -> bytes:
    """The body of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body
