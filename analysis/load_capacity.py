"""Reads capacity files (see `results/README.md`)."""

import json
from pathlib import Path
from typing import Any

from analysis.capacity import conclusions
from analysis.load_results import read_document
from bench.errors import UsageError

KIND, SCHEMA_VERSION = "wirebench-capacity", 1


def is_capacity(path: Path) -> bool:
    """Whether the file says that it is one; False for what cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def load_capacity(path: Path) -> dict[str, Any]:
    """The record of a capacity search, with what follows from it. UsageError, in one line, if there is none, it is not
    one that this version reads, or no search has ended."""
    record = read_document(path, KIND, SCHEMA_VERSION, "capacity.schema.json")
    if not record["searches"]:
        raise UsageError(f"{path}: the search was interrupted before there was an answer; run it again")
    return {**record, **conclusions(record)}
