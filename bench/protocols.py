"""The protocols: where the code of each is, what it can carry, and what it declares of itself.

The declared properties are the rows of the protocol property table; the bytes beside them are counted, not declared.
"""

from dataclasses import dataclass
from typing import Literal

from bench.patterns import PATTERNS

TransportKind = Literal["stream", "datagram", "quic"]
Lives = Literal["thread", "loop", "listener", "process"]

CERTIFIED = ("1.2", "1.3")
"""The versions of TLS that the servers here speak, with certificates."""

TLS_VERSIONS = ("off", *CERTIFIED, "dtls1.2")
"""What the scenario key `tls` may be. WebRTC's DTLS goes by fingerprints, which signalling brings."""


@dataclass(frozen=True)
class Properties:
    """How a protocol answers the questions that a protocol designer has to answer."""

    data_format: str
    transfer_mode: str
    addressing: str
    direction: str
    state: str
    routing: str
    flow_control: str
    """Flow and congestion control."""
    errors: str
    """Error handling."""
    encryption: str
    default_port: str


@dataclass(frozen=True)
class Protocol:
    """One protocol. References are "module:Class", imported only when they are used."""

    line: str
    """What it is, in a few words."""
    server: str
    """The lean server (see `servers.worker`)."""
    client: str
    """The lean client (see `bench.load.client`)."""
    properties: Properties
    transport_kind: TransportKind = "stream"
    lives: Lives = "thread"
    """Where the lean server's connections live. This and `transport_kind` are the server's own, said again here: what
    is listed needs no import of the code behind it."""
    library: str = ""
    """The library that both lean ends are built on, where there is one: such a protocol is of the library tier."""
    tls: tuple[str, ...] = ("off", "1.2", "1.3")
    """The versions of TLS that it runs with; the first is what it runs with if nothing else is asked for."""
    early_data: bool = False
    """Whether the lean ends carry requests as early data (0-RTT), by the rules of RFC 8470."""
    subscriber: str | None = None
    """What takes pushed events, if the protocol carries them (see `bench.load.push`)."""
    publisher: str | None = None
    caller: str | None = None
    """What asks for anything that the protocol's server does (see `bench.load.calls`)."""
    lean_calls: bool = False
    """Whether it takes the lean server to answer that: no other stack knows what the caller speaks."""
    through_brokers: str | None = None
    """What publishes to brokers and reads from them, whose protocols lie directly over this one."""
    priorities: bool = False
    """Whether a client can say how soon it wants an answer, and the lean server goes by it (RFC 9218)."""
    http_version: str = ""
    """Which HTTP its requests are of, "1.1" or "2"; empty for what is none that libraries of callers speak."""
    mixed_client: str | None = None
    """What sends requests of several names, each with checks of its own (see `bench.load.mixing`)."""
    stream_client: str | None = None
    """A client whose exchanges are messages of one long-lived call, where its requests are not that already."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns that the protocol can carry."""
        return tuple(name for name, pattern in PATTERNS.items() if all(getattr(self, need) for need in pattern.needs))

    @property
    def is_connected(self) -> bool:
        """Whether exchanges happen on a connection."""
        return self.transport_kind != "datagram"


_TLS = "TLS 1.2 or 1.3 around the connection, or none"
_TCP_FLOW = "TCP's: receive window, congestion control of the kernel"
_HTTP2_FLOW = f"a window for each stream and one for the connection, over {_TCP_FLOW}"
_HTTP_ADDRESSING = "URL: host and port of the connection, path of the resource"
_HTTP_ROUTING = "by host, path and header fields; proxies and layer 7 balancers"
_HTTP_ERRORS = "status codes; a broken message ends the connection"
_HTTP_STATE = "stateless requests on a connection that is kept"

PROTOCOLS = {
    "http1": Protocol(
        line="HTTP/1.1 (RFC 9112): one request at a time on a connection",
        server="servers.http1:Http1Connection",
        client="clients.http1:Http1Client",
        caller="clients.http1:Http1Caller",
        mixed_client="clients.http1_mixed:Http1MixedClient",
        publisher="clients.sse:HttpPublisher",
        http_version="1.1",
        early_data=True,
        properties=Properties(
            data_format="text header fields, any body",
            transfer_mode="messages on a byte stream, by content-length or chunks",
            addressing=_HTTP_ADDRESSING,
            direction="request, then response; one at a time in order",
            state=_HTTP_STATE,
            routing=_HTTP_ROUTING,
            flow_control=_TCP_FLOW,
            errors=_HTTP_ERRORS,
            encryption=_TLS,
            default_port="80, with TLS 443",
        ),
    ),
    "http2": Protocol(
        line="HTTP/2 (RFC 9113): many requests at a time as streams of one connection",
        server="servers.http2:Http2Connection",
        client="clients.http2:Http2Client",
        caller="clients.http2_caller:Http2Caller",
        mixed_client="clients.http2_mixed:Http2MixedClient",
        publisher="clients.sse:Http2Publisher",
        priorities=True,
        http_version="2",
        properties=Properties(
            data_format="binary frames, compressed header fields (HPACK), any body",
            transfer_mode="messages as frames of many streams on one byte stream",
            addressing=_HTTP_ADDRESSING,
            direction="request, then response; many at a time in any order",
            state="stateless requests; the connection keeps header tables and windows",
            routing=_HTTP_ROUTING,
            flow_control=_HTTP2_FLOW,
            errors="status codes; RST_STREAM ends a stream, GOAWAY a connection",
            encryption=_TLS,
            default_port="80, with TLS 443",
        ),
    ),
    "http2-upgrade": Protocol(
        line="HTTP/2 that begins as an HTTP/1.1 request with Upgrade: h2c (RFC 7540, section 3.2; gone from RFC 9113)",
        server="servers.http2_upgrade:Http2UpgradeConnection",
        client="clients.http2_upgrade:Http2UpgradeClient",
        tls=("off",),
        properties=Properties(
            data_format="text header fields once, then binary frames, compressed header fields (HPACK), any body",
            transfer_mode="messages as frames of many streams on one byte stream, behind one message of HTTP/1.1",
            addressing=_HTTP_ADDRESSING,
            direction="request, then response; the first alone, then many at a time in any order",
            state="stateless requests; the connection keeps header tables and windows",
            routing=f"{_HTTP_ROUTING}; an intermediary that knows no h2c leaves it HTTP/1.1",
            flow_control=_HTTP2_FLOW,
            errors="as HTTP/1.1 until the change, then as HTTP/2",
            encryption="none: over TLS, ALPN chooses HTTP/2",
            default_port="80",
        ),
    ),
    "http3": Protocol(
        line="HTTP/3 (RFC 9114): HTTP on QUIC, streams over UDP, always encrypted",
        server="servers.http3:Http3Endpoint",
        client="clients.http3:Http3Client",
        mixed_client="clients.http3_mixed:Http3MixedClient",
        caller="clients.http3_caller:Http3Caller",
        publisher="clients.http3_caller:Http3Publisher",
        priorities=True,
        transport_kind="quic",
        lives="listener",
        library="aioquic",
        tls=("1.3",),
        early_data=True,
        properties=Properties(
            data_format="binary frames, compressed header fields (QPACK), any body",
            transfer_mode="messages as streams that are ordered each, and not among each other",
            addressing=f"{_HTTP_ADDRESSING}; connection IDs below",
            direction="request, then response; many at a time in any order",
            state="stateless requests; the connection outlives a change of address",
            routing="as HTTP; datagrams by 4-tuple, or by connection ID where a balancer knows it",
            flow_control="QUIC's: credit for streams and bytes, congestion control in the process",
            errors="status codes; RESET_STREAM, CONNECTION_CLOSE",
            encryption="always: TLS 1.3 inside QUIC, most of each packet's header too",
            default_port="443 (UDP)",
        ),
    ),
    "grpc": Protocol(
        line="gRPC: Protocol Buffers messages on HTTP/2, unary calls and streams",
        server="servers.grpc_service:GrpcConnection",
        client="clients.grpc_calls:GrpcClient",
        caller="clients.grpc_calls:GrpcCaller",
        mixed_client="clients.grpc_mixed:GrpcMixedClient",
        subscriber="clients.grpc_calls:GrpcSubscriber",
        publisher="clients.grpc_calls:GrpcPublisher",
        stream_client="clients.grpc_calls:GrpcStreamClient",
        properties=Properties(
            data_format="Protocol Buffers with a length before each, in HTTP/2 frames",
            transfer_mode="messages in streams",
            addressing="host and port of the connection, service and method as path",
            direction="unary, or a stream of messages either way or both ways",
            state="stateless calls; a stream lives as long as its call",
            routing="by service and method; needs balancers that know HTTP/2",
            flow_control=_HTTP2_FLOW,
            errors="status and message in trailers, deadlines, cancellation",
            encryption=_TLS,
            default_port="none of its own; 50051 by custom",
        ),
    ),
    "websocket": Protocol(
        line="WebSocket (RFC 6455): messages both ways on a connection that began as HTTP/1.1",
        server="servers.websocket:WebsocketConnection",
        client="clients.websocket:WebsocketClient",
        mixed_client="clients.websocket_mixed:WebsocketMixedClient",
        caller="clients.websocket:WebsocketCaller",
        lean_calls=True,
        subscriber="clients.websocket:WebsocketSubscriber",
        publisher="clients.websocket:WebsocketPublisher",
        properties=Properties(
            data_format="text or binary messages, 2 to 14 bytes of frame",
            transfer_mode="messages on a byte stream, in pieces if need be",
            addressing="URL of the opening handshake, then the connection",
            direction="both, at any time",
            state="stateful: the connection is the conversation",
            routing="by the opening request; then bound to one backend",
            flow_control=_TCP_FLOW,
            errors="close codes; a broken frame ends the connection",
            encryption=_TLS,
            default_port="80, with TLS 443",
        ),
    ),
    "sse": Protocol(
        line="Server-sent events (WHATWG HTML) on HTTP/1.1: the server pushes, the client listens",
        server="servers.http1:Http1Connection",
        client="",
        caller="clients.http1:Http1Caller",
        http_version="1.1",
        subscriber="clients.sse:SseSubscriber",
        publisher="clients.sse:HttpPublisher",
        properties=Properties(
            data_format="UTF-8 lines: event, id, retry, data",
            transfer_mode="events on an HTTP/1.1 response that does not end",
            addressing=_HTTP_ADDRESSING,
            direction="server to client only",
            state="Last-Event-ID resumes after a reconnect",
            routing=_HTTP_ROUTING,
            flow_control=_TCP_FLOW,
            errors="status codes; the client reconnects",
            encryption=_TLS,
            default_port="80, with TLS 443",
        ),
    ),
    "sse-http2": Protocol(
        line="Server-sent events as a stream of HTTP/2",
        server="servers.http2:Http2Connection",
        client="",
        caller="clients.http2_caller:Http2Caller",
        http_version="2",
        subscriber="clients.sse:SseHttp2Subscriber",
        publisher="clients.sse:Http2Publisher",
        properties=Properties(
            data_format="UTF-8 lines: event, id, retry, data; in HTTP/2 frames",
            transfer_mode="events on an HTTP/2 stream that does not end",
            addressing=_HTTP_ADDRESSING,
            direction="server to client only",
            state="Last-Event-ID resumes after a reconnect",
            routing=_HTTP_ROUTING,
            flow_control=_HTTP2_FLOW,
            errors="status codes, RST_STREAM; the client reconnects",
            encryption=_TLS,
            default_port="80, with TLS 443",
        ),
    ),
    "sse-http3": Protocol(
        line="Server-sent events as a stream of HTTP/3",
        server="servers.http3:Http3Endpoint",
        client="",
        caller="clients.http3_caller:Http3Caller",
        subscriber="clients.http3_caller:SseHttp3Subscriber",
        publisher="clients.http3_caller:Http3Publisher",
        transport_kind="quic",
        lives="listener",
        library="aioquic",
        tls=("1.3",),
        properties=Properties(
            data_format="UTF-8 lines: event, id, retry, data; in HTTP/3 frames",
            transfer_mode="events on an HTTP/3 stream that does not end",
            addressing=_HTTP_ADDRESSING,
            direction="server to client only",
            state="Last-Event-ID resumes after a reconnect; the connection outlives a change of address",
            routing=_HTTP_ROUTING,
            flow_control="QUIC's: credit for streams and bytes, congestion control in the process",
            errors="status codes, RESET_STREAM; the client reconnects",
            encryption="always: TLS 1.3 inside QUIC",
            default_port="443 (UDP)",
        ),
    ),
    "tcp": Protocol(
        line="raw TCP with frames of wirebench's own",
        server="servers.tcp:TcpConnection",
        client="clients.tcp:TcpClient",
        through_brokers="bench.load.pubsub:PubSub",
        caller="clients.frame_calls:FrameCaller",
        subscriber="clients.frame_calls:FrameSubscriber",
        publisher="clients.frame_calls:FramePublisher",
        properties=Properties(
            data_format="bytes; here frames with a header of 20 bytes",
            transfer_mode="byte stream, ordered and complete",
            addressing="IP address and port",
            direction="both, at any time",
            state="connection: handshake, sequence numbers, timers at both ends",
            routing="by IP address; layer 4 balancers by 4-tuple",
            flow_control=_TCP_FLOW,
            errors="retransmission, checksum; reset",
            encryption=_TLS,
            default_port="none",
        ),
    ),
    "udp": Protocol(
        line="raw UDP with frames of wirebench's own: a request and its answer are a datagram each",
        server="servers.udp:UdpEndpoint",
        client="clients.udp:UdpClient",
        transport_kind="datagram",
        tls=("off",),
        properties=Properties(
            data_format="bytes; here frames with a header of 20 bytes",
            transfer_mode="datagrams, each on its own, that may be lost or overtake",
            addressing="IP address and port",
            direction="both, at any time",
            state="none",
            routing="by IP address; layer 4 balancers by 4-tuple",
            flow_control="none",
            errors="checksum; what is lost stays lost",
            encryption="none",
            default_port="none",
        ),
    ),
    "webrtc": Protocol(
        line="a WebRTC data channel, ordered and complete: SCTP on DTLS on UDP",
        server="servers.webrtc:WebrtcConnection",
        client="clients.webrtc:WebrtcClient",
        caller="clients.webrtc_caller:WebrtcCaller",
        subscriber="clients.webrtc_caller:WebrtcSubscriber",
        publisher="clients.webrtc_caller:WebrtcPublisher",
        lives="loop",
        library="aiortc",
        tls=("dtls1.2",),
        properties=Properties(
            data_format="text or binary messages in SCTP chunks",
            transfer_mode="messages on a data channel, ordered and complete",
            addressing="offer and answer by signalling; candidates found by ICE",
            direction="both, at any time, from peer to peer",
            state="stateful: ICE, DTLS and SCTP associations",
            routing="the path that ICE finds: direct, by STUN, or relayed by TURN",
            flow_control="SCTP's: receive window and congestion control, in the process",
            errors="retransmission; the channel or the connection closes",
            encryption="always: DTLS 1.2",
            default_port="none: any UDP port; 3478 for STUN",
        ),
    ),
    "webrtc-unreliable": Protocol(
        line="a WebRTC data channel, unordered and without retransmission",
        server="servers.webrtc:WebrtcConnection",
        client="clients.webrtc:UnreliableWebrtcClient",
        lives="loop",
        library="aiortc",
        tls=("dtls1.2",),
        properties=Properties(
            data_format="text or binary messages in SCTP chunks",
            transfer_mode="messages on a data channel, unordered and never sent again",
            addressing="offer and answer by signalling; candidates found by ICE",
            direction="both, at any time, from peer to peer",
            state="stateful: ICE, DTLS and SCTP associations",
            routing="the path that ICE finds: direct, by STUN, or relayed by TURN",
            flow_control="SCTP's: receive window and congestion control, in the process",
            errors="what is lost stays lost; the channel or the connection closes",
            encryption="always: DTLS 1.2",
            default_port="none: any UDP port; 3478 for STUN",
        ),
    ),
}
