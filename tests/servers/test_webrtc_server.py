"""The WebRTC server, asked by aiortc's own peers: what data channels carry, what offers get, and how it all ends."""

import asyncio
import hashlib
import json
import socket
from typing import Any

import pytest

from bench import contract
from bench.serverprocess import ServerProcess
from bench.wire.frames import FATAL, NO_ID, SUBPROTOCOL, decode_datagram, encode_event, encode_frame, encode_named
from bench.wire.webrtc_signalling import MAX_DESCRIPTION_BYTES, MAX_MESSAGE_BYTES, decode_description
from servers import webrtc_peer
from servers.counters import REQUESTS
from servers.topics import MAX_BEHIND_BYTES
from tests.servers.execution_helpers import Serve
from tests.servers.execution_helpers import until as wait_until
from tests.servers.webrtc_harness import Inbox, Server, calling, run, served, until


def offer_of(sdp: str) -> bytes:
    return json.dumps({"type": "offer", "sdp": sdp}).encode()


SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789012345678901",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:actpass",
        "a=mid:0",
        "a=sctp-port:5000",
        "",
    ]
)
"""An offer of a peer that never comes."""


class TestMessages:
    """Channels whose label names an operation."""

    def test_an_echo_is_what_was_sent_as_it_was_sent(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("echo")
                await caller.call()
                for message in ("text", b"binary", "", b"", "é" * 5000, bytes(range(256)) * 400):
                    assert await inbox.ask(message) == message
                assert server.slot.values[REQUESTS] == 1 + 6  # the offer too

        run(test)

    @pytest.mark.parametrize(
        ("label", "message", "answer"),
        [
            ("/echo", b"x", b"x"),
            ("bytes/1000", "", contract.pattern(1000)),
            ("bytes/100?chunk=7", b"ignored", contract.pattern(100)),
            ("work?cpu_us=10&wait_ms=20", "go", "done"),
            ("health", b"", b"ok"),
            ("health", "", "ok"),
            ("upload", b"y" * 70_000, contract.upload_receipt(70_000, hashlib.sha256(b"y" * 70_000).digest())),
        ],
    )
    def test_every_operation(self, label: str, message: bytes | str, answer: bytes | str) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel(label)
                await caller.call()
                assert await inbox.ask(message) == answer

        run(test)

    def test_unordered_without_retransmission(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("echo", ordered=False, maxRetransmits=0)
                await caller.call()
                await inbox.ask(b"first")
                for number in range(200):
                    inbox.channel.send(b"%d" % number)
                assert {await inbox.next() for _ in range(200)} == {b"%d" % number for number in range(200)}

        run(test)

    def test_one_peer_has_many_channels_at_once(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inboxes = [caller.channel(f"bytes/{size}") for size in range(1, 40)]
                await caller.call()
                answers = await asyncio.gather(*(inbox.ask("") for inbox in inboxes))
                assert [len(answer) for answer in answers] == list(range(1, 40))

        run(test)

    @pytest.mark.parametrize(
        ("label", "why"),
        [
            ("nonsense", "404 no such operation: /nonsense"),
            ("", "404 no such operation: /"),
            ("webrtc/offer", "404 no such operation: /webrtc/offer"),
            ("bytes/many", "400 an argument of /bytes/many is not a whole number"),
            ("topics/b a d", "400 a topic's name is 1 to 64 letters, digits, dots, dashes or underscores"),
        ],
    )
    def test_a_bad_label_is_told_why_and_closed(self, label: str, why: str) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                bad, good = caller.channel(label), caller.channel("echo")
                await caller.call()
                assert await bad.next() == why
                await bad.end()
                assert await good.ask("still here") == "still here"

        run(test)

    def test_an_answer_that_does_not_fit_is_refused(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                fits, not_ = caller.channel(f"bytes/{MAX_MESSAGE_BYTES}"), caller.channel("bytes/262145")
                await caller.call()
                assert await not_.ask("") == f"413 the answer is longer than {MAX_MESSAGE_BYTES} bytes"
                await not_.end()
                assert await fits.ask("") == contract.pattern(MAX_MESSAGE_BYTES)

        run(test)

    def test_a_channel_too_many_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webrtc_peer, "MAX_CHANNELS", 2)

        async def test() -> None:
            async with served() as server, calling(server) as caller:
                first, second, third = (caller.channel("echo") for _ in range(3))
                await caller.call()
                assert await first.ask("1") == "1"
                assert await second.ask("2") == "2"
                await third.end()
                second.channel.close()
                await second.end()
                assert await caller.channel("echo").ask("4") == "4"

        run(test)

    def test_who_asks_for_more_than_it_takes_is_cut_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webrtc_peer, "MAX_UNSENT_BYTES", 1_000_000)

        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("bytes/200000")
                await caller.call()
                await inbox.ask("")
                for _ in range(100):
                    inbox.channel.send("")
                await inbox.end()
                await until(lambda: not server.worker.connections, "the peer is gone")

        run(test)


class TestEvents:
    """Channels whose label names a topic."""

    def test_what_one_publishes_all_get(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as one, calling(server) as other:
                inboxes = [one.channel("topics/news"), one.channel("topics/news"), other.channel("topics/news")]
                elsewhere = other.channel("topics/else")
                await asyncio.gather(one.call(), other.call())
                topic = server.worker.service.topics.topic("news")
                await until(lambda: topic.subscribers == 3, "all have subscribed")
                await elsewhere.opened.wait()
                for number in range(20):
                    inboxes[0].channel.send(f"event {number}")
                for inbox in inboxes:
                    assert [await inbox.next() for _ in range(20)] == [f"event {number}" for number in range(20)]
                assert elsewhere.received.empty()
                inboxes[1].channel.close()
                await until(lambda: topic.subscribers == 2, "the channel's subscription is gone")
                await other.connection.close()
                await until(lambda: topic.subscribers == 1, "the peer's subscription is gone")

        run(test)

    @pytest.mark.parametrize("message", [b"binary", "x" * 65537])
    def test_what_is_no_event_is_refused(self, message: bytes | str) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("topics/news")
                await caller.call()
                told = await inbox.ask(message)
                assert isinstance(told, str)
                assert told.startswith(("400 events are text", "413 an event is at most"))
                await inbox.end()

        run(test)


class TestFrames:
    """Channels whose protocol says that messages are frames."""

    @pytest.mark.parametrize(
        ("frame", "status", "payload"),
        [
            (encode_frame(1, b"abcd", b"hello"), 200, b"hello"),
            (encode_frame(2, b"abcd", b"", a=5), 200, contract.pattern(5)),
            (encode_frame(99, b"abcd", b""), 404, b"no such operation: 99"),
            (encode_frame(4, b"abcd", b"", b=1 << 31), 400, b"work: cpu_us must be"),
            (encode_frame(2, b"abcd", b"", a=MAX_MESSAGE_BYTES), 413, b"the answer is longer than 262124 bytes"),
        ],
    )
    def test_a_request_is_answered_with_its_id(self, frame: bytes, status: int, payload: bytes) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("any", protocol=SUBPROTOCOL)
                await caller.call()
                answer = await inbox.ask(frame)
                assert isinstance(answer, bytes)
                code, _, _, frame_id, body = decode_datagram(answer)
                assert (code, frame_id) == (status, b"abcd")
                assert body.startswith(payload)

        run(test)

    @pytest.mark.parametrize("message", [b"", b"garbage", "text", encode_frame(200, b"abcd", b"an answer")])
    def test_what_is_no_request_ends_the_channel(self, message: bytes | str) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                bad, good = caller.channel("a", protocol=SUBPROTOCOL), caller.channel("b", protocol=SUBPROTOCOL)
                await caller.call()
                await bad.ask(encode_named("GET", "/topics/news", b"abcd"))
                last = await bad.ask(message)
                assert isinstance(last, bytes)
                assert last[1] & 15 == FATAL
                assert int.from_bytes(last[2:4], "big") == 400
                assert last[16:20] == NO_ID
                await bad.end()
                assert bad.received.empty()
                assert await good.ask(encode_frame(0, b"abcd", b"")) == encode_frame(200, b"abcd", b"ok")

        run(test)

    def test_a_request_too_many_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webrtc_peer, "MAX_IN_FLIGHT", 2)

        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("a", protocol=SUBPROTOCOL)
                await caller.call()
                await inbox.ask(encode_frame(0, b"abcd", b""))
                for number in range(3):
                    inbox.channel.send(encode_frame(4, b"%04d" % number, b"", b=50))
                answers = [await inbox.next() for _ in range(3)]
                assert [int.from_bytes(answer[2:4], "big") for answer in answers if isinstance(answer, bytes)] == [
                    503,
                    200,
                    200,
                ]

        run(test)

    @pytest.mark.parametrize(
        ("name", "status", "payload"),
        [
            ("GET /todos?limit=0", 200, b"[]"),
            ("POST /topics/news", 200, b"1"),
            ("GET /nothing", 404, b"no such operation: /nothing"),
            ("GET /topics/b%20d", 400, b"a topic's name is"),
            ("PUT /health", 405, b"allowed here: GET"),
        ],
    )
    def test_a_request_may_name_its_operation(self, name: str, status: int, payload: bytes) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("any", protocol=SUBPROTOCOL)
                await caller.call()
                answer = await inbox.ask(encode_named(*name.split(), b"abcd"))
                assert isinstance(answer, bytes)
                code, _, _, frame_id, body = decode_datagram(answer)
                assert (code, frame_id) == (status, b"abcd")
                assert body.startswith(payload)

        run(test)

    def test_a_subscription_goes_on_after_an_event_and_ends_with_the_server(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                topic = server.worker.service.topics.topic("news")
                for number in range(1, 4):
                    topic.publish(b"%d" % number)
                inbox = caller.channel("any", protocol=SUBPROTOCOL)
                await caller.call()
                await inbox.ask(encode_named("GET", "/topics/news?after=1", b"abcd"))
                topic.publish(b"4")
                assert [await inbox.next() for _ in range(3)] == [
                    encode_event(b"abcd", number, b"%d" % number) for number in (2, 3, 4)
                ]
                server.worker.drain()
                assert await inbox.next() == encode_frame(200, b"abcd", b"")
                await inbox.end()
                assert not topic.subscribers

        run(test)

    def test_a_subscriber_that_is_too_far_behind_is_cut_off(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as slow, calling(server) as other:
                inbox, _ = slow.channel("any", protocol=SUBPROTOCOL), other.channel("echo")
                await asyncio.gather(slow.call(), other.call())
                await inbox.ask(encode_named("GET", "/topics/news", b"abcd"))
                topic = server.worker.service.topics.topic("news")
                for _ in range(2 + MAX_BEHIND_BYTES // 65536):
                    topic.publish(b"x" * 65536)
                await inbox.end()
                await until(lambda: not topic.subscribers, "the subscription is gone")
                await until(lambda: len(server.worker.connections) == 1, "it is gone, and the other is not")

        run(test)


def changed(old: str, new: str) -> bytes:
    assert old in SDP
    return offer_of(SDP.replace(old, new))


BAD_OFFERS = {
    "not JSON": (b"v=0", 400, "the offer is not JSON"),
    "nothing": (b"", 400, "the offer is not JSON"),
    "deep JSON": (b"[" * 60_000, 400, "the offer is not JSON"),
    "a list": (b"[]", 400, 'expected {"type": "offer", "sdp": "..."}'),
    "no SDP": (b'{"type": "offer"}', 400, 'expected {"type": "offer", "sdp": "..."}'),
    "an answer": (offer_of(SDP).replace(b"offer", b"answer"), 400, 'expected {"type": "offer", "sdp": "..."}'),
    "SDP of nothing": (offer_of(""), 400, "the SDP must have one section"),
    "video": (changed("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=video 9 RTP/AVPF 96"), 400, "the"),
    "video too": (offer_of(SDP + "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), 400, "the SDP must have one section"),
    "TCP": (changed("UDP/DTLS", "TCP/DTLS"), 400, "the section must be UDP/DTLS/SCTP webrtc-datachannel"),
    "no password": (changed("a=ice-pwd", "a=ice-pass"), 400, "ice-pwd is missing or malformed"),
    "short user": (changed("abcd", "abc"), 400, "ice-ufrag is missing or malformed"),
    "no fingerprint": (changed("a=fingerprint", "a=finger"), 400, "fingerprint is missing or malformed"),
    "passive": (changed("actpass", "passive"), 400, "setup must be actpass"),
    "a bad mid": (changed("a=mid:0", "a=mid:a b"), 400, "mid is missing or malformed"),
    "a bad port": (changed("5000", "70000"), 400, "sctp-port must be a whole number up to 65535"),
    "lite": (offer_of(SDP + "a=ice-lite\r\n"), 400, "ice-lite: a peer that makes no checks"),
    "huge": (offer_of(SDP + "a=x\r\n" * MAX_DESCRIPTION_BYTES), 413, "an offer is at most 65536 bytes long"),
}


class TestOffers:
    """The signalling over HTTP."""

    @pytest.mark.parametrize("name", BAD_OFFERS)
    def test_a_bad_one_is_told_why_and_the_server_goes_on(self, name: str) -> None:
        body, status, why = BAD_OFFERS[name]

        async def test() -> None:
            async with served() as server:
                got = await server.post(body)
                assert got[0] == status
                assert got[1].decode().startswith(why)
                assert got[1].count(b"\n") == 1
                await until(lambda: not server.worker.connections, "nothing is left of it")
                assert (await server.post(offer_of(SDP)))[0] == 200

        run(test)

    def test_a_long_one_in_chunks_is_refused_too(self) -> None:
        async def test() -> None:
            async with served() as server:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"POST /webrtc/offer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
                writer.write(b"11170\r\n" + b"x" * 70_000 + b"\r\n0\r\n\r\n")
                writer.write(b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
                answers = await reader.read()
                writer.close()
                assert answers.startswith(b"HTTP/1.1 413 ")
                assert answers.endswith(b"\r\n\r\nok")

        run(test)

    def test_the_rest_is_served_as_http(self) -> None:
        async def test() -> None:
            async with served() as server:
                assert await server.post(b"x", "/echo") == (200, b"x")
                assert await server.post(b"", "/bytes/5", "GET") == (200, contract.pattern(5))
                assert (await server.post(b"", method="GET"))[0] == 405
                assert (await server.post(b"", "/webrtc"))[0] == 404

        run(test)

    def test_offers_and_requests_in_one_go_are_answered_in_order(self) -> None:
        async def test() -> None:
            async with served() as server:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                offer = offer_of(SDP)
                head = b"POST /webrtc/offer HTTP/1.1\r\nhost: test\r\ncontent-length: %d\r\n\r\n"
                writer.write((head % len(offer) + offer) * 2 + head % 1 + b"x")
                writer.write(b"GET /health HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
                answers = (await reader.read()).split(b"HTTP/1.1 ")[1:]
                writer.close()
                assert [answer[:3] for answer in answers] == [b"200", b"200", b"400", b"200"]
                assert b"content-type: application/json\r\n" in answers[0]
                descriptions = [
                    decode_description(answer.partition(b"\r\n\r\n")[2], "answer") for answer in answers[:2]
                ]
                assert descriptions[0].password != descriptions[1].password

        run(test)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_the_answer_names_the_address_of_the_signalling_alone(self, host: str) -> None:
        async def test() -> None:
            async with served(host) as server:
                status, body = await server.post(offer_of(SDP))
                assert status == 200
                answer = decode_description(body, "answer")
                assert [candidate.split()[4] for candidate in answer.candidates] == [host]
                assert answer.mid == "0"

        run(test)

    def test_an_offers_candidates_are_not_sent_anything(self) -> None:
        async def test() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
                victim.bind(("127.0.0.1", 0))
                victim.setblocking(False)
                port = victim.getsockname()[1]
                aimed = SDP + f"a=candidate:1 1 udp 2130706431 127.0.0.1 {port} typ host\r\na=end-of-candidates\r\n"
                async with served() as server:
                    assert (await server.post(offer_of(aimed)))[0] == 200
                    await asyncio.sleep(0.1)  # five times what ICE waits between checks
                    with pytest.raises(BlockingIOError):
                        victim.recv(100)

        run(test)

    def test_a_peer_that_never_comes_is_forgotten(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(webrtc_peer, "CONNECT_TIMEOUT_S", 0.1)

        async def test() -> None:
            async with served() as server:
                assert (await server.post(offer_of(SDP)))[0] == 200
                await until(lambda: not server.worker.connections, "the peer is forgotten")

        run(test)

    def test_without_sockets_the_server_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def test() -> None:
            async def none(*_: Any) -> list[Any]:
                return []  # what aioice gives where no socket can be bound

            monkeypatch.setattr("aioice.ice.Connection.get_component_candidates", none)
            async with served() as server:
                assert await server.post(offer_of(SDP)) == (503, b"no UDP socket can be had for a peer\n")
                await until(lambda: not server.worker.connections, "nothing is left of it")

        run(test)


class TestEnds:
    """How a peer ends, and what is left then: nothing."""

    def test_draining_finishes_what_is_in_flight(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                slow, idle = caller.channel("work?wait_ms=150"), caller.channel("echo")
                frames = caller.channel("a", protocol=SUBPROTOCOL)
                await caller.call()
                await idle.ask("x")
                slow.channel.send("")
                await until(lambda: server.slot.values[REQUESTS] == 3, "the request is in flight")
                server.worker.drain()
                assert await slow.next() == "done"
                await asyncio.gather(slow.end(), idle.end(), frames.end())
                await until(lambda: not server.worker.connections, "the peer is gone")

        run(test)

    def test_draining_ends_peers_that_have_not_come(self) -> None:
        async def test() -> None:
            async with served() as server:
                assert (await server.post(offer_of(SDP)))[0] == 200
                server.worker.drain()
                await until(lambda: not server.worker.connections, "the peer is gone")

        run(test)

    def test_aborting_ends_all_at_once(self) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as caller:
                inbox = caller.channel("work?wait_ms=60000")
                echo = caller.channel("echo")
                await caller.call()
                await echo.ask("x")
                inbox.channel.send("")
                assert (await server.post(offer_of(SDP)))[0] == 200
                for connection in list(server.worker.connections):
                    connection.abort()
                    connection.abort()
                await until(lambda: not server.worker.connections, "all are gone")
                await inbox.end()

        run(test)

    def test_a_peer_that_closes_is_let_go(self) -> None:
        async def test() -> None:
            async with served() as server:
                async with calling(server) as caller:
                    inbox = caller.channel("echo")
                    await caller.call()
                    await inbox.ask("x")
                    for _ in range(50):
                        inbox.channel.send(b"y" * 5000)  # answers that meet a closed connection
                await until(lambda: not server.worker.connections, "the peer is gone")

        run(test)

    @pytest.mark.parametrize(
        "data", [b"", b"x" * 16, bytes(1200), b"\x13\x88\x13\x88" + bytes(8) + b"\x00\x03\x00\x05"], ids=len
    )
    def test_one_that_breaks_sctp_is_no_trouble(self, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            async with served() as server, calling(server) as bad, calling(server) as good:
                broken, fine = bad.channel("echo"), good.channel("echo")
                await asyncio.gather(bad.call(), good.call())
                await broken.ask("x")
                assert bad.connection.sctp is not None
                if data:
                    await bad.connection.sctp.transport._send_data(data)
                await open_again(broken)
                await broken.end()
                assert await fine.ask("still here") == "still here"

        run(test)
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def open_again(inbox: Inbox) -> None:
    """Open a channel where one is, which aiortc asserts that nobody does."""
    assert inbox.channel.id is not None
    await inbox.channel.transport._send(inbox.channel.id, 50, b"\x03" + bytes(11))


class TestProcesses:
    """The server as a process of its own."""

    @pytest.mark.parametrize("execution", ["single", "threads", "prefork", "reuseport"])
    @pytest.mark.parametrize("tls", ["off", "1.2"])
    def test_it_runs_under_the_execution_models(self, serve: Serve, execution: str, tls: str) -> None:
        process: ServerProcess = serve("webrtc", execution, workers=2, tls=tls)
        if tls == "off":

            async def test() -> None:
                there = Server(process.host)
                there.port = process.port
                async with calling(there) as caller:
                    inbox = caller.channel("echo")
                    await caller.call()
                    assert await inbox.ask("hello") == "hello"

            run(test)
        process.stop()
        assert process.stderr == ""

    @pytest.mark.parametrize("grace_s", [0.0, 5.0])
    @pytest.mark.parametrize("execution", ["single", "threads"])
    def test_it_stops_while_peers_are_there(self, serve: Serve, execution: str, grace_s: float) -> None:
        process: ServerProcess = serve("webrtc", execution, workers=2, tls="off", grace_s=grace_s)

        async def test() -> None:
            there = Server(process.host)
            there.port = process.port
            async with calling(there) as caller:
                inbox = caller.channel("echo")
                await caller.call()
                assert await inbox.ask("hello") == "hello"
                assert (await there.post(offer_of(SDP)))[0] == 200
                await asyncio.to_thread(process.stop)
                await inbox.end()

        run(test)
        wait_until(lambda: process.stderr == "", "no complaint")
