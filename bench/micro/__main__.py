"""pyperf's runner over the benchmarks that the option --only names, or all. It starts itself again in processes of its
own, and hands on that option."""

import argparse
from collections.abc import Sequence
from typing import Any

import pyperf

from bench.micro import BENCHMARKS


def _hand_on(command: list[str], arguments: Any) -> None:
    if arguments.only:
        command += ["--only", arguments.only]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="")
    runner = pyperf.Runner(add_cmdline_args=_hand_on, _argparser=parser)
    runner.metadata["description"] = "wirebench: codecs and formats alone"
    names = runner.parse_args(arguments).only
    for name in names.split(",") if names else BENCHMARKS:
        runner.bench_func(name, BENCHMARKS[name]())


if __name__ == "__main__":
    main()
