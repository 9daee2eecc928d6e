"""The records of a TLS stream, by name.

TLS 1.3 (RFC 8446, section 2) hides everything after the ServerHello in records that say "application data"; the end of
each side's handshake is told by the length of its Finished, which follows from the hash of the cipher suite. Two things
cannot be told: a session ticket from an answer that is sent at the same time, and what HTTP says inside of TLS.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import dpkt

from bench.lab.packets import Way
from bench.lab.streams import Arrival, Item

_CHANGE_CIPHER_SPEC, _APPLICATION_DATA = 20, 23
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_MESSAGES = {
    0: "HelloRequest",
    _CLIENT_HELLO: "ClientHello",
    _SERVER_HELLO: "ServerHello",
    4: "NewSessionTicket",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
    22: "CertificateStatus",
}
_TICKET, _PRE_SHARED_KEY, _EARLY_DATA, _SUPPORTED_VERSIONS = 35, 41, 42, 43
_TLS_1_3 = b"\x03\x04"
_AES_256_GCM_SHA384 = 0x1302
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random of a ServerHello that is a HelloRetryRequest (RFC 8446, section 4.1.3)."""

_SEALED_BYTES = 17
"""What TLS 1.3 adds to the plaintext of a record: its true type, and the tag of the AEAD (RFC 8446, section 5.2)."""

_END_OF_EARLY_DATA_BYTES = 4 + _SEALED_BYTES
_SEALED_ALERT_BYTES = 2 + _SEALED_BYTES
_FLIGHT_NS = 1_000_000
"""A client sends the rest of its handshake at once: what comes later is data, even if no Finished was recognized, as
where several messages share a record."""

_NOT_PARSED = (dpkt.Error, struct.error, IndexError, ValueError)


@dataclass
class _Side:
    """What one end has sent of its stream, and how far its handshake is."""

    pending: bytes = b""
    at: int = 0
    """The offset of what is pending."""
    begun: bool = False
    message: bytes = b""
    """Of a handshake message, what came so far."""
    message_at: int = 0
    encrypted: bool = False
    sealed_records: int = 0
    flight_ns: int = 0
    """When the first of its encrypted handshake was sent."""
    finished: bool = False
    finished_at: int = 0
    lost_track: bool = False


class TlsReader:
    """TLS 1.2 (RFC 5246) and 1.3 (RFC 8446)."""

    def __init__(self, client: Way, arrival: Arrival) -> None:
        self._client, self._arrival = client, arrival
        self._sides: dict[Way, _Side] = {"up": _Side(), "down": _Side()}
        self._version = ""
        self._finished_bytes = 0
        self._early_data_offered = False
        self._hello_at: int | None = None
        """Where in its stream the ServerHello ends."""
        self._first_data_at: int | None = None
        """Where the client's first application data begins."""

    def feed(self, way: Way, offset: int, data: bytes, now_ns: int) -> list[Item]:
        side = self._sides[way]
        if side.lost_track:
            return [Item(way, offset, "data", True)]
        if not side.begun:
            side.begun, side.at = True, offset
        side.pending += data
        items: list[Item] = []
        while len(side.pending) >= 5:
            kind, length = side.pending[0], int.from_bytes(side.pending[3:5], "big")
            if side.pending[1] != 3 or not _CHANGE_CIPHER_SPEC <= kind <= _APPLICATION_DATA:
                side.lost_track = True
                return [*items, Item(way, side.at, "data", True)]
            if len(side.pending) < 5 + length:
                break
            items += self._record(way, side, kind, side.pending[5 : 5 + length], now_ns)
            side.pending = side.pending[5 + length :]
            side.at += 5 + length
        return items

    def _record(self, way: Way, side: _Side, kind: int, body: bytes, now_ns: int) -> list[Item]:
        at = side.at
        match kind:
            case 20:  # ChangeCipherSpec
                side.encrypted = self._version == "1.2"  # in TLS 1.3 it means nothing (RFC 8446, appendix D.4)
                return [Item(way, at, "ChangeCipherSpec")]
            case 21:  # alert
                return [Item(way, at, "alert")]
            case 22 if side.encrypted:  # handshake
                side.finished = True
                return [Item(way, at, "Finished")]
            case 22:
                return self._messages(way, side, body)
        if self._version == "1.2":
            return [Item(way, at, "application data", True)]
        if way == self._client:
            return [self._sealed_of_client(way, side, len(body), now_ns)]
        return [self._sealed_of_server(way, side, len(body), now_ns)]

    def _messages(self, way: Way, side: _Side, body: bytes) -> list[Item]:
        """Handshake messages in the clear: several may share a record, and one may span several."""
        items = []
        if not side.message:
            side.message_at = side.at
        side.message += body
        while len(side.message) >= 4 and len(side.message) >= (size := 4 + int.from_bytes(side.message[1:4], "big")):
            message, side.message = side.message[:size], side.message[size:]
            words = _MESSAGES.get(message[0], "handshake message")
            if message[0] == _CLIENT_HELLO:
                words = self._client_hello(message[4:])
            elif message[0] == _SERVER_HELLO:
                words = self._server_hello(side, message[4:], len(body))
            items.append(Item(way, side.message_at, words))
            side.message_at += size
        return items

    def _client_hello(self, body: bytes) -> str:
        extensions = _extensions(dpkt.ssl.TLSClientHello, body)
        self._early_data_offered = _EARLY_DATA in extensions
        offers = [
            words
            for kind, words in ((_PRE_SHARED_KEY, "PSK"), (_EARLY_DATA, "early data"), (_TICKET, "ticket"))
            if kind in extensions and (kind != _TICKET or extensions[kind])
        ]
        if "PSK" in offers and "ticket" in offers:
            offers.remove("ticket")
        return f"ClientHello ({', '.join(offers)})" if offers else "ClientHello"

    def _server_hello(self, side: _Side, body: bytes, record_bytes: int) -> str:
        extensions = _extensions(dpkt.ssl.TLSServerHello, body)
        if body[2:34] == _RETRY:
            return "HelloRetryRequest"
        self._version = "1.3" if extensions.get(_SUPPORTED_VERSIONS) == _TLS_1_3 else "1.2"
        suite_at = 35 + body[34] if len(body) > 34 else 0
        hash_bytes = 48 if int.from_bytes(body[suite_at : suite_at + 2], "big") == _AES_256_GCM_SHA384 else 32
        self._finished_bytes = 4 + hash_bytes + _SEALED_BYTES
        self._hello_at = side.at + 4 + record_bytes
        return "ServerHello (PSK)" if _PRE_SHARED_KEY in extensions else "ServerHello"

    def _has_arrived(self, way: Way, offset: int | None, now_ns: int) -> bool:
        at_ns = None if offset is None else self._arrival(way, offset)
        return at_ns is not None and at_ns <= now_ns

    def _sealed_of_client(self, way: Way, side: _Side, size: int, now_ns: int) -> Item:
        server: Way = "down" if way == "up" else "up"
        if not self._has_arrived(server, self._hello_at, now_ns):
            if not self._early_data_offered:
                return Item(way, side.at, "application data", True)
            return self._data(way, side.at, "early data")
        if side.sealed_records and now_ns - side.flight_ns > _FLIGHT_NS:
            side.finished = True
        if side.finished:
            return self._data_or_alert(way, side.at, size)
        side.flight_ns = side.flight_ns or now_ns
        side.finished_at = side.at
        if self._early_data_offered and not side.sealed_records and size == _END_OF_EARLY_DATA_BYTES:
            side.sealed_records += 1
            return Item(way, side.at, "EndOfEarlyData")
        side.sealed_records += 1
        side.finished = size == self._finished_bytes
        return Item(way, side.at, "Finished" if side.finished else "encrypted handshake")

    def _sealed_of_server(self, way: Way, side: _Side, size: int, now_ns: int) -> Item:
        if not side.finished and not self._client_has_finished(now_ns):
            side.finished = side.sealed_records > 0 and size == self._finished_bytes
            side.sealed_records += 1
            return Item(way, side.at, "Finished" if side.finished else "encrypted handshake")
        if self._client_has_finished(now_ns) and not self._has_arrived(self._client, self._first_data_at, now_ns):
            return Item(way, side.at, "NewSessionTicket")  # there is nothing yet that it could answer
        return self._data_or_alert(way, side.at, size)

    def _client_has_finished(self, now_ns: int) -> bool:
        client = self._sides[self._client]
        return client.finished and self._has_arrived(self._client, client.finished_at, now_ns)

    def _data_or_alert(self, way: Way, at: int, size: int) -> Item:
        if size == _SEALED_ALERT_BYTES:
            return Item(way, at, "alert")
        return self._data(way, at, "application data")

    def _data(self, way: Way, at: int, words: str) -> Item:
        if way == self._client and self._first_data_at is None:
            self._first_data_at = at
        return Item(way, at, words, True)


def _extensions(hello: Callable[[bytes], dpkt.Packet], body: bytes) -> dict[int, bytes]:
    """The extensions of a hello message by their number; none if the message makes no sense."""
    try:
        return dict(getattr(hello(body), "extensions", ()))
    except _NOT_PARSED:
        return {}
