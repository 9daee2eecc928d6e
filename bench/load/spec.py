"""What a load process is asked to do, as the JSON that starts it."""

import json
from dataclasses import dataclass, replace
from typing import Self

from bench import contract
from bench.contract import Exchange, Opcode, Security

PROGRESS_S = 1.0
"""How often a load process reports while it measures."""


@dataclass(frozen=True)
class Request:
    """Which request to send: an operation of our service, or any method and path of an HTTP server of somebody
    else's."""

    opcode: int = 0
    payload_bytes: int = 0
    a: int = 0
    b: int = 0
    foreign: tuple[str, str] | None = None
    """(method, path); the body is `payload_bytes` of the fixed pattern."""
    answer: str | None = None
    """The body that a foreign server must answer with, a character for each byte (latin-1); None if it is not known."""
    body: str | None = None
    """The body that a foreign server is sent, spelled likewise, where it is not of the pattern."""

    @property
    def check_content(self) -> bool:
        """Whether it is known what the answer must be."""
        if self.foreign is not None:
            return self.answer is not None
        return Opcode(self.opcode) not in contract.UNKNOWN_ANSWERS

    def exchange(self) -> Exchange:
        """The request and its expected answer."""
        if self.foreign is not None:
            method, path = self.foreign
            answer = (self.answer or "").encode("latin-1")
            body = contract.pattern(self.payload_bytes) if self.body is None else self.body.encode("latin-1")
            return contract.foreign_exchange(method, path, body, answer)
        return contract.exchange(Opcode(self.opcode), self.payload_bytes, self.a, self.b)


@dataclass(frozen=True)
class LoadSpec:
    """One load process's part of a trial. `load` and `connections` are spelled as users spell them, and whole: process
    number `process` of `processes` takes its share."""

    protocol: str
    client: str
    """"module:Class" of the client (see `bench.load.client`)."""
    host: str
    port: int
    request: Request
    load: str
    connections: str
    warmup_ns: int
    duration_ns: int
    timeout_ns: int
    queue_limit: int
    intervals: int
    """How many equal parts the measured window is reported in."""
    seed: int
    process: int = 0
    processes: int = 1
    cpus: tuple[int, ...] = ()
    authority: str = ""
    """What the server is called, where it has a name of its own; else it is host:port."""
    security: Security | None = None
    pattern: str = "request-response"
    """As users spell it (see `bench.patterns`)."""
    topic: str = ""
    """The name of a topic that is this trial's own, for patterns with events."""
    fast_open: bool = False
    """Connections begin with data in the SYN (TCP Fast Open), where each exchange has one of its own."""

    broker: str = ""
    """The address of the broker that the pattern goes through, if it goes through one."""
    mix: str = ""
    """The requests of the pattern mix, as `bench.mix` spells them."""

    since_ns: int = 0
    """What is due earlier after the start is left out: somebody else's, who has been lost since."""
    clock_offset_ns: int = 0
    """What to add to this machine's clock for the times that events carry from one machine to another."""

    @property
    def scheme(self) -> str:
        """The scheme of the server's URLs."""
        return "http" if self.security is None else "https"

    @property
    def called(self) -> str:
        """What requests call the server."""
        return self.authority or f"{self.host}:{self.port}"

    def parts(self, count: int, since_ns: int) -> list[Self]:
        """The same load from then on, shared by so many processes: what is due, and the connections."""
        return [
            replace(
                self, process=self.process + self.processes * n, processes=self.processes * count, since_ns=since_ns
            )
            for n in range(count)
        ]

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Reads the JSON of its fields."""
        fields = json.loads(line)
        request = fields.pop("request")
        foreign = request.pop("foreign")
        fields["request"] = Request(**request, foreign=tuple(foreign) if foreign else None)
        fields["cpus"] = tuple(fields["cpus"])
        if fields["security"] is not None:
            fields["security"] = Security(**fields["security"])
        return cls(**fields)
