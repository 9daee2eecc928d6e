"""The page of a capacity search: one file that needs nothing else."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from analysis.capacity_words import facts, headline, plan_words, stopped
from analysis.metrics import show_duration
from analysis.report.picture import Image, Picture, write_images
from bench import __version__
from bench.quantities import format_rate
from bench.resultfile import write_atomically

_ARRIVALS = {"constant": "evenly spaced", "poisson": "as independent users send them (Poisson)"}


def write_capacity_page(record: Mapping[str, Any], out: Path, images: Sequence[Image] = ()) -> Path:
    """Write the page of a capacity file (see `results/README.md`) into the folder `out`, and pictures of every plot
    into out/images if `images` names formats for them. Gives the path of the page.

    Raises OutputError if something cannot be written."""
    searches = [{**search, "why_stopped": stopped(search)} for search in record["searches"]]
    pictures = _pictures(record)
    here = files("analysis.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"rate": format_rate, "duration": show_duration}
    text = environment.from_string((here / "capacity.html").read_text(encoding="utf-8")).render(
        record=record,
        answer=searches[0],
        searches=searches,
        headline=headline(searches[0]),
        arrivals=_ARRIVALS[record["settings"]["arrivals"]],
        facts=list(facts(record)),
        plan_words=plan_words(record["settings"]["plan"]) if record["plan"] else "",
        pictures=pictures,
        version=__version__,
        css=Markup(_css()),
    )
    for picture in pictures:
        write_images(picture, out / "images", images)
    page = out / "report.html"
    write_atomically(page, text)
    return page


def _css() -> str:
    from analysis.plots import style

    here = files("analysis.report")
    return style.palette_css() + "".join(
        (here / name).read_text(encoding="utf-8") for name in ("report.css", "capacity.css")
    )


def _pictures(record: Mapping[str, Any]) -> list[Picture]:
    from analysis.plots import capacity, style

    return [
        Picture(
            plot.name,
            order,
            plot.title,
            plot.caption,
            Markup(style.inline_svg(style.to_svg(plot.figure, ground=False), plot.name, plot.alt)),
            plot.figure,
        )
        for order, plot in enumerate(capacity.plots(record))
    ]
