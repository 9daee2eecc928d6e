"""Locust's master, in a process of its own (see `master_locustfile`): where workers join, and the web UI."""

import contextlib
import time
from collections import deque
from typing import Any, Self

from bench.childprocess import ChildEndedError, ChildProcess
from bench.distributed.crew import Crew
from bench.errors import LoadFailedError

_STARTUP_TIMEOUT_S = 30.0
_LEAVING_TIMEOUT_S = 5.0


class LocustMaster:
    """Locust's master for a crew that loads the server at that URL, while the context lasts."""

    def __init__(self, crew: Crew, url: str) -> None:
        self._crew = crew
        self._url = url
        self._early: deque[dict[str, Any]] = deque()
        self.port = 0
        self.web_url = ""

    def __enter__(self) -> Self:
        (host, port), (web_host, web_port) = self._crew.bind, self._crew.web
        self._process = ChildProcess("bench.distributed")
        try:
            arguments = [
                *("--master", "--master-bind-host", host, "--master-bind-port", str(port)),
                *("--web-host", web_host, "--web-port", str(web_port)),
                *("--host", self._url, "--loglevel", "WARNING"),
            ]
            self._process.send({"locustfile": "master_locustfile", "arguments": arguments})
            deadline = time.monotonic() + _STARTUP_TIMEOUT_S
            while (event := self._hear(deadline - time.monotonic())) is not None and event["event"] != "listening":
                self._early.append(event)  # workers may be quicker than the web UI
            if event is None:
                raise LoadFailedError("Locust's master did not start in time")
        except BaseException:
            self._process.kill()
            raise
        self.port = event["port"]
        self.web_url = f"http://{web_host}:{event['web_port']}/"
        return self

    def __exit__(self, *_: object) -> None:
        if not self._process.closed:
            self._process.release()
            with contextlib.suppress(KeyboardInterrupt):  # the run is over: it ends sooner, and keeps what it has
                self._process.wait(_LEAVING_TIMEOUT_S)
        self._process.kill()

    def next_event(self, timeout_s: float) -> dict[str, Any] | None:
        """What it says next, or None if nothing in that time. Raises LoadFailedError."""
        return self._early.popleft() if self._early else self._hear(timeout_s)

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        try:
            return self._process.next_event(max(0.0, timeout_s))
        except ChildEndedError as error:
            raise LoadFailedError(f"Locust's master {error}") from None

    @property
    def has_ended(self) -> bool:
        """Whether the process is no more; nobody hears then what it is told."""
        return self._process.closed

    def send(self, worker: str, say: str, **fields: Any) -> None:
        """A message to a worker."""
        self.tell(to=worker, send={"say": say, **fields})

    def tell(self, **told: Any) -> None:
        """Something that the process itself is to do."""
        if not self.has_ended:
            self._process.send(told)
