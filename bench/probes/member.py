"""A member of a group that talks: over a WebRTC data channel to each other member, or over a websocket to a server that
passes on to all. `python -m bench.probes.member`, told and answering in lines of JSON.

Told first is {"name", "address"}, then what to do (`ask`): "offer" {"to"}, "answer" {"to", "description"} and "meet"
{"to", "description"} make a data channel (an offer, its answer, and that brought back); "join" {"url"}
opens a websocket; "speak" {"messages", "message_bytes", "every_s"} sends; "listen" asks what has come. It says `offer`
and `answer` {"to", "description"}, `joined` for each way that is open, and `heard` {"delays_ns"}, each from when its
message was sent. It ends when its input does.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import RTCDataChannel, RTCDataChannelParameters
from websockets.asyncio.client import ClientConnection, connect

from bench.wire.webrtc_peer import Peer
from bench.wire.webrtc_signalling import decode_description


def _say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class _Member:
    def __init__(self, name: str, address: str) -> None:
        self._name = name
        self._address = address
        self._peers: dict[str, Peer] = {}
        self._ways: list[Callable[[str], object]] = []
        """Each sends a message to one other member, or to the server."""
        self._delays_ns: list[int] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def offer(self, to: str) -> None:
        peer = self._peers[to] = Peer(self._address, True, RTCDataChannel.close)
        _say("offer", to=to, description=(await peer.gather()).encode("offer").decode())

    async def answer(self, to: str, description: str) -> None:
        offer = decode_description(description.encode(), "offer")
        peer = self._peers[to] = Peer(self._address, False, self._opened)
        _say("answer", to=to, description=(await peer.gather(offer.mid)).encode("answer").decode())
        await peer.connect(offer, sys.exit)

    async def meet(self, to: str, description: str) -> None:
        peer = self._peers[to]
        await peer.connect(decode_description(description.encode(), "answer"), sys.exit)
        channel = RTCDataChannel(peer.sctp, RTCDataChannelParameters(label="talk"))
        channel.on("open", lambda: self._opened(channel))

    async def join(self, url: str) -> None:
        connection = await connect(url, compression=None, proxy=None)
        self._ways.append(lambda message: self._begin(connection.send(message)))
        self._begin(self._read(connection))
        _say("joined")

    async def speak(self, messages: int, message_bytes: int, every_s: float) -> None:
        due_s = time.monotonic()
        for _ in range(messages):
            message = f"{self._name} {time.monotonic_ns()} ".ljust(message_bytes, "x")
            for send in self._ways:
                send(message)
            due_s += every_s
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    async def listen(self) -> None:
        _say("heard", delays_ns=self._delays_ns)

    def do(self, ask: str, **fields: Any) -> None:
        """Begin what is asked."""
        asked: Callable[..., Coroutine[Any, Any, None]] = getattr(self, ask)
        self._begin(asked(**fields))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise SystemExit(f"{type(error).__name__}: {error}")

    def _opened(self, channel: RTCDataChannel) -> None:
        channel.on("message", self._heard)
        self._ways.append(channel.send)
        _say("joined")

    async def _read(self, connection: ClientConnection) -> None:
        async for message in connection:
            assert isinstance(message, str)
            self._heard(message)

    def _heard(self, message: str) -> None:
        now_ns = time.monotonic_ns()
        name, sent_ns, _ = message.split(" ", 2)
        if name != self._name:  # the server gives a speaker its own words too
            self._delays_ns.append(now_ns - int(sent_ns))


async def _live() -> None:
    told = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    member = _Member(**json.loads(await told.readline()))
    while line := await told.readline():
        member.do(**json.loads(line))


if __name__ == "__main__":
    asyncio.run(_live())
