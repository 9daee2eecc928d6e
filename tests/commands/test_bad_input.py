"""What bad input gets: one line that names the file, the key and what is allowed, status 2, and nothing lost."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

Refused = Callable[..., str]

SUITE = """
[defaults]
protocol = "http1"
[[group]]
load = "closed:4"
"""


def holds(message: str, *words: str) -> None:
    for word in words:
        assert word in message


# run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "http9"], ["--protocol: 'http9' is unknown", "http1, http2, http2-upgrade, http3, grpc, "]),
        (["--execution", "preforc"], ["--execution: 'preforc' is unknown", "did you mean prefork?"]),
        (["--stack", "fat"], ["--stack: 'fat'", "lean"]),
        (["--pattern", "gossip"], ["--pattern: 'gossip'", "request-response"]),
        (["--link", "rtt=1"], ["--link: rtt: '1' is not a duration", "like 5s"]),
        (["--link", "fast"], ["--link: 'fast' is not key=value", "rtt=40ms,loss=1%"]),
        (["--link", "mtu=80"], ["--link: mtu: '80' is impossible", "576"]),
        (["--link", "queue=1ms"], ["--link: queue needs a rate"]),
        (["--kernel", "tcp_sack=0"], ["kernel: the machine's own kernel is left as it is", "link"]),
        (["--kernel", "vm.swappiness=1"], ["--kernel: 'vm.swappiness=1' is not a kernel parameter"]),
        (["--operation", "work:cpu=9"], ["--operation: cpu: '9' is not a duration"]),
        (["--load", "open:0/s"], ["--load: the rate '0/s' is out of range", "up to 10000000/s"]),
        (["--load", "open:-5/s"], ["--load: '-5/s' is not a rate", "like 5000/s"]),
        (["--load", "poisson:1e12/s"], ["--load: the rate '1e12/s' is out of range"]),
        (["--load", "closed:0"], ["--load: '0' is out of range"]),
        (["--load", "lots"], ["--load: 'lots' is not a load", "closed:64"]),
        (["--connections", "many"], ["--connections: 'many'"]),
        (["--payload", "64"], ["--payload: '64' is not a size", "like 64B"]),
        (["--duration", "1"], ["--duration: '1' is not a duration", "like 5s"]),
        (["--duration", "0s"], ["duration: must be longer than 0s"]),
        (["--timeout", "0s"], ["timeout: must be longer than 0s"]),
        (["--workers", "0", "--execution", "prefork"], ["--workers: '0' is not a whole number from 1 to 256"]),
        (["--workers", "2"], ["single has one worker"]),
        (["--workers", "2", "--execution", "single"], ["--workers: the execution model single has one worker"]),
        (["quik"], ["suite", "'quik'", "did you mean quick?"]),
        (["nowhere.toml"], ["nowhere.toml: cannot read the suite: No such file"]),
        (["quick", "--protocol", "udp", "--execution", "reuseport"], ["the suite quick has no scenario with"]),
        (["--protocol", "udp", "--execution", "threads"], ["udp threads×1", "is not supported: datagrams"]),
        (["--protocol", "udp", "--payload", "1MiB"], ["udp", "65487 bytes", "--payload"]),
        (["--load", "closed:20000"], ["20000 connections need", "ulimit"]),
    ],
)
def test_run_options(refused: Refused, arguments: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.preflight.raise_open_files", lambda: 20_000)
    holds(refused("run", *arguments), *words)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds = [", ["mine.toml: not valid TOML: Invalid value"]),
        (SUITE.replace('"closed:4"', "4"), ["mine.toml: group 1: load: 4 must be written as text, in quotes"]),
        (SUITE.replace("[[group]]", "[group]"), ["mine.toml", "[[group]]"]),
        ("group = [1]", ["mine.toml", "[[group]]"]),
        ("defaults = 1\n[[group]]\nload = 'closed:1'", ["mine.toml", "[defaults]"]),
        (SUITE.replace("[[group]]", "[[group]]\ntitle = 4"), ["mine.toml: group 1: title: 4 is not a line of text"]),
        ("description = []\n" + SUITE, ["mine.toml: description: []"]),
        (SUITE.replace('"http1"', '["http1", 2]'), ["mine.toml: group 1: protocol: 2 must be written as text"]),
        (SUITE.replace('"http1"', "{a = 1}"), ["mine.toml: group 1: protocol: {'a': 1} must be written as text"]),
        (SUITE.replace("protocol", "protokoll"), ["mine.toml: defaults: 'protokoll' is unknown", "protocol"]),
        (SUITE + 'execution = "threads"\nprotocol = "udp"', ["udp threads×1", "is not supported: datagrams"]),
    ],
)
def test_suite_files(refused: Refused, tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "mine.toml").write_text(text)
    holds(refused("run", "mine.toml"), *words)


def test_suite_files_that_are_no_text(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\0")
    holds(refused("run", "mine.toml"), "mine.toml: not a text file in UTF-8")
    (tmp_path / "folder.toml").mkdir()
    holds(refused("run", "folder.toml"), "folder.toml: cannot read the suite: Is a directory")


TINY = ("run", "--load", "closed:1", "--warmup", "0s", "--duration", "20ms", "--rounds", "1")


def test_places_that_cannot_be_written_are_known_at_once(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for out in ("file/runs", "file/run.json", "/proc/wirebench", "/proc/run.json"):
        holds(refused(*TINY, "--out", out), f"cannot write {out}", "--out")
    for json_file in ("file/x.json", "/proc/x.json", "."):
        holds(refused(*TINY, "--json", json_file), f"cannot write {json_file}")
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "results").exists()


def test_earlier_results_are_not_written_over(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("kept")
    holds(refused(*TINY, "--out", "run.json"), "run.json exists already")
    assert (tmp_path / "run.json").read_text() == "kept"


# serve


def test_serve_options(refused: Refused) -> None:
    holds(refused("serve", "http9"), "protocol: 'http9' is unknown")
    holds(refused("serve", "tcp", "--execution", "x"), "execution: 'x' is unknown")
    holds(refused("serve", "tcp", "--workers", "2"), "single has one worker")
    holds(refused("serve", "tcp", "--tls", "1.1"), "--tls: '1.1' is unknown; allowed are off, 1.2, 1.3")
    holds(refused("serve", "udp", "--tls", "1.3"), "--tls: udp runs with off only, not 1.3")
    holds(refused("serve", "http3", "--tls", "off"), "--tls: http3 runs with 1.3 only, not off")
    holds(refused("serve", "tcp", "--stack", "fat"), "--stack: 'fat' is unknown", "lean, aioquic, alt-svc, hypercorn")
    holds(refused("serve", "tcp", "--stack", "granian"), "the stack granian has no server for tcp", "http1")
    holds(refused("serve", "udp", "--execution", "threads"), "udp under threads is not supported")
    holds(refused("serve", "tcp", "--cpus", "a"), "--cpus: 'a' is not a whole number")
    holds(refused("serve", "tcp", "--port", "0", "--cpus", "4095"), "CPU 4095")
    holds(refused("serve", "tcp", "--port", "0", "--host", "192.0.2.1"), "cannot listen on 192.0.2.1")


def test_a_port_in_use(refused: Refused) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        holds(refused("serve", "http1", "--port", port), f"port {port}", "the port is in use", "--port")


# load


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["127.0.0.1:8080"],
            ["there is no scheme", "http://, https://, h2c://, http+h2c://, h2://, h3://, ws://, wss://, grpc://"],
        ),
        (["localhost"], ["there is no scheme"]),
        (["wsss://127.0.0.1/"], ["the scheme wsss:// is not one of those allowed"]),
        (["ftp://127.0.0.1/"], ["the scheme ftp:// is not one of those allowed"]),
        (["http://"], ["there is no host"]),
        (["http:///path"], ["there is no host"]),
        (["tcp://127.0.0.1"], ["there is no port"]),
        (["udp://:99"], ["there is no host"]),
        (["http://127.0.0.1:99999/"], ["the port is not a number from 1 to 65535"]),
        (["http://127.0.0.1:x/"], ["the port is not a number"]),
        (["http://[::1"], ["not an address"]),
        (["http://user:secret@127.0.0.1/"], ["a user or password"]),
        (["tcp://127.0.0.1:9/path"], ["tcp addresses have no path"]),
        (["http://127.0.0.1/x", "--operation", "echo"], ["leave out /x or --operation"]),
        (["http://127.0.0.1/", "--operation", "eco"], ["--operation: 'eco' is unknown", "did you mean echo?"]),
        (["tcp://127.0.0.1:9", "--method", "GET"], ["--method: requests over tcp:// have no method"]),
        (["ws://127.0.0.1/", "--method", "GET"], ["--method: requests over ws:// have no method"]),
        (["grpc://127.0.0.1"], ["there is no port"]),
        (["grpc://127.0.0.1:9/a.B/C"], ["grpc addresses have no path"]),
        (["grpc://127.0.0.1:9", "--method", "Echo"], ["--method: 'Echo' is no method", "package.Service/Method"]),
        (["grpc://127.0.0.1:9", "--message", "{}"], ["--message: which method", "--method package.Service/Method"]),
        (["grpc://127.0.0.1:9", "--proto", "a.proto"], ["--proto: which method", "--method package.Service/Method"]),
        (["grpc://127.0.0.1:9", "--method", "a.B/C", "--proto", "no.proto"], ["no.proto"]),
        (["grpc://127.0.0.1:9", "--method", "a.B/C", "--payload", "1B"], ["--payload", "--message '{…}'"]),
        (["grpc://127.0.0.1:9", "--method", "a.B/C", "--operation", "echo"], ["leave out --method or --operation"]),
        (["http://127.0.0.1/", "--message", "{}"], ["--message: only gRPC has such", "--payload SIZE"]),
        (["http://127.0.0.1/", "--proto", "a.proto"], ["--proto: only gRPC has such"]),
        (
            ["http://127.0.0.1/", "--insecure"],
            ["--insecure: there is no TLS to set up over http://", "https://, h2://"],
        ),
        (["udp://127.0.0.1:9", "--tls", "1.3"], ["--tls: there is no TLS to set up over udp://"]),
        (["webrtc+http://127.0.0.1", "--cacert", "x"], ["--cacert: there is no TLS to set up over webrtc+http://"]),
        (["https://127.0.0.1/", "--cacert", "no.pem"], ["--cacert: cannot read no.pem: No such file or directory"]),
        (["https://127.0.0.1/", "--cacert", "."], ["--cacert: cannot read .: Is a directory"]),
        (["https://127.0.0.1/", "--cacert", __file__], ["--cacert", "holds no certificate in PEM form"]),
        (["https://127.0.0.1/", "--cacert", __file__, "--insecure"], ["--insecure takes any certificate", "--cacert"]),
        (["https://127.0.0.1/", "--tls", "1.1"], ["--tls: '1.1' is unknown; allowed are 1.2, 1.3"]),
        (["h3://127.0.0.1/", "--tls", "1.2"], ["--tls: HTTP/3 speaks TLS 1.3 only"]),
        (["sse+http://127.0.0.1/"], ["--topic: which topic", "--topic NAME"]),
        (["sse+http://127.0.0.1/", "--topic", "a/b"], ["--topic: 'a/b' is not a name of letters"]),
        (["sse+http://127.0.0.1/x", "--topic", "a"], ["leave out /x or --topic"]),
        (["sse+http://127.0.0.1/", "--topic", "a", "--load", "closed:4"], ["--load: a publisher needs a rate"]),
        (["sse+http://127.0.0.1/", "--topic", "a", "--payload", "9B"], ["a pushed event has at least 51 bytes, not 9"]),
        (["ws://127.0.0.1/", "--topic", "a", "--operation", "echo"], ["--operation", "leave out one of the two"]),
        (["http://127.0.0.1/", "--topic", "a"], ["--topic: http1 carries no pushed events", "sse+http://"]),
        (["http://127.0.0.1/", "--method", "GE T"], ["--method: 'GE T'"]),
        (["http://127.0.0.1/", "--method", "CONNECT"], ["CONNECT"]),
        (["http://127.0.0.1/", "--load", "open:0/s"], ["load: the rate '0/s'"]),
        (["http://127.0.0.1/", "--payload", "1"], ["--payload: '1' is not a size"]),
        (["http://nowhere.invalid/"], ["nowhere.invalid cannot be found"]),
        (["udp://127.0.0.1:9", "--payload", "1MiB"], ["one datagram", "65487 bytes"]),
    ],
)
def test_addresses(refused: Refused, arguments: list[str], words: list[str]) -> None:
    holds(refused("load", *arguments, "--duration", "100ms"), *words)


@contextmanager
def listening(answer: bytes | None, kind: int = socket.SOCK_STREAM) -> Iterator[int]:
    """A server that takes connections and sends each the same bytes (nothing, and closes, for b""); None: it never
    takes one. Gives its port."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()

        def serve(connection: socket.socket, answer: bytes) -> None:
            with connection, suppress(OSError):  # the client may have gone first
                if answer:
                    connection.recv(65536)
                    connection.sendall(answer)

        def accept(answer: bytes) -> None:
            with suppress(OSError):  # the socket is shut down at the end
                while True:
                    Thread(target=serve, args=(sock.accept()[0], answer), daemon=True).start()

        if answer is not None:
            Thread(target=accept, args=(answer,), daemon=True).start()
        yield sock.getsockname()[1]
        if answer is not None:
            sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts


LOAD = ("--load", "closed:2", "--duration", "100ms", "--warmup", "0s")


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("scheme", ["http", "h2c", "tcp", "udp"])
def test_nobody_there(refused: Refused, scheme: str) -> None:
    port = unused_port()
    message = refused("load", f"{scheme}://127.0.0.1:{port}", *LOAD)
    holds(message, f"127.0.0.1 port {port}", "refuse")


@pytest.mark.parametrize("scheme", ["http", "h2c", "tcp", "udp"])
def test_a_server_that_takes_requests_and_never_answers(refused: Refused, scheme: str) -> None:
    with listening(None, socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM) as port:
        message = refused("load", f"{scheme}://127.0.0.1:{port}", *LOAD, "--timeout", "300ms")
    holds(message, f"127.0.0.1 port {port}", "gave no answer")


@pytest.mark.parametrize("scheme", ["http", "h2c", "tcp"])
@pytest.mark.parametrize("answer", [b"", b"\x00\x01\x02 nonsense \r\n\r\n" * 4])
def test_a_server_that_closes_or_talks_nonsense(refused: Refused, scheme: str, answer: bytes) -> None:
    with listening(answer) as port:
        message = refused("load", f"{scheme}://127.0.0.1:{port}", *LOAD, "--timeout", "1s")
    holds(message, f"127.0.0.1 port {port}")
    # An HTTP/2 client speaks first: by the time of the check, nonsense may have ended all connections.
    assert "closed the connection" in message or (answer and "not the protocol" in message)


def test_a_server_that_says_no(refused: Refused) -> None:
    with listening(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n") as port:
        holds(refused("load", f"http://127.0.0.1:{port}/x", *LOAD), f"port {port}", "status")


def test_a_server_that_is_not_ours_where_ours_was_named(refused: Refused) -> None:
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno") as port:
        holds(refused("load", f"http://127.0.0.1:{port}", "--operation", "echo", *LOAD), f"port {port}", "body")


# report


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b'{"kind": "wirebench-run", "schema": 1, "trials": [', ["is cut short"]),
        (b"[]", ["not a wirebench result file"]),
        (b"{}", ["not a wirebench result file"]),
        (b"\xff\xfe", ["not UTF-8"]),
        (json.dumps({"kind": "wirebench-run", "schema": 999}).encode(), ["schema version 999", "update wirebench"]),
        (json.dumps({"kind": "wirebench-run", "schema": 1}).encode(), ["$: ", "required"]),
    ],
)
def test_result_files(refused: Refused, tmp_path: Path, content: bytes, words: list[str]) -> None:
    (tmp_path / "run.json").write_bytes(content)
    holds(refused("report", "run.json"), "run.json", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_result_files_that_are_not_there(refused: Refused) -> None:
    holds(refused("report", "run.json"), "run.json: no such file")
    holds(refused("report", "."), "holds no claims.json")
