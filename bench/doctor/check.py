"""One thing that was looked at."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """What was found. "warn" spoils figures or rules some work out, "fail" all measuring; `fix` says what helps."""

    area: str
    name: str
    state: State
    found: str
    fix: str = ""

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)
