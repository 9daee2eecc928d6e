"""aiortc's SCTP (RFC 9260) with its hot path looked after: what one turn of the event loop has to send leaves together.

aiortc makes a task for each message that is sent, answers each packet with one that holds nothing but an
acknowledgement, and puts one chunk in a packet. Here one task, at the end of the turn, acknowledges all that the turn
has brought, hands over all messages, and fills packets with as many chunks as they hold (section 6.10). For
messages of 64 bytes, 16 in flight, that is a quarter of the CPU.

It also ends what should not go on: aiortc asserts what a peer has to keep to, and bounds nothing that it keeps.
"""

import asyncio
import contextlib

from aiortc import RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcsctptransport import SCTP_COMMON_HEADER_LENGTH, SCTP_MAX_PACKET_LENGTH, Chunk, DataChunk, SackChunk

MAX_HELD_BYTES = 16 * 1024 * 1024
"""What may have arrived of messages that are not complete, or not yet their turn."""

_ROOM_BYTES = SCTP_MAX_PACKET_LENGTH - SCTP_COMMON_HEADER_LENGTH


class _Bundle(Chunk):
    """Several chunks, which aiortc sends as if they were one."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    def __bytes__(self) -> bytes:
        return b"".join(self._chunks)


class Association(RTCSctpTransport):
    """One association, on a DTLS transport."""

    def __init__(self, transport: RTCDtlsTransport) -> None:
        super().__init__(transport)
        self._chunks: list[bytes] = []  # chunks to be sent at the end of the turn
        self._ending: asyncio.Task[None] | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)

    # What aiortc calls

    async def _handle_data(self, data: bytes) -> None:
        try:
            await super()._handle_data(data)
            # Only what is held lessens the window.
            if self._advertised_rwnd < -MAX_HELD_BYTES:
                raise ConnectionError("the peer sends more than can be held for it")
        except Exception as error:
            await self._abort()
            raise ConnectionError("the peer broke SCTP") from error  # which ends the connection

    async def _send_sack(self) -> None:
        self._end_turn_soon()  # `_sack_needed` stays set until then

    def _data_channel_flush(self) -> asyncio.Future[None]:  # type: ignore[override]  # awaited, or made a task of
        self._end_turn_soon()
        return self._done

    async def _send_chunk(self, chunk: Chunk) -> None:
        if isinstance(chunk, DataChunk | SackChunk):
            self._chunks.append(bytes(chunk))
            self._end_turn_soon()
            return
        # The others have their place among these, and some must be alone in a packet (section 6.10).
        with contextlib.suppress(ConnectionError):  # nothing can be sent any more: the DTLS transport tells its owner
            await self._send_chunks()
            await super()._send_chunk(chunk)

    # The end of a turn

    def _end_turn_soon(self) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end_turn())

    async def _end_turn(self) -> None:
        try:
            if self.state == "closed":
                return
            if self._sack_needed:
                await super()._send_sack()
            await super()._data_channel_flush()
            with contextlib.suppress(ConnectionError):
                await self._send_chunks()
        finally:
            self._ending = None

    async def _send_chunks(self) -> None:
        chunks, self._chunks = self._chunks, []
        packet: list[bytes] = []
        room_bytes = _ROOM_BYTES
        for chunk in chunks:
            if len(chunk) > room_bytes and packet:
                await super()._send_chunk(_Bundle(packet))
                packet = []
                room_bytes = _ROOM_BYTES
            packet.append(chunk)
            room_bytes -= len(chunk)
        if packet:
            await super()._send_chunk(_Bundle(packet))
