"""The names a user can choose from, each with where its code is: "module:Class", imported only when it is used."""

import difflib
import importlib
from collections.abc import Iterable
from typing import Any

from bench.errors import UsageError

SERVERS = {
    "http1": "servers.http1:Http1Connection",
    "http2": "servers.http2:Http2Connection",
    "tcp": "servers.tcp:TcpConnection",
    "udp": "servers.udp:UdpEndpoint",
}
"""The lean server of each protocol: its connection (see `servers.worker`)."""

CLIENTS = {
    "http1": "clients.http1:Http1Client",
    "http2": "clients.http2:Http2Client",
    "tcp": "clients.tcp:TcpClient",
    "udp": "clients.udp:UdpClient",
}
"""The lean client of each protocol (see `bench.load.client`)."""

PROTOCOLS = tuple(SERVERS)

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

STACKS = {"lean": "this project's own codecs on uvloop"}

PATTERNS = {"request-response": "one request, one answer"}


def choose(name: str, allowed: Iterable[str], where: str) -> str:
    """`name`, if it is one of the allowed; `where` names the option or key in the error."""
    names = list(allowed)
    if name in names:
        return name
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"{where}: {name!r} is unknown; allowed are {', '.join(names)}{hint}")


def load(reference: str) -> Any:
    """The object that "module:Name" refers to."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def unsupported(protocol: str, execution: str) -> str | None:
    """Why a protocol and an execution model make no sense together; None if they do."""
    why: str | None = load(EXECUTIONS[execution])().unsupported(load(SERVERS[protocol]).transport_kind)
    return why
