"""A connection for each exchange, and the ways it is opened: against servers of ours, openssl s_server, and others."""

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.certificates import certificates
from bench.contract import Opcode, Security
from bench.errors import TargetError, UsageError
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import SERVER_ADDRESS, two_ends
from bench.load.spec import Request
from bench.loadprocess import LoadProcesses, merge
from bench.serverprocess import ServerProcess
from tests.lab.conftest import links  # noqa: F401  a fixture
from tests.load.test_tls_load import OK, S, answering, listening, refused, run, security, spec

Serve = Callable[..., ServerProcess]
BYTES = Request(Opcode.BYTES, 64)


def accepted(server: ServerProcess) -> tuple[int, int]:
    """Connections and requests that a server has had."""
    workers = server.stats()[0]
    return sum(counts.accepts for counts in workers), sum(counts.requests for counts in workers)


@pytest.mark.parametrize("protocol", ["http1", "http2", "tcp", "websocket", "grpc", "http3"])
def test_each_exchange_has_a_connection(serve: Serve, protocol: str) -> None:
    server = serve(protocol)
    secured = security() if protocol == "http3" else None
    result = run(spec(server.port, secured, protocol, "closed:4", request=Request(Opcode.ECHO, 64), pattern="connect"))
    assert result["errors"] == {}
    assert result["completed"] > 3
    connections, requests = accepted(server)
    assert connections >= requests >= result["completed"]


def test_littles_law_holds(serve: Serve) -> None:
    """Nothing of a connection's life is left out."""
    server = serve("http1")
    result = run(spec(server.port, None, load="closed:4", pattern="connect", duration_ns=S // 2))
    mean_ns = result["latency"].get_mean_value()
    assert mean_ns == pytest.approx(4 * S // 2 / result["done_in_window"], rel=0.1)


def test_an_open_load(serve: Serve) -> None:
    server = serve("http1")
    result = run(spec(server.port, None, load="open:200/s", pattern="connect"))
    assert (result["completed"], result["errors"], result["dropped"]) == (50, {}, 0)
    connections, requests = accepted(server)
    assert connections == requests == 61  # with warm-up, and one before


def test_an_open_load_waits_for_a_slot_and_then_drops(serve: Serve) -> None:
    server = serve("http1")
    slow = Request(Opcode.WORK, 0, 0, 40)
    asked = spec(server.port, None, load="open:200/s", pattern="connect", request=slow, connections="1", queue_limit=2)
    result = run(asked)
    assert result["errors"] == {}
    assert result["dropped"] > 30
    assert result["latency"].get_max_value() > 80_000_000  # the wait counts


def test_a_server_that_ends_some_connections() -> None:
    count = 0

    def answer(sock: socket.socket) -> None:
        nonlocal count
        count += 1
        if sock.recv(65536) and count % 3:
            sock.sendall(OK)

    with listening(answer) as port:
        result = run(spec(port, None, load="closed:1", pattern="connect"))
    assert set(result["errors"]) == {"closed"}
    assert result["completed"] >= result["errors"]["closed"] > 3


def test_a_server_that_goes_away(serve: Serve) -> None:
    with ServerProcess("http1") as server, LoadProcesses(1, lambda progress: None) as load:
        load.connect([spec(server.port, None, load="closed:2", pattern="connect", warmup_ns=0)])
        server.stop()
        load.release()
        result = merge(load.results())
    assert set(result["errors"]) == {"refused"}
    assert 0 < result["errors"]["refused"] < 20  # it does not hammer at a closed door


class TestResumed:
    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    @pytest.mark.parametrize("protocol", ["http1", "http2", "tcp"])
    def test_every_handshake_is(self, serve: Serve, protocol: str, tls: str) -> None:
        server = serve(protocol, tls=tls)
        result = run(spec(server.port, security(tls, handshake="resumed"), protocol, "closed:4", pattern="connect"))
        assert result["errors"] == {}
        assert result["completed"] > 3

    def test_by_another_server(self) -> None:
        """Python's own, of one context."""
        with listening(answering(certificates())) as port:
            result = run(spec(port, security(handshake="resumed"), load="closed:1", pattern="connect"))
        assert result["errors"] == {}
        assert result["completed"] > 3

    def test_a_server_without_tickets_is_refused(self) -> None:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificates().certificate, certificates().private_key)
        made.num_tickets = 0

        def answer(sock: socket.socket) -> None:
            with made.wrap_socket(sock, server_side=True) as secured:
                while secured.recv(65536):
                    secured.sendall(OK)

        with listening(answer) as port:
            reason = refused(spec(port, security(handshake="resumed"), load="closed:1", pattern="connect"))
        assert reason.endswith("would not resume a handshake: does it give tickets?")

    def test_what_was_not_resumed_is_no_answer(self) -> None:
        """A server that forgets its tickets now and then."""
        contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
        for made in contexts:
            made.load_cert_chain(certificates().certificate, certificates().private_key)
        count = 0

        def answer(sock: socket.socket) -> None:
            nonlocal count
            count += 1
            with contexts[count > 5].wrap_socket(sock, server_side=True) as secured:
                while secured.recv(65536):
                    secured.sendall(OK)

        with listening(answer) as port:
            asked = spec(port, security(handshake="resumed"), load="closed:1", pattern="connect", warmup_ns=0)
            result = run(asked)
        assert result["errors"] == {"not-resumed": 1}
        assert result["completed"] > 3


class TestEarlyData:
    @pytest.mark.parametrize("load", ["closed:4", "open:200/s"])
    @pytest.mark.parametrize("execution", ["single", "thread-per-connection"])
    def test_every_request_is(self, serve: Serve, execution: str, load: str) -> None:
        server = serve("http1", execution, tls="1.3", early_data=True)
        secured = security(handshake="early-data")
        result = run(spec(server.port, secured, load=load, pattern="connect", request=BYTES))
        assert result["errors"] == {}
        assert result["completed"] > 3
        assert server.stderr == ""

    def test_a_server_that_takes_none_is_refused(self, serve: Serve) -> None:
        server = serve("http1", tls="1.3")
        reason = refused(spec(server.port, security(handshake="early-data"), pattern="connect", request=BYTES))
        assert reason.endswith("would not take early data (0-RTT): does it offer it?")

    def test_an_unsafe_request_is_refused_by_the_server(self, serve: Serve) -> None:
        server = serve("http1", tls="1.3", early_data=True)
        request = Request(Opcode.ECHO, 64)
        reason = refused(spec(server.port, security(handshake="early-data"), pattern="connect", request=request))
        assert "status that says the request failed" in reason

    def test_openssl_s_server(self, openssl_server: Callable[..., int]) -> None:
        port = openssl_server("-early_data")
        request = Request(foreign=("GET", "/"))
        asked = spec(port, security(handshake="early-data"), load="closed:1", pattern="connect", request=request)
        result = run(asked)
        assert result["errors"] == {}
        assert result["completed"] > 5

    def test_openssl_s_server_without(self, openssl_server: Callable[..., int]) -> None:
        port = openssl_server()
        request = Request(foreign=("GET", "/"))
        asked = spec(port, security(handshake="early-data"), load="closed:1", pattern="connect", request=request)
        assert refused(asked).endswith("would not take early data (0-RTT): does it offer it?")
        asked = spec(port, security(handshake="resumed"), load="closed:1", pattern="connect", request=request)
        assert run(asked)["errors"] == {}


@pytest.fixture
def openssl_server(need: Callable[[str], str]) -> Iterator[Callable[..., int]]:
    """Starts `openssl s_server`, which says what it is sent and sends what it is told; gives its port."""
    started: list[subprocess.Popen[bytes]] = []
    threads: list[threading.Thread] = []

    def start(*options: str) -> int:
        made = certificates()
        command = [need("openssl"), "s_server", "-accept", "127.0.0.1:0", "-tls1_3", *options]
        command += ["-cert", str(made.certificate), "-key", str(made.private_key), "-alpn", "http/1.1"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        started.append(process)
        said, told = process.stdout, process.stdin
        assert said is not None
        assert told is not None
        port = next(int(line.rpartition(b":")[2]) for line in said if line.startswith(b"ACCEPT"))

        def answer() -> None:
            for line in said:
                if line == b"\r\n":
                    told.write(OK)
                    told.flush()

        threads.append(threading.Thread(target=answer, daemon=True))
        threads[-1].start()
        return port

    yield start
    for process, thread in zip(started, threads, strict=True):
        process.kill()
        process.wait()
        thread.join()
        for end in (process.stdin, process.stdout):
            assert end is not None
            with contextlib.suppress(OSError):
                end.close()


WAYS = {
    "plain": (2, None, False),
    "TLS 1.2": (4, ("1.2", "full"), False),
    "TLS 1.3": (3, ("1.3", "full"), False),
    "TLS 1.3 resumed": (3, ("1.3", "resumed"), False),
    "TLS 1.3 0-RTT": (2, ("1.3", "early-data"), False),
    "TFO": (1, None, True),
    "TFO + TLS 1.3": (2, ("1.3", "full"), True),
    "TFO + 0-RTT": (1, ("1.3", "early-data"), True),
}
"""Round trips until the answer is there, and how."""

RTT_MS = 200
"""Long against what a busy machine adds, since round trips are counted here, and no speed is measured."""


@pytest.mark.usefixtures("links")
class TestOverALink:
    @contextlib.contextmanager
    def lab(self, rtt: str, fast_open: str) -> Iterator[Lab]:
        kernel = {"net.ipv4.tcp_fastopen": fast_open}
        with Lab(two_ends(parse_link(f"rtt={rtt}", "test")), kernel=kernel) as lab:
            yield lab

    def run(self, lab: Lab, secured: Security | None, fast_open: bool, **changes: Any) -> dict[str, Any]:
        early_data = secured is not None and secured.handshake == "early-data"
        options = {"tls": secured.tls if secured else "off", "early_data": early_data, "host": SERVER_ADDRESS}
        takes_it = changes.pop("server_fast_open", fast_open)
        with ServerProcess("http1", within=lab.within("server"), fast_open=takes_it, **options) as server:
            asked = spec(
                server.port,
                secured,
                host=SERVER_ADDRESS,
                pattern="connect",
                fast_open=fast_open,
                request=BYTES,
                **changes,
            )
            with LoadProcesses(1, lambda progress: None, lab.within("client")) as load:
                load.connect([asked])
                load.release()
                return merge(load.results())

    @pytest.mark.parametrize("way", WAYS)
    def test_round_trips_to_the_first_byte(self, way: str) -> None:
        round_trips, tls, fast_open = WAYS[way]
        secured = security(tls[0], server_name=SERVER_ADDRESS, handshake=tls[1]) if tls else None
        with self.lab(f"{RTT_MS}ms", "3") as lab:
            result = self.run(lab, secured, fast_open, load="closed:4", duration_ns=S)
        assert result["errors"] == {}
        measured = result["latency"].get_value_at_percentile(50) / (RTT_MS * 1e6)
        assert measured == pytest.approx(round_trips, abs=0.2)

    def test_a_server_that_takes_nothing_with_the_syn_is_refused(self) -> None:
        with self.lab("1ms", "1") as lab, pytest.raises(TargetError, match="would not take data with the SYN"):
            self.run(lab, None, True, server_fast_open=False)

    @pytest.mark.parametrize(("setting", "end"), [("2", "client"), ("1", "server")])
    def test_a_kernel_that_has_it_off(self, setting: str, end: str) -> None:
        with self.lab("1ms", setting) as lab, pytest.raises((TargetError, UsageError), match="Fast Open") as raised:
            self.run(lab, None, True, server_fast_open=end == "server")
        assert f"net.ipv4.tcp_fastopen is {setting}" in str(raised.value)
