"""The clients of mixes: against h11, h2 and wsproto, whose servers answer as these tests tell them to."""

from collections.abc import Sequence
from typing import Any

import h11
import pytest
import wsproto
import wsproto.events
from http2_answering import Server

from bench.contract import foreign_exchange
from bench.errors import ProtocolError
from bench.load.mixing import Asks
from bench.mix import Checks, NamedRequest
from clients.grpc_mixed import GrpcMixedClient
from clients.http1_mixed import Http1MixedClient
from clients.http2_mixed import Http2MixedClient
from clients.websocket_mixed import WebsocketMixedClient

READ = NamedRequest(
    "read", (foreign_exchange("GET", "/a", fields=(("x-who", "me"),)),), Checks(fields=(("x-kind", "a"),))
)
WRITE = NamedRequest("write", (foreign_exchange("POST", "/b", b"body"),), Checks(statuses=(201,), contains=("done",)))
ORDER = (0, 1, 1, 0, 1)


def asks(kind: Any, *mix: NamedRequest, first: Sequence[int] = ORDER) -> Asks[Any]:
    forms = [[kind.encode(exchange, "host:80", False) for exchange in request.exchanges] for request in mix]
    made: Asks[Any] = Asks(mix, forms, seed=1, process=0)
    made.first.extend(first)
    return made


def numbers(ids: Sequence[Any], names: int = 2) -> list[int]:
    return [exchange_id % names for exchange_id in ids]


# HTTP/1.1


class Http1Server:
    """h11's state machine."""

    def __init__(self) -> None:
        self.h11 = h11.Connection(h11.SERVER)
        self.requests: list[h11.Request] = []

    def answer(self, requests: bytes, status: int, body: bytes, **fields: str) -> bytes:
        """The answer to the next request."""
        self.h11.receive_data(requests)
        while not isinstance(event := self.h11.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Request):
                self.requests.append(event)
        headers = [("content-length", str(len(body))), *((k.replace("_", "-"), v) for k, v in fields.items())]
        sent = b"" if self.requests[-1].method == b"HEAD" else body
        events = (h11.Response(status_code=status, headers=headers), h11.Data(data=sent), h11.EndOfMessage())
        data = b"".join(self.h11.send(event) or b"" for event in events)
        if self.h11.our_state is h11.DONE:
            self.h11.start_next_cycle()
        return data


def test_http1_requests_are_drawn_and_their_answers_checked() -> None:
    client, server = Http1MixedClient(asks(Http1MixedClient, READ, WRITE), "host:80"), Http1Server()
    answers = [(200, b"x", {"x_kind": "a"}), (201, b"done"), (201, b"lost"), (200, b"x", {"x_kind": "b"}), (500, b"")]
    completed: list[int] = []
    for status, body, *fields in answers:
        _, pieces = client.request(1)
        completed += client.feed(server.answer(b"".join(pieces), status, body, **(fields[0] if fields else {})))
        assert not client.closing
    assert numbers(completed) == [0, 1]
    assert [(request.method, request.target) for request in server.requests[:2]] == [(b"GET", b"/a"), (b"POST", b"/b")]
    assert (b"x-who", b"me") in server.requests[0].headers
    assert [kind for _, kind in client.failures] == ["content", "content", "status"]
    assert [client.complaints[exchange_id] for exchange_id, _ in client.failures] == [
        "the body does not contain 'done'",
        "header x-kind is 'b', not 'a'",
        "status 500, not 201",
    ]


def test_http1_answers_that_are_known_are_right_for_their_own_request_alone() -> None:
    client = Http1MixedClient(asks(Http1MixedClient, READ, WRITE, first=(0, 0, 1)), "host:80")
    right = b"HTTP/1.1 200 OK\r\nx-kind: a\r\ncontent-length: 1\r\n\r\nx"
    for _ in range(2):
        client.request(1)
        assert numbers(client.feed(right)) == [0]
    client.request(1)
    assert client.feed(right) == []
    assert [kind for _, kind in client.failures] == ["status"]


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
def test_http1_pipelined_answers_in_pieces(piece_bytes: int) -> None:
    client, server = Http1MixedClient(asks(Http1MixedClient, READ, WRITE), "host:80"), Http1Server()
    ids, pieces = client.request(3)
    sent = b"".join(pieces)
    data = server.answer(sent, 200, b"x", x_kind="a") + server.answer(b"", 201, b"done") + server.answer(b"", 404, b"")
    completed = [i for at in range(0, len(data), piece_bytes) for i in client.feed(data[at : at + piece_bytes])]
    assert completed == list(ids[:2])
    assert client.failures == [(ids[2], "status")]


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000])
def test_http1_answers_to_head_have_no_body(piece_bytes: int) -> None:
    look = NamedRequest("look", (foreign_exchange("HEAD", "/a"),), Checks(max_bytes=0))
    client, server = Http1MixedClient(asks(Http1MixedClient, READ, look, first=(1, 0, 1, 1)), "host:80"), Http1Server()
    ids, pieces = client.request(4)
    sent = b"".join(pieces)
    data = b"".join(server.answer(each, 200, b"HTTP/1.1", x_kind="a") for each in (sent, b"", b"", b""))
    assert (data.count(b"content-length: 8\r\n"), data.count(b"HTTP/1.1")) == (4, 4 + 1)  # one of four has its body
    completed = [i for at in range(0, len(data), piece_bytes) for i in client.feed(data[at : at + piece_bytes])]
    assert (completed, client.failures, client.closing) == (list(ids), [], False)


def test_http1_what_follows_nonsense_has_failed() -> None:
    client = Http1MixedClient(asks(Http1MixedClient, READ, WRITE), "host:80")
    ids, _ = client.request(2)
    right = b"HTTP/1.1 200 OK\r\nx-kind: a\r\ncontent-length: 1\r\n\r\nx"
    assert client.feed(right + b"nonsense\r\n\r\n") == [ids[0]]
    assert (client.failures, client.closing) == ([(ids[1], "protocol")], True)
    with pytest.raises(ProtocolError):
        Http1MixedClient(asks(Http1MixedClient, READ), "host:80").feed(right)


def test_http1_what_is_behind_connection_close_was_not_processed() -> None:
    client = Http1MixedClient(asks(Http1MixedClient, READ, WRITE), "host:80")
    ids, _ = client.request(3)
    right = b"HTTP/1.1 200 OK\r\nx-kind: a\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"
    assert client.feed(right) == [ids[0]]
    assert (client.failures, client.closing) == ([(number, "unprocessed") for number in ids[1:]], True)


# HTTP/2


def http2_pair(kind: Any, *mix: NamedRequest, **settings: int) -> tuple[Any, Server]:
    client, server = kind(asks(kind, *mix), "host:80"), Server(**settings)
    client.open()
    server.receive(b"".join(client.outgoing))
    client.outgoing.clear()
    client.feed(server.send())
    return client, server


def ask(client: Any, server: Server, count: int) -> Sequence[int]:
    ids, pieces = client.request(count)
    server.receive(b"".join(pieces))
    found: Sequence[int] = ids
    return found


def test_http2_requests_are_drawn_and_their_answers_checked() -> None:
    client, server = http2_pair(Http2MixedClient, READ, WRITE)
    ids = ask(client, server, 5)
    assert [server.heads[stream_id][b":path"] for stream_id in (1, 3, 5, 7, 9)] == [b"/a", b"/b", b"/b", b"/a", b"/b"]
    assert server.heads[1][b"x-who"] == b"me"
    assert server.bodies[3] == b"body"
    server.head(9, 201)
    server.body(9, b"done")
    server.head(1, x_kind="a", end=True)
    server.head(3, 200)
    server.body(3, b"done")
    server.h2.reset_stream(5)
    assert client.feed(server.send()) == [ids[4], ids[0]]
    assert client.failures == [(ids[1], "status"), (ids[2], "reset")]
    assert client.complaints == {ids[1]: "status 200, not 201"}
    assert client.abandon(ids[3])
    server.head(7, x_kind="a", end=True)
    client.failures.clear()
    assert (client.feed(server.send()), client.failures) == ([], [])


def test_http2_blocks_of_settled_requests_are_encoded_once() -> None:
    client, server = http2_pair(Http2MixedClient, READ, WRITE)
    ask(client, server, 5)
    blocks = dict(client._blocks)
    assert len(blocks) == 2
    ask(client, server, 20)
    assert client._blocks == blocks


def test_http2_bodies_wait_for_windows() -> None:
    big = NamedRequest("big", (foreign_exchange("POST", "/", b"x" * 100_000),))
    client, server = http2_pair(Http2MixedClient, big)
    server.hold_windows = True
    client._asks.first.clear()
    (wanted,) = ask(client, server, 1)
    assert len(server.bodies[1]) == 65_535
    server.h2.acknowledge_received_data(65_535, 1)
    client.feed(server.send())
    server.receive(b"".join(client.outgoing))
    assert len(server.bodies[1]) == 100_000
    server.head(1, end=True)
    assert client.feed(server.send()) == [wanted]


def test_http2_goaway_fails_what_will_not_be_answered() -> None:
    client, server = http2_pair(Http2MixedClient, READ, WRITE)
    ids = ask(client, server, 2)
    server.h2.close_connection(last_stream_id=1)
    client.feed(server.send())
    assert client.closing
    assert client.failures == [(ids[1], "unprocessed")]


def test_grpc_calls_are_right_by_their_status() -> None:
    call = NamedRequest("call", (foreign_exchange("POST", "/a.B/C", b"\x0a\x01x"),))
    client, server = http2_pair(GrpcMixedClient, call)
    client._asks.first.clear()
    ids = ask(client, server, 2)
    assert server.bodies[1] == b"\0\0\0\0\x03\x0a\x01x"
    assert server.heads[1][b"content-type"] == b"application/grpc"
    for stream_id, status in ((1, "0"), (3, "5")):
        server.head(stream_id, content_type="application/grpc")
        server.body(stream_id, b"\0\0\0\0\0", end=False)
        server.h2.send_headers(stream_id, [("grpc-status", status), ("grpc-message", "gone")], end_stream=True)
    assert client.feed(server.send()) == [ids[0]]
    assert client.failures == [(ids[1], "status")]
    assert client.complaints == {ids[1]: "NOT_FOUND: gone"}


def test_an_answer_that_does_not_end_is_told_from_none() -> None:
    client, server = http2_pair(Http2MixedClient, READ, WRITE)
    ids = ask(client, server, 2)
    server.head(1, x_kind="a")
    server.body(1, b"event", end=False)
    assert client.feed(server.send()) == []
    assert all(client.abandon(exchange_id) for exchange_id in ids)
    assert client.complaints == {ids[0]: "the beginning of an answer, 5 bytes, and no end in time"}
    http1 = Http1MixedClient(asks(Http1MixedClient, READ, WRITE), "host:80")
    ids, _ = http1.request(2)
    http1.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nevent\r\n")
    assert not any(http1.abandon(exchange_id) for exchange_id in ids)
    assert http1.complaints == {ids[0]: "the beginning of an answer, 5 bytes, and no end in time"}


# WebSocket


def test_websocket_messages_are_drawn_and_their_answers_checked() -> None:
    said = (("x-who", "me"),)
    mix = [
        NamedRequest("a", (foreign_exchange("GET", "/ws", b"one", fields=said),), Checks(contains=("o",))),
        NamedRequest("b", (foreign_exchange("GET", "/ws", b"two", fields=said),), Checks(json=(("n", 2),))),
    ]
    client = WebsocketMixedClient(asks(WebsocketMixedClient, *mix, first=(0, 1, 1)), "host:80")
    server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    client.open()
    server.receive_data(b"".join(client.outgoing))
    client.outgoing.clear()
    (opening,) = server.events()
    assert isinstance(opening, wsproto.events.Request)
    assert (opening.target, dict(opening.extra_headers)[b"x-who"]) == ("/ws", b"me")
    client.feed(server.send(wsproto.events.AcceptConnection()))
    ids, pieces = client.request(3)
    server.receive_data(b"".join(pieces))
    assert [event.data for event in server.events()] == ["one", "two", "two"]
    answers = b"".join(server.send(wsproto.events.TextMessage(text)) for text in ("ok", '{"n": 2}', "no"))
    assert client.feed(answers) == ids[:2]
    assert client.failures == [(ids[2], "content")]
    assert client.complaints == {ids[2]: "the body is not JSON"}
