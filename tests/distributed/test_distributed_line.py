"""The line between a Locust process and its starter."""

import json
import subprocess
import sys
import threading

from tests.commands.conftest import ROOT


def test_both_ends_may_say_more_than_a_pipe_holds() -> None:
    """Neither waits for the other: a master that reported while it was told what to show stood still for good."""
    told = [json.dumps({"number": number, "text": "x" * 50_000}).encode() + b"\n" for number in range(40)]
    command = [sys.executable, "-m", "tests.distributed.echoing"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writing = threading.Thread(target=process.stdin.writelines, args=(told,), daemon=True)
        writing.start()
        writing.join(30)  # nothing has been read yet
        is_stuck = writing.is_alive()
        if is_stuck:
            process.kill()
        process.stdin.flush()
        heard = [json.loads(process.stdout.readline())["number"] for _ in told]
        process.kill()
    assert not is_stuck
    assert heard == list(range(40))
