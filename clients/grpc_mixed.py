"""The lean gRPC client of mixes (PROTOCOL-HTTP2.md in grpc/grpc): calls of several methods on a connection."""

from bench.contract import Exchange
from bench.mix import Wrong
from bench.wire.grpc_messages import Status, frame_message
from bench.wire.header_blocks import Fields
from clients.grpc_messages import CallHead, call_fields
from clients.http2_mixed import Form, Http2MixedClient, MixedAnswer, MixedHead


class _MixedCallHead(MixedHead):
    """A header block of the server's, with its fields, and what it says of the call."""

    __slots__ = ("call",)

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.call = CallHead(fields)
        self.malformed = self.call.malformed


class GrpcMixedClient(Http2MixedClient):
    """One connection. A call is right whose status is OK."""

    @staticmethod
    def encode(exchange: Exchange, authority: str, varies: bool) -> Form:
        fields = [(name, value, False) for name, value in call_fields(authority, exchange.path, exchange.scheme)]
        fields += [(name.encode("ascii"), value.encode("latin-1"), varies) for name, value in exchange.fields]
        return Form(tuple(fields), frame_message(exchange.body))

    def _read_head(self, fields: Fields) -> MixedHead:
        return _MixedCallHead(fields)

    def _wrong(self, stream: MixedAnswer, head: MixedHead, end: MixedHead) -> Wrong | None:
        assert isinstance(end, _MixedCallHead)
        if head.status == 200:
            if not end.call.grpc_status.isdigit():
                return Wrong("protocol", "an answer without a status of gRPC")
            if int(end.call.grpc_status) != Status.OK:
                return Wrong("status", str(end.call)[:200])
        return super()._wrong(stream, head, end)
