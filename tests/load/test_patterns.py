"""Conversations and polls as loads: every pattern on every protocol that carries it, with real servers."""

import select
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import cli, registry
from bench.errors import UsageError
from bench.lab import probes
from bench.load.spec import LoadSpec, Request
from bench.loadprocess import LoadProcesses
from bench.patterns import PATTERNS, parse_pattern, pattern_of, spelled
from bench.plan import read_suite
from bench.protocols import PROTOCOLS
from bench.serverprocess import ServerProcess
from tests.load.test_calls import PROTOCOLS_WITH_CALLS
from tests.run_file import read_run_file


def run(tmp_path: Path, *options: str, duration: str = "600ms", warmup: str = "50ms") -> dict[str, Any]:
    """The one trial of a run with these options."""
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
    times = ("--rounds", "1", "--warmup", warmup, "--duration", duration)
    status = cli.main(["run", *times, *options, "--out", str(path)])
    assert status in (0, 3)  # 3: a machine too busy for such a trial
    (trial,) = read_run_file(path)["trials"]
    assert trial["error"] is None
    found: dict[str, Any] = trial
    return found


class Loser:
    """Passes bytes on between clients and a server. Every so many-th answer is lost: the connection is cut instead,
    after the server has acted."""

    def __init__(self, host: str, port: int, every: int) -> None:
        self._server = (host, port)
        self._every = every
        self._answers = 0
        self.lost = 0
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Loser":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        other: dict[socket.socket, socket.socket] = {}
        servers = set()
        while not self._ended.is_set():
            for sock in select.select([self._listener, *other], [], [])[0]:
                if sock is self._listener:
                    client, server = sock.accept()[0], socket.create_connection(self._server)
                    other |= {client: server, server: client}
                    servers.add(server)
                elif sock in other:
                    data = sock.recv(65536)
                    self._answers += sock in servers and data != b""
                    is_lost = sock in servers and data != b"" and self._answers % self._every == 0
                    self.lost += is_lost
                    if data and not is_lost:
                        other[sock].sendall(data)
                        continue
                    for end in (sock, other[sock]):
                        other.pop(end)
                        end.close()
        for sock in other:
            sock.close()


@pytest.mark.parametrize("key", ["yes", "no"])
def test_an_answer_that_is_lost_does_not_store_a_comment_twice_if_it_has_a_key(key: str) -> None:
    with ServerProcess("http1") as server, Loser(server.host, server.port, every=10) as loser:
        spec = LoadSpec(
            protocol="http1",
            client=registry.client("http1", pattern="comment"),
            host="127.0.0.1",
            port=loser.port,
            request=Request(),
            load="closed:1",
            connections="1",
            warmup_ns=0,
            duration_ns=500_000_000,
            timeout_ns=5_000_000_000,
            queue_limit=1,
            intervals=10,
            seed=1,
            pattern=f"comment:key={key}",
            topic="comments",
        )
        with LoadProcesses(1, lambda _: None) as load:
            load.connect([spec])
            load.release()
            (result,) = load.results()
        assert result["errors"] == {}
        assert loser.lost > 0
        assert result["tally"]["retries"] > 0
        assert bool(result["tally"].get("duplicates")) == (key == "no")


CARRIED = [
    (protocol, name)
    for protocol, facts in PROTOCOLS.items()
    for name in facts.patterns
    if (PATTERNS[name].conversation and protocol in PROTOCOLS_WITH_CALLS) or name == "long-poll"
]


OFTEN = CARRIED[::3]
"""Every third, which leaves no pattern out, is tried with the quick tests."""
assert {name for _, name in OFTEN} == {name for _, name in CARRIED}


@pytest.mark.parametrize(
    ("protocol", "pattern"),
    [pytest.param(*each, marks=[] if each in OFTEN else [pytest.mark.long]) for each in CARRIED],
)
def test_every_pattern_that_is_carried(tmp_path: Path, protocol: str, pattern: str) -> None:
    load = ["--load", "open:50/s", "--connections", "3"] if PATTERNS[pattern].has_events else ["--load", "closed:2"]
    asked = {"callers": "callers:calls=3"}.get(pattern, pattern)
    trial = run(tmp_path, "--protocol", protocol, "--pattern", asked, *load)
    assert trial["counts"]["errors"] == {}
    assert trial["counts"]["completed"] > 0
    assert set(trial["tally"]) <= set(PATTERNS[pattern].tallies)
    assert trial["tally"]


def test_the_suite_has_every_pattern_on_every_protocol_that_carries_it() -> None:
    def ends(protocol: str, pattern: str) -> tuple[str, str, str]:
        """What stands for a protocol in a pattern: server-sent events and HTTP have the same pages."""
        facts = PROTOCOLS[protocol]
        return pattern, facts.server, getattr(facts, PATTERNS[pattern].needs[0])

    suite = read_suite("patterns")
    carried = {
        ends(protocol, pattern)
        for protocol, facts in PROTOCOLS.items()
        for pattern in facts.patterns
        if pattern != "mix"  # which is of a service of the user's own
    }
    assert {ends(scenario.protocol, scenario.pattern.partition(":")[0]) for scenario in suite.scenarios} == carried


@pytest.mark.parametrize("protocol", [name for name, facts in PROTOCOLS.items() if facts.caller and facts.subscriber])
def test_a_job_that_is_watched(tmp_path: Path, protocol: str) -> None:
    asked = "job:by=push,for=100ms,steps=5"
    trial = run(tmp_path, "--protocol", protocol, "--pattern", asked, "--load", "closed:2")
    assert trial["counts"]["errors"] == {}
    assert trial["tally"]["progress"] == 5 * trial["counts"]["completed"]
    assert trial["latency_ns"]["min"] > 100_000_000 * 0.99


def test_a_client_that_leaves_loses_an_answer_but_no_handle(tmp_path: Path) -> None:
    plain = run(tmp_path, "--pattern", "job:by=request,for=50ms,leave=50%", "--load", "closed:1")
    assert plain["tally"]["lost"] == plain["tally"]["left"] == plain["counts"]["completed"]
    handle = run(tmp_path, "--pattern", "job:by=long-poll,for=50ms,leave=50%", "--load", "closed:1")
    assert handle["tally"]["left"] == handle["counts"]["completed"]
    assert handle["tally"]["lost"] == 0


@pytest.mark.parametrize("protocol", ["http1", "http2"])
def test_what_a_cut_costs(tmp_path: Path, protocol: str) -> None:
    def sent(how: str) -> float:
        options = ("--protocol", protocol, "--payload", "1000000B", "--load", "closed:1")
        trial = run(tmp_path, "--pattern", f"upload:as={how},cut=60%", *options)
        assert trial["tally"]["cuts"] == trial["counts"]["completed"]
        return float(trial["tally"]["body_bytes"] / trial["counts"]["completed"])

    assert sent("chunks") < 1_000_000 + 64 * 1024
    if protocol == "http1":  # over HTTP/2 no more leaves at once than the window allows
        assert sent("whole") == pytest.approx(1_600_000, rel=0.001)


def test_a_pool_is_as_large_as_it_is_said_to_be(tmp_path: Path) -> None:
    asked = "page:objects=12,pool=3,keep=no"
    trial = run(tmp_path, "--pattern", asked, "--load", "closed:1")
    pages = trial["counts"]["completed"]
    assert (trial["tally"]["calls"], trial["tally"]["opened"]) == (12 * pages, 3 * pages)
    assert trial["tally"]["waited"] == 9 * pages
    one = run(tmp_path, "--protocol", "http2", "--pattern", "page:objects=12,pool=1,keep=no", "--load", "closed:1")
    assert one["tally"]["opened"] == one["counts"]["completed"]


def test_short_polls_are_evenly_spread_and_mostly_empty(tmp_path: Path) -> None:
    options = ("--load", "open:5/s", "--connections", "20")
    trial = run(tmp_path, "--pattern", "short-poll:every=100ms", *options, duration="2s")
    assert trial["delivery"]["reach"] == 1.0
    assert trial["delivery"]["duplicates"] == 0
    assert 100 <= trial["tally"]["polls"] <= 1000  # 20 pollers, 20 times each; a busy machine skips some, or ends late
    assert trial["tally"]["empty"] > trial["tally"]["polls"] * 0.3


def test_a_caller_that_waits_does_nothing_else(tmp_path: Path) -> None:
    sync = run(tmp_path, "--pattern", "callers:how=sync,calls=3", "--load", "closed:1")
    assert sync["tally"]["units"] == 0
    free = run(tmp_path, "--pattern", "callers:how=lean,calls=3", "--load", "closed:1")
    assert free["tally"]["units"] > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobb", "did you mean job?"),
        ("job:how=push", "job has no word 'how'; those it has: by, for, steps, every, backoff, leave"),
        ("push:every=1s", "push has no word 'every'; those it has: cut, slow"),
        ("page:every=1s", "page has no word 'every'"),
        ("job:by=mail", "allowed are request, short-poll, long-poll, push"),
        ("job:by", "words are written name=value"),
        ("upload:cut=120%", "not a share from 0% to 100%"),
        ("upload:chunk=0B", "not within 1B to 64MiB"),
        ("page:objects=0", "not a whole number from 1 to 10000"),
        ("short-poll:every=0ms", "not within 1ms to 60s"),
    ],
)
def test_words_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=r"--pattern: ") as refused:
        parse_pattern(text, "--pattern")
    assert said in str(refused.value)


def test_what_is_as_by_default_goes_unsaid() -> None:
    assert spelled("job:by=long-poll,steps=9", "x") == "job:steps=9"
    assert spelled("job:for=200ms", "x") == "job"
    assert pattern_of("job:steps=9") is PATTERNS["job"]


@pytest.mark.parametrize("name", PATTERNS)
def test_what_a_pattern_refers_to_is_there(name: str) -> None:
    pattern = PATTERNS[name]
    assert callable(registry.load(pattern.engine))
    if pattern.conversation:
        assert callable(registry.load(pattern.conversation))
    parse_pattern(name, "x")


def test_what_a_protocol_cannot_carry_is_unsupported(capsys: pytest.CaptureFixture[str]) -> None:
    for options, why in (
        (["--pattern", "job:by=push"], "http1 does not carry the pattern job:by=push: it has no subscriber"),
        (["--protocol", "udp", "--pattern", "page"], "udp does not carry the pattern page"),
        (["--pattern", "long-poll"], "a publisher needs a rate"),
        (["--pattern", "job", "--execution", "prefork"], "choose a model of one"),
        (["--pattern", "page", "--load", "closed:2x4"], "conversations are held one at a time in each place"),
    ):
        assert cli.main(["run", *options]) == 2
        assert why in capsys.readouterr().err


@pytest.mark.parametrize(("kept", "broken"), [("memory", 4), ("sqlite", 0), ("redis", 0), ("token", 0)])
def test_sessions_when_the_server_is_killed(tmp_path: Path, need: Callable[[str], str], kept: str, broken: int) -> None:
    if kept == "redis":
        need("redis-server")
    options = ("--protocol", "http1", "--pattern", f"session:kept={kept}", "--load", "closed:4", "--restart", "30%")
    trial = run(tmp_path, *options, duration="2s")
    assert set(trial["counts"]["errors"]) <= {"closed", "refused"}
    assert trial["counts"]["errors"]["closed"] >= 4  # more where a listener that ends is asked once more
    assert trial["tally"].get("broken", 0) == broken
    assert trial["intervals"][-1]["completed"] > 0
    assert trial["server"]["workers"][0]["requests"] > trial["counts"]["completed"] // 2


def test_sessions_in_memory_are_one_processes_own(tmp_path: Path) -> None:
    options = ("--protocol", "http1", "--load", "closed:4", "--execution", "prefork", "--workers", "2")
    shared = run(tmp_path, "--pattern", "session:kept=sqlite,connection=new", *options)
    assert shared["tally"].get("broken", 0) == 0
    apart = run(tmp_path, "--pattern", "session:kept=memory,connection=new", *options)
    assert apart["tally"]["broken"] > 0


def test_sessions_that_cannot_be_in_redis(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--pattern", "session:kept=redis", "--load", "closed:4")
    assert cli.main(["run", *options, "--link", "rtt=1ms"]) == 2
    assert "over loopback" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("WIREBENCH_REDIS", raising=False)
    assert cli.main(["run", *options]) == 2
    assert "redis-server is not installed" in " ".join(capsys.readouterr().err.split())


def test_memory_is_that_of_the_store_too_before_the_load_and_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Callable[[str], str]
) -> None:
    need("redis-server")
    monkeypatch.delenv("WIREBENCH_REDIS", raising=False)
    looked: list[Sequence[int]] = []
    memory = probes.memory
    monkeypatch.setattr(probes, "memory", lambda pids: (looked.append(list(pids)), memory(pids))[1])
    run(tmp_path, "--pattern", "session:kept=redis", "--load", "closed:1", duration="200ms")
    before, _, after = looked  # between them, that of the load
    assert before == after
    assert len(after) >= 2


@pytest.mark.parametrize("protocol", ["tcp", "http2", "websocket"])
def test_any_load_goes_on_after_a_restart(tmp_path: Path, protocol: str) -> None:
    trial = run(tmp_path, "--protocol", protocol, "--load", "closed:4", "--restart", "30%", duration="2s")
    assert trial["intervals"][-1]["completed"] > 0
    assert {"errors"} <= {doubt["kind"] for doubt in trial["doubts"]} <= {"errors", "noisy-host", "generator-saturated"}


@pytest.mark.parametrize(("pattern", "readers"), [("pubsub:readers=3", 3), ("pipeline", 1)])
def test_publish_subscribe(tmp_path: Path, pattern: str, readers: int) -> None:
    trial = run(tmp_path, "--protocol", "tcp", "--pattern", pattern, "--load", "open:100/s")
    assert trial["delivery"]["published"] == trial["tally"]["confirmed"] == 60
    assert trial["counts"]["completed"] == trial["delivery"]["expected"] == 60 * readers
    assert trial["tally"]["lost"] == 0
    assert trial["delivery"]["confirm_ns"]["count"] > 0
    assert trial["server"]["cpu_user_s"] + trial["server"]["cpu_system_s"] > 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--link", "rtt=1ms"), "over loopback"),
        (("--via", "l4"), "without hops"),
        (("--restart", "50%"), "until the end"),
        (("--execution", "threads"), "of their own"),
        (("--payload", "10B"), "at least 51 bytes"),
        (("--protocol", "http1"), "does not carry"),
    ],
)
def test_what_brokers_have_no_part_in(capsys: pytest.CaptureFixture[str], options: tuple[str, ...], why: str) -> None:
    given = () if "--protocol" in options else ("--protocol", "tcp")
    assert cli.main(["run", "--pattern", "pubsub", "--load", "open:10/s", *given, *options]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_broker_that_refuses_the_login_is_named_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, silent_port: int
) -> None:
    """And so is it in what is kept."""
    monkeypatch.setenv("WIREBENCH_RABBITMQ", "")  # and puts it back afterwards
    out = tmp_path / "run.json"
    address = f"amqp://somebody:secret@127.0.0.1:{silent_port}/"
    given = ("--protocol", "tcp", "--pattern", "pubsub:broker=rabbitmq", "--load", "open:10/s", "--rounds", "1")
    assert cli.main(["run", *given, "--broker-address", address, "--out", str(out)]) == 3
    said = capsys.readouterr()
    assert "does RabbitMQ run?" in said.out + said.err
    assert "secret" not in said.out + said.err + out.read_text()


@pytest.fixture
def silent_port() -> int:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


PUSHING = [name for name, facts in PROTOCOLS.items() if facts.subscriber and facts.publisher]
STREAMING = [name for name in PUSHING if registry.load(str(PROTOCOLS[name].subscriber)).transport_kind == "stream"]
"""Those whose clients can leave off reading: sessions read by themselves."""


@pytest.mark.parametrize("protocol", PUSHING)
def test_who_comes_back_gets_what_was_missed(tmp_path: Path, protocol: str) -> None:
    options = ("--protocol", protocol, "--load", "open:300/s", "--connections", "4")
    trial = run(tmp_path, "--pattern", "push:cut=30%", *options, duration="1s")
    assert trial["counts"]["errors"] == {}
    assert trial["tally"] == {"cuts": 4, "gaps": 0, "dropped": 0, "disconnected": 0, "held": 0}
    assert (trial["delivery"]["reach"], trial["delivery"]["duplicates"]) == (1, 0)


@pytest.mark.parametrize("protocol", STREAMING)
def test_who_does_not_read_is_sent_away_and_keeps_nobody_waiting(tmp_path: Path, protocol: str) -> None:
    options = ("--protocol", protocol, "--load", "open:300/s", "--connections", "4", "--payload", "32KiB")
    trial = run(tmp_path, "--pattern", "push:slow=2", *options, duration="1500ms")
    assert trial["tally"]["disconnected"] == 2
    assert (trial["delivery"]["subscribers"], trial["delivery"]["reach"]) == (2, 1)


def test_a_message_cannot_be_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--protocol", "webrtc", "--pattern", "upload:cut=50%", "--load", "closed:1"]) == 2
    assert "hands messages over whole" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("policy", ["drop-oldest", "block"])
def test_a_policy_for_those_who_do_not_read(tmp_path: Path, policy: str) -> None:
    options = ("--protocol", "sse", "--load", "open:300/s", "--connections", "4", "--payload", "32KiB")
    trial = run(tmp_path, "--pattern", f"push:slow=2,policy={policy}", *options, warmup="1s", duration="500ms")
    tally = trial["tally"]
    if policy == "block":
        assert (tally["disconnected"], tally["dropped"]) == (0, 0)
        assert tally["held"] > 0
        assert trial["delivery"]["reach"] < 1
    else:
        assert (tally["disconnected"], tally["held"]) == (0, 0)
        published = trial["delivery"]["published"]  # in the measured time, and not in the warm-up
        assert 0 < tally["dropped"] <= 2 * 1.2 * published
        assert trial["delivery"]["reach"] == 1


@pytest.mark.parametrize(("protocol", "why"), [("webrtc", "reads by itself"), ("sse", "leave none of 3 that does")])
def test_slow_subscribers_that_make_no_sense(capsys: pytest.CaptureFixture[str], protocol: str, why: str) -> None:
    options = ("--protocol", protocol, "--pattern", "push:slow=3", "--load", "open:10/s", "--connections", "3")
    assert cli.main(["run", *options]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "why"), [("objects=4,urgent=10", "no 10 that are urgent"), ("told=yes", "no object is urgent")]
)
def test_urgent_objects_that_make_no_sense(capsys: pytest.CaptureFixture[str], words: str, why: str) -> None:
    assert cli.main(["run", "--protocol", "http2", "--pattern", f"page:{words}", "--load", "closed:1"]) == 2
    assert why in " ".join(capsys.readouterr().err.split())
