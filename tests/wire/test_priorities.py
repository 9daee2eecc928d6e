"""The field `priority` (RFC 9218)."""

import pytest

from bench.wire.priorities import DEFAULT_URGENCY, read_urgency, urgency_fields


@pytest.mark.parametrize(
    ("said", "urgency"),
    [
        (b"u=0", 0),
        (b"u=5, i", 5),
        (b"i, u=1", 1),
        (b"i,\tu=7;q=1", 7),
        (b"u=2, u=4", 4),
        (b"", 3),
        (b"i", 3),
        (b"u=8", 3),
        (b"u=-1", 3),
        (b"u=1.5", 3),
        (b"xu=1", 3),
        (b"u", 3),
        (b"u=11", 3),
        (b'x="u=1"', 3),
    ],
)
def test_what_is_no_urgency_is_passed_over(said: bytes, urgency: int) -> None:
    assert read_urgency(said) == urgency


def test_what_is_written_is_read() -> None:
    for urgency in range(8):
        said = dict(urgency_fields(urgency)).get(b"priority", b"")
        assert read_urgency(said) == urgency
        assert bool(said) == (urgency != DEFAULT_URGENCY)
