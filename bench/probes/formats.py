"""Formats of data: the same list of todos in each, its size, and the time to make and to read it."""

import json
import time
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import msgpack

from bench.contract import Todo, seeded_todo
from bench.wire import wirebench_pb2 as pb

_REPEATS = 300


def measure(format: str, todos: int = 100) -> dict[str, float]:  # noqa: A002 (as claims spell it)
    """The best of many repeats: what the work takes, without what else the machine did meanwhile."""
    encode, decode = FORMATS[format]
    wanted = [seeded_todo(number) for number in range(1, todos + 1)]
    encoded = encode(wanted)
    if decode(encoded) != wanted:
        raise AssertionError(f"{format}: what was decoded is not what was encoded")
    return {
        "encoded_bytes": len(encoded),
        "encode_ns": _best_ns(lambda: encode(wanted)),
        "decode_ns": _best_ns(lambda: decode(encoded)),
    }


def _best_ns(run: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_REPEATS):
        begun_ns = time.perf_counter_ns()
        run()
        best = min(best, time.perf_counter_ns() - begun_ns)
    return best


def _to_protobuf(todos: list[Todo]) -> bytes:
    return pb.ReadTodosReply(
        todos=[pb.Todo(id=id_, text=text, done=done) for id_, text, done in todos]
    ).SerializeToString()


def _from_protobuf(data: bytes) -> list[Todo]:
    return [Todo(todo.id, todo.text, todo.done) for todo in pb.ReadTodosReply.FromString(data).todos]


def _fields(todos: list[Todo]) -> list[dict[str, Any]]:
    return [{"id": id_, "text": text, "done": done} for id_, text, done in todos]


def _to_json(todos: list[Todo]) -> bytes:
    return json.dumps(_fields(todos), separators=(",", ":")).encode()


def _from_json(data: bytes) -> list[Todo]:
    return [Todo(**todo) for todo in json.loads(data)]


def _to_messagepack(todos: list[Todo]) -> bytes:
    packed: bytes = msgpack.packb(_fields(todos))
    return packed


def _from_messagepack(data: bytes) -> list[Todo]:
    return [Todo(**todo) for todo in msgpack.unpackb(data)]


def _to_xml(todos: list[Todo]) -> bytes:
    root = ElementTree.Element("todos")
    for id_, text, done in todos:
        todo = ElementTree.SubElement(root, "todo", id=str(id_), done="true" if done else "false")
        todo.text = text
    return ElementTree.tostring(root)


def _from_xml(data: bytes) -> list[Todo]:
    return [
        Todo(int(each.attrib["id"]), each.text or "", each.attrib["done"] == "true")
        for each in ElementTree.fromstring(data)
    ]


FORMATS: dict[str, tuple[Callable[[list[Todo]], bytes], Callable[[bytes], list[Todo]]]] = {
    "protobuf": (_to_protobuf, _from_protobuf),
    "json": (_to_json, _from_json),
    "messagepack": (_to_messagepack, _from_messagepack),
    "xml": (_to_xml, _from_xml),
}
"""By name: how a list of todos is encoded, and decoded."""
