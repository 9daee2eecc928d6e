"""Publish-subscribe as a load: what it counts, against every broker."""

import asyncio
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from bench.brokers import RunningBroker
from bench.load.histogram import summarise
from bench.load.pubsub import PubSub, PubSubSettings
from bench.loadprocess import merge
from bench.schedule import parse_load
from bench.wire.brokers import BrokerDownError

MS = 1_000_000


def measure(broker: RunningBroker, load: str, **other: Any) -> dict[str, Any]:
    """A short run with two readers."""
    settings: dict[str, Any] = {
        "broker": broker.name,
        "address": broker.address,
        "topic": f"t{uuid.uuid4().hex[:12]}",
        "load": parse_load(load, "load"),
        "readers": 2,
        "prefetch": 100,
        "ack": "after",
        "payload_bytes": 128,
        "drain_ns": 10_000 * MS,
    }

    async def run() -> dict[str, Any]:
        engine = PubSub(PubSubSettings(**{**settings, **other}))
        await engine.connect()
        start_ns = time.monotonic_ns()
        await engine.run(start_ns, start_ns + 50 * MS, start_ns + 450 * MS, 4)
        usage = dict.fromkeys(
            ("cpu_user_s", "cpu_system_s", "context_switches_voluntary", "context_switches_involuntary"), 0
        )
        result = engine.recorder.result() | {"delivery": engine.delivery(), "tally": engine.tally} | usage
        merged = merge([result])
        return merged | {"tally": Counter(merged["tally"])}

    return asyncio.run(run())


def test_an_open_load_reaches_every_reader(broker: RunningBroker) -> None:
    found = measure(broker, "open:200/s")
    assert found["completed"] == 160
    assert found["errors"] == {}
    assert (found["tally"]["confirmed"], found["tally"]["lost"], found["dropped"]) == (80, 0, 0)
    assert (found["delivery"]["published"], found["delivery"]["duplicates"]) == (80, 0)
    assert found["lateness"].get_total_count() == 80
    latency, service, confirm = (
        summarise(histogram) for histogram in (found["latency"], found["service"], found["delivery"]["confirm"])
    )
    assert latency is not None
    assert service is not None
    assert confirm is not None
    assert latency["count"] == service["count"] == 160
    assert latency["max"] >= service["min"] > 0
    assert 0 < confirm["count"] <= 90  # with those of the warm-up that were confirmed in the window


def test_a_closed_load_keeps_publishes_waiting(broker: RunningBroker) -> None:
    found = measure(broker, "closed:2x10", ack="before")
    assert found["tally"]["confirmed"] == found["delivery"]["published"] > 0
    assert found["completed"] == 2 * found["delivery"]["published"]
    assert found["tally"]["lost"] == 0
    assert found["done_in_window"] > 0


def test_readers_that_were_away_get_what_they_missed(broker: RunningBroker) -> None:
    found = measure(broker, "open:200/s", away=0.5)
    assert found["completed"] == 160
    assert found["tally"]["lost"] == 0
    assert found["latency"].get_max_value() > 50 * MS


def test_readers_that_end_in_their_work(broker: RunningBroker) -> None:
    """Acknowledged before it, work is lost; after it, it is done again."""
    before = measure(broker, "open:500/s", ack="before", crash=0.05)
    assert before["tally"]["crashes"] > 0
    assert before["tally"]["lost"] > 0
    assert before["delivery"]["duplicates"] == 0
    after = measure(broker, "open:500/s", ack="after", crash=0.05)
    assert after["tally"]["crashes"] > 0
    assert after["tally"]["lost"] == 0
    assert after["tally"]["redelivered"] > 0
    assert after["delivery"]["duplicates"] > 0


def test_messages_that_nobody_can_work_on_are_kept_apart(broker: RunningBroker) -> None:
    found = measure(broker, "open:500/s", poison=0.05)
    assert found["tally"]["rejected"] == found["tally"]["dead_letters"] > 0
    assert found["tally"]["lost"] == 0
    assert found["completed"] < 2 * found["delivery"]["published"]


def test_a_broker_that_is_down_ends_the_run(unused_tcp_port: int) -> None:
    with pytest.raises(BrokerDownError):
        measure(RunningBroker("embedded", f"wirebench://127.0.0.1:{unused_tcp_port}", ()), "open:10/s")
