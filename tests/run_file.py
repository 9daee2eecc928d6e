"""Result files as tests read them: as the published schema says they are."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from bench.childprocess import ROOT


@cache
def _validator() -> Draft202012Validator:
    """The schema itself, which takes ten times as long to check as a file, is checked in test_load_results.py."""
    schema = json.loads((ROOT / "bench" / "run.schema.json").read_text())
    return Draft202012Validator(schema)


def read_run_file(path: Path) -> dict[str, Any]:
    """What is in a result file of a run. Raises jsonschema's ValidationError."""
    data: dict[str, Any] = json.loads(path.read_text())
    _validator().validate(data)
    return data
