"""The pictures of README.md, from a folder of claims: `python -m analysis.report.figures CLAIMS FOLDER`."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.load_claims import VERDICTS, ClaimsRun, load_claims
from analysis.report.claim import plots_of
from analysis.report.site import effects_plot, verdicts_plot
from bench.errors import UsageError, WirebenchError
from bench.resultfile import write_atomically

if TYPE_CHECKING:
    from analysis.plots.style import Plot

FEATURED = {"https-rtts": "rounds-0", "h2-one-connection": "crossing-0", "page-load": "percentiles-1"}
"""A plot of each of these claims: round trips of each way to HTTPS, what connections cost as the round-trip time grows,
and how the time until a page is there is distributed over a link."""


def write_figures(folder: Path, out: Path) -> list[Path]:
    """Write the pictures as SVG files, and give their paths: the verdicts, the effects, and FEATURED as far as these
    claims were measured. Raises UsageError if the folder holds no claims, OutputError if nothing can be written."""
    from analysis.plots import style

    if not folder.exists():
        raise UsageError(f"{folder}: there is no reference run; measure one with: wirebench claims --out {folder}")
    paths = []
    for name, plot in _plots(load_claims(folder)):
        paths.append(out / f"{name}.svg")
        write_atomically(paths[-1], style.to_svg(plot.figure, ground=True))
    return paths


def _plots(run: ClaimsRun) -> Iterator[tuple[str, "Plot"]]:
    by_chapter = [
        (title, Counter(claim["verdict"] for claim in run.claims if claim["chapter"] == name))
        for name, title in run.chapters.items()
    ]
    if by_chapter:
        yield "verdicts", verdicts_plot(by_chapter)
    if (effects := effects_plot(run.claims)) is not None:
        yield "effects", effects
    for claim in run.claims:
        wanted = FEATURED.get(claim["id"])
        plot = next((plot for plot in plots_of(run, claim) if plot.name == wanted), None) if wanted else None
        if plot is not None:
            yield claim["id"], plot


def main(arguments: list[str]) -> int:
    """The command; gives its exit status."""
    if len(arguments) != 2:
        print("usage: python -m analysis.report.figures CLAIMS FOLDER", file=sys.stderr)
        return 2
    folder, out = map(Path, arguments)
    try:
        paths = write_figures(folder, out)
    except WirebenchError as error:
        print(f"figures: {error}", file=sys.stderr)
        return error.exit_code
    print(*paths, sep="\n")
    if missing := FEATURED.keys() - {path.stem for path in paths}:
        print(f"figures: not measured in {folder / VERDICTS}: {', '.join(sorted(missing))}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
