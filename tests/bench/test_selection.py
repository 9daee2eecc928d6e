"""What a command line means, beside what the suites say."""

from pathlib import Path

import pytest

from bench.errors import UnsupportedError, UsageError
from bench.plan import Suite
from bench.selection import choose_suite, split_values

SUITE = """
[defaults]
warmup = "0s"
[[group]]
title = "protocols"
protocol = ["http1", "tcp", "udp"]
load = ["closed:1", "closed:64"]
[[group]]
title = "models"
protocol = ["http1", "udp"]
execution = ["single", "prefork", "threads"]
workers = 2
load = "closed:64"
"""


def chosen(tmp_path: Path, **options: list[str]) -> Suite:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    return choose_suite(str(path), options)


@pytest.mark.parametrize(
    ("key", "given", "values"),
    [
        ("protocol", ["http1,tcp", "udp"], ["http1", "tcp", "udp"]),
        ("protocol", ["http1, tcp"], ["http1", "tcp"]),
        ("load", ["closed:1,stages:100/s@1s,200/s@2s,open:5/s"], ["closed:1", "stages:100/s@1s,200/s@2s", "open:5/s"]),
        ("operation", ["work:cpu=1ms,wait=2ms,echo,bytes"], ["work:cpu=1ms,wait=2ms", "echo", "bytes"]),
        ("link", ["rtt=40ms,loss=1%", "loopback"], ["rtt=40ms,loss=1%", "loopback"]),
        ("workers", ["1,,2"], ["1", "", "2"]),
    ],
)
def test_commas_part_values_where_values_have_none(key: str, given: list[str], values: list[str]) -> None:
    assert split_values(key, given) == values


def test_names_choose_among_a_suites_scenarios(tmp_path: Path) -> None:
    suite = chosen(tmp_path, protocol=["tcp,udp"])
    assert {(s.protocol, s.execution, s.group) for s in suite.scenarios} == {
        ("tcp", "single", "protocols"),
        ("udp", "single", "protocols"),
        ("udp", "single", "models"),
        ("udp", "prefork", "models"),
    }
    assert [(s.protocol, s.execution) for s, _ in suite.unsupported] == [("udp", "threads")]
    suite = chosen(tmp_path, protocol=["http1"], execution=["prefork"])
    assert [(s.protocol, s.execution, s.workers) for s in suite.scenarios] == [("http1", "prefork", 2)]
    assert suite.unsupported == ()


def test_amounts_take_the_place_of_what_a_suite_says(tmp_path: Path) -> None:
    suite = chosen(tmp_path, load=["closed:2"], payload=["1KiB"], workers=["4"], duration=["1s,2s"])
    assert {str(s.load) for s in suite.scenarios} == {"closed:2"}
    assert {s.payload_bytes for s in suite.scenarios} == {1024}
    assert {s.duration_ns for s in suite.scenarios} == {1_000_000_000, 2_000_000_000}
    assert {(s.execution, s.workers) for s in suite.scenarios} == {("single", 1), ("prefork", 4), ("threads", 4)}
    assert len([s for s in suite.scenarios if s.group == "protocols"]) == 3 * 2  # two loads became one


def test_without_a_suite_the_options_are_the_scenarios() -> None:
    suite = choose_suite(None, {"execution": ["prefork,single"], "workers": ["2"], "payload": None})
    assert [(s.protocol, s.execution, s.workers, str(s.load)) for s in suite.scenarios] == [
        ("http1", "prefork", 2, "closed:64"),
        ("http1", "single", 1, "closed:64"),
    ]


def test_without_anything_it_is_quick() -> None:
    assert choose_suite(None, {"protocol": None, "load": []}).name == "quick"


def test_what_makes_no_sense_beside_what_does_is_left_out() -> None:
    suite = choose_suite(None, {"protocol": ["tcp,udp"], "execution": ["threads"]})
    assert [s.protocol for s in suite.scenarios] == ["tcp"]
    assert [s.protocol for s, _ in suite.unsupported] == ["udp"]


def test_a_request_that_a_protocol_cannot_carry_is_left_out_too() -> None:
    suite = choose_suite(None, {"protocol": ["tcp,udp"], "payload": ["64B,1MiB"]})
    assert [(s.protocol, s.payload_bytes) for s in suite.scenarios] == [("tcp", 64), ("tcp", 1 << 20), ("udp", 64)]
    ((scenario, why),) = suite.unsupported
    assert (scenario.protocol, scenario.payload_bytes) == ("udp", 1 << 20)
    assert "datagram" in why


def test_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the suite mine has no scenario with --protocol tcp and --execution prefork"):
        chosen(tmp_path, protocol=["tcp"], execution=["prefork"])
    with pytest.raises(UnsupportedError, match=r"udp threads×2 .* is not supported: "):
        chosen(tmp_path, protocol=["udp"], execution=["threads"])
