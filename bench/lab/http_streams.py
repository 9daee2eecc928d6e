"""HTTP in the clear: the messages of HTTP/1.1, and the frames of HTTP/2."""

import re
from dataclasses import dataclass

from bench.lab.packets import Way
from bench.lab.streams import DataReader, Item, StreamReader

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = re.compile(rb"([A-Z]{3,10}) (\S*)")
METHOD = re.compile(rb"[A-Z]{1,10}")
_ANSWER = re.compile(rb"HTTP/1\.[01] (\d{3})")
_UPGRADE = re.compile(rb"\r\nupgrade: *([\w.-]+)", re.IGNORECASE)
_PATH_CHARACTERS = 20
_MAX_HEAD_BYTES = 65_536


class Http1Reader:
    """HTTP/1.1 (RFC 9112), and what it is upgraded to. A message is seen where one begins a packet, as it does when
    requests are not pipelined."""

    def __init__(self, client: Way) -> None:
        self._client = client
        self._upgraded: StreamReader | None = None
        self._head = b""
        self._begun: set[Way] = set()

    def feed(self, way: Way, offset: int, data: bytes, now_ns: int) -> list[Item]:
        if self._upgraded is not None:
            return self._upgraded.feed(way, offset, data, now_ns)
        if way == self._client:
            return self._request(way, offset, data)
        if self._head or data.startswith(b"HTTP/1.1 101"):
            return self._switch(way, offset, data, now_ns)
        found = _ANSWER.match(data)
        if found is None:
            return self._rest(way, offset)
        self._begun.add(way)
        return [Item(way, offset, f"answer {found[1].decode()}", True)]

    def _request(self, way: Way, offset: int, data: bytes) -> list[Item]:
        found = REQUEST.match(data)
        if found is None:
            return self._rest(way, offset)
        self._begun.add(way)
        path = "".join(char if char.isprintable() else "�" for char in found[2].decode("latin-1"))
        path = path if len(path) <= _PATH_CHARACTERS else path[: _PATH_CHARACTERS - 1] + "…"
        upgrade = _UPGRADE.search(data)
        asks = f", upgrade to {upgrade[1].decode()}" if upgrade else ""
        return [Item(way, offset, f"{found[1].decode()} {path}{asks}", True)]

    def _rest(self, way: Way, offset: int) -> list[Item]:
        """What begins no message: the rest of one, or no HTTP at all."""
        if way in self._begun:
            return []
        self._begun.add(way)
        return [Item(way, offset, "data", True)]

    def _switch(self, way: Way, offset: int, data: bytes, now_ns: int) -> list[Item]:
        """The answer 101: what follows its head is another protocol's."""
        begins = not self._head
        self._head += data
        items = [Item(way, offset, "answer 101")] if begins else []
        end = self._head.find(b"\r\n\r\n")
        if end >= 0 or len(self._head) > _MAX_HEAD_BYTES:
            upgrade = _UPGRADE.search(self._head)
            self._upgraded = Http2Reader() if upgrade and upgrade[1] == b"h2c" else DataReader()
            if rest := self._head[end + 4 :]:
                items += self._upgraded.feed(way, offset + len(data) - len(rest), rest, now_ns)
        return items


_FRAMES = {
    0: "DATA",
    1: "HEADERS",
    2: "PRIORITY",
    3: "RST_STREAM",
    4: "SETTINGS",
    5: "PUSH_PROMISE",
    6: "PING",
    7: "GOAWAY",
    8: "WINDOW_UPDATE",
    9: "CONTINUATION",
}


@dataclass
class _Frames:
    """One way of HTTP/2: `skip` are the bytes left of a frame's payload."""

    head: bytes = b""
    skip: int = 0
    begun: bool = False


class Http2Reader:
    """HTTP/2 (RFC 9113) in the clear."""

    def __init__(self) -> None:
        self._ways: dict[Way, _Frames] = {"up": _Frames(), "down": _Frames()}

    def feed(self, way: Way, offset: int, data: bytes, now_ns: int) -> list[Item]:
        frames = self._ways[way]
        items: list[Item] = []
        at = offset
        if not frames.begun:
            frames.begun = True
            if data.startswith(PREFACE):  # `reader_of` has waited for all of it
                items.append(Item(way, at, "h2 preface"))
                at += len(PREFACE)
        while at < offset + len(data):
            rest = data[at - offset :]
            if frames.skip:
                taken = min(frames.skip, len(rest))
                frames.skip -= taken
                at += taken
                continue
            needs = 9 - len(frames.head)
            begins_at = at - len(frames.head)
            frames.head += rest[:needs]
            at += min(needs, len(rest))
            if len(frames.head) == 9:
                kind = frames.head[3]
                items.append(Item(way, begins_at, _FRAMES.get(kind, "frame"), kind in (0, 1)))
                frames.skip, frames.head = int.from_bytes(frames.head[:3], "big"), b""
        return items
