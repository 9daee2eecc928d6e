"""Probes: what is measured of the system or of a format directly, without a load on a server. Each is a function that
is given words and gives figures; it runs in a process of its own (`python -m bench.probes`), so that what it does to
itself is its alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """One probe. `measure` is "module:function": it is called with the words, and gives a number for each of `figures`.
    Figures carry their unit in the name."""

    line: str
    measure: str
    words: Mapping[str, str]
    """What may be said, and what it means."""
    figures: Mapping[str, str]


PROBES = {
    "workers": Probe(
        "starts workers that do nothing, and looks at them",
        "bench.probes.workers:measure",
        {"kind": "process or thread", "count": "how many"},
        {"start_ns": "time to start a worker", "pss_bytes": "memory of each worker (PSS)"},
    ),
    "cow": Probe(
        "forks a process that holds memory, and writes to a share of it in the child",
        "bench.probes.cow:measure",
        {"megabytes": "what the parent holds", "written": "the share that the child writes to, 0 to 1"},
        {"child_pss_bytes": "memory of the child (PSS)", "child_private_bytes": "memory that is the child's alone"},
    ),
    "parallel": Probe(
        "computes on several workers at once",
        "bench.probes.parallel:measure",
        {"kind": "process or thread", "count": "how many"},
        {"speedup": "what they do together, as a multiple of what one does alone"},
    ),
    "formats": Probe(
        "encodes and decodes a list of todos",
        "bench.probes.formats:measure",
        {"format": "protobuf, json, xml or messagepack", "todos": "how many"},
        {
            "encoded_bytes": "size of the encoded list",
            "encode_ns": "time to encode it",
            "decode_ns": "time to decode it",
        },
    ),
    "commits": Probe(
        "commits records to a file, each synced before it is acknowledged or later",
        "bench.probes.commits:measure",
        {"sync": "each or later"},
        {
            "commits_per_s": "commits a second",
            "unsynced_commits": "commits that were acknowledged and not on the disk, at the worst moment",
        },
    ),
    "slow-reader": Probe(
        "sends to a reader that takes a tenth of what could be sent",
        "bench.probes.slow_reader:measure",
        {"transport": "tcp or udp"},
        {
            "sent_to_read_ratio": "what was sent, as a multiple of what was read",
            "lost_share": "share of what was sent that was never read",
        },
    ),
    "nagle": Probe(
        "writes twice and then waits for an answer, with TCP_NODELAY or without",
        "bench.probes.nagle:measure",
        {"nodelay": "yes or no"},
        {"exchange_ns": "time of an exchange, the median"},
    ),
    "backlog": Probe(
        "connects many at once to a listener that accepts slowly",
        "bench.probes.backlog:measure",
        {"backlog": "of the listener", "connects": "how many at once"},
        {"connect_p99_ns": "time to connect, p99", "connect_max_ns": "time to connect, the longest"},
    ),
    "receive-buffer": Probe(
        "sends to a peer that does not read, until nothing more is taken",
        "bench.probes.receive_buffer:measure",
        {},
        {
            "taken_bytes": "what was taken",
            "buffers_bytes": "the sizes of the send and the receive buffer together",
        },
    ),
    "pipelining": Probe(
        "asks for something slow and then for something fast",
        "bench.probes.pipelining:measure",
        {"how": "pipelined on one connection, or apart on two"},
        {"second_answer_ns": "time until the answer to the second request"},
    ),
    "handshakes": Probe(
        "makes TLS 1.3 handshakes in memory",
        "bench.probes.handshakes:measure",
        {"key": "the certificate's: rsa-2048 or p-256", "resumed": "yes or no"},
        {"client_cpu_ns": "CPU time of the client", "server_cpu_ns": "CPU time of the server"},
    ),
    "paths": Probe(
        "transfers over two links in parallel",
        "bench.probes.paths:measure",
        {"transport": "tcp or mptcp"},
        {"links_used_ratio": "what is carried, as a multiple of what one link carries"},
    ),
    "tunnel": Probe(
        "sends something over TCP, four times, through a tunnel across a link of 60 ms that loses packets",
        "bench.probes.tunnel:measure",
        {
            "carrier": "what carries the tunnel's packets: tcp or udp",
            "loss": "share that the link loses, like 1%",
            "kilobytes": "what is sent each time",
        },
        {
            "goodput_bytes_per_s": "bytes a second that arrive, the harmonic mean",
            "given_ratio": "what the link is given for it, as a multiple",
        },
    ),
    "hole": Probe(
        "has two peers behind routers that translate addresses reach each other, every kind with every kind",
        "bench.probes.hole:measure",
        {"how": "stun: directly, by what a relay has seen of them; turn: through the relay"},
        {
            "connected_pairs": "pairs of kinds, of sixteen, that were connected",
            "expected_pairs": "pairs of which it was to be expected as it was",
        },
    ),
    "direct": Probe(
        "has one of two peers talk to the other, 20 ms away, with a server 30 ms from both",
        "bench.probes.groups:direct",
        {"how": "direct: over a data channel between them; relay: over websockets through the server"},
        {
            "delay_ns": "time from a message to its arrival, the median",
            "server_bytes": "bytes to and from the server for each message",
            "server_cpu_ns": "CPU time of the server for each message",
        },
    ),
    "mesh": Probe(
        "has a group of peers talk, all to all",
        "bench.probes.groups:mesh",
        {"how": "mesh: over data channels between all; relay: over websockets through a server", "peers": "how many"},
        {
            "peer_copies": "what a peer sends for each message of its own, as a multiple of the message",
            "server_copies": "what the server sends for each message, likewise",
            "connections": "how many connections there are",
        },
    ),
    "wire-bytes": Probe(
        "counts the bytes of an exchange on the wire, between the lean ends",
        "bench.probes.wire_bytes:measure",
        {"protocol": "which", "tls": "its version, or off"},
        {
            "first_bytes": "bytes of a first exchange of 64 bytes, with all handshakes, both ways",
            "later_bytes": "bytes of a later one",
        },
    ),
    "balancing": Probe(
        "sends 128 requests over four connections of HTTP/2 through a proxy in front of three backends",
        "bench.probes.proxies:spread",
        {"layer": "4 or 7"},
        {
            "busiest_share": "share of the requests that the busiest backend answers",
            "idle_backends": "backends that answer none",
        },
    ),
    "backend-killed": Probe(
        "kills one of two backends behind a proxy while eight callers call",
        "bench.probes.proxies:backend_killed",
        {"layer": "4 or 7"},
        {"failed_calls": "calls that fail, of 256"},
    ),
    "idle-websockets": Probe(
        "leaves four websockets alone that go through a proxy with an idle timeout",
        "bench.probes.proxies:idle_websockets",
        {"pings": "yes or no: whether the client sends pings"},
        {"lost_connections": "connections that the proxy closed"},
    ),
    "restarts": Probe(
        "restarts a server between two calls over one connection",
        "bench.probes.restarts:measure",
        {"protocol": "tcp, http1 or http2"},
        {"failed_calls": "calls after the restart that fail, of five"},
    ),
    "six-streams": Probe(
        "holds six streams of events open, and asks for one thing more",
        "bench.probes.six_streams:measure",
        {"http": "1.1, with six connections, or 2, with one"},
        {
            "served_share": "1 if the seventh request is answered within a second, 0 if it is not",
            "seventh_ns": "time until it is answered, or given up",
        },
    ),
    "fan-out": Probe(
        "counts what leaves a server for each event of 1 KiB",
        "bench.probes.fan_out:measure",
        {"readers": "how many subscribe"},
        {
            "bytes_per_event": "bytes that leave for an event",
            "bytes_per_delivery": "bytes that leave for an event to one reader",
        },
    ),
    "cancelling": Probe(
        "asks for an answer and leaves after 50 ms",
        "bench.probes.cancelling:measure",
        {"answer": "computed, by a handler that takes a second of CPU, or streamed, as the client takes it"},
        {"cpu_after_ns": "CPU time of the server after the client has left"},
    ),
    "moving": Probe(
        "has a client get another address in the middle of a download",
        "bench.probes.moving:measure",
        {"protocol": "http3 or http2"},
        {"completed_share": "1 if the download ends as it should, 0 if it does not"},
    ),
    "sidecars": Probe(
        "asks for a page over a link of 80 ms, straight or by two sidecars",
        "bench.probes.sidecars:measure",
        {
            "between": "what crosses the link: http1, from end to end; http2 or http3, between two sidecars",
            "loss": "share of its packets that the link loses, like 2%",
        },
        {"page_ns": "time of a page of 24 objects, the median"},
    ),
    "server-push": Probe(
        "fetches a page that is made in 100 ms, and its style sheet, over HTTP/2 and a link of 100 ms",
        "bench.probes.server_push:measure",
        {
            "how": "how the style sheet comes: asked for behind the page, pushed, or hinted at (103) and asked for",
            "cached": "yes or no: whether the client has the style sheet",
        },
        {
            "page_ns": "time until all that is needed is there, the median",
            "received_bytes": "bytes that come for each page",
        },
    ),
    "chunked": Probe(
        "asks for 5 MB that take a second to make",
        "bench.probes.chunked:measure",
        {"how": "chunked, as they are made, or buffered, when they are whole"},
        {"first_byte_ns": "time until the first byte of the body", "held_bytes": "what the server holds at the most"},
    ),
    "overrun": Probe(
        "publishes 32 MB to a reader that takes a tenth of it meanwhile",
        "bench.probes.overrun:measure",
        {"how": "push, over server-sent events, or poll"},
        {
            "sent_away": "1 if the server ended the reader's connection, 0 if it did not",
            "got_share": "share of the events that the reader got",
        },
    ),
    "items": Probe(
        "asks a gRPC server for todos, as one answer or as a stream",
        "bench.probes.items:measure",
        {"how": "unary or stream", "todos": "how many"},
        {"first_item_ns": "time until the first todo is there", "all_items_ns": "time until all are"},
    ),
}
