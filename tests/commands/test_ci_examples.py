"""The workflow files under examples/ci/ call commands and options that there are."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from bench.cli import app

FILES = sorted((Path(__file__).resolve().parents[2] / "examples" / "ci").glob("*.yml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_commands_and_options_exist(path: Path) -> None:
    text = re.sub(r"\n +(?=--)", " ", path.read_text(encoding="utf-8"))
    lines = re.findall(r"bin/wirebench (.+)", text)
    assert lines
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in lines:
        name, *words = shlex.split(line)
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known
