"""A table of a TOML file that a user writes: its keys are known, and what one must not be is said in one line."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.registry import choose


class Table:
    """A table of the file, whose keys are known. Every way to read a key raises UsageError for what it must not be."""

    def __init__(self, values: object, where: str, keys: Iterable[str]) -> None:
        if not isinstance(values, dict):
            raise UsageError(f"{where}: must be a table")
        self.values: dict[str, Any] = values
        self.where = where
        for key in values:
            choose(key, keys, where)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def at(self, key: str) -> str:
        """The place of a key, for errors."""
        return f"{self.where}: {key}"

    def table(self, key: str, keys: Iterable[str]) -> "Table":
        """A table in this one; empty where there is none."""
        return Table(self.values.get(key, {}), self.at(key), keys)

    def text(self, key: str, default: str | None = None) -> str:
        """A text; one without a default must be there."""
        if key not in self.values:
            if default is None:
                raise UsageError(f"{self.where}: {key} is missing")
            return default
        return _text(self.values[key], self.at(key))

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise UsageError(f"{self.at(key)}: {value!r:.60} is neither true nor false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """One text, or a list of them."""
        value = self.values.get(key, [])
        return tuple(_text(each, self.at(key)) for each in (value if isinstance(value, list) else [value]))

    def words(self, key: str) -> dict[str, str]:
        """A table of texts."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise UsageError(f"{self.at(key)}: must be a table of texts")
        return {name: _text(each, f"{self.at(key)}: {name}") for name, each in value.items()}

    def one_of(self, *keys: str) -> str | None:
        """Which of these keys there is, if any."""
        there = [key for key in keys if key in self.values]
        if len(there) > 1:
            raise UsageError(f"{self.where}: {' and '.join(there)} contradict each other; leave one of them out")
        return there[0] if there else None

    def file(self, key: str, folder: Path) -> tuple[Path, str]:
        """The path and the text of the file that a key names, from `folder`."""
        path = folder / self.text(key)
        try:
            return path, path.read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{self.at(key)}: cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"{self.at(key)}: {path} is not a text file in UTF-8") from None

    def refuse(self, keys: Iterable[str], why: str) -> None:
        """For keys that must not be there."""
        for key in keys:
            if key in self:
                raise UsageError(f"{self.at(key)}: {why}")


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r:.60} must be written as text, in quotes")
    return value
