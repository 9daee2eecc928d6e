"""A comparison as GitHub's workflow commands ("::error title=…::…"), which become annotations of a run."""

from analysis.regression import Change, RunComparison

_COMMANDS = {Change.WORSE: "error", Change.UNKNOWN: "warning", Change.BETTER: "notice"}


def github(comparison: RunComparison) -> str:
    """A line for each metric that is worse, better or unknown; nothing is said of what is the same."""
    return "".join(
        f"::{_COMMANDS[answer.change]} title={_escape(f'wirebench: {answer.change}', ',:')}::"
        f"{_escape(f'{answer.scenario}: {answer.metric.title} {answer.effect_words or answer.question.why_not}')}\n"
        for answer in comparison.answers
        if answer.change in _COMMANDS
    )


def _escape(text: str, more: str = "") -> str:
    """As the runner's toolkit escapes data, and with `more` the values of properties."""
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
