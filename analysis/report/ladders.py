"""The ladders of a run side by side: how many round trips each way takes to the first byte, expected and measured."""

import base64
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, median_low

from analysis.load_results import Ladder, Trial
from analysis.report.picture import Picture
from analysis.summary import Summary
from analysis.ways import TOLERANCE_RTTS, Expectation, differs, expectation, way_names
from bench.errors import UsageError
from bench.quantities import format_size

DrawLadder = Callable[[Ladder, str, str, str], Picture]
"""Draws a ladder, given its name, title and caption."""


@dataclass(frozen=True)
class Pcap:
    """A pcap file to be downloaded, and what it is called then."""

    name: str
    content: bytes

    @property
    def size(self) -> str:
        """For people."""
        return format_size(len(self.content))

    @property
    def link(self) -> str:
        """An address that holds the file."""
        return f"data:application/vnd.tcpdump.pcap;base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Way:
    """A row of the table, and the ladder of one round. What was not measured is "not measured"."""

    name: str
    fatal: bool
    expected: Expectation | None
    measured: str
    spread: str
    """From the lowest round to the highest."""
    measured_rtts: float | None
    packets: float
    bytes: float
    difference: str
    """What there is to say about measured and expected, if they differ."""
    picture: Picture
    pcap: Pcap | None
    """The packets of that ladder; None where they were not kept."""

    @property
    def size(self) -> str:
        """The bytes, for people."""
        return format_size(self.bytes)


def ways(summaries: Sequence[Summary], anchor: str, draw: DrawLadder) -> list[Way]:
    """The ways of those scenarios whose packets were captured. Raises UsageError if a capture is damaged."""
    captured = [each for each in summaries if any(trial.ladder is not None for trial in each.trials)]
    names = way_names(each.scenario for each in captured)
    return [
        _way(each, names[each.scenario], f"{anchor}-ladder-{number}", draw)
        for number, each in enumerate(captured, start=1)
    ]


def lead(every: Sequence[Way]) -> str:
    """Which ways took what was expected, in a sentence or two."""
    known = [way for way in every if way.expected is not None and way.measured_rtts is not None]
    apart = [way.name for way in known if way.difference]
    if not known:
        return "No way here has both an expectation and a measured first byte."
    within = f"took as long, within {TOLERANCE_RTTS} RTT"
    if not apart:
        return f"All ways with an expectation ({len(known)}) {within}."
    few = f"{len(known) - len(apart)} of {len(known)}"
    return f"{few} ways with an expectation {within}. Not so: {'; '.join(apart)}."


def _way(summary: Summary, name: str, anchor: str, draw: DrawLadder) -> Way:
    expected = expectation(summary.scenario)
    rtts = [rtts for trial in summary.trials if (rtts := _first_byte_rtts(trial)) is not None]
    middle = median(rtts) if rtts else None
    ladders = [trial.ladder for trial in summary.trials if trial.ladder is not None]
    shown, where = _shown(summary)
    return Way(
        name=name,
        fatal=summary.fatal,
        expected=expected,
        measured=_measured(middle),
        spread=f"{min(rtts):.2f}–{max(rtts):.2f}" if len(rtts) > 1 else "",
        measured_rtts=middle,
        packets=median(ladder.packets for ladder in ladders),
        bytes=median(ladder.bytes for ladder in ladders),
        difference=_difference(expected, middle),
        picture=draw(shown, anchor, name, _caption(expected, middle)),
        pcap=None if shown.pcap is None else _pcap(name, shown.pcap, where),
    )


def _first_byte_rtts(trial: Trial) -> float | None:
    if trial.first_byte_rtts is not None:
        return trial.first_byte_rtts
    return trial.ladder.first_byte_rtts if trial.ladder is not None else None


def _shown(summary: Summary) -> tuple[Ladder, str]:
    """The ladder of the round in the middle, and where it was read."""
    ladders = [(trial.ladder, trial.where) for trial in summary.trials if trial.ladder is not None]
    answered = [
        (ladder.first_byte_rtts, ladder, where) for ladder, where in ladders if ladder.first_byte_rtts is not None
    ]
    if not answered:
        return ladders[0]
    middle = median_low(rtts for rtts, _, _ in answered)
    return next((ladder, where) for rtts, ladder, where in answered if rtts == middle)


def _pcap(way: str, kept: str, where: str) -> Pcap:
    try:
        content = zlib.decompress(base64.b64decode(kept, validate=True))
    except (ValueError, zlib.error) as error:
        raise UsageError(f"{where}: the capture of its ladder is damaged: {error}") from None
    return Pcap(f"{re.sub('[^a-z0-9.]+', '-', way.lower()).strip('-')}.pcap", content)


def _measured(rtts: float | None) -> str:
    return "not measured" if rtts is None else f"{rtts:.2f}"


def _caption(expected: Expectation | None, measured_rtts: float | None) -> str:
    measured = "No first byte was seen" if measured_rtts is None else f"First byte after {measured_rtts:.2f} RTT"
    if expected is None:
        return f"{measured}; there is no expectation for this way."
    return f"{measured}, expected {expected.rtts} = {expected.words}."


def _difference(expected: Expectation | None, measured_rtts: float | None) -> str:
    if expected is None or measured_rtts is None or not differs(expected, measured_rtts):
        return ""
    apart = measured_rtts - expected.rtts
    return (
        f"{abs(apart):.2f} RTT {'more' if apart > 0 else 'fewer'} than the {expected.rtts} expected. "
        "The ladder shows where."
    )
