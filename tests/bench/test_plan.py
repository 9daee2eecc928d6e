"""Suites become scenarios, scenarios become rounds; errors name the file, the key and what is allowed."""

from pathlib import Path

import pytest

from bench import registry
from bench.contract import Opcode
from bench.errors import UsageError
from bench.plan import Suite, plan_trials, read_suite, single_suite, suite_names
from bench.protocols import PROTOCOLS
from bench.scenario import Operation, parse_operation, parse_scenario

SUITE = """
description = "two groups"
rounds = 3
[defaults]
duration = "1s"
[[group]]
title = "models"
protocol = ["http1", "udp"]
execution = ["single", "prefork", "thread-per-connection"]
workers = 2
load = "closed:8"
[[group]]
protocol = "tcp"
load = ["open:100/s", "stages:100/s@1s,200/s@2s"]
"""


def read(tmp_path: Path, text: str, **overrides: str) -> Suite:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return read_suite(str(path), overrides)


def test_lists_become_every_combination(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE)
    assert (suite.name, suite.rounds) == ("mine", 3)
    models = [s for s in suite.scenarios if s.group == "models"]
    assert [(s.protocol, s.execution, s.workers) for s in models] == [
        ("http1", "single", 1),
        ("http1", "prefork", 2),
        ("http1", "thread-per-connection", 2),
        ("udp", "single", 1),
        ("udp", "prefork", 2),
    ]
    assert [s.duration_ns for s in suite.scenarios if s.group == "group 2"] == [1_000_000_000, 3_000_000_000]
    assert len({s.name for s in suite.scenarios}) == len(suite.scenarios)


def test_what_makes_no_sense_is_kept_with_why(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE)
    ((scenario, why),) = suite.unsupported
    assert (scenario.protocol, scenario.execution) == ("udp", "thread-per-connection")
    assert "connection" in why


def test_overrides_reach_every_scenario(tmp_path: Path) -> None:
    suite = read(tmp_path, SUITE, payload="1KiB")
    assert {s.payload_bytes for s in suite.scenarios} == {1024}


def test_the_command_line_alone_makes_a_suite_too() -> None:
    suite = single_suite(
        {"protocol": ["udp"], "execution": ["thread-per-connection", "single"], "load": ["closed:1"]}, "options"
    )
    assert [scenario.execution for scenario in suite.scenarios] == ["single"]
    assert [scenario.execution for scenario, _ in suite.unsupported] == ["thread-per-connection"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rounds = [", ["mine.toml", "not valid TOML"]),
        ("", ["mine.toml", "[[group]]"]),
        ("nonsense = 1\n" + SUITE, ["mine.toml", "'nonsense'", "description, rounds, defaults, group"]),
        (SUITE.replace("rounds = 3", "rounds = 0"), ["mine.toml", "rounds", "1 to 1000"]),
        (SUITE.replace("rounds = 3", 'rounds = "x"'), ["mine.toml", "rounds"]),
        (
            SUITE.replace('"http1", "udp"', '"http9"'),
            ["mine.toml: group 1: protocol", "'http9'", "http1, http2, http2-upgrade, http3"],
        ),
        (SUITE.replace('"prefork"', '"preforks"'), ["group 1: execution", "did you mean prefork?"]),
        (SUITE.replace('"closed:8"', '"open:0/s"'), ["group 1: load", "above 0"]),
        (SUITE.replace('"closed:8"', '"open:-1/s"'), ["group 1: load", "'-1/s'"]),
        (SUITE.replace('"closed:8"', '"open:1e12/s"'), ["group 1: load", "up to 10000000/s"]),
        (SUITE.replace('"closed:8"', "8"), ["group 1: load", "in quotes"]),
        (SUITE.replace('"closed:8"', "[]"), ["group 1: load", "empty"]),
        (SUITE.replace("workers = 2", "workers = 0"), ["group 1: workers", "1 to 256"]),
        (SUITE.replace("workers = 2", "workers = true"), ["group 1: workers", "True"]),
        (SUITE.replace('duration = "1s"', 'duration = "1"'), ["duration", "like 5s"]),
        (SUITE.replace('duration = "1s"', 'duration = "0s"'), ["duration", "longer than 0s"]),
        (SUITE.replace('load = "closed:8"', ""), ["group 1", "load is missing"]),
        (SUITE.replace("workers = 2", 'colour = "red"'), ["group 1", "'colour'"]),
        (SUITE.replace("workers = 2", 'payload = "1TB"'), ["group 1: payload", "like 64B"]),
        (SUITE.replace("workers = 2", 'payload = "1GiB"'), ["group 1: payload", "64MiB"]),
    ],
)
def test_a_bad_suite_gets_one_line_that_names_the_place(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_suite_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="did you mean quick"):
        read_suite("quik")
    with pytest.raises(UsageError, match=r"nowhere\.toml: cannot read the suite"):
        read_suite("nowhere.toml")


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_that_comes_along_can_be_read(name: str) -> None:
    suite = read_suite(name)
    assert suite.scenarios
    assert suite.description


def test_rounds_hold_every_scenario_once_in_an_order_of_their_own(tmp_path: Path) -> None:
    scenarios = read(tmp_path, SUITE).scenarios
    trials = list(plan_trials(scenarios, 4, seed=5))
    rounds = [[t for t in trials if t.round == number] for number in range(4)]
    for trials_of_round in rounds:
        assert sorted(t.scenario.name for t in trials_of_round) == sorted(s.name for s in scenarios)
        assert len({t.seed for t in trials_of_round}) == 1
    orders = {tuple(t.scenario.name for t in trials_of_round) for trials_of_round in rounds}
    assert len(orders) > 1
    assert len({t.seed for t in trials}) == 4
    assert trials == list(plan_trials(scenarios, 4, seed=5))


@pytest.mark.parametrize(
    "text", ["echo", "bytes", "bytes:chunk=1KiB", "upload", "health", "work:cpu=100us,wait=5ms", "work:cpu=0s,wait=0s"]
)
def test_operations_read_back(text: str) -> None:
    assert str(parse_operation(text, "operation")) == text


def test_work_is_read_with_its_units() -> None:
    assert parse_operation("work:wait=1s", "operation") == Operation(Opcode.WORK, 0, 1000)


@pytest.mark.parametrize(
    "text", ["", "eco", "work:cpu=5", "work:cpu=1h", "echo:cpu=1ms", "work:cpu", "work:cpu=1ms,,", "work:="]
)
def test_what_is_no_operation(text: str) -> None:
    with pytest.raises(UsageError, match="operation"):
        parse_operation(text, "operation")


def test_a_scenario_is_recorded_as_it_is_spelled() -> None:
    values: dict[str, str | int] = {
        "protocol": "tcp",
        "load": "closed:8x16",
        "operation": "bytes:chunk=2KiB",
        "workers": 1,
    }
    record = parse_scenario(values, "test", "g").record()
    assert (record["load"], record["operation"], record["connections"]) == ("closed:8x16", "bytes:chunk=2KiB", "8x16")
    assert record["tier"] == "lean"


def test_single_has_one_worker() -> None:
    with pytest.raises(UsageError, match="single has one worker"):
        parse_scenario({"protocol": "tcp", "load": "closed:1", "workers": 2}, "test", "g")


def test_every_name_in_the_registry_leads_to_code() -> None:
    references = [*registry.EXECUTIONS.values()]
    for stack in registry.STACKS.values():
        references += [*stack.servers.values(), *stack.clients.values()]
    for protocol in PROTOCOLS.values():
        references += filter(None, (protocol.subscriber, protocol.publisher, protocol.stream_client))
    for reference in references:
        assert registry.load(reference)
