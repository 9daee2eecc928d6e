"""A mix: requests of several names, drawn by weight, each with checks on its answers.

Both the harness, which reads it from a wirebench.toml (see `bench.ownservice`), and the clients, which send it, know
it. All requests are worked out before the load: where data varies, a request has an exchange for each row.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from bench.contract import Exchange, foreign_exchange
from bench.errors import ErrorKind

Order = Literal["round-robin", "random"]
"""How the exchanges of one request follow each other."""

Fields = Sequence[tuple[bytes, bytes]]
"""Header fields, their names in lower case."""

_SHOWN = 60
"""So many characters of what is wrong are told."""


class Wrong(NamedTuple):
    """What is wrong with an answer: the kind of error that it counts as, and why, in a few words."""

    kind: ErrorKind
    why: str


def unfinished(body_bytes: int) -> str:
    """Why an exchange has failed whose answer had begun when time was up."""
    return f"the beginning of an answer, {body_bytes} bytes, and no end in time"


@dataclass(frozen=True)
class Checks:
    """What an answer must be. What is empty, or None, is not looked at."""

    statuses: tuple[int, ...] = ()
    """One of these; any from 200 to 399 where there are none. Protocols without statuses have 200."""
    fields: tuple[tuple[str, str | None], ...] = ()
    """Header fields that must be there, with that value unless it is None; names in lower case."""
    contains: tuple[str, ...] = ()
    """Text that must be in the body, in UTF-8."""
    json: tuple[tuple[str, Any], ...] = ()
    """What must stand in a body of JSON, by path: "user.name", "items.0.id"."""
    max_bytes: int | None = None
    """The longest body."""

    @property
    def need_body(self) -> bool:
        """Whether the body itself is looked at, and not only its length."""
        return bool(self.contains or self.json)

    def wrong(self, status: int, fields: Fields, body_bytes: int, body: bytes) -> Wrong | None:
        """What is wrong with an answer; None if it is as it must be. `fields` and `body` may be empty where the checks
        need none."""
        if status not in self.statuses if self.statuses else not 200 <= status < 400:
            allowed = " or ".join(map(str, self.statuses)) or "2xx or 3xx"
            return Wrong("status", f"status {status}, not {allowed}")
        if self.max_bytes is not None and body_bytes > self.max_bytes:
            return Wrong("content", f"a body of {body_bytes} bytes, more than {self.max_bytes}")
        return self._wrong_fields(fields) or self._wrong_body(body)

    def _wrong_fields(self, fields: Fields) -> Wrong | None:
        for name, value in self.fields:
            found = [v.decode("latin-1") for n, v in fields if n == name.encode("ascii")]
            if not found:
                return Wrong("content", f"no header {name}")
            if value is not None and value not in found:
                return Wrong("content", f"header {name} is {found[0]!r:.{_SHOWN}}, not {value!r:.{_SHOWN}}")
        return None

    def _wrong_body(self, body: bytes) -> Wrong | None:
        for text in self.contains:
            if text.encode() not in body:
                return Wrong("content", f"the body does not contain {text!r:.{_SHOWN}}")
        if not self.json:
            return None
        try:
            document = json.loads(body)
        except ValueError:
            return Wrong("content", "the body is not JSON")
        for path, value in self.json:
            try:
                found = _at(document, path)
            except LookupError:
                return Wrong("content", f"the JSON has no {path}")
            if found != value or isinstance(found, bool) != isinstance(value, bool):
                return Wrong("content", f"the JSON has {found!r:.{_SHOWN}} at {path}, not {value!r:.{_SHOWN}}")
        return None


def _at(document: Any, path: str) -> Any:
    """What stands at a path in JSON. Raises LookupError."""
    for step in path.split("."):
        if isinstance(document, list) and step.isdigit():
            document = document[int(step)]
        elif isinstance(document, dict):
            document = document[step]
        else:
            raise LookupError(step)
    return document


@dataclass(frozen=True)
class NamedRequest:
    """One request of a mix. It has an exchange for each row of its data, and one where it has no data."""

    name: str
    exchanges: tuple[Exchange, ...]
    checks: Checks = Checks()
    weight: float = 1.0
    order: Order = "round-robin"
    method: str = ""
    """The method of gRPC that it calls, if its bodies are JSON until the server has told how that is written."""


Mix = tuple[NamedRequest, ...]


def encode_mix(mix: Mix) -> str:
    """A mix as JSON, for a load process. Bodies are spelled with a character for each byte."""
    return json.dumps(
        [
            {
                "name": request.name,
                "weight": request.weight,
                "order": request.order,
                "checks": asdict(request.checks),
                "exchanges": [(e.method, e.path, e.body.decode("latin-1"), e.fields) for e in request.exchanges],
            }
            for request in mix
        ]
    )


def decode_mix(text: str) -> Mix:
    """Reads what `encode_mix` wrote."""
    return tuple(
        NamedRequest(
            **{
                **request,
                "checks": Checks(**{key: _frozen(value) for key, value in request["checks"].items()}),
                "exchanges": tuple(
                    foreign_exchange(method, path, body.encode("latin-1"), fields=_frozen(fields))
                    for method, path, body, fields in request["exchanges"]
                ),
            }
        )
        for request in json.loads(text)
    )


def _frozen(value: Any) -> Any:
    """Rows of pairs as they were before JSON made lists of them. What a check compares with stays as it is."""
    if isinstance(value, list):
        return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value)
    return value
