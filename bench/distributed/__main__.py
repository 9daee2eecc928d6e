"""A Locust process: `python -m bench.distributed`, with `locustfile` ("master_locustfile" or "worker_locustfile") and
Locust's `arguments` as a line of JSON on standard input. What goes over the line after that is said in the locustfiles.
"""

import os
import sys
from pathlib import Path

from bench.distributed.line import standard_line


def main() -> None:
    try:
        spec = standard_line().first()
    except EOFError:
        return
    # Locust would read settings of other runs from the environment and the current folder.
    for name in [name for name in os.environ if name.startswith("LOCUST_")]:
        del os.environ[name]
    os.chdir("/")
    sys.argv = ["locust", "-f", str(Path(__file__).with_name(f"{spec['locustfile']}.py")), *spec["arguments"]]
    from locust.main import main as locust

    locust()


if __name__ == "__main__":
    main()
