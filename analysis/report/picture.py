"""A plot in a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from bench.errors import OutputError

Image = Literal["png", "svg"]


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


def write_images(picture: Picture, folder: Path, images: Sequence[Image]) -> None:
    """Write the plot into the folder as files of these formats. Raises OutputError."""
    from analysis.plots import style

    for image in images:
        path = folder / f"{picture.name}.{image}"
        content = style.to_png(picture.figure) if image == "png" else style.to_svg(picture.figure, ground=True).encode()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place with --out") from None
