"""The suites that come with wirebench: one TOML file each."""

from importlib import resources


def suite_names() -> list[str]:
    """Their names, in alphabetical order."""
    names = (entry.name for entry in resources.files("bench.suites").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
