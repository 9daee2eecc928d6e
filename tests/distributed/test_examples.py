"""The examples work as they stand."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from bench import cli
from bench.serverprocess import ServerProcess
from tests.commands.conftest import ROOT

EXAMPLES = ROOT / "examples"


@pytest.mark.parametrize("file", ["compose.yaml", "kubernetes.yaml"])
def test_manifests_name_options_that_there_are(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (EXAMPLES / file).read_text()
    named = set(re.findall(r"(?<=[\s\[,])(--[a-z-]+)", text.split("\nservices:")[-1].split("\napiVersion")[-1]))
    known: set[str] = set()
    for command in ("load", "worker", "serve"):
        assert cli.main([command, "--help"]) == 0
        known |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {option for option in named if option not in known} == set()
    assert "--master" in named


@pytest.mark.long
def test_the_locustfile_runs_under_locust(serve: Callable[..., ServerProcess]) -> None:
    command = [
        *(sys.executable, "-m", "locust", "-f", str(EXAMPLES / "locustfile.py"), "--headless", "--json"),
        *("-u", "4", "-r", "4", "-t", "2s", "--host", f"http://{serve().address}/health"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment)
    (entry,) = json.loads(done.stdout)
    assert entry["num_requests"] > 100
    assert entry["num_failures"] == 0
    assert entry["total_content_length"] > 0
