"""The command as a whole: help, completion, and how it ends when something goes wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import __version__, cli
from tests.commands.conftest import ROOT, Command


def test_version(wirebench: Command) -> None:
    done = wirebench("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"wirebench {__version__}\n", "")


def test_without_a_command_there_is_help(wirebench: Command) -> None:
    done = wirebench()
    assert done.returncode == 0
    for name in ("run", "list", "serve", "load", "report", "doctor", "peers"):
        assert f"\n  {name} " in done.stdout
    assert done.stdout == wirebench("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rnu",), ["'rnu'", "Did you mean", "'run'"]),
        (("run", "--protocl", "tcp"), ["--protocl", "--protocol", "see wirebench run --help"]),
        (("run", "--rounds", "many"), ["--rounds", "integer"]),
        (("run", "--rounds", "0"), ["--rounds", "greater than or equal to 1"]),
        (("run", "--seed", "-1"), ["--seed", "greater than or equal to 0"]),
        (("run", "--load-processes", "65"), ["--load-processes", "less than or equal to 64"]),
        (("serve",), ["PROTOCOL"]),
        (("serve", "http1", "--port", "65536"), ["--port", "less than or equal to 65535"]),
        (("load",), ["wirebench.toml: there is no such file", "wirebench init", "address"]),
        (("report",), ["RUN"]),
        (("list", "protocol"), ["KIND", "'protocol'", "did you mean protocols?"]),
    ],
)
def test_what_cannot_be_understood_is_one_line(
    refused: Callable[..., str], arguments: tuple[str, ...], words: list[str]
) -> None:
    message = refused(*arguments)
    for word in words:
        assert word in message


def test_a_fault_of_our_own_is_one_line_too(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("boom\nwith more")

    monkeypatch.setattr("bench.doctor.examine", fail)
    monkeypatch.delenv("WIREBENCH_DEBUG", raising=False)
    message = refused("doctor", status=70)
    assert "RuntimeError at test_cli.py:" in message
    assert "boom with more" in message
    assert "WIREBENCH_DEBUG=1" in message
    monkeypatch.setenv("WIREBENCH_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main(["doctor"])


def test_control_codes_in_a_message_do_not_reach_the_terminal(refused: Callable[..., str]) -> None:
    assert "\\x1b[31m" in refused("report", "no\x1b[31mfile")


def test_a_reader_that_went_away_is_not_an_error(wirebench: Command) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = wirebench.start("list", stdout=write_end)
    os.close(write_end)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_standard_output_that_cannot_be_written(wirebench: Command) -> None:
    with Path("/dev/full").open("w") as full:
        done = wirebench("list", stdout=full)
    assert done.returncode == 2
    assert done.stderr == "wirebench: error: cannot write to standard output: No space left on device\n"


def complete(words: str) -> list[str]:
    """What a shell would offer at the end of these words."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "_WIREBENCH_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    code = "import sys; from bench.cli import main; sys.exit(main([]))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.split()


def test_values_are_completed() -> None:
    assert complete("wirebench ru") == ["run"]
    assert complete("wirebench run --protocol ht") == ["http1", "http2", "http2-upgrade", "http3"]
    assert complete("wirebench run --protocol http1,tc") == ["http1,tcp"]
    assert complete("wirebench run --execution reuse") == ["reuseport", "reuseport-threads"]
    assert complete("wirebench run --operation e") == ["echo"]
    assert complete("wirebench run qu") == ["quick"]
    assert complete("wirebench serve ud") == ["udp"]
    assert complete("wirebench list s") == ["stacks", "suites", "service"]
