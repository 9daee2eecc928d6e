"""A pipeline through topics: an upload is published, and a worker for each stage reads one topic and publishes to the
next. Only what is published to the next is acknowledged, so no upload is lost on the way."""

import asyncio
from typing import Any

from bench.load.pubsub import PubSub, PubSubSettings, end_tasks
from bench.load.spec import LoadSpec
from bench.patterns import parse_pattern
from bench.schedule import Load
from bench.wire.brokers import Broker, Topic
from bench.wire.stages import STAGES, restore

_WORKER = "worker"
_PREFETCH = 500


class Pipeline(PubSub):
    """Publishes uploads to the first topic; the reader of the last is who is notified."""

    def __init__(self, settings: PubSubSettings) -> None:
        super().__init__(settings)
        self._topics = [settings.topic, *(f"{settings.topic}-{stage}" for stage in STAGES)]
        self._last_topic = self._topics[-1]
        self._workers: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        """As `PubSub.connect`; the first message goes through all stages."""
        try:
            await super().connect()
        except BaseException:
            await end_tasks(self._workers)
            raise

    async def run(self, start_ns: int, measure_ns: int, end_ns: int, intervals: int) -> None:
        """As `PubSub.run`."""
        try:
            await super().run(start_ns, measure_ns, end_ns, intervals)
        finally:
            await end_tasks(self._workers)

    async def _declare(self, user: Broker) -> None:
        for topic in self._topics[:-1]:
            await user.declare(Topic(topic, (_WORKER,)))
        await user.declare(Topic(self._last_topic, self._names))
        self._workers = [asyncio.create_task(self._keep(self._worker(index))) for index in range(len(STAGES))]

    def _worker(self, index: int) -> Any:
        run_stage = list(STAGES.values())[index]

        async def work(user: Broker) -> None:
            reader = await user.reader(self._topics[index], _WORKER, _PREFETCH, "after")
            publisher = await user.publisher(self._topics[index + 1])
            while True:
                messages = await reader.receive()
                await publisher.publish([run_stage(message.body) for message in messages])
                await reader.ack(messages)

        return work

    def _published(self, body: bytes) -> bytes:
        try:
            return restore(body)
        except ValueError:
            return b""  # which no message is


def make_engine(spec: LoadSpec, load: Load, _target: dict[str, Any]) -> Pipeline:
    """The engine of a load process."""
    _, words = parse_pattern(spec.pattern, "pattern")
    return Pipeline(PubSubSettings.of(spec, load, broker=words["broker"]))
