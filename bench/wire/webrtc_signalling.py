"""How two WebRTC peers find each other, without I/O: the signalling over HTTP, and the SDP in it.

One exchange, in the manner of WHIP (RFC 9725): the client posts an offer to PATH, and the answer comes back. Both are
JSON, `{"type": "offer", "sdp": "..."}` and `{"type": "answer", "sdp": "..."}`, as browsers write a session description.
Both are complete: no candidates follow. An offer is for data channels and nothing else: one section `m=application`
(RFC 8841), with ICE's credentials (RFC 8839) and the fingerprint of the DTLS certificate (RFC 8122), which is what
either side knows the other by.

A data channel (RFC 8831) whose protocol is that of frames has frames (see `bench.wire.frames`), one in each message,
with the rules of UDP but for two: what is no request is answered by a last frame with FATAL set, and the channel
closes; and requests that name their operation, subscriptions among them, are as over TCP. On any other channel each
message is the body of a request, and its answer is one message. The channel's label names the operation as HTTP's
paths do ("echo", "bytes/64", "work?cpu_us=100"); on one with the label "topics/NAME" each text message is published,
and each event of the topic delivered as one ("topics/NAME?after=ID" begins with those after that id). What is refused
gets one last message, like "404 no such operation: /x", and the channel closes.
"""

import json
import re
from dataclasses import dataclass

from bench.errors import ProtocolError
from bench.wire.frames import HEADER_BYTES

PATH = "/webrtc/offer"

MAX_DESCRIPTION_BYTES = 64 * 1024
"""The longest offer or answer that is taken."""

MAX_MESSAGE_BYTES = 256 * 1024
"""The longest message of a data channel that either end takes, and so says in its description."""

MAX_PAYLOAD_BYTES = MAX_MESSAGE_BYTES - HEADER_BYTES
"""The longest payload of a frame on a data channel."""

SCTP_PORT = 5000
_DEFAULT_MAX_MESSAGE_BYTES = 64 * 1024  # RFC 8841, section 6.1

_ICE_USER = re.compile(r"[A-Za-z0-9+/]{4,256}")
_ICE_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_MID = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]{1,64}")
_FINGERPRINT = re.compile(r"(\S+) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)")


@dataclass(frozen=True)
class Description:
    """What a peer says of itself."""

    setup: str
    """Its part in the DTLS handshake: "actpass" in an offer; "active" (the client's) or "passive" in an answer."""
    user: str
    password: str
    """ICE's."""
    fingerprints: tuple[tuple[str, str], ...]
    """Of its certificate: name of the hash function, and value in hexadecimal with colons."""
    candidates: tuple[str, ...] = ()
    """Where it can be reached: each what follows "a=candidate:"."""
    mid: str = "0"
    """The name of the one section; an answer repeats the offer's."""
    sctp_port: int = SCTP_PORT
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """The longest message that it takes; 0 for any."""

    def encode(self, kind: str) -> bytes:
        """The description as JSON; `kind` is "offer" or "answer"."""
        lines = [
            "v=0",
            "o=- 1 1 IN IP4 0.0.0.0",
            "s=-",
            "t=0 0",
            f"a=group:BUNDLE {self.mid}",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            f"a=mid:{self.mid}",
            *(f"a=candidate:{candidate}" for candidate in self.candidates),
            "a=end-of-candidates",
            f"a=ice-ufrag:{self.user}",
            f"a=ice-pwd:{self.password}",
            *(f"a=fingerprint:{name} {value}" for name, value in self.fingerprints),
            f"a=setup:{self.setup}",
            f"a=sctp-port:{self.sctp_port}",
            f"a=max-message-size:{self.max_message_bytes}",
            "",
        ]
        return json.dumps({"type": kind, "sdp": "\r\n".join(lines)}).encode()


def decode_description(data: bytes, kind: str) -> Description:
    """An offer or answer, as `kind` says. Raises ProtocolError, with 413 for one that is too long, else with 400."""
    if len(data) > MAX_DESCRIPTION_BYTES:
        raise ProtocolError(f"the {kind} is longer than {MAX_DESCRIPTION_BYTES} bytes", 413)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        raise ProtocolError(f"the {kind} is not JSON", 400) from None
    if not isinstance(found, dict) or found.get("type") != kind or not isinstance(found.get("sdp"), str):
        raise ProtocolError(f'expected {{"type": "{kind}", "sdp": "..."}}', 400)
    return _decode_sdp(found["sdp"], "actpass" if kind == "offer" else "active")


def _decode_sdp(sdp: str, setup: str) -> Description:
    lines = [line.strip() for line in sdp.splitlines()]
    media = [line[2:].split() for line in lines if line.startswith("m=")]
    if len(media) != 1 or media[0][0:1] != ["application"]:
        raise ProtocolError("the SDP must have one section, m=application: only data channels are spoken here", 400)
    if media[0][2:] != ["UDP/DTLS/SCTP", "webrtc-datachannel"]:
        raise ProtocolError("the section must be UDP/DTLS/SCTP webrtc-datachannel", 400)
    # There is only one section, so an attribute of the session is as good as one of the section.
    attributes: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("a="):
            name, _, value = line[2:].partition(":")
            attributes.setdefault(name, []).append(value)

    def last(name: str, default: str) -> str:
        return attributes.get(name, [default])[-1]

    def number(name: str, default: int, largest: int) -> int:
        value = last(name, str(default))
        if not (value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= largest):
            raise ProtocolError(f"{name} must be a whole number up to {largest}", 400)
        return int(value)

    def matching(name: str, pattern: re.Pattern[str], default: str = "") -> str:
        value = last(name, default)
        if not pattern.fullmatch(value):
            raise ProtocolError(f"{name} is missing or malformed", 400)
        return value

    fingerprints = [_FINGERPRINT.fullmatch(value) for value in attributes.get("fingerprint", [])]
    if not fingerprints or None in fingerprints:
        raise ProtocolError("fingerprint is missing or malformed", 400)
    if last("setup", "") != setup:
        raise ProtocolError(f"setup must be {setup}", 400)
    if "ice-lite" in attributes:
        raise ProtocolError("ice-lite: a peer that makes no checks of its own cannot be met here", 400)
    return Description(
        setup=setup,
        user=matching("ice-ufrag", _ICE_USER),
        password=matching("ice-pwd", _ICE_PASSWORD),
        fingerprints=tuple((match[1].lower(), match[2].upper()) for match in fingerprints if match),
        candidates=tuple(attributes.get("candidate", ())),
        mid=matching("mid", _MID, "0"),
        sctp_port=number("sctp-port", SCTP_PORT, 65535),
        max_message_bytes=number("max-message-size", _DEFAULT_MAX_MESSAGE_BYTES, 1 << 62),
    )
