"""The programs of others that wirebench compares itself with: where each is, which version it is, how to get it."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_DIRECTORIES = "/usr/sbin:/usr/local/sbin"
"""Where servers are, besides the user's PATH."""


@dataclass(frozen=True)
class Program:
    """A program by name. `get` is the command that installs it."""

    name: str
    get: str
    version_option: str | None = None
    """The option that prints the version; None for a program that does not tell."""

    def find(self) -> list[str] | None:
        """The command that starts it; None if it is not installed."""
        path = shutil.which(self.name) or shutil.which(self.name, path=_DIRECTORIES)
        return [path] if path else None

    def command(self) -> list[str]:
        """The command that starts it, known to be installed."""
        found = self.find()
        if found is None:
            raise LookupError(f"{self.name} is not installed")
        return found

    def version(self) -> str | None:
        """The version; None if the program is not installed or does not tell."""
        found = self.find()
        if found is None or self.version_option is None:
            return None
        # Some of these programs print their version to standard error, some end with 1 when they have.
        done = subprocess.run(
            [*found, self.version_option], capture_output=True, text=True, timeout=10, check=False, errors="replace"
        )
        match = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout + done.stderr)
        return match[0] if match else None


@dataclass(frozen=True)
class PythonProgram(Program):
    """A program that is a Python package in this environment."""

    get: str = "pip install 'wirebench[peers]'"
    module: str = ""
    """The module to run, if it is not the package itself."""

    def find(self) -> list[str] | None:
        if importlib.util.find_spec(self.name) is None:
            return None
        return [sys.executable, "-P", "-m", self.module or self.name]

    def version(self) -> str | None:
        return importlib.metadata.version(self.name) if self.find() else None


@dataclass(frozen=True)
class NginxStream(Program):
    """nginx with its stream module, built in or as a module to load."""

    def find(self) -> list[str] | None:
        return super().find() if self.module() is not None else None

    def module(self) -> str | None:
        """The module to load; empty for one that is built in; None if there is none."""
        program = super().find()
        if program is None:
            return None
        done = subprocess.run([*program, "-V"], capture_output=True, text=True, timeout=10, check=False)
        if re.search(r"--with-stream(\s|$)", done.stderr):
            return ""
        found = re.search(r"--modules-path=(\S+)", done.stderr)
        path = Path(found[1], "ngx_stream_module.so") if found else None
        return str(path) if path is not None and path.exists() else None


WRK = Program("wrk", "apt-get install wrk", "-v")
HEY = Program("hey", "apt-get install hey")
H2LOAD = Program("h2load", "apt-get install nghttp2-client", "--version")
NGINX = Program("nginx", "apt-get install nginx-light", "-v")
NGINX_STREAM = NginxStream("nginx", "apt-get install nginx-light libnginx-mod-stream", "-v")
HAPROXY = Program("haproxy", "apt-get install haproxy", "-v")
CADDY = Program("caddy", "apt-get install caddy", "version")
NGHTTPD = Program("nghttpd", "apt-get install nghttp2-server", "--version")
LOCUST = PythonProgram("locust")
PICOWS = PythonProgram("picows", module="bench.peers.picows_echo")
UVICORN = PythonProgram("uvicorn")
GRANIAN = PythonProgram("granian")

PROGRAMS = (WRK, HEY, LOCUST, PICOWS, H2LOAD, NGINX, HAPROXY, NGHTTPD, UVICORN, GRANIAN)
