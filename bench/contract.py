"""What both ends agree on: the operations of the service, their spelling in each protocol, and the expected bytes.

Operations
    echo    answers with the body it was sent
    bytes   answers with `n` bytes of a fixed pattern, optionally in pieces of `chunk` bytes
    upload  reads a body and answers with its length (8 bytes, big-endian) and SHA-256 (32 bytes)
    work    burns `cpu_us` microseconds of CPU, waits `wait_ms` milliseconds, and answers "done"
    health  answers "ok"

HTTP spells them as paths (`POST /echo`, `GET /bytes/64?chunk=16`, `PUT /upload`, `GET /work?cpu_us=100&wait_ms=5`,
`GET /health`); TCP and UDP frames as opcodes with two unsigned arguments (see `bench.wire.frames`).
"""

import hashlib
from dataclasses import dataclass
from enum import IntEnum

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The largest body that a server reads or makes."""

MAX_CHUNKS = 65_536
"""The most pieces that an answer may be asked for in."""

MAX_WORK_CPU_US = 10_000_000
MAX_WORK_WAIT_MS = 60_000


class Opcode(IntEnum):
    """An operation as a number, for the binary framings."""

    HEALTH = 0
    ECHO = 1
    BYTES = 2
    UPLOAD = 3
    WORK = 4


OPERATIONS = tuple(opcode.name.lower() for opcode in Opcode)

METHODS = {
    Opcode.HEALTH: ("GET", "HEAD"),
    Opcode.ECHO: ("POST", "PUT"),
    Opcode.BYTES: ("GET", "HEAD"),
    Opcode.UPLOAD: ("PUT", "POST"),
    Opcode.WORK: ("GET", "POST"),
}
"""The HTTP methods that each operation answers to; the first is the one that clients use."""

HEALTH_BODY = b"ok"
WORK_BODY = b"done"


_PATTERN = hashlib.shake_128(b"wirebench").digest(1 << 20)


def pattern(n: int) -> bytes:
    """The first `n` bytes of the fixed pattern that `bytes` answers with: incompressible, period 1 MiB."""
    if n <= len(_PATTERN):
        return _PATTERN[:n]
    return (_PATTERN * (n // len(_PATTERN) + 1))[:n]


def upload_receipt(length: int, digest: bytes) -> bytes:
    """The 40-byte answer to an upload: length (8 bytes, big-endian), then SHA-256."""
    return length.to_bytes(8, "big") + digest


@dataclass(frozen=True)
class Exchange:
    """One request and the answer it must get, before any protocol has encoded it.

    HTTP uses `method` and `path`; the binary framings use `opcode`, `a` and `b` (n and chunk for bytes, cpu_us and
    wait_ms for work, else 0).
    """

    method: str
    path: str
    opcode: Opcode
    a: int
    b: int
    body: bytes
    answer: bytes


def exchange(opcode: Opcode, payload_bytes: int = 0, a: int = 0, b: int = 0) -> Exchange:
    """The exchange of an operation: `payload_bytes` is the size of the request body for echo and upload, and of the
    answer for bytes."""
    body = pattern(payload_bytes) if opcode in (Opcode.ECHO, Opcode.UPLOAD) else b""
    path = f"/{opcode.name.lower()}"
    match opcode:
        case Opcode.ECHO:
            answer = body
        case Opcode.BYTES:
            a, answer = payload_bytes, pattern(payload_bytes)
            path += f"/{a}" + (f"?chunk={b}" if b else "")
        case Opcode.UPLOAD:
            answer = upload_receipt(len(body), hashlib.sha256(body).digest())
        case Opcode.WORK:
            answer = WORK_BODY
            path += f"?cpu_us={a}&wait_ms={b}"
        case Opcode.HEALTH:
            answer = HEALTH_BODY
    return Exchange(METHODS[opcode][0], path, opcode, a, b, body, answer)


def foreign_exchange(method: str, path: str, body: bytes = b"", answer: bytes = b"") -> Exchange:
    """An exchange with a server of somebody else's, over HTTP."""
    return Exchange(method, path, Opcode.ECHO, 0, 0, body, answer)
