"""The one application that every server exposes: the same operations, the same bytes, over every protocol.

A protocol turns what it reads into a `Route` (an operation with its arguments) and a body; whoever runs requests
(see `servers.worker`) calls `route.execute(body)` and then waits `route.wait_s` in its own way: an event loop with a
timer, a thread by sleeping.
"""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qsl

from bench import contract
from bench.contract import METHODS, OPERATIONS, Opcode


class ServiceError(Exception):
    """The service refuses a request. `status` is an HTTP status code; other protocols carry the same number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Upload:
    """A body that is hashed as it arrives and never held in memory."""

    __slots__ = ("_hash", "_length")

    def __init__(self) -> None:
        self._length = 0
        self._hash = hashlib.sha256()

    def feed(self, chunk: bytes) -> None:
        self._length += len(chunk)
        self._hash.update(chunk)

    def finish(self) -> bytes:
        return contract.upload_receipt(self._length, self._hash.digest())


class Collect(list[bytes]):
    """A body that is kept whole."""

    __slots__ = ()

    feed = list.append

    def finish(self) -> bytes:
        return b"".join(self)


class Route:
    """One operation with its arguments: resolved once, run many times, shared by all requests that are alike.

    A protocol feeds the request's body to a new `receiver()`, and passes what that one's `finish()` gives to `execute`,
    which never raises: whatever can be wrong with a request is known when it is routed.
    """

    __slots__ = ("chunk_bytes", "execute", "methods", "opcode", "receiver", "wait_s")

    def __init__(
        self,
        opcode: Opcode,
        execute: Callable[[bytes], bytes],
        receiver: type[Collect | Upload] = Collect,
        wait_s: float = 0.0,
        chunk_bytes: int = 0,
    ) -> None:
        self.opcode = opcode
        self.execute = execute
        self.receiver = receiver
        self.wait_s = wait_s
        """How long the answer must be held back after `execute`, in seconds."""
        self.chunk_bytes = chunk_bytes
        """The size of the pieces that the answer is to be sent in; 0 for no pieces."""
        self.methods = tuple(method.encode("ascii") for method in METHODS[opcode])


def _echo(body: bytes) -> bytes:
    return body


def _constant(answer: bytes, _body: bytes) -> bytes:
    return answer


def _bytes(n: int, _body: bytes) -> bytes:
    return contract.pattern(n)


def _work(cpu_ns: int, _body: bytes) -> bytes:
    # The thread's own CPU clock: under contention the work takes longer on the wall, never more or less CPU.
    clock = time.thread_time_ns
    until = clock() + cpu_ns
    while clock() < until:
        pass
    return contract.WORK_BODY


class Service:
    """Resolves operations to routes. It holds no state of its own, so one serves every worker of a process."""

    def __init__(self) -> None:
        self.known: dict[bytes, Route] = {}
        """The routes of targets that were met before; `route` knows the others."""
        self._opcodes: dict[tuple[int, int, int], Route] = {}

    def route(self, target: bytes) -> Route:
        """The route of an HTTP request target, like `b"/bytes/64"`.

        Raises ServiceError 404 for an unknown path and 400 for a bad argument.
        """
        route = self.known.get(target)
        if route is None:
            route = self._parse(target)
            if len(self.known) < 4096:
                self.known[target] = route
        return route

    def operation(self, opcode: int, a: int, b: int) -> Route:
        """The route of an operation given as a number and two arguments, as the binary framings carry it.

        Raises ServiceError 404 for an unknown opcode and 400 for a bad argument.
        """
        key = (opcode, a, b)
        route = self._opcodes.get(key)
        if route is None:
            route = self._make(opcode, a, b)
            if len(self._opcodes) < 4096:
                self._opcodes[key] = route
        return route

    def _parse(self, target: bytes) -> Route:
        path, _, query = target.decode("latin-1").partition("?")
        arguments = dict(parse_qsl(query))
        name, _, tail = path.removeprefix("/").partition("/")
        if name not in OPERATIONS or (tail and name != "bytes"):
            raise ServiceError(404, f"no such operation: {path}")
        opcode = Opcode[name.upper()]
        try:
            match opcode:
                case Opcode.BYTES:
                    a, b = int(tail), int(arguments.get("chunk", "0"))
                case Opcode.WORK:
                    a, b = int(arguments.get("cpu_us", "0")), int(arguments.get("wait_ms", "0"))
                case _:
                    a = b = 0
        except ValueError:
            raise ServiceError(400, f"an argument of {path} is not a whole number") from None
        return self._make(opcode, a, b)

    def _make(self, opcode: int, a: int, b: int) -> Route:
        match opcode:
            case Opcode.HEALTH:
                return Route(Opcode.HEALTH, partial(_constant, contract.HEALTH_BODY))
            case Opcode.ECHO:
                return Route(Opcode.ECHO, _echo)
            case Opcode.BYTES:
                if not (0 <= a <= contract.MAX_BODY_BYTES and 0 <= b <= contract.MAX_BODY_BYTES):
                    raise ServiceError(400, f"bytes: n and chunk must be 0 to {contract.MAX_BODY_BYTES}")
                if b and a > b * contract.MAX_CHUNKS:
                    raise ServiceError(400, f"bytes: n makes more than {contract.MAX_CHUNKS} pieces of chunk")
                return Route(Opcode.BYTES, partial(_bytes, a), chunk_bytes=b)
            case Opcode.UPLOAD:
                return Route(Opcode.UPLOAD, _echo, receiver=Upload)
            case Opcode.WORK:
                if not (0 <= a <= contract.MAX_WORK_CPU_US and 0 <= b <= contract.MAX_WORK_WAIT_MS):
                    raise ServiceError(
                        400,
                        f"work: cpu_us must be 0 to {contract.MAX_WORK_CPU_US} "
                        f"and wait_ms 0 to {contract.MAX_WORK_WAIT_MS}",
                    )
                return Route(Opcode.WORK, partial(_work, a * 1000), wait_s=b / 1000)
            case _:
                raise ServiceError(404, f"no such operation: {opcode}")
