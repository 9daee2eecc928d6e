"""`wirebench load` over every scheme: our own servers, with certificates that are checked, and servers of others."""

import asyncio
import json
import re
import shlex
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from websockets.asyncio.server import serve as serve_websocket

from bench import cli, serving
from bench.address import SCHEMES, parse_address, parse_security, scheme_of
from bench.certificates import Certificates, certificates, make_certificates
from bench.protocols import CERTIFIED, PROTOCOLS
from bench.serverprocess import ServerProcess
from bench.target import Wanted, parse_target

SHORT = ("--warmup", "0s", "--duration", "200ms")
FEW = ("--load", "closed:2", *SHORT)
Load = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]
SERVICE = "wirebench.v1.Wirebench"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """`load(url, *options)` runs the command in this process, to a good end; gives the trial."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: str) -> dict[str, Any]:
        code = cli.main(["load", *arguments, "--json", "load.json"])
        assert code in (0, 3)  # 3: a machine that is too busy
        (trial,) = json.loads(Path("load.json").read_text())["trials"]
        assert trial["error"] is None
        assert sum(trial["counts"]["errors"].values()) == 0
        assert trial["counts"]["completed"] > 0
        found: dict[str, Any] = trial
        return found

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refusal(load: Load, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """`refusal(url, *options)` runs the command, which must end with status 2 and one line; gives that line."""

    def run(*arguments: str) -> str:
        capsys.readouterr()  # what came before
        assert cli.main(["load", *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    return run


@pytest.fixture(scope="module")
def authority() -> str:
    """The authority that certificates of this process's servers come from."""
    return str(certificates().authority)


# Our own servers


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if PROTOCOLS[scheme.protocol].client])
def test_every_scheme(serve: Callable[..., ServerProcess], load: Load, authority: str, scheme: str) -> None:
    protocol, secure = SCHEMES[scheme].protocol, SCHEMES[scheme].tls
    server = serve(protocol, tls="1.3" if secure else None, grace_s=0.5)
    trial = load(
        f"{scheme}://{server.address}", "--operation", "echo", *FEW, *(("--cacert", authority) if secure else ())
    )
    record = trial["scenario"]
    assert (record["protocol"], record["operation"], record["payload_bytes"]) == (protocol, "echo", 64)
    assert (record["stack"], record["tier"], record["client"]) == ("not known", "not known", "lean")
    known = PROTOCOLS[protocol].tls
    expected = "1.2 or later" if secure and protocol != "http3" else known[0]
    assert record["tls"] == expected
    assert server.stats()[0][0].requests > trial["counts"]["completed"]


@pytest.mark.parametrize("scheme", ["sse+http", "sse+https", "sse+h2c", "ws", "grpc"])
def test_events_are_pushed_through_a_topic(
    serve: Callable[..., ServerProcess], load: Load, authority: str, scheme: str, capsys: pytest.CaptureFixture[str]
) -> None:
    secure = SCHEMES[scheme].tls
    server = serve(SCHEMES[scheme].protocol, tls="1.3" if secure else "off")
    options = ("--topic", "news", "--connections", "5", "--load", "open:100/s", *SHORT)
    trial = load(f"{scheme}://{server.address}", *options, *(("--cacert", authority) if secure else ()))
    delivery = trial["delivery"]
    assert delivery["subscribers"] == 5
    assert delivery["published"] >= 10
    assert delivery["delivered"] == delivery["expected"] == 5 * delivery["published"]
    assert trial["scenario"]["pattern"] == "push"
    shown = capsys.readouterr().out
    for words in (
        "delivered",
        "from published",
        f"{delivery['published']} to 5 subscribers",
        "100 % of the deliveries",
    ):
        assert words in shown


def test_the_version_of_tls_that_is_asked_for(serve: Callable[..., ServerProcess], load: Load, authority: str) -> None:
    server = serve("http1", tls="1.2")
    assert load(f"https://{server.address}/health", *FEW, "--insecure", "--tls", "1.2")["scenario"]["tls"] == "1.2"
    trial = load(f"https://{server.address}/health", *FEW, "--cacert", authority)
    assert trial["scenario"]["tls"] == "1.2 or later"


@pytest.mark.parametrize(
    ("scheme", "protocol", "options", "words"),
    [
        ("https", "http1", (), "--insecure takes any certificate"),
        ("h3", "http3", (), "--insecure takes any certificate"),
        ("https", "http1", ("--insecure", "--tls", "1.2"), "TLS"),
    ],
)
def test_a_handshake_that_fails_says_why(
    serve: Callable[..., ServerProcess],
    refusal: Refusal,
    scheme: str,
    protocol: str,
    options: tuple[str, ...],
    words: str,
) -> None:
    server = serve(protocol, tls="1.3")
    message = refusal(f"{scheme}://{server.address}/health", *FEW, *options)
    assert f"port {server.port}" in message
    assert words in message


# gRPC


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (f"{SERVICE}/Echo", '{"payload": "aGVsbG8="}'),
        (f"/{SERVICE}/Health", None),
        (f"{SERVICE}/BytesStream", '{"n": 64, "chunk": 16}'),
        ("wirebench.v1.Todos/CreateTodo", '{"text": "measure"}'),
    ],
)
def test_methods_by_reflection(
    serve: Callable[..., ServerProcess], load: Load, method: str, message: str | None
) -> None:
    server = serve("grpc")
    options = () if message is None else ("--message", message)
    trial = load(f"grpc://{server.address}", "--method", method, *options, *FEW)
    assert trial["scenario"]["operation"] == f"call /{method.lstrip('/')}"


def test_a_method_by_its_file(
    serve: Callable[..., ServerProcess], load: Load, refusal: Refusal, authority: str
) -> None:
    server = serve("grpc", tls="1.3")
    proto = Path(__file__).parents[2] / "bench/wire/wirebench.proto"
    options = ("--method", f"{SERVICE}/Work", "--message", '{"cpu_us": 10}', "--proto", str(proto))
    load(f"grpcs://{server.address}", *options, "--cacert", authority, *FEW)
    load(f"grpcs://{server.address}", *options, "--insecure", *FEW)
    assert "--insecure and reflection do not go together" in refusal(
        f"grpcs://{server.address}", *options[:4], "--insecure", *FEW
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "a.B/C"), ["no service a.B", SERVICE]),
        (("--method", f"{SERVICE}/Nope"), [f"{SERVICE} has no method Nope", "Echo"]),
        (("--method", f"{SERVICE}/Echo", "--message", "{"), ["--message: no wirebench.v1.EchoRequest"]),
        (("--method", f"{SERVICE}/Echo", "--message", '{"x": 1}'), ["--message", '"x"']),
    ],
)
def test_methods_that_are_not_there(
    serve: Callable[..., ServerProcess], refusal: Refusal, options: tuple[str, ...], words: list[str]
) -> None:
    message = refusal(f"grpc://{serve('grpc').address}", *options, *FEW)
    for word in words:
        assert word in message


# Servers of others


def test_a_grpc_server_of_somebody_else(load: Load, tmp_path: Path) -> None:
    """grpcio's, without reflection: the method comes from a file."""
    (tmp_path / "foreign.proto").write_text(
        'syntax = "proto3"; package far; message Word { string text = 1; }'
        "service Say { rpc Twice(Word) returns (Word); }"
    )
    seen = set()

    def twice(request: bytes, _: Any) -> bytes:
        seen.add(request)
        return request

    handlers: dict[str, Any] = {"Twice": grpc.unary_unary_rpc_method_handler(twice)}
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("far.Say", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        options = ("--method", "far.Say/Twice", "--message", '{"text": "hi"}', "--proto", "foreign.proto")
        load(f"grpc://127.0.0.1:{port}", *options, *FEW)
    finally:
        server.stop(None).wait()
    assert seen == {b"\x0a\x02hi"}


@contextmanager
def websockets_server(security: ssl.SSLContext | None) -> Iterator[tuple[int, set[tuple[str, int]]]]:
    """The websockets library, answering each message with a short text. Gives its port, and which (path, size) came."""
    seen: set[tuple[str, int]] = set()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready: futures.Future[int] = futures.Future()

    async def answer(connection: Any) -> None:
        async for message in connection:
            seen.add((connection.request.path, len(message)))
            await connection.send("thanks")

    async def run() -> None:
        async with serve_websocket(answer, "127.0.0.1", 0, ssl=security) as server:
            ready.set_result(next(iter(server.sockets)).getsockname()[1])
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        yield ready.result(10), seen
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def test_a_websocket_server_of_somebody_else(load: Load) -> None:
    with websockets_server(None) as (port, seen):
        trial = load(f"ws://localhost:{port}/chat?room=1", "--payload", "33B", *FEW)
    assert seen == {("/chat?room=1", 33)}
    assert trial["scenario"]["operation"] == "message /chat?room=1"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of somebody else, for the name localhost alone."""
    return make_certificates(tmp_path_factory.mktemp("other"), names=("localhost",), addresses=())


def test_certificates_are_checked_by_name(load: Load, refusal: Refusal, other: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.certificate, other.private_key)
    with websockets_server(context) as (port, _):
        trust = ("--cacert", str(other.authority))
        load(f"wss://localhost:{port}/", *trust, *FEW)
        load(f"wss://127.0.0.1:{port}/", "--insecure", *FEW)
        message = refusal(f"wss://127.0.0.1:{port}/", *trust, *FEW)
        assert "127.0.0.1" in message
        assert "certificate" in message
        message = refusal(f"wss://localhost:{port}/", *FEW)
        assert "--insecure takes any certificate" in message


# Addresses


def test_what_is_left_to_both_ends_and_what_is_not() -> None:
    address = parse_address("https://[::1]/a b?q=c d")
    assert (address.host, address.port, address.authority, address.path) == ("::1", 443, "[::1]", "/a%20b?q=c%20d")
    security = parse_security(address, False, None, None)
    assert security is not None
    assert (security.tls, security.authorities, security.server_name, security.insecure) == ("", "", "::1", False)
    quic = parse_security(parse_address("h3://example.com"), True, None, None)
    assert quic is not None
    assert (quic.tls, quic.server_name, quic.insecure) == ("1.3", "example.com", True)
    assert parse_security(parse_address("ws://example.com"), False, None, None) is None


# serve


@pytest.mark.parametrize(
    ("protocol", "tls"),
    [(name, tls) for name, protocol in PROTOCOLS.items() for tls in protocol.tls if tls != "1.2"],
)
def test_what_serve_says_to_try_can_be_run(
    serve: Callable[..., ServerProcess], need: Callable[[str], str], protocol: str, tls: str
) -> None:
    server = serve(protocol, tls=tls)
    said = serving.greeting(server)
    secure = tls in CERTIFIED
    assert (f"Its certificate comes from {certificates().authority}" in said) == secure
    commands = [shlex.split(re.split(r"\s{2,}", line.strip(), maxsplit=1)[1]) for line in said.splitlines()[1:]]
    loads = [command[2:] for command in commands if command[:2] == ["wirebench", "load"]]
    assert loads
    for url, *options in loads:
        assert url == f"{scheme_of(protocol, tls)}://{server.address}"
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert ("--cacert" in given) == secure
        wanted = Wanted(operation=given.get("--operation"), payload=given.get("--payload"), topic=given.get("--topic"))
        parse_target(url, wanted, insecure=False, cacert=given.get("--cacert"), tls=None)
    for command in commands:
        if command[0] == "curl" and not {"--http3-only", "-N"} & set(command):  # few builds of curl speak HTTP/3
            done = subprocess.run(
                [need("curl"), "-sS", "--fail", *command[1:]], check=False, capture_output=True, text=True, timeout=20
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout in ("ok", "hello", "done") or done.stdout.isdigit()
