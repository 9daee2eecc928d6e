"""Routers that translate addresses: how each kind maps and filters, seen by datagrams as STUN (RFC 5780) sends them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.errors import UnsupportedError, UsageError
from bench.lab import nat, programs
from bench.lab.lab import Lab
from bench.lab.link import Link, parse_link
from bench.lab.topology import through_router, with_relay
from tests.lab.conftest import Programs

KINDS = list(nat.KINDS)
NAT_A, RELAY, B = "10.77.11.1", "10.77.13.1", "10.77.2.1"
Endpoint = tuple[str, int]

AGENT = """
import select, socket, sys
sockets = {}
for line in sys.stdin:
    what, *rest = line.split()
    if what == "send":
        source, host, port, text = rest
        if source not in sockets:
            sockets[source] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets[source].bind(("", int(source)))
        sockets[source].sendto(text.encode(), (host, int(port)))
    elif what == "listen":
        sockets[rest[0]] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets[rest[0]].bind(("", int(rest[0])))
        print("listening", flush=True)
    else:
        ready = select.select(list(sockets.values()), [], [], 10)[0]
        if not ready:
            sys.exit("nothing comes")
        data, (host, port) = ready[-1].recvfrom(100)  # that of the newest port, if there is more than one
        print(host, port, data.decode(), flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def _nft(links: None) -> None:
    try:
        with Lab(through_router(Link(), Link(), "full-cone")):
            pass
    except UnsupportedError as error:
        pytest.skip(str(error))


class Agent:
    """A program on a node that sends datagrams from the ports it is told, and tells of those that come, in turn."""

    def __init__(self, programs: Programs, lab: Lab, node: str) -> None:
        self._process = programs.start(lab, node, sys.executable, "-u", "-c", AGENT)

    def listen(self, port: int) -> None:
        self._tell(f"listen {port}")
        assert self._hear() == "listening"

    def send(self, port: int, to: Endpoint, text: str) -> None:
        self._tell(f"send {port} {to[0]} {to[1]} {text}")

    def next(self) -> tuple[Endpoint, str]:
        """What came next, and where from. Fails if nothing comes for ten seconds."""
        self._tell("next")
        words = self._hear().split()
        assert len(words) == 3, words
        return (words[0], int(words[1])), words[2]

    def until(self, text: str) -> list[tuple[Endpoint, str]]:
        """What came before this did."""
        came = []
        while (one := self.next())[1] != text:
            came.append(one)
        return came

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Scene:
    """`a` behind a router; `b` (behind another, which may translate nothing); and the relay."""

    def __init__(self, programs: Programs, lab: Lab) -> None:
        self.lab = lab
        self.a, self.b, self.relay = (Agent(programs, lab, node) for node in ("a", "b", "relay"))
        self.relay.listen(1)
        self.relay.listen(2)

    def mapping(self, agent: Agent, port: int, relay_port: int = 1) -> Endpoint:
        """As what the relay sees a client's port."""
        agent.send(port, (RELAY, relay_port), "who-am-i")
        endpoint, text = self.relay.next()
        assert text == "who-am-i"
        return endpoint

    def settle(self, by: Agent, by_port: int, of: Agent, of_mapping: Endpoint, mark: str) -> list[tuple[Endpoint, str]]:
        """What came to one client of all that the other has sent. No link lets packets overtake, so what the relay
        sends once it has heard of the other comes last."""
        by.send(by_port, (RELAY, 1), "sent")
        assert self.relay.next()[1] == "sent"
        self.relay.send(1, of_mapping, mark)
        return of.until(mark)


@pytest.fixture
def scene(programs: Programs, request: pytest.FixtureRequest) -> Iterator[Scene]:
    nat_a, nat_b = request.param
    with Lab(with_relay(Link(), Link(), nat_a, nat_b)) as lab:
        yield Scene(programs, lab)


def behind(kinds: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("scene", [(kind, "") for kind in kinds], indirect=True, ids=kinds)


@behind(KINDS[:3])
def test_cones_map_independently_of_the_endpoint_and_keep_the_port(scene: Scene) -> None:
    assert scene.mapping(scene.a, 5000) == (NAT_A, 5000)
    assert scene.mapping(scene.a, 5000, relay_port=2) == (NAT_A, 5000)
    scene.b.listen(1)
    scene.a.send(5000, (B, 1), "hello")
    assert scene.b.next() == ((NAT_A, 5000), "hello")
    assert scene.mapping(scene.a, 5001) == (NAT_A, 5001)


@behind(["symmetric"])
def test_symmetric_maps_each_endpoint_apart(scene: Scene) -> None:
    scene.b.listen(1)
    scene.a.send(5000, (B, 1), "hello")
    seen = [scene.mapping(scene.a, 5000, port) for port in (1, 2)] + [scene.b.next()[0]]
    assert {host for host, _ in seen} == {NAT_A}
    assert len({port for _, port in seen}) == 3
    assert scene.mapping(scene.a, 5000) == seen[0]  # and keeps what it has


@pytest.mark.parametrize(
    ("scene", "came_in"),
    [
        (("full-cone", ""), {"same-address", "other-address"}),
        (("address-restricted", ""), {"same-address"}),
        (("port-restricted", ""), set()),
        (("symmetric", ""), set()),
    ],
    indirect=["scene"],
    ids=KINDS,
)
def test_filtering(scene: Scene, came_in: set[str]) -> None:
    """What comes unasked to a mapping that has been used to send to the relay's port 1 alone."""
    mapping = scene.mapping(scene.a, 5000)
    assert scene.mapping(scene.b, 6000) == (B, 6000)
    for _ in range(2):  # and one that was refused changes nothing for the next
        scene.relay.send(2, mapping, "same-address")
        scene.b.send(6000, mapping, "other-address")
        came = scene.settle(scene.b, 6000, scene.a, mapping, "answer")
        assert {text for _, text in came} == came_in
        assert len(came) == len(came_in)
    # An answer to what came in leaves from the mapping too.
    for source, _ in came:
        scene.a.send(5000, source, "answer-to-it")
        who = scene.relay if source[0] == RELAY else scene.b
        assert who.next() == (mapping, "answer-to-it")


@behind(KINDS)
def test_nothing_comes_in_where_nothing_went_out(scene: Scene) -> None:
    mapping = scene.mapping(scene.a, 5000)
    assert scene.mapping(scene.b, 6000) == (B, 6000)
    scene.a.listen(5001)
    scene.b.send(6000, (NAT_A, 5001), "unasked")
    scene.b.send(6000, ("10.77.1.1", 5001), "unasked")  # nor past the translation
    assert scene.settle(scene.b, 6000, scene.a, mapping, "answer") == []
    # What was refused there takes nothing from a later mapping (RFC 4787 section 5).
    scene.b.send(6000, (NAT_A, 5002), "unasked")
    scene.b.send(6000, (RELAY, 1), "sent")
    assert scene.relay.next()[1] == "sent"
    scene.a.send(5002, (B, 6000), "hello")
    source, _ = scene.b.next()
    assert source[0] == NAT_A
    scene.b.send(6000, source, "welcome")
    assert scene.a.next() == ((B, 6000), "welcome")


@behind(KINDS)
@pytest.mark.parametrize("port", [5000, 15000, 25000])
def test_rebinding_gives_another_port(scene: Scene, port: int) -> None:
    """Also to an inside port that is in one of the ranges that take turns."""
    before = scene.mapping(scene.a, port)
    scene.mapping(scene.b, 6000)
    for _ in range(3):
        scene.lab.rebind("nat-a")
        after = scene.mapping(scene.a, port)
        assert after[0] == before[0]
        assert after[1] != before[1]
        scene.relay.send(1, before, "to-the-old-one")
        came = scene.settle(scene.b, 6000, scene.a, after, "to-the-new-one")
        assert came == []
        before = after


@behind(KINDS[:3])
def test_cones_stay_cones_after_rebinding(scene: Scene) -> None:
    scene.mapping(scene.a, 5000)
    scene.lab.rebind("nat-a")
    after = scene.mapping(scene.a, 5000)
    assert scene.mapping(scene.a, 5000, relay_port=2) == after


@behind(["full-cone"])
def test_a_full_cone_is_open_at_its_new_port(scene: Scene) -> None:
    scene.lab.rebind("nat-a")
    after = scene.mapping(scene.a, 5000)
    scene.b.send(6000, after, "unasked")
    assert scene.a.next() == ((B, 6000), "unasked")


def meet(scene: Scene) -> bool:
    """Whether two clients reach each other, who know each other as the relay sees them: both send, three times, and
    answer to where anything came from."""
    a, b = scene.a, scene.b
    a_mapping, b_mapping = scene.mapping(a, 5000), scene.mapping(b, 6000)
    for _ in range(3):
        a.send(5000, b_mapping, "ping")
        b.send(6000, a_mapping, "ping")
        for _ in range(2):
            at_b = scene.settle(a, 5000, b, b_mapping, "mark")
            at_a = scene.settle(b, 6000, a, a_mapping, "mark")
            if any(text == "pong" for _, text in [*at_a, *at_b]):
                return True
            for source, _ in at_a:
                a.send(5000, source, "pong")
            for source, _ in at_b:
                b.send(6000, source, "pong")
    return False


@pytest.mark.parametrize("scene", [(a, b) for a in KINDS for b in KINDS], indirect=True, ids="/".join)
def test_hole_punching(scene: Scene, request: pytest.FixtureRequest) -> None:
    """As RFC 5128 section 3.3 and RFC 3489's kinds have it."""
    kinds = set(request.node.callspec.params["scene"])
    fails = kinds == {"symmetric"} or kinds == {"symmetric", "port-restricted"}
    assert meet(scene) is not fails


@pytest.mark.parametrize("kind", KINDS)
def test_connections_go_through(programs: Programs, tmp_path: Path, kind: str) -> None:
    """TCP; and the server sees the router."""
    (tmp_path / "page").write_text("a page")
    link = parse_link("rtt=2ms", "link")
    with Lab(through_router(link, link, kind)) as lab:
        serve = [sys.executable, "-u", "-m", "http.server", "-d", str(tmp_path), "8000"]
        server = programs.start(lab, "server", *serve, until="Serving")
        fetch = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
        got = programs.run(lab, "client", sys.executable, "-c", fetch, "http://10.77.2.2:8000/page")
        assert got.strip() == "a page"
        assert server.stdout is not None
        assert server.stdout.readline().startswith("10.77.2.254 ")


def ping(programs: Programs, lab: Lab, node: str, to: str) -> float:
    """The round-trip time in milliseconds; infinite if there is no answer."""
    shown = programs.run(lab, node, "ping", "-n", "-c", "1", "-W", "1", to, check=False)
    return float(shown.split("time=")[1].split()[0]) if "time=" in shown else float("inf")


@pytest.mark.parametrize("kinds", [("", ""), ("full-cone", ""), ("", "symmetric"), ("full-cone", "symmetric")])
def test_everybody_reaches_whom_they_should(programs: Programs, kinds: tuple[str, str]) -> None:
    direct, to_relay = parse_link("rtt=20ms", "link"), parse_link("rtt=60ms", "link")
    topology = with_relay(direct, to_relay, *kinds)
    a, b, relay = (topology.address(node) for node in ("a", "b", "relay"))
    if not any(kinds):
        relay = "10.77.1.3"
    with Lab(topology) as lab:
        assert ping(programs, lab, "a", relay) >= 60
        if not any(kinds):
            for node, to in (("a", b), ("b", a), ("a", "10.77.2.2"), ("b", "10.77.1.1")):
                assert 20 <= ping(programs, lab, node, to) < 60
            assert ping(programs, lab, "b", "10.77.2.3") >= 60
            return
        assert ping(programs, lab, "b", relay) >= 60
        for node, to, kind in (("a", b, kinds[1]), ("b", a, kinds[0])):
            if kind:  # an address inside means nothing outside
                assert ping(programs, lab, node, to) == float("inf")
            else:
                assert 20 <= ping(programs, lab, node, to) < 60


def test_kinds_that_are_not() -> None:
    with pytest.raises(UsageError, match="no address translation 'carrier'; there are full-cone, address-restricted, "):
        through_router(Link(), Link(), "carrier")
    with pytest.raises(UsageError, match="nat-b: no address translation 'cone'"):
        with_relay(Link(), Link(), "full-cone", "cone")


def test_without_nft(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "PATH", str(tmp_path))
    monkeypatch.setattr(nat, "set_kernel", lambda *_, **__: None)
    with pytest.raises(UnsupportedError, match="nft is missing; apt-get install nftables"):
        nat.translate("full-cone")


def test_a_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An nft that says what it says on a kernel without nf_tables."""
    monkeypatch.setattr(programs, "PATH", str(tmp_path))
    monkeypatch.setattr(nat, "set_kernel", lambda *_, **__: None)
    nft = tmp_path / "nft"
    nft.write_text(
        "#!/bin/sh\necho 'Error: Could not process rule: Operation not supported' >&2\necho more >&2\nexit 1\n"
    )
    nft.chmod(0o755)
    with pytest.raises(
        UnsupportedError, match=r"nft says 'Error: Could not process rule: Operation not supp.*modprobe"
    ):
        nat.translate("full-cone")
