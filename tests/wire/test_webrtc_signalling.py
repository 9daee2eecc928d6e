"""Offers and answers as bytes: ours, aiortc's, and whatever else may come."""

import json
import string

import pytest
from aiortc.sdp import SessionDescription
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import ProtocolError
from bench.wire.webrtc_signalling import MAX_DESCRIPTION_BYTES, Description, decode_description

OURS = Description(
    setup="actpass",
    user="abcd",
    password="0123456789012345678901",
    fingerprints=(("sha-256", ":".join(["AB"] * 32)), ("sha-512", ":".join(["CD"] * 64))),
    candidates=("1 1 udp 2130706431 127.0.0.1 4711 typ host", "2 1 udp 1 ::1 4712 typ host"),
    mid="data",
    sctp_port=5001,
    max_message_bytes=1000,
)


def test_what_is_written_is_read() -> None:
    assert decode_description(OURS.encode("offer"), "offer") == OURS


def test_what_is_written_is_read_by_aiortc() -> None:
    theirs = SessionDescription.parse(json.loads(OURS.encode("offer"))["sdp"])
    (section,) = theirs.media
    assert (section.kind, section.profile, section.fmt) == ("application", "UDP/DTLS/SCTP", ["webrtc-datachannel"])
    assert section.sctpCapabilities is not None
    assert (section.sctp_port, section.sctpCapabilities.maxMessageSize, section.rtp.muxId) == (5001, 1000, "data")
    assert (section.ice.usernameFragment, section.ice.password) == (OURS.user, OURS.password)
    assert [(print_.algorithm, print_.value) for print_ in section.dtls.fingerprints] == list(OURS.fingerprints)
    assert [candidate.port for candidate in section.ice_candidates] == [4711, 4712]
    assert section.ice_candidates_complete


def test_what_an_offer_leaves_out_has_the_values_of_rfc_8841() -> None:
    found = json.loads(OURS.encode("offer"))
    lines = [line for line in found["sdp"].splitlines() if not line.startswith(("a=sctp-port", "a=max", "a=cand"))]
    read = decode_description(json.dumps({"type": "offer", "sdp": "\n".join(lines)}).encode(), "offer")
    assert (read.sctp_port, read.max_message_bytes, read.candidates) == (5000, 65536, ())


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda sdp: json.dumps({"type": "offer", "sdp": sdp}).encode())
)
def test_nothing_else_is_raised_whatever_comes(data: bytes) -> None:
    with pytest.raises(ProtocolError) as raised:
        decode_description(data, "offer")
    assert raised.value.code == 400
    assert "\n" not in str(raised.value)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.integers(0, len(json.loads(OURS.encode("offer"))["sdp"])), st.text(string.printable + "é٣", max_size=8))
def test_nothing_else_is_raised_whatever_a_good_one_is_changed_to(at: int, piece: str) -> None:
    sdp = json.loads(OURS.encode("offer"))["sdp"]
    sdp = sdp[:at] + piece + sdp[at + len(piece) :]
    try:
        read = decode_description(json.dumps({"type": "offer", "sdp": sdp}).encode(), "offer")
    except ProtocolError as error:
        assert error.code == 400  # noqa: PT017  # it may be good, too
    else:
        assert len(read.password) >= 22
        assert read.sctp_port <= 65535


def test_a_long_one_is_refused() -> None:
    with pytest.raises(ProtocolError) as raised:
        decode_description(b" " * (MAX_DESCRIPTION_BYTES + 1), "answer")
    assert raised.value.code == 413
