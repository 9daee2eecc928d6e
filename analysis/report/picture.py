"""A plot in a page."""

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
