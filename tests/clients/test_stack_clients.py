"""Every client stack, as the registry names them, against the lean server of its protocol."""

import asyncio
import socket
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace

import pytest
from stack_driver import MS, drive, security, spec

from bench import contract, registry
from bench.contract import Opcode
from bench.errors import TargetError, UnsupportedError
from bench.load.spec import Request
from bench.protocols import PROTOCOLS
from bench.registry import STACKS
from bench.serverprocess import ServerProcess

CLIENTS = [(stack, protocol) for stack, declared in STACKS.items() if stack != "lean" for protocol in declared.clients]

REQUESTS = {
    "echo": Request(opcode=Opcode.ECHO, payload_bytes=1000),
    "bytes": Request(opcode=Opcode.BYTES, payload_bytes=5000),
    "pieces": Request(opcode=Opcode.BYTES, payload_bytes=1000, b=300),
    "upload": Request(opcode=Opcode.UPLOAD, payload_bytes=100_000),
    "work": Request(opcode=Opcode.WORK, a=10, b=1),
    "health": Request(opcode=Opcode.HEALTH),
    "todos": Request(opcode=Opcode.READ_TODOS, a=5),
    "todo stream": Request(opcode=Opcode.READ_TODOS_STREAM, a=5),
}


def tls_of(protocol: str) -> list[str]:
    """Without TLS, and with it, as far as the protocol has it."""
    return [tls for tls in ("off", "1.3") if tls in PROTOCOLS[protocol].tls]


@pytest.fixture(scope="module")
def lean() -> Iterator[Callable[[str, str], ServerProcess]]:
    """`lean(protocol, tls)` gives a lean server, one for all tests here."""
    servers: dict[tuple[str, str], ServerProcess] = {}

    def get(protocol: str, tls: str) -> ServerProcess:
        if (protocol, tls) not in servers:
            servers[protocol, tls] = ServerProcess(protocol, tls=tls).__enter__()
        return servers[protocol, tls]

    yield get
    for server in servers.values():
        server.stop()
        assert server.stderr == ""


@pytest.mark.parametrize(("stack", "protocol"), CLIENTS)
def test_every_operation_is_asked_for_and_checked(
    lean: Callable[[str, str], ServerProcess], stack: str, protocol: str
) -> None:
    server = lean(protocol, tls_of(protocol)[0])
    for request in REQUESTS.values():
        drive(spec(server, stack, request))


@pytest.mark.parametrize(
    ("stack", "protocol", "tls"), [(stack, protocol, tls) for stack, protocol in CLIENTS for tls in tls_of(protocol)]
)
def test_loads_are_served_to_the_last_request(
    lean: Callable[[str, str], ServerProcess], stack: str, protocol: str, tls: str
) -> None:
    server = lean(protocol, tls)
    before = server.stats()[0][0].requests
    result = drive(spec(server, stack, REQUESTS["echo"], "closed:2x8", duration_ns=100 * MS))
    assert result["errors"] == {}
    assert server.stats()[0][0].requests > before + 2
    result = drive(spec(server, stack, REQUESTS["health"], "open:100/s", duration_ns=100 * MS))
    assert result["completed"] == 10
    assert result["errors"] == {}


@pytest.mark.parametrize(("stack", "protocol"), CLIENTS)
def test_an_answer_that_is_not_the_expected_one_is_told(
    lean: Callable[[str, str], ServerProcess], stack: str, protocol: str
) -> None:
    server = lean(protocol, tls_of(protocol)[0])
    if protocol == "grpc":  # a todo that has the next free id
        path, request = "/wirebench.v1.Todos/CreateTodo", b"\n\x01x"
    else:
        path, request = "/echo", b"x"
    wrong = Request(foreign=("POST", path), body=request.decode("latin-1"), answer="y")
    with pytest.raises(TargetError, match="not the expected one"):
        drive(spec(server, stack, wrong))


@pytest.mark.parametrize(("stack", "protocol"), CLIENTS)
def test_a_refusal_is_told(lean: Callable[[str, str], ServerProcess], stack: str, protocol: str) -> None:
    server = lean(protocol, tls_of(protocol)[0])
    path = "/wirebench.v1.Wirebench/Nothing" if protocol == "grpc" else "/nothing"
    expected = "not the protocol" if protocol == "websocket" else "status that says the request failed"
    with pytest.raises(TargetError, match=expected):
        drive(spec(server, stack, Request(foreign=("POST", path), answer="")))


class Link:
    """The engine's side, as far as it is told."""

    def __init__(self) -> None:
        self.completed: list[Hashable] = []
        self.losses = 0

    def answered(self, ids: Sequence[Hashable]) -> None:
        self.completed += ids

    def lost(self, error: Exception | None) -> None:
        self.losses += 1


@pytest.mark.parametrize(("stack", "protocol"), CLIENTS)
def test_what_is_given_up_leaves_nothing_behind(
    lean: Callable[[str, str], ServerProcess], stack: str, protocol: str
) -> None:
    """One exchange is abandoned, others are in flight when the session is closed."""
    server = lean(protocol, tls_of(protocol)[0])
    link = Link()

    async def give_up() -> None:
        make = registry.load(registry.client(protocol, stack))
        session = make(contract.exchange(Opcode.WORK, b=500), server.address, True)
        await session.connect(server.host, server.port, security(server.tls), link)
        in_flight = min(3, session.max_in_flight)
        ids, pieces = session.request(in_flight)
        assert len(set(ids)) == in_flight
        assert list(pieces) == []
        await asyncio.sleep(0)
        usable = session.abandon(ids[0])
        assert usable == (protocol in ("http2", "http3", "grpc") and stack != "httpx-sync")
        session.close()
        until = time.monotonic() + 3
        while len(asyncio.all_tasks()) > 1:
            assert time.monotonic() < until, asyncio.all_tasks()
            await asyncio.sleep(0.005)

    asyncio.run(give_up())
    assert link.completed == []
    assert link.losses <= 1


@pytest.mark.parametrize(("stack", "protocol"), CLIENTS)
def test_nobody_there(stack: str, protocol: str) -> None:
    if PROTOCOLS[protocol].transport_kind != "stream":
        pytest.skip("UDP refuses nothing")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        server = ServerProcess(protocol, port=bound.getsockname()[1], tls="off")
        with pytest.raises(TargetError, match="cannot connect"):
            drive(spec(server, stack, REQUESTS["health"]))


@pytest.mark.parametrize(("stack", "protocol"), [pair for pair in CLIENTS if "1.3" in PROTOCOLS[pair[1]].tls])
def test_a_certificate_for_another_name_is_refused(
    lean: Callable[[str, str], ServerProcess], stack: str, protocol: str
) -> None:
    server = lean(protocol, "1.3")
    wanted = spec(server, stack, REQUESTS["health"])
    assert wanted.security is not None
    elsewhere = replace(wanted, security=replace(wanted.security, server_name="elsewhere.test"))
    with pytest.raises(TargetError, match="certificate"):
        drive(elsewhere)
    careless = replace(elsewhere, security=replace(elsewhere.security, insecure=True))
    if stack in ("grpcio", "grpcio-aio"):
        with pytest.raises(UnsupportedError, match="always checks"):
            drive(careless)
    else:
        drive(careless)


@pytest.mark.parametrize(("stack", "protocol"), CLIENTS)
def test_a_server_that_goes_away_is_a_lost_connection(
    serve: Callable[..., ServerProcess], stack: str, protocol: str
) -> None:
    server = serve(protocol, tls=tls_of(protocol)[0], grace_s=0.0)
    link = Link()

    async def lose() -> None:
        make = registry.load(registry.client(protocol, stack))
        session = make(contract.exchange(Opcode.WORK, b=5000), server.address, True)
        await session.connect(server.host, server.port, security(server.tls), link)
        session.request(1)
        while server.stats()[0][0].requests < 1:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(server.stop)
        until = time.monotonic() + 5
        while not link.losses:
            assert time.monotonic() < until
            await asyncio.sleep(0.005)
        assert session.closing
        assert session.failures == []
        session.close()
        await asyncio.sleep(0.01)

    asyncio.run(lose())
    assert link.completed == []
    assert link.losses == 1
