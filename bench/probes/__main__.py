"""A probe as a process: told its name, its words and a seed in a line of JSON, says `result` with figures, or `error`.
What a probe draws from `random`, it draws from that seed."""

import json
import random
import sys

from bench import registry
from bench.errors import WirebenchError
from bench.probes import PROBES


def main() -> int:
    asked = json.loads(sys.stdin.readline() or "null")
    if asked is None:
        return 0
    random.seed(asked["seed"])
    try:
        figures = registry.load(PROBES[asked["probe"]].measure)(**asked["words"])
    except WirebenchError as error:
        said = {"event": "error", "message": str(error)}
    else:
        said = {"event": "result", "figures": figures}
    print(json.dumps(said), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
