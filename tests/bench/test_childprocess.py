"""What a child says, or does not."""

import pytest

from bench.childprocess import ChildProcess, heard
from bench.errors import LabFailedError


def test_what_is_heard_is_what_was_waited_for() -> None:
    child = ChildProcess("bench.probes")
    try:
        with pytest.raises(LabFailedError, match=r"it said nothing for 0 s \(waited for: ready\)"):
            heard(child, "ready", "it", 0)
        child.send({"probe": "formats", "words": {"format": "none"}, "seed": 1})
        with pytest.raises(LabFailedError, match=r"it ended by itself with exit status 1: .*KeyError: 'none'"):
            heard(child, "result", "it", 20)
    finally:
        child.kill()
    child = ChildProcess("bench.probes")
    try:
        child.send({"probe": "formats", "words": {"format": "json", "todos": 1}, "seed": 1})
        with pytest.raises(LabFailedError, match=r"it said .*'result'.*, and not ready"):
            heard(child, "ready", "it", 20)
    finally:
        child.kill()
