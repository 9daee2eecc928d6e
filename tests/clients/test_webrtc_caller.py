"""Calls, subscribers and publishers over data channels, with the server of this project and one that breaks rules."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bench import contract
from bench.conversation import Reply
from bench.errors import CallError, ProtocolError
from bench.wire.frames import NO_ID, encode_frame
from bench.wire.webrtc_signalling import MAX_MESSAGE_BYTES
from clients.webrtc_caller import WebrtcCaller, WebrtcPublisher, WebrtcSubscriber
from servers.webrtc_peer import WebrtcPeer
from tests.servers.webrtc_harness import Server, run, served, until


class Link:
    """The load's side, which only remembers."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.ends: list[Exception | None] = []

    def answered(self, ids: Sequence[Any]) -> None:
        self.answers += ids

    def lost(self, error: Exception | None) -> None:
        self.ends.append(error)


async def connected(server: Server, client: Any) -> Link:
    link = Link()
    await client.connect(server.host, server.port, None, link)
    return link


def test_events_reach_who_has_subscribed_and_are_acknowledged() -> None:
    async def test() -> None:
        async with served() as server:
            topic = server.worker.service.topics.topic("news")
            topic.publish(b"before")
            subscriber, publisher = WebrtcSubscriber("news?after=0", "x", "http"), WebrtcPublisher("news", "x", "http")
            heard, told = await connected(server, subscriber), await connected(server, publisher)
            assert topic.subscribers == 1  # once it is connected, its subscription stands
            for number in range(5):
                assert publisher.publish(b"%d" % number) == []
            await until(lambda: len(told.answers) == 5, "all are acknowledged")
            await until(lambda: len(heard.answers) == 6, "all are delivered")
            assert heard.answers == [b"before", b"0", b"1", b"2", b"3", b"4"]
            subscriber.close()
            publisher.close()
            await until(lambda: heard.ends == told.ends == [None], "both have ended")

    run(test)


def test_a_subscription_that_is_refused_is_no_connection() -> None:
    async def test() -> None:
        async with served() as server:
            with pytest.raises(ProtocolError, match="status 400: a topic's name is"):
                await connected(server, WebrtcSubscriber("b%20d", "x", "http"))

    run(test)


def test_a_publisher_that_is_refused_hears_why() -> None:
    async def test() -> None:
        async with served() as server:
            publisher = WebrtcPublisher("news", "x", "http")
            link = await connected(server, publisher)
            publisher.publish(b"x" * 65_537)
            await until(lambda: link.ends, "the link hears of the end")
            assert str(link.ends[0]) == "status 413: an event is at most 65536 bytes long"

    run(test)


def test_a_request_that_fits_into_no_message_is_a_failed_call() -> None:
    async def test() -> None:
        async with served() as server:
            caller = WebrtcCaller("x", "http")
            link = await connected(server, caller)
            with pytest.raises(CallError, match="at most 262144 bytes"):
                caller.ask(contract.foreign_exchange("POST", "/echo", b"x" * MAX_MESSAGE_BYTES))
            call_id, _ = caller.ask(contract.foreign_exchange("POST", "/echo", b"x"))
            await until(lambda: link.answers, "it is answered")
            assert link.answers == [(call_id, Reply(200, b"x"))]
            caller.close()
            await until(lambda: link.ends == [None], "it has ended")

    run(test)


@pytest.mark.parametrize("message", ["text", b"garbage", encode_frame(200, NO_ID, b"") + b"W", b"W\x10"])
def test_a_message_that_is_no_whole_frame_ends_the_connection(message: bytes | str) -> None:
    async def test() -> None:
        async with served() as server:
            link = await connected(server, WebrtcSubscriber("news", "x", "http"))
            (peer,) = (found for found in server.worker.connections if isinstance(found, WebrtcPeer))
            (channel,) = peer._peer.sctp._data_channels.values()
            channel.send(message)
            async with asyncio.timeout(5):
                await until(lambda: link.ends, "the link hears of the end")
            assert isinstance(link.ends[0], ProtocolError)

    run(test)
