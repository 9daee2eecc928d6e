"""The names a user can choose from, each with where its code is: "module:Class", imported only when it is used."""

import difflib
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from bench.errors import UnsupportedError, UsageError
from bench.patterns import pattern_of
from bench.protocols import PROTOCOLS

EXECUTIONS = {
    "single": "servers.execution.single:Single",
    "threads": "servers.execution.threads:Threads",
    "dispatch": "servers.execution.dispatch:Dispatch",
    "accept-threads": "servers.execution.accept_threads:AcceptThreads",
    "thread-per-connection": "servers.execution.thread_per_connection:ThreadPerConnection",
    "prefork": "servers.execution.prefork:Prefork",
    "process-per-connection": "servers.execution.process_per_connection:ProcessPerConnection",
    "reuseport": "servers.execution.reuseport:Reuseport",
    "reuseport-threads": "servers.execution.reuseport_threads:ReuseportThreads",
}
"""Who accepts connections and who runs requests (see `servers.execution.model`)."""

SEVERAL_PROCESSES = ("prefork", "process-per-connection", "reuseport")
"""The models whose connections live in several processes, which share no memory."""


@dataclass(frozen=True)
class Stack:
    """Code that speaks protocols, as a server, as a client, or both: protocol to reference."""

    line: str
    servers: dict[str, str] = field(default_factory=dict)
    clients: dict[str, str] = field(default_factory=dict)


STACKS = {
    "lean": Stack(
        "this project's own codecs on uvloop",
        servers={name: protocol.server for name, protocol in PROTOCOLS.items()},
        clients={name: protocol.client for name, protocol in PROTOCOLS.items() if protocol.client},
    ),
    "aioquic": Stack(
        "aioquic's own asyncio protocol, used plainly",
        servers={"http3": "servers.stacks.aioquic_server:AioquicServer"},
        clients={"http3": "clients.stacks.aioquic_client:AioquicClient"},
    ),
    "alt-svc": Stack(
        "lean HTTP/3 and HTTP/2 on one port, where the one names the other (Alt-Svc, RFC 7838)",
        servers={"http3": "servers.alternatives:AlternativesServer"},
    ),
    "racing": Stack(
        "lean HTTP/3 and HTTP/2 in a race, as browsers run it: QUIC first, and TCP where that gets no answer",
        clients={"http3": "clients.racing:RacingClient"},
    ),
    "hypercorn": Stack(
        "an ASGI application on Hypercorn",
        servers={
            "http1": "servers.stacks.hypercorn_server:HypercornServer",
            "http2": "servers.stacks.hypercorn_server:HypercornHttp2Server",
            "http3": "servers.stacks.hypercorn_server:HypercornHttp3Server",
            "websocket": "servers.stacks.hypercorn_server:HypercornServer",
            "sse": "servers.stacks.hypercorn_server:HypercornServer",
            "sse-http2": "servers.stacks.hypercorn_server:HypercornHttp2Server",
        },
    ),
    "uvicorn": Stack(
        "an ASGI application on uvicorn (httptools, websockets)",
        servers={
            "http1": "servers.stacks.uvicorn_server:UvicornConnection",
            "websocket": "servers.stacks.uvicorn_server:UvicornConnection",
            "sse": "servers.stacks.uvicorn_server:UvicornConnection",
        },
    ),
    "granian": Stack(
        "an ASGI application on Granian",
        servers={
            "http1": "servers.stacks.granian_server:GranianServer",
            "http2": "servers.stacks.granian_server:GranianHttp2Server",
            "websocket": "servers.stacks.granian_server:GranianServer",
            "sse": "servers.stacks.granian_server:GranianServer",
            "sse-http2": "servers.stacks.granian_server:GranianHttp2Server",
        },
    ),
    "grpcio": Stack(
        "grpcio; as a server with its thread pool",
        servers={"grpc": "servers.stacks.grpcio_server:GrpcioServer"},
        clients={"grpc": "clients.stacks.grpcio_client:GrpcioClient"},
    ),
    "grpcio-aio": Stack(
        "grpcio's asyncio side (grpc.aio)",
        servers={"grpc": "servers.stacks.grpcio_aio_server:GrpcioAioServer"},
        clients={"grpc": "clients.stacks.grpcio_aio_client:GrpcioAioClient"},
    ),
    "websockets": Stack(
        "the websockets library, on asyncio",
        servers={"websocket": "servers.stacks.websockets_server:WebsocketsServer"},
        clients={"websocket": "clients.stacks.websockets_client:WebsocketsClient"},
    ),
    "httpx": Stack(
        "httpx.AsyncClient",
        clients={
            "http1": "clients.stacks.httpx_client:HttpxClient",
            "http2": "clients.stacks.httpx_client:HttpxHttp2Client",
        },
    ),
    "httpx-sync": Stack(
        "httpx.Client, a thread for each connection",
        clients={
            "http1": "clients.stacks.httpx_sync_client:HttpxSyncClient",
            "http2": "clients.stacks.httpx_sync_client:HttpxSyncHttp2Client",
        },
    ),
    "aiohttp": Stack(
        "aiohttp's client",
        clients={
            "http1": "clients.stacks.aiohttp_client:AiohttpClient",
            "websocket": "clients.stacks.aiohttp_client:AiohttpWebsocketClient",
        },
    ),
}
"""What speaks a protocol: lean is the tier of this project, all others are the library tier."""


_SHOWN = 100
"""So many names are listed that are allowed: more than wirebench has of anything."""


def choose(name: str, allowed: Iterable[str], where: str) -> str:
    """`name`, if it is one of the allowed; `where` names the option or key in the error."""
    names = list(allowed)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    raise UsageError(f"{where}: {name!r:.80} is unknown; allowed are {', '.join(names[:_SHOWN])}{more}{hint}")


def load(reference: str) -> Any:
    """The object that "module:Name" refers to."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def server(protocol: str, stack: str = "lean") -> str:
    """The reference of a stack's server. Raises UnsupportedError if the stack serves no such protocol."""
    return _reference(protocol, stack, STACKS[stack].servers, "server")


def client(protocol: str, stack: str = "lean", pattern: str = "request-response") -> str:
    """The reference of a stack's client for a pattern. Raises UnsupportedError if there is none."""
    declared = PROTOCOLS[protocol]
    name = pattern.partition(":")[0]
    if name not in declared.patterns:
        raise UnsupportedError(
            f"{protocol} does not carry the pattern {name}; those it carries: {', '.join(declared.patterns)}"
        )
    kind = pattern_of(pattern).needs[0]
    if kind == "client":
        return _reference(protocol, stack, STACKS[stack].clients, "client")
    if stack != "lean":
        raise UnsupportedError(f"the client {stack} has no pattern {name}; choose the client lean")
    reference: str = getattr(declared, kind)
    return reference


def _reference(protocol: str, stack: str, references: dict[str, str], side: str) -> str:
    if protocol not in references:
        known = f", only for {', '.join(references)}" if references else ""
        raise UnsupportedError(f"the stack {stack} has no {side} for {protocol}{known}")
    return references[protocol]


def unsupported(protocol: str, execution: str, stack: str = "lean") -> str | None:
    """Why a stack's server of a protocol and an execution model make no sense together; None if they do."""
    try:
        served_by = load(server(protocol, stack))
    except UnsupportedError as error:
        return str(error)
    why: str | None = load(EXECUTIONS[execution])().unsupported(served_by.transport_kind, served_by.lives)
    return why


def no_early_data(protocol: str, execution: str, stack: str = "lean") -> str | None:
    """Why a server takes no early data (0-RTT); None if it does."""
    if not PROTOCOLS[protocol].early_data:
        takes = [name for name, declared in PROTOCOLS.items() if declared.early_data]
        return f"early data is not taken for {protocol} here, only for {' and '.join(takes)}"
    if stack != "lean":
        return f"the stack {stack} takes no early data here; choose the stack lean"
    if execution in SEVERAL_PROCESSES:
        return (
            "early data is taken once for each ticket, which processes cannot know of each other; "
            "choose a model of one process, like single or threads"
        )
    return None
