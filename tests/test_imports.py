"""Who may import whom (ARCHITECTURE.md), read from the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bench", "servers", "clients", "analysis")
SHARED = ("bench.wire", "bench.contract", "bench.conversation", "bench.mix", "bench.errors")
"""What servers and clients may know of bench."""


def modules(package: str) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Each module of a package with what it imports of ours, and whether only for type checking or late."""
    for path in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_types = {
            id(node)
            for test in ast.walk(tree)
            if isinstance(test, ast.If) and isinstance(test.test, ast.Name) and test.test.id == "TYPE_CHECKING"
            for node in ast.walk(test)
        }
        imported = []
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                names = [node.module or ""]
                if node.module in PACKAGES:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            imported += [(name, id(node) in for_types) for name in names if name.split(".")[0] in PACKAGES]
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), imported


def within(name: str, allowed: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in allowed)


ALLOWED = {
    "servers": ("servers", *SHARED),
    "clients": ("clients", *SHARED),
    "analysis": (
        "analysis",
        "bench.__version__",
        "bench.errors",
        "bench.quantities",
        "bench.doubts",
        "bench.resultfile",
    ),
}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_stay_within_their_bounds(package: str) -> None:
    found = [(module, name) for module, imported in modules(package) for name, _ in imported]
    assert found
    assert [pair for pair in found if not within(pair[1], ALLOWED[package])] == []


def test_bench_knows_servers_and_clients_by_name_only() -> None:
    found = [(module, name) for module, imported in modules("bench") for name, _ in imported]
    assert [pair for pair in found if within(pair[1], ("servers", "clients"))] == []


def test_codecs_know_nothing_of_what_uses_them() -> None:
    found = [(m, name) for m, imported in modules("bench") for name, _ in imported if m.startswith("bench.wire.")]
    assert [pair for pair in found if not within(pair[1], SHARED)] == []


HEAVY = ("numpy", "scipy", "matplotlib", "psutil", "uvloop", "jsonschema", "jinja2", "hdrh", "rich", "locust", "gevent")


def test_starting_the_command_imports_nothing_heavy() -> None:
    code = "import sys, bench.cli; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [name for name in HEAVY if name in result.stdout.split()] == []
