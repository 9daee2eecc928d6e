"""Programs of the system that parts of the lab need, run in the current network namespace."""

import os
import shutil
import subprocess

from bench.errors import UnsupportedError

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
"""Where they are looked for: those who are not root often lack the last two."""


def run(name: str, *arguments: str, given: str = "", what: str, package: str, needs: str) -> None:
    """Run a program to its end, with `given` as its input. Raises UnsupportedError, which says that there is no `what`
    here, and which Debian package brings the program, or what the kernel `needs` for it."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise UnsupportedError(f"no {what} here: {name} is missing; apt-get install {package}")
    done = subprocess.run([path, *arguments], input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        said = next((line.strip() for line in done.stderr.splitlines() if line.strip()), f"exit {done.returncode}")
        raise UnsupportedError(f"no {what} here: {name} says {said!r}; the kernel needs {needs}")
