"""The command, as its users start it."""

from tests.commands.conftest import refused, wirebench

__all__ = ["refused", "wirebench"]
