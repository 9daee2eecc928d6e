"""Durations, rates, sizes and counts as users write them: always with a unit."""

import re

from bench.errors import UsageError

_NUMBER = r"(\d+(?:\.\d+)?(?:e\d+)?)"
_DURATION = re.compile(rf"{_NUMBER}(ns|us|ms|s|m|h)")
_SIZE = re.compile(rf"{_NUMBER}(B|kB|KB|MB|GB|KiB|MiB|GiB)")
_RATE = re.compile(rf"{_NUMBER}(k?)/(s|m)")
_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_BYTES = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
MAX_RATE_PER_S = 10_000_000.0
"""Far above what one machine can offer; a larger rate is a slip of the keyboard."""


def parse_duration_ns(text: str, where: str) -> int:
    """Nanoseconds of "5s", "300ms", "0s". `where` names the option or key in the error."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{where}: {text!r} is not a duration; write a number with ns, us, ms, s, m or h, like 5s")
    value = float(match[1]) * _NS[match[2]]
    if value > 7 * 24 * _NS["h"]:
        raise UsageError(f"{where}: {text!r} is longer than a week (168h), the most that is allowed")
    return round(value)


def parse_size_bytes(text: str, where: str) -> int:
    """Bytes of "64B", "16KiB", "8MB"."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"{where}: {text!r} is not a size; write a number with B, kB, MB, GB, KiB, MiB or GiB, like 64B"
        )
    value = float(match[1]) * _BYTES[match[2]]
    if not value.is_integer():
        raise UsageError(f"{where}: {text!r} is not a whole number of bytes")
    return int(value)


def parse_rate_per_s(text: str, where: str) -> float:
    """Requests a second of "5000/s", "5k/s", "600/m"."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{where}: {text!r} is not a rate; write a number above 0 with /s or /m, like 5000/s")
    rate = float(match[1]) * (1000 if match[2] else 1) / (60 if match[3] == "m" else 1)
    if not 0 < rate <= MAX_RATE_PER_S:
        raise UsageError(f"{where}: the rate {text!r} is out of range; allowed are rates above 0 and up to 10000000/s")
    return rate


def parse_share(text: str, where: str) -> float:
    """A share of a whole, like "60%" as 0.6."""
    match = re.fullmatch(r"(\d{1,2}(?:\.\d+)?|100)%", text.strip())
    if match is None:
        raise UsageError(f"{where}: {text!r} is not a share from 0% to 100%, like 60%")
    return float(match[1]) / 100


def parse_whole(text: str | int, low: int, high: int, where: str) -> int:
    """A whole number within bounds."""
    number = text if isinstance(text, int) and not isinstance(text, bool) else None
    if isinstance(text, str) and re.fullmatch(r"\d{1,12}", text):
        number = int(text)
    if number is None or not low <= number <= high:
        raise UsageError(f"{where}: {text!r} is not a whole number from {low} to {high}")
    return number


def parse_arguments(text: str, where: str, what: str, example: str) -> tuple[str, dict[str, str]]:
    """The name and the arguments of "work:cpu=100us,wait=5ms". `what` and `example` say in errors what arguments are
    called, and how they are written."""
    name, _, rest = text.strip().partition(":")
    arguments = dict(re.findall(r"(\w+)=([^,]+)", rest))
    if rest and ",".join(f"{key}={value}" for key, value in arguments.items()) != rest:
        raise UsageError(f"{where}: {text!r}: {what} are written name=value with commas, like {example}")
    return name, arguments


def format_duration(ns: float) -> str:
    """Three significant digits and the unit that fits: "1.23 ms"."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if abs(ns) >= size * 0.9995:
            return f"{ns / size:.3g} {unit}" if ns < size * 999.5 else f"{ns / size:.0f} {unit}"
    return f"{ns:.0f} ns"


def spell_duration(ns: int) -> str:
    """The shortest spelling that `parse_duration_ns` reads back exactly: "5s", "300ms"."""
    for unit in ("s", "ms", "us"):
        if ns and ns % _NS[unit] == 0:
            return f"{ns // _NS[unit]}{unit}"
    return "0s" if ns == 0 else f"{ns}ns"


def spell_size(size_bytes: int) -> str:
    """The shortest spelling that `parse_size_bytes` reads back exactly: "64B", "16KiB"."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes and size_bytes % _BYTES[unit] == 0:
            return f"{size_bytes // _BYTES[unit]}{unit}"
    return f"{size_bytes}B"


def spell_rate(rate_per_s: float) -> str:
    """The spelling that `parse_rate_per_s` reads back: "5000/s"."""
    return f"{rate_per_s:.12g}/s"


def format_size(size_bytes: float) -> str:
    """Three significant digits and the binary unit that fits: "1.50 MiB"."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if abs(size_bytes) >= size:
            return f"{size_bytes / size:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def format_rate(per_s: float) -> str:
    """Thousands separated, with decimals only where they matter: "113,402/s"."""
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.3g}/s"
