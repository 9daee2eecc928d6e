"""A member that talks over a WebRTC data channel to each other member: `python -m bench.probes.peer_member`."""

import asyncio
import sys

from aiortc import RTCDataChannel, RTCDataChannelParameters

from bench.probes.member import Member, live, say
from bench.wire.webrtc_peer import Peer
from bench.wire.webrtc_signalling import decode_description


class PeerMember(Member):
    """Asked to "offer" {"to"}, "answer" {"to", "description"} and "meet" {"to", "description"}, it makes a data
    channel: an offer, its answer, and that brought back. It says `offer` and `answer` {"to", "description"}."""

    def __init__(self, name: str, address: str) -> None:
        super().__init__(name, address)
        self._peers: dict[str, Peer] = {}

    async def offer(self, to: str) -> None:
        peer = self._peers[to] = Peer(self.address, True, RTCDataChannel.close)
        say("offer", to=to, description=(await peer.gather()).encode("offer").decode())

    async def answer(self, to: str, description: str) -> None:
        offer = decode_description(description.encode(), "offer")
        peer = self._peers[to] = Peer(self.address, False, self._channel_opened)
        say("answer", to=to, description=(await peer.gather(offer.mid)).encode("answer").decode())
        await peer.connect(offer, sys.exit)

    async def meet(self, to: str, description: str) -> None:
        peer = self._peers[to]
        await peer.connect(decode_description(description.encode(), "answer"), sys.exit)
        channel = RTCDataChannel(peer.sctp, RTCDataChannelParameters(label="talk"))
        channel.on("open", lambda: self._channel_opened(channel))

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        channel.on("message", self.heard)
        self.opened(channel.send)


if __name__ == "__main__":
    asyncio.run(live(PeerMember))
