"""The measurement of publish-subscribe: what it counts, against every broker."""

import asyncio
import uuid
from typing import Any

import pytest

from bench.brokers import RunningBroker
from bench.load.pubsub import PubSubSettings, run_pubsub
from bench.schedule import parse_load
from bench.wire.brokers import BrokerDownError


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
        "warmup_ns": 50_000_000,
        "duration_ns": 400_000_000,
        "drain_ns": 10_000_000_000,
    }
    return asyncio.run(run_pubsub(PubSubSettings(**{**settings, **other})))


def test_an_open_load_reaches_every_reader(broker: RunningBroker) -> None:
    found = measure(broker, "open:200/s")
    assert found["published"] == 80
    assert found["confirmed"] == 80
    assert found["delivered"] == 160
    assert [found[name] for name in ("lost", "duplicates", "wrong", "dropped", "unconfirmed")] == [0] * 5
    assert found["errors"] == {}
    assert found["delay_ns"]["count"] == found["service_ns"]["count"] == 160
    assert found["delay_ns"]["max"] >= found["service_ns"]["min"] > 0
    assert found["lateness_ns"]["count"] == 80


def test_a_closed_load_keeps_publishes_waiting(broker: RunningBroker) -> None:
    found = measure(broker, "closed:2x10", ack="before")
    assert found["confirmed"] == found["published"] > 0
    assert found["delivered"] == 2 * found["published"]
    assert found["lost"] == 0
    assert found["confirmed_per_s"] > 0
    assert found["delivered_per_s"] > 0
    assert found["lateness_ns"] is None


def test_a_broker_that_is_down_ends_the_run(unused_tcp_port: int) -> None:
    with pytest.raises(BrokerDownError):
        measure(RunningBroker("embedded", f"wirebench://127.0.0.1:{unused_tcp_port}", ()), "open:10/s")
