"""What wirebench claims of publish-subscribe: the embedded broker's rate, and RabbitMQ's against a bare aio-pika
loop."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import brokers
from bench.brokers import RunningBroker
from bench.errors import WirebenchError
from bench.peers.comparison import Measure, Question, Sample, Setting
from bench.peers.process import PeerProcess, VoidError
from bench.peers.programs import PythonProgram

_AIO_PIKA = PythonProgram("aio_pika", "pip install aio-pika")
_READERS = 8
_MORE_S = 60.0
"""What starting, declaring and draining may take."""


def broker_questions() -> list[Question]:
    """The questions, in the order of the table."""
    rabbitmq = brokers.choose("rabbitmq").program
    assert rabbitmq is not None
    return [
        Question(
            "embedded-broker",
            "embedded broker, one reader: messages confirmed when they are on the disk",
            ("embedded",),
            "requests/s",
            "higher",
            20_000,
            (),
            _open_embedded,
        ),
        Question(
            "rabbitmq-fan-out",
            f"RabbitMQ, durable fan-out to {_READERS} readers, deliveries: wirebench against a bare aio-pika loop",
            ("wirebench", _AIO_PIKA.name),
            "requests/s",
            "higher",
            0.9,
            (rabbitmq, _AIO_PIKA),
            _open_rabbitmq,
        ),
    ]


@contextmanager
def _open_embedded(setting: Setting) -> Iterator[Sequence[Measure]]:
    with _running("embedded", setting) as broker:
        yield (partial(_measure, "wirebench", broker, 1, "confirmed_per_s", setting),)


@contextmanager
def _open_rabbitmq(setting: Setting) -> Iterator[Sequence[Measure]]:
    with _running("rabbitmq", setting) as broker:
        yield [
            partial(_measure, side, broker, _READERS, "delivered_per_s", setting)
            for side in ("wirebench", _AIO_PIKA.name)
        ]


@contextmanager
def _running(name: str, setting: Setting) -> Iterator[RunningBroker]:
    try:
        with brokers.running(name, cpus=setting.placement.server) as broker:
            yield broker
    except WirebenchError as error:
        raise VoidError(str(error)) from None


def _measure(side: str, broker: RunningBroker, readers: int, figure: str, setting: Setting) -> Sample:
    """One run in a process of its own. Raises VoidError, also for a single error or a message that was lost."""
    words = [side, broker.name, broker.address, str(readers), str(setting.duration_s)]
    command = [sys.executable, "-P", "-m", "bench.peers.broker_sides", *words]
    with (
        tempfile.TemporaryDirectory() as folder,
        PeerProcess(side, command, setting.placement.load, Path(folder)) as process,
    ):
        found = json.loads(process.output(setting.duration_s + _MORE_S))
    if found["errors"] or found["lost"] or not found[figure]:
        raise VoidError(f"{side}: errors {found['errors']}, {found['lost']} lost, {found[figure]:g} messages/s")
    return Sample(found[figure])
