"""A made-up result file that tests of the analysis share."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic_run import Plan, build_run, protocol_facts

from analysis.load_results import Run, load_run
from analysis.report import write_report


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "quick.json"
    path.write_text(json.dumps(build_run()), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run(run_path: Path) -> Run:
    return load_run(run_path)


@pytest.fixture(scope="session")
def page(run_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of that file."""
    return write_report([run_path], tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def mixed_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run whose scenarios are not all matched, with pushed events and properties of all protocols."""
    plans = [
        Plan("stacks", "http1"),
        Plan("stacks", "http2"),
        *(Plan("stacks", protocol, stack="hypercorn", tls="1.3") for protocol in ("http1", "http2", "http3")),
        *(
            Plan("rates", protocol, stack=stack, load=f"open:{rate}/s")
            for protocol in ("http1", "tcp")
            for stack in ("lean", "hypercorn")
            for rate in (3000, 6000)
        ),
        *(Plan("push", protocol, load="open:5000/s", pattern="push") for protocol in ("sse", "websocket", "grpc")),
    ]
    names = ("http1", "http2", "http3", "grpc", "websocket", "sse", "tcp", "udp", "webrtc")
    path = tmp_path_factory.mktemp("runs") / "mixed.json"
    path.write_text(json.dumps(build_run(plans=plans) | {"protocols": protocol_facts(*names)}), encoding="utf-8")
    return write_report([path], tmp_path_factory.mktemp("mixed"))


@pytest.fixture
def profile() -> Iterator[Path]:
    """Where a browser keeps its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)
