"""A run of `wirebench peers`: its questions one after the other, saved after each."""

import json
import sys
from collections.abc import Sequence
from typing import Any, Literal

from bench import environment, output, registry, resultfile
from bench.errors import UsageError
from bench.peers.comparison import Answer, Setting, ask
from bench.peers.programs import PROGRAMS
from bench.peers.questions import questions
from bench.peers.table import print_answers
from bench.placement import Placement, choose_placement
from bench.quantities import parse_duration_ns

SCHEMA_VERSION = 1
KIND = "wirebench-peers"
_MAX_DURATION_S = 600

OK, NOT_VALID, INTERRUPTED = 0, 3, 130


def run_peers(pairs: int, duration: str, only: Sequence[str], json_file: str | None) -> int:
    """Measure, print a table on standard output and tell the exit code; the arguments are those of the command line.

    `json_file` "-" puts the JSON on standard output, and the table nowhere. Raises UsageError, OutputError.
    """
    setting = Setting(pairs, _parse_seconds(duration), _one_core_each())
    available = questions()
    names = [question.name for question in available]
    chosen = {registry.choose(name, names, "--only") for name in only} or set(names)
    run = _Run(setting, [Answer(question) for question in available if question.name in chosen], json_file)
    run.save("running")
    try:
        for answer in run.answers:
            for line in ask(answer, setting):
                output.say(f"{answer.question.name}: {line}")
            run.save("running")
    except KeyboardInterrupt:
        run.finish("interrupted")
        return INTERRUPTED
    run.finish("complete")
    return OK if all(answer.rows or answer.missing for answer in run.answers) else NOT_VALID


class _Run:
    def __init__(self, setting: Setting, answers: list[Answer], json_file: str | None) -> None:
        self.answers = answers
        self._setting = setting
        self._json_file = json_file
        self._versions = {program.name: program.version() for program in PROGRAMS}
        self._head: dict[str, Any] = {
            "kind": KIND,
            "schema": SCHEMA_VERSION,
            "command": ["wirebench", *sys.argv[1:]],
            "started": resultfile.now(),
            "environment": environment.describe(setting.placement),
        }

    def save(self, status: Literal["running", "complete", "interrupted"]) -> None:
        """Write what there is, if it goes to a file."""
        if self._json_file is not None and self._json_file != output.STDOUT:
            output.write_json(self._json_file, self._text(status))

    def finish(self, status: Literal["complete", "interrupted"]) -> None:
        """Print and write everything."""
        if self._json_file != output.STDOUT:
            print_answers(self.answers, self._setting, self._versions, sys.stdout)
        if self._json_file is not None:
            output.write_json(self._json_file, self._text(status))

    def _text(self, status: str) -> str:
        document = {
            **self._head,
            "status": status,
            "pairs": self._setting.pairs,
            "duration_s": self._setting.duration_s,
            "programs": [
                {"name": p.name, "installed": bool(p.find()), "version": self._versions[p.name], "get": p.get}
                for p in PROGRAMS
            ],
            "answers": [answer.record() for answer in self.answers],
        }
        return json.dumps(document, indent=1)


def _parse_seconds(text: str) -> int:
    """wrk and Locust know whole seconds only."""
    seconds, rest = divmod(parse_duration_ns(text, "--duration"), 1_000_000_000)
    if rest or not 1 <= seconds <= _MAX_DURATION_S:
        raise UsageError(f"--duration: {text!r} is not a whole number of seconds from 1s to {_MAX_DURATION_S}s")
    return seconds


def _one_core_each() -> Placement:
    """The last CPU for the generator, the first for the server."""
    placement = choose_placement(1)
    return Placement(placement.server[:1], placement.load[:1])
