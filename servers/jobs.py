"""Jobs: work that takes time and no CPU, and goes on whether or not its client is there."""

import threading
import time
from collections.abc import Callable
from functools import partial

from bench import contract
from servers.service_error import ServiceError
from servers.topics import Topic, Topics
from servers.waiting import Alarm, Alarms, once

MAX_JOBS = 100_000
KEPT_S = 5.0
"""How long a job that is done can still be asked for."""


class Job:
    """One job. Its steps are published to the topic `job-{id}`."""

    def __init__(self, job_id: int, steps: int, topic: Topic) -> None:
        self.id = job_id
        self.topic = topic
        self.steps = steps
        self.step = 0
        self.waiting: list[Callable[[], None]] = []
        """Called once it is done."""

    @property
    def is_done(self) -> bool:
        return self.step == self.steps

    def state(self) -> bytes:
        """As clients see it."""
        return contract.encode_job(self.id, self.step, self.steps)


class Jobs:
    """The jobs of a process. Safe to use from many threads."""

    def __init__(self, topics: Topics, alarms: Alarms, holds: Alarms) -> None:
        """`alarms` are for the work itself, `holds` for when an answer is held back no longer."""
        self._topics = topics
        self._alarms = alarms
        self._holds = holds
        self._lock = threading.Lock()
        self._jobs: dict[int, Job] = {}
        self._last_id = 0

    def submit(self, duration_s: float, steps: int) -> bytes:
        """Start a job. Gives its state. Raises ServiceError 503 for one too many."""
        with self._lock:
            if len(self._jobs) >= MAX_JOBS:
                raise ServiceError(503, f"there are {MAX_JOBS} jobs already")
            self._last_id += 1
            number = self._last_id
            job = self._jobs[number] = Job(number, steps, self._topics.make(f"job-{number}"))
        begun_s = time.monotonic()
        for step in range(1, steps + 1):
            self._alarms.at(begun_s + duration_s * step / steps, partial(self._advance, job))
        return job.state()

    def read(self, job_id: int) -> bytes:
        """A job's state. Raises ServiceError 404."""
        return self._job(job_id).state()

    def await_end(self, job_id: int, wait_s: float, reply: Callable[[bytes], None]) -> Callable[[], None] | None:
        """Reply with a job's state once it is done, or the time is over (see `servers.service.Defer`). Raises
        ServiceError 404."""
        job = self._job(job_id)
        answer = once(reply)
        held: list[Alarm] = []

        def tell() -> None:
            answer(job.state)
            for alarm in held:
                alarm.cancel()

        with self._lock:
            if not job.is_done:
                job.waiting.append(tell)
        if job.is_done:
            tell()
            return None
        held.append(self._holds.at(time.monotonic() + wait_s, tell))

        def hasten() -> None:
            with self._lock:
                if tell in job.waiting:
                    job.waiting.remove(tell)
            tell()

        return hasten

    def _job(self, job_id: int) -> Job:
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise ServiceError(404, f"no such job: {job_id}")
        return job

    def _advance(self, job: Job) -> None:
        with self._lock:
            job.step += 1
            waiting, job.waiting = (job.waiting, []) if job.is_done else ([], job.waiting)
        job.topic.publish(job.state())
        for answer in waiting:
            answer()
        if job.is_done:
            self._alarms.at(time.monotonic() + KEPT_S, partial(self._forget, job))

    def _forget(self, job: Job) -> None:
        with self._lock:
            self._jobs.pop(job.id, None)
        self._topics.forget(f"job-{job.id}")
