"""Python, the packages that measuring needs, and the programs that results are checked against."""

import importlib
import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Iterator

from bench.doctor.check import Check
from bench.peers.programs import PROGRAMS, Program

_MEASURING = ("uvloop", "httptools", "hpack", "hdrh", "numpy", "psutil")
_ANALYSIS = ("scipy", "matplotlib", "jinja2", "jsonschema", "rich")
_DISTRIBUTIONS = {"hdrh": "hdrhistogram"}
_LEAST_PYTHON = (3, 11)

_CHECKERS = (Program("curl", "apt-get install curl"), Program("chromium", "apt-get install chromium"))
"""What servers and reports are checked with, beside the programs of `wirebench peers`."""


def software() -> Iterator[Check]:
    """All of it."""
    yield _python()
    for module in _MEASURING:
        yield _package(module)
    for module in _ANALYSIS:
        yield _package(module, by_import=False)


def peers() -> Iterator[Check]:
    """The programs that results are compared with and checked by. None is needed to measure."""
    for program in (*PROGRAMS, *_CHECKERS):
        found = program.find()
        if found is None:
            yield Check("peers", program.name, "warn", "not installed", program.get)
        else:
            yield Check("peers", program.name, "ok", program.version() or found[0])


def _python() -> Check:
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", without GIL"
    found = f"{platform.python_version()} ({platform.python_implementation()}{gil})"
    if sys.version_info < _LEAST_PYTHON:
        least = ".".join(map(str, _LEAST_PYTHON))
        return Check("software", "Python", "fail", found, f"install Python {least} or newer")
    return Check("software", "Python", "ok", found)


def _package(module: str, by_import: bool = True) -> Check:
    """Packages with compiled parts are imported, for those may be there and not load; the slow ones are looked up."""
    distribution = _DISTRIBUTIONS.get(module, module)
    fix = f"{sys.executable} -m pip install {distribution}"
    try:
        if by_import:
            importlib.import_module(module)
        elif importlib.util.find_spec(module) is None:
            return Check("software", distribution, "fail", "not installed", fix)
        return Check("software", distribution, "ok", importlib.metadata.version(distribution))
    except ImportError as error:
        return Check("software", distribution, "fail", f"cannot be imported: {error}", fix)
