"""A plot in a page."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Picture:
    """A plot in a page: `order` is its place among those of its group; `figure` is what it was drawn from, for
    files."""

    name: str
    order: int
    title: str
    caption: str
    svg: Markup
    figure: Any


def in_columns(pictures: Iterable[Picture]) -> tuple[list[Picture], list[Picture]]:
    """Pictures in two columns of about one height."""
    columns: tuple[list[Picture], list[Picture]] = ([], [])
    heights = [0.0, 0.0]
    for picture in pictures:
        shorter = heights.index(min(heights))
        columns[shorter].append(picture)
        heights[shorter] += picture.figure.get_figheight() + 1.3  # inches of title and caption
    return columns
