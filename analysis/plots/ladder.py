"""The packets of one conversation as a ladder: a line for each end, and an arrow for each packet from when it was sent
to when it arrived.

Time runs down, on one scale in all ladders of a page, so that ladders side by side compare.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import MaxNLocator

from analysis.load_results import Ladder, Step
from analysis.metrics import show_duration
from analysis.plots import style
from analysis.plots.style import GRID, INK, MUTED, SERIES, SMALL_PX, SURFACE, Plot

WIDTH_PX = 376.0
"""Three fit beside each other on a wide page, and one on a phone."""

MAX_ARROWS = 25
_LEFT, _RIGHT = 66.0, 326.0
"""Where the client's line and the server's are."""

_TOP = 30.0
_RTT_PX = 84.0
_WITHOUT_RTT_PX = 320.0
"""The height of a ladder whose link has no delay."""

_AFTER_ANSWER_RTTS, _MAX_RTTS = 1.1, 12.0
_APART_PX = 15.0
"""Packets of one direction that are closer than this are one arrow: their labels would cover each other."""

_CHARACTER_PX = 0.57 * SMALL_PX
_LINE_PX = 12.0
_LABEL_PX = _RIGHT - _LEFT - 56
"""The rest is where arrows meet."""

_UP, _DOWN, _LOST = SERIES[0].light, SERIES[2].light, SERIES[1].light
_IMPLIED = ("ChangeCipherSpec", "encrypted handshake")
"""What goes unsaid beside a Finished, and the first of them always: in TLS 1.3 it is for middleboxes (RFC 8446,
appendix D.4), and in TLS 1.2 a Finished follows."""


@dataclass(frozen=True)
class Arrow:
    """Packets of one direction and one fate that were sent together. `arrived_ns` None means that they were lost."""

    is_up: bool
    sent_ns: int
    arrived_ns: int | None
    words: tuple[str, ...]
    packets: int
    retransmission: bool

    @property
    def label(self) -> str:
        """What is written at it."""
        return self._spelled([f"{self.packets}\u00a0packets"] if self.packets > 1 else [])

    @property
    def short_label(self) -> str:
        """The same without the number of packets."""
        return self._spelled([])

    def _spelled(self, notes: list[str]) -> str:
        notes = notes + ["again"] * self.retransmission + ["lost"] * (self.arrived_ns is None)
        return ", ".join(self.words) + (f" ({', '.join(notes)})" if notes else "")


@dataclass(frozen=True)
class Drawn:
    """What is drawn of a ladder, and how many packets are not: acknowledgements among the arrows, and all that comes
    after them."""

    arrows: tuple[Arrow, ...]
    acknowledgements: int
    more: int


def plot(ladder: Ladder, name: str, title: str, caption: str) -> Plot:
    """The ladder diagram."""
    drawn = arrows_of(ladder)
    told = "; ".join(f"{'client' if arrow.is_up else 'server'}: {arrow.label}" for arrow in drawn.arrows)
    alt = f"The first packets of {title}, in order: {told or 'none'}."
    return Plot(name, title, caption, alt, style.drawn(_draw, ladder, drawn))


def arrows_of(ladder: Ladder) -> Drawn:
    """The packets that are drawn. Those that only acknowledge are left out, unless they were lost; those sent together
    are one arrow; the rest of a long conversation is counted."""
    px = _px_per_ns(ladder)
    end_ns = _end_rtts(ladder) * ladder.rtt_ns if ladder.rtt_ns else math.inf
    arrows: list[list[Step]] = []
    last: dict[bool, int] = {}
    acknowledgements = 0
    for number, step in enumerate(ladder.steps):
        joins = last.get(step.is_up)
        bare = step.label == "ACK" and step.arrived_ns is not None
        joined = not bare and joins is not None and _alike(arrows[joins][0], step, px)
        if step.sent_ns > end_ns or (not bare and not joined and len(arrows) == MAX_ARROWS):
            return _finished(arrows, acknowledgements, len(ladder.steps) - number + ladder.left_out)
        if bare:
            acknowledgements += 1
        elif joined and joins is not None:
            arrows[joins].append(step)
        else:
            last[step.is_up] = len(arrows)
            arrows.append([step])
    return _finished(arrows, acknowledgements, ladder.left_out)


def _finished(arrows: Sequence[Sequence[Step]], acknowledgements: int, more: int) -> Drawn:
    return Drawn(tuple(map(_arrow, arrows)), acknowledgements, more)


def _alike(one: Step, other: Step, px_per_ns: float) -> bool:
    return (
        (other.sent_ns - one.sent_ns) * px_per_ns < _APART_PX
        and (one.arrived_ns is None) == (other.arrived_ns is None)
        and one.retransmission == other.retransmission
    )


def _arrow(steps: Sequence[Step]) -> Arrow:
    words: list[str] = []
    for step in steps:
        for word in step.label.split(", "):
            if word.removeprefix("… ") not in words or not step.label.startswith("… "):
                words.append(word)
    said = [word for word in words if not _is_implied(word, words)] or words
    arrived_ns = [step.arrived_ns for step in steps if step.arrived_ns is not None]
    first = steps[0]
    return Arrow(
        first.is_up,
        first.sent_ns,
        min(arrived_ns, default=None),
        tuple(_counted(said)),
        len(steps),
        first.retransmission,
    )


def _is_implied(word: str, words: Sequence[str]) -> bool:
    return word.startswith(_IMPLIED) and (word == _IMPLIED[0] or "Finished" in words)


def _counted(words: Sequence[str]) -> Iterator[str]:
    """Each word once where it follows itself."""
    for number, word in enumerate(words):
        if number == 0 or words[number - 1] != word:
            yield word


def _end_rtts(ladder: Ladder) -> float:
    """How much of a ladder over a link with a delay is drawn: what came to the answer, and a bit more."""
    if ladder.first_byte_ns is None:
        return _MAX_RTTS
    return ladder.first_byte_ns / ladder.rtt_ns + _AFTER_ANSWER_RTTS


def _px_per_ns(ladder: Ladder) -> float:
    if ladder.rtt_ns:
        return _RTT_PX / ladder.rtt_ns * min(1.0, _MAX_RTTS / _end_rtts(ladder))
    end_ns = max((step.arrived_ns or step.sent_ns for step in ladder.steps), default=0)
    return _WITHOUT_RTT_PX / max(1, end_ns)


def _draw(ladder: Ladder, drawn: Drawn) -> Figure:
    px = _px_per_ns(ladder)
    trip_ns = ladder.rtt_ns // 2
    ends = [arrow.arrived_ns if arrow.arrived_ns is not None else arrow.sent_ns + trip_ns for arrow in drawn.arrows]
    end_ns = max([*ends, ladder.first_byte_ns or 0, 0])
    depth = _TOP + end_ns * px + 12
    rest = _rest(drawn)
    height = depth + 4 + max(2 * _LINE_PX, 14 * len(rest))
    figure = style.new_figure(height, WIDTH_PX)
    axes = style.add_axes(figure, 0, 0, 0, 0)
    axes.set(xlim=(0, WIDTH_PX), ylim=(height, 0))
    axes.set_axis_off()
    _draw_frame(axes, ladder, end_ns, px, depth)
    labels = _Labels(axes)
    if ladder.first_byte_ns is not None:
        _draw_first_byte(axes, ladder, px)
    for number, arrow in enumerate(drawn.arrows):
        _draw_arrow(axes, labels, arrow, number, px, trip_ns)
    for number, text in enumerate(rest):
        place = depth + 10 + 14 * number
        axes.text((_LEFT + _RIGHT) / 2, place, text, ha="center", va="center", fontsize=SMALL_PX, color=MUTED.light)
    return figure


def _draw_frame(axes: Axes, ladder: Ladder, end_ns: int, px: float, depth: float) -> None:
    """The lines of both ends, and the axis of time."""
    small: dict[str, Any] = {"fontsize": SMALL_PX, "color": MUTED.light, "va": "center"}
    for y_ns, left, right in _ticks(ladder, end_ns):
        y = _TOP + y_ns * px
        axes.plot([_LEFT, _RIGHT], [y, y], color=GRID.light, linewidth=0.8, zorder=0)
        axes.text(_LEFT - 8, y, left, ha="right", **small)
        axes.text(_RIGHT + 8, y, right, ha="left", **small)
    for x, name in ((_LEFT, "client"), (_RIGHT, "server")):
        axes.plot([x, x], [_TOP - 6, depth], color=MUTED.light, linewidth=1.2, zorder=1)
        axes.text(x, _TOP - 18, name, ha="center", va="center", fontsize=SMALL_PX, color=INK.light, weight="bold")


def _ticks(ladder: Ladder, end_ns: int) -> Iterator[tuple[float, str, str]]:
    if ladder.rtt_ns:
        last = int(end_ns / ladder.rtt_ns + 0.05)
        for rtts in range(0, last + 1, max(1, math.ceil(last / _MAX_RTTS))):
            at_ns = rtts * ladder.rtt_ns
            yield at_ns, f"{rtts} RTT" if rtts else "0", _show_time(at_ns)
    else:
        for ns in MaxNLocator(5).tick_values(0, max(1, end_ns)):
            if 0 <= ns <= max(1, end_ns):
                yield float(ns), "", _show_time(float(ns))


def _show_time(ns: float) -> str:
    return f"{ns / 1e6:g} ms" if ns >= 1e6 or not ns else show_duration(ns)


class _Labels:
    """Places labels along arrows so that none covers another."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._taken: list[tuple[float, float]] = []

    def place(self, text: str, ends: tuple[float, float, float, float], above: bool, alone: bool) -> None:
        """A line of text on an arrow from (x, y) to (x, y): near its middle if there is room. One that is `alone` may
        go to the other side of the arrow, or further from it."""
        x1, y1, x2, y2 = ends
        slope = (y2 - y1) / (x2 - x1)
        width = len(text) * _CHARACTER_PX
        room = max(0.0, (abs(x2 - x1) - width) / 2 - 6)
        middle = (x1 + x2) / 2
        side = -1 if above else 1
        rows = [side, -side, 2 * side, -2 * side] if alone else [side]
        choices = [
            (middle + share * room, (row - math.copysign(0.5, row)) * _LINE_PX + math.copysign(2.5, row))
            for row in rows
            for share in (0, 0.5, -0.5, 1, -1)
        ]
        x, away = min(choices, key=lambda at: self._overlap(at[0], y1 + (at[0] - x1) * slope + at[1], width, slope))
        y = y1 + (x - x1) * slope + away
        self._taken += self._points(x, y, width, slope)
        # Text has a ground of its own, so that arrows behind it do not cross it.
        self._axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            rotation=-math.degrees(math.atan(slope)),
            rotation_mode="anchor",
            fontsize=SMALL_PX,
            color=INK.light,
            bbox={"facecolor": SURFACE.light, "edgecolor": "none", "pad": 0.4},
            zorder=4,
        )

    @staticmethod
    def _points(x: float, y: float, width: float, slope: float) -> list[tuple[float, float]]:
        count = max(2, round(width / 8))
        offsets = [(share / (count - 1) - 0.5) * width for share in range(count)]
        return [(x + offset, y + offset * slope) for offset in offsets]

    def _overlap(self, x: float, y: float, width: float, slope: float) -> int:
        return sum(
            abs(px - qx) < _CHARACTER_PX * 1.5 and abs(py - qy) < _LINE_PX
            for px, py in self._points(x, y, width, slope)
            for qx, qy in self._taken
        )


def _draw_first_byte(axes: Axes, ladder: Ladder, px: float) -> None:
    """A mark on the client's line, and words beside it, below the time of the axis that they would else cover."""
    assert ladder.first_byte_ns is not None
    y = _TOP + ladder.first_byte_ns * px
    axes.plot([_LEFT], [y], marker="o", markersize=8, color=_LOST, zorder=5, gid="first-byte")
    below = y
    if ladder.rtt_ns:
        to_next = -ladder.first_byte_ns % ladder.rtt_ns * px
        from_last = ladder.first_byte_ns % ladder.rtt_ns * px
        below = y + to_next + _LINE_PX if to_next < _LINE_PX else max(y, y - from_last + _LINE_PX)
    words = ["first byte"] + ([] if ladder.first_byte_rtts is None else [f"{ladder.first_byte_rtts:.2f} RTT"])
    for number, text in enumerate(words):
        place = below + number * _LINE_PX
        axes.text(_LEFT - 8, place, text, ha="right", va="center", fontsize=SMALL_PX, color=_LOST)


def _draw_arrow(axes: Axes, labels: _Labels, arrow: Arrow, number: int, px: float, trip_ns: int) -> None:
    x1, x2 = (_LEFT, _RIGHT) if arrow.is_up else (_RIGHT, _LEFT)
    y1 = _TOP + arrow.sent_ns * px
    colour = _UP if arrow.is_up else _DOWN
    if arrow.arrived_ns is None:
        x2, y2, colour = x1 + (x2 - x1) * 0.6, y1 + trip_ns * px * 0.6, _LOST
        axes.plot([x2], [y2], marker="x", markersize=8, markeredgewidth=2, color=_LOST, zorder=5, gid=f"lost-{number}")
    else:
        y2 = _TOP + arrow.arrived_ns * px
    head = "-" if arrow.arrived_ns is None else "-|>,head_length=5,head_width=2.4"
    axes.add_patch(
        FancyArrowPatch(
            (x1, y1),
            (x2, y2),
            arrowstyle=head,
            mutation_scale=1,
            linestyle=(0, (4, 2)) if arrow.retransmission else "solid",
            linewidth=1.3,
            color=colour,
            shrinkA=0,
            shrinkB=1,
            zorder=3,
            gid=f"arrow-{number}",
        )
    )
    lines = _lines(arrow.label, int(_LABEL_PX / _CHARACTER_PX))
    if lines[-1].endswith("…"):
        lines = _lines(arrow.short_label, int(_LABEL_PX / _CHARACTER_PX))
    for text, above in zip(lines, (True, False), strict=False):
        labels.place(text, (x1, y1, x2, y2), above, len(lines) == 1)


def _lines(text: str, characters: int) -> list[str]:
    """One line if it fits; or two, parted after a comma if that leaves enough in the first, the second clipped."""
    if len(text) <= characters:
        return [text]
    comma = text.rfind(", ", 0, characters) + 1
    space = text.rfind(" ", 0, characters + 1)
    cut = comma if comma > characters * 0.4 else space if space > 0 else characters
    return [text[:cut].strip(), style.clip(text[cut:].strip(), characters)]


def _rest(drawn: Drawn) -> list[str]:
    """What is said of the packets that are not drawn."""
    words = [f"… {drawn.more} more packet{'s' if drawn.more != 1 else ''}"] if drawn.more else []
    if drawn.acknowledgements:
        plural = "s" if drawn.acknowledgements != 1 else ""
        words.append(f"{drawn.acknowledgements} bare acknowledgement{plural} not drawn")
    return words
