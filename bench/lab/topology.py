"""Who is in the lab, and what joins them: nodes, each a network namespace, and links between pairs of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Interface, IPv4Network
from typing import Any, Self

from bench.lab.link import Link, parse_link
from bench.lab.nat import check_kind

CLIENT, SERVER = "client", "server"
CLIENT_ADDRESS, SERVER_ADDRESS = "10.77.0.1", "10.77.0.2"
"""Where both ends of a lab are that has nothing but them: addresses that mean something inside of it only."""


@dataclass(frozen=True)
class Node:
    """A host: a network namespace. Its devices are called link0, link1 …, in the order of its links."""

    name: str
    forwards: bool = False
    """It is a router: packets that are not for it go on."""
    routes: tuple[tuple[str, str], ...] = ()
    """(network, gateway) beyond the networks it is on."""
    nat: str = ""
    """The kind of address translation that it does for what comes from link0 (see `bench.lab.nat`)."""

    def __post_init__(self) -> None:
        check_kind(self.nat, self.name)


@dataclass(frozen=True)
class Span:
    """A link between two nodes, and the address that each has on it, like "10.77.0.1/24". Up is from a to b."""

    a: str
    a_address: str
    b: str
    b_address: str
    link: Link = field(default_factory=Link)


@dataclass(frozen=True)
class Topology:
    """Nodes and what joins them."""

    nodes: tuple[Node, ...]
    spans: tuple[Span, ...]

    def address(self, node: str) -> str:
        """The address of a node on its first link."""
        for span in self.spans:
            for name, address in ((span.a, span.a_address), (span.b, span.b_address)):
                if name == node:
                    return str(IPv4Interface(address).ip)
        raise KeyError(node)

    def to_json(self) -> dict[str, Any]:
        """For the router process."""
        return {
            "nodes": [asdict(node) for node in self.nodes],
            "spans": [{**asdict(span), "link": str(span.link)} for span in self.spans],
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """What `to_json` gave."""
        return cls(
            tuple(Node(**{**node, "routes": tuple(map(tuple, node["routes"]))}) for node in fields["nodes"]),
            tuple(Span(**{**span, "link": parse_link(span["link"], "link")}) for span in fields["spans"]),
        )


def two_ends(link: Link) -> Topology:
    """Client and server, joined by the link."""
    span = Span(CLIENT, f"{CLIENT_ADDRESS}/24", SERVER, f"{SERVER_ADDRESS}/24", link)
    return Topology((Node(CLIENT), Node(SERVER)), (span,))


def through_router(near: Link, far: Link, nat: str = "") -> Topology:
    """Client, router and server: `near` joins the client to the router, `far` the router to the server. With a kind of
    `nat` the router translates the client's addresses."""
    everything = str(IPv4Network("0.0.0.0/0"))
    nodes = (
        Node(CLIENT, routes=((everything, "10.77.1.254"),)),
        Node("router", forwards=True, nat=nat),
        Node(SERVER, routes=() if nat else ((everything, "10.77.2.254"),)),
    )
    return Topology(
        nodes,
        (
            Span(CLIENT, "10.77.1.1/24", "router", "10.77.1.254/24", near),
            Span("router", "10.77.2.254/24", SERVER, "10.77.2.2/24", far),
        ),
    )


def two_paths(first: Link, second: Link) -> Topology:
    """Client and server, joined by two links in parallel."""
    return Topology(
        (Node(CLIENT), Node(SERVER)),
        (
            Span(CLIENT, "10.77.1.1/24", SERVER, "10.77.1.2/24", first),
            Span(CLIENT, "10.77.2.1/24", SERVER, "10.77.2.2/24", second),
        ),
    )


def star(names: Sequence[str], link: Link) -> Topology:
    """Nodes of those names around a `core` that forwards, each on a link of its own: up is from the node."""
    default = str(IPv4Network("0.0.0.0/0"))
    return Topology(
        (
            *(Node(name, routes=((default, f"10.77.{number}.254"),)) for number, name in enumerate(names, 1)),
            Node("core", forwards=True),
        ),
        tuple(
            Span(name, f"10.77.{number}.1/24", "core", f"10.77.{number}.254/24", link)
            for number, name in enumerate(names, 1)
        ),
    )


def with_relay(direct: Link, to_relay: Link, nat_a: str = "", nat_b: str = "") -> Topology:
    """Two clients, `a` and `b`, and a `relay` that both reach. Without address translation a link joins the clients
    too; with it each client is behind a router of its own (which translates nothing if its kind is ""), and what joins
    those is a `core` that forwards: then what is between a and b or the relay meets `direct`, and what is between the
    relay and a or b meets `to_relay`."""
    if not nat_a and not nat_b:
        return Topology(
            (
                Node("a", routes=(("10.77.2.0/24", "10.77.0.2"),)),
                Node("b", routes=(("10.77.1.0/24", "10.77.0.1"),)),
                Node("relay"),
            ),
            (
                Span("a", "10.77.0.1/24", "b", "10.77.0.2/24", direct),
                Span("a", "10.77.1.1/24", "relay", "10.77.1.3/24", to_relay),
                Span("b", "10.77.2.2/24", "relay", "10.77.2.3/24", to_relay),
            ),
        )
    everything = str(IPv4Network("0.0.0.0/0"))
    insides = ((nat_a, "10.77.1.0/24", "10.77.11.1"), (nat_b, "10.77.2.0/24", "10.77.12.1"))
    inside = tuple((network, gateway) for nat, network, gateway in insides if not nat)
    return Topology(
        (
            Node("a", routes=((everything, "10.77.1.254"),)),
            Node("b", routes=((everything, "10.77.2.254"),)),
            Node("nat-a", forwards=True, routes=((everything, "10.77.11.254"),), nat=nat_a),
            Node("nat-b", forwards=True, routes=((everything, "10.77.12.254"),), nat=nat_b),
            Node("core", forwards=True, routes=inside),
            Node("relay", routes=((everything, "10.77.13.254"),)),
        ),
        (
            Span("a", "10.77.1.1/24", "nat-a", "10.77.1.254/24"),
            Span("b", "10.77.2.1/24", "nat-b", "10.77.2.254/24"),
            Span("nat-a", "10.77.11.1/24", "core", "10.77.11.254/24", direct),
            Span("nat-b", "10.77.12.1/24", "core", "10.77.12.254/24"),
            Span("relay", "10.77.13.1/24", "core", "10.77.13.254/24", to_relay),
        ),
    )
