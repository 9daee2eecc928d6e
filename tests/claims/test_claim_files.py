"""The claims that come with wirebench, and what is refused in a claim's file."""

import pytest

from bench.claim import parse_claim, read_claim
from bench.claims import CHAPTERS, claim_files
from bench.errors import UsageError
from bench.probes import PROBES

GOOD = """
sentence = "One is faster"
why = "It does less."
source = "RFC 9110"
expect = "upheld"
[scenario]
protocol = "http1"
load = "closed:1"
[sides.one]
[sides.other]
payload = "1KiB"
[[rules]]
say = "it takes less time"
metric = "latency_p50_ns"
of = "one"
less_than = "other"
by = "10%"
"""


@pytest.mark.parametrize("claim_id", list(claim_files()))
def test_every_claim_can_be_read(claim_id: str) -> None:
    claim = read_claim(claim_id)
    assert claim.chapter in CHAPTERS
    if claim.probe:
        assert all(PROBES[claim.probe].words.keys() >= dict(probe.words).keys() for probe in claim.probes().values())
    else:
        assert claim.suite({}).scenarios or claim.suite({}).unsupported
    assert {rule.of for rule in claim.rules} | {rule.against for rule in claim.rules if rule.against} == {
        name for name, _ in claim.sides
    }, "a side that no rule asks about is measured for nothing"


def test_ids_are_unique() -> None:
    assert len(claim_files()) > 30


def test_a_claim() -> None:
    claim = parse_claim("it", "http", GOOD)
    assert claim.rules[0].margin == 0.1
    assert len(claim.scenarios({})) == 2
    assert [scenario.payload_bytes for scenario in claim.scenarios({}).values()] == [64, 1024]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('sentence = "One is faster"', "", "sentence is missing"),
        ('why = "It does less."', 'why = ""', "why: '' is no text"),
        ('source = "RFC 9110"', "", "source is missing"),
        ('expect = "upheld"', 'expect = "true"', "expect: 'true' is unknown"),
        ('expect = "upheld"', "surprise = 1", "'surprise' is unknown"),
        ('expect = "upheld"', 'despite = ["rain"]', "'rain' is unknown"),
        ('protocol = "http1"', 'protocol = "http9"', "'http9' is unknown"),
        ('payload = "1KiB"', 'colour = "red"', "'colour' is unknown"),
        ('metric = "latency_p50_ns"', 'metric = "speed"', "metric: 'speed' is unknown"),
        ('of = "one"', 'of = "two"', "of: 'two' is unknown"),
        ('less_than = "other"', 'less_than = "two"', "'two' is unknown"),
        ('less_than = "other"', 'less_than = "one"', "can never hold, or never fail"),
        ('less_than = "other"', "", "decides, not 0"),
        ('less_than = "other"', 'less_than = "other"\nabove = 3', "decides, not 2"),
        ('by = "10%"', 'by = "ten"', "not a margin"),
        ('less_than = "other"\nby = "10%"', "above = -1", "can never fail"),
        ('less_than = "other"\nby = "10%"', "below = 0", "can never hold"),
        ('less_than = "other"\nby = "10%"', 'above = 0\nwhen = ["rain"]', "'rain' is unknown"),
        ('metric = "latency_p50_ns"', 'metric = "failed_share"\nabove = 1', "decides, not 2"),
        ("[[rules]]", "[[rule]]", "'rule' is unknown"),
        ('sentence = "One is faster"', "sentence = ", "not valid TOML"),
    ],
)
def test_what_is_refused(old: str, new: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_claim("it", "http", GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("above = 1", "can never hold"),
        ("equals = 2", "can never hold"),
        ("equals = 0.5\nwithin = 0.6", "can never fail"),
        ("below = 1.5", "can never fail"),
    ],
)
def test_shares_have_bounds(rule: str, why: str) -> None:
    text = GOOD.replace('metric = "latency_p50_ns"', 'metric = "failed_share"').replace(
        'less_than = "other"\nby = "10%"', rule
    )
    with pytest.raises(UsageError, match=why):
        parse_claim("it", "http", text)
