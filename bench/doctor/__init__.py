"""What this machine can and cannot do for measuring, and how to fix it."""

from collections.abc import Sequence
from itertools import groupby

from bench.doctor.check import Check
from bench.output import columns


def examine() -> list[Check]:
    """Every check. Takes under a second; nothing on the machine is changed."""
    from bench.doctor.brokers import brokers
    from bench.doctor.kernel import kernel
    from bench.doctor.machine import machine
    from bench.doctor.software import peers, software

    checks = [*software(), *machine(), *kernel()]
    if not any(check.state == "fail" for check in checks):
        from bench.doctor.lab import lab  # these need the packages that were just checked
        from bench.doctor.timing import timing

        checks += [*lab(), *timing()]
    return [*checks, *brokers(), *peers()]


def show(checks: Sequence[Check]) -> str:
    """The checks for people: a line each, and how to fix what is not well."""
    parts = []
    for area, members in groupby(checks, key=lambda check: check.area):
        rows = [[check.state, check.name, check.found + (f" → {check.fix}" if check.fix else "")] for check in members]
        parts.append(f"{area}\n{columns(rows, indent=2)}")
    failed, warned = (sum(check.state == state for check in checks) for state in ("fail", "warn"))
    if failed:
        parts.append(f"{failed} of these must be fixed before anything can be measured.")
    elif warned:
        parts.append(f"This machine can measure; {warned} of these would make it better or complete.")
    else:
        parts.append("This machine can measure.")
    return "\n\n".join(parts)


def exit_code(checks: Sequence[Check]) -> int:
    """3 if nothing can be measured here, else 0."""
    return 3 if any(check.state == "fail" for check in checks) else 0
