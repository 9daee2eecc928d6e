"""One end of a WebRTC connection for data channels: ICE, DTLS and SCTP, all aiortc's.

Unlike the rest of this package it does input and output: both ends take the same library, and set it up alike. aiortc's
RTCPeerConnection does the same for media too, and keeps tasks of its own that nobody can wait for; so its transports
are used one by one.

A peer is reached at one address: the one that its end of the signalling connection has. So data takes the way that the
signalling took, and load for loopback stays there. No STUN or TURN server is asked. The end that answers makes no use
of the offerer's candidates: it waits for the offerer's checks, which show where they come from (peer-reflexive
candidates, RFC 8445, section 7.3.1.3), so that an offer cannot make it send anything to anybody but its author.
"""

import ipaddress
from collections.abc import Callable
from functools import lru_cache

from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
    RTCSctpCapabilities,
)
from aiortc.sdp import candidate_from_sdp, candidate_to_sdp

from bench.errors import ProtocolError
from bench.wire.webrtc_association import Association
from bench.wire.webrtc_signalling import Description


@lru_cache(maxsize=1)
def _certificate() -> RTCCertificate:
    """This process's certificate: made when the first peer needs it, for it takes longer than a handshake."""
    return RTCCertificate.generateCertificate()


class Peer:
    """One end. `gather`, then `connect`; or `stop`, at any time, which leaves nothing running."""

    def __init__(self, address: str, offering: bool, on_channel: Callable[[RTCDataChannel], None]) -> None:
        """`address` is the IP address to be reached at; the end that makes the offer is `offering`. `on_channel` is
        called with each channel that the other end opens."""
        gatherer = RTCIceGatherer(iceServers=[])
        self._ice = RTCIceTransport(gatherer)
        # What aiortc leaves no other way to say: the role in ICE, and which addresses to use.
        connection = self._ice._connection
        connection.ice_controlling = offering
        candidates_at = connection.get_component_candidates
        connection.get_component_candidates = (  # type: ignore[method-assign]
            lambda component, addresses, timeout=5: candidates_at(component, [_plain(address)], timeout)
        )
        self._dtls = RTCDtlsTransport(self._ice, [_certificate()])
        self.sctp = Association(self._dtls)
        self.sctp.on("datachannel", on_channel)
        self._offering = offering

    async def gather(self, mid: str = "0") -> Description:
        """This end's description. Raises OSError if no socket can be had."""
        gatherer = self._ice.iceGatherer
        await gatherer.gather()
        candidates = gatherer.getLocalCandidates()
        if not candidates:
            raise OSError("no UDP socket can be had for a WebRTC connection")
        ice = gatherer.getLocalParameters()
        assert ice.usernameFragment is not None
        assert ice.password is not None
        fingerprints = self._dtls.getLocalParameters().fingerprints
        return Description(
            setup="actpass" if self._offering else "active",
            user=ice.usernameFragment,
            password=ice.password,
            fingerprints=tuple((print_.algorithm, print_.value) for print_ in fingerprints),
            candidates=tuple(map(candidate_to_sdp, candidates)),
            mid=mid,
        )

    async def connect(self, remote: Description, on_end: Callable[[], None]) -> None:
        """Connect to the peer of that description; `on_end` is called when the connection ends after that.

        Raises ProtocolError if there is no way to it, or it is not who it says.
        """
        if self._offering:
            for candidate in remote.candidates:
                try:
                    await self._ice.addRemoteCandidate(candidate_from_sdp(candidate))
                except (ValueError, AssertionError, IndexError):
                    raise ProtocolError(f"malformed candidate: {candidate}") from None
            await self._ice.addRemoteCandidate(None)
        await self._ice.start(RTCIceParameters(remote.user, remote.password))
        if self._ice.state != "completed":
            raise ProtocolError("no way to the peer was found (ICE)")
        fingerprints = [RTCDtlsFingerprint(name, value) for name, value in remote.fingerprints]
        await self._dtls.start(RTCDtlsParameters(fingerprints))
        if self._dtls.state != "connected":
            raise ProtocolError("the handshake with the peer failed (DTLS)")
        self._dtls.on("statechange", on_end)  # the only state that follows is closed
        await self.sctp.start(RTCSctpCapabilities(remote.max_message_bytes), remote.sctp_port)

    async def stop(self) -> None:
        """End the connection. Must not be called while `connect` runs."""
        await self.sctp.stop()
        await self._dtls.stop()
        await self._ice.stop()


def _plain(address: str) -> str:
    """The address, as IPv4 where it is that inside IPv6."""
    found = ipaddress.ip_address(address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
