"""The site of a folder of claims: what stands on its pages, that they hang together, and bad input."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from browser import look
from synthetic_claims import claims_folder, verdicts

from analysis import simulation
from analysis.load_claims import effects_of, load_claims
from analysis.metrics import metric_named
from analysis.plots.style import SERIES
from analysis.report.figures import main, write_figures
from analysis.report.site import write_site
from bench import cli
from bench.errors import UsageError


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "_CLAIMS", 3)
        return write_site(claims_folder(tmp_path_factory.mktemp("claims"))).parent


def text(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def pages(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_a_page_for_each_claim_and_each_chapter(site: Path) -> None:
    assert {str(page.relative_to(site)) for page in pages(site)} == {
        "index.html",
        "compared.html",
        "method.html",
        *(f"claim/{name}.html" for name in ("first", "second", "third", "fourth", "ways", "probed")),
        *(f"chapter/{name}.html" for name in ("http", "state")),
    }


def test_the_summary_has_every_verdict_in_the_order_of_chapters(site: Path) -> None:
    index = text(site, "index.html")
    assert re.findall(r'<article class="claim" data-id="(\w+)" data-verdict="([a-z ]+)"', index) == [
        ("third", "refuted"),
        ("probed", "upheld"),
        ("first", "conditional"),
        ("second", "undecided"),
        ("fourth", "unsupported here"),
        ("ways", "upheld"),
    ]
    assert "6 claims: 2 upheld, 1 refuted, 1 conditional, 1 undecided, 1 unsupported here." in index
    assert "Known is that it is upheld" in index
    assert "<strong>Why that is right:</strong> The course forgets the handshake." in index
    assert "<strong>Why it is known as refuted:</strong> Both cost the same." in index
    assert "1 of the 7 claims that were chosen have no verdict yet (waits)" in index


def test_what_was_expected_stands_beside_what_was_measured(site: Path) -> None:
    first, second = text(site, "claim/first.html"), text(site, "claim/second.html")
    assert "less than other by 5% or more" in first
    assert "0.5×" in first
    assert "0.25× to 20×" in first
    assert "one is faster: this changes at about 11.7, between RTT 1 ms (1) and RTT 20 ms (20)." in first
    assert "wirebench claims first --quick --seed 7" in first
    assert "equals 4 ms ± 1 ms" in second
    assert "not measured" in second
    assert "it failed" in second


def test_figures_that_are_bytes_are_shown_as_bytes() -> None:
    for name in ("tally_body_bytes", "tally_body_bytes_each", "probe_encoded_bytes"):
        metric = metric_named(name)
        assert metric is not None
        assert metric.show(12.0 * 1024 * 1024) == "12 MiB"


def test_what_was_compared_most_comes_first(site: Path) -> None:
    for table in re.findall(r'<table class="matrix">.*?</table>', text(site, "compared.html"), re.DOTALL):
        rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>.*?</tr>", table)[1:]]
        held = [sum(cell.count("<a ") for cell in column) for column in zip(*rows, strict=True)]
        assert held == sorted(held, reverse=True)
        assert held[-1] > 0


def test_a_claim_that_compares_shows_rounds_conditions_and_distributions(site: Path) -> None:
    shown = re.findall(r'<figure id="plot-([a-z-]+?)(?:-\d+)?"', text(site, "claim/first.html"))
    assert set(shown) == {"rounds", "crossing", "percentiles", "ecdf", "heat-map", "cpu"}
    csv = text(site, "claim/first.csv").splitlines()
    assert len(csv) == 1 + 3 * 4  # a row for each round of each side under each condition


def test_a_probe_shows_rounds_and_a_table(site: Path) -> None:
    page = text(site, "claim/probed.html")
    assert re.findall(r'<figure id="([a-z0-9-]+)"', page) == ["plot-rounds-0"]
    assert 'title="encoded bytes"' in page
    assert "121 B" in page
    assert "probe_encoded_bytes" in text(site, "claim/probed.csv").splitlines()[0]


def test_packets_are_drawn_where_they_were_kept(site: Path) -> None:
    assert 'id="packets-ladder-1"' in text(site, "claim/ways.html")


def test_a_lost_result_file_costs_its_figures_alone(site: Path) -> None:
    assert "cannot be shown: lost.json: no such file" in text(site, "claim/second.html")


def test_links_lead_somewhere_and_nothing_comes_from_elsewhere(site: Path) -> None:
    for page in pages(site):
        content = page.read_text(encoding="utf-8")
        assert not re.findall(r"(?:src|href)=[\"'](?:https?:)?//|url\((?!#)|@import", content)
        ids = re.findall(r' id="([^"]+)"', content)
        assert len(ids) == len(set(ids)), page
        for link in re.findall(r'href="([^"]+)"', content):
            if link.startswith("#"):
                assert link[1:] in ids, (page, link)
            elif link != "data:,":
                assert (page.parent / link).exists(), (page, link)


def test_whatever_a_file_says_is_text(site: Path) -> None:
    for page in pages(site):
        assert "<script>alert" not in page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text(site, "claim/third.html")


def test_headings_and_landmarks(site: Path) -> None:
    for page in pages(site):
        content = page.read_text(encoding="utf-8")
        levels = [int(level) for level in re.findall(r"<h([1-6])", content)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels)), page
        assert content.count("<main ") == 1
        assert 'class="skip" href="#content"' in content
        assert not re.search(r"<svg(?![^>]*aria-label)", content)


def test_a_verdict_is_told_by_the_findings_that_stand_as_it_says() -> None:
    claim = verdicts()["claims"][0]
    holds = claim["findings"][0]
    contradicted = {**holds, "standing": "contradicted"}
    assert effects_of({**claim, "findings": [holds, holds, contradicted]}) == [contradicted, holds]
    assert effects_of({**claim, "findings": [{**contradicted, "measured": None}]}) == []
    of_a_value = {**holds, "against": None}
    assert effects_of({**claim, "findings": [of_a_value, holds], "verdict": "upheld"}) == [holds]


# In a browser

SEARCHED = """(() => {
  const words = document.getElementById("words");
  const left = () => [...document.querySelectorAll("article.claim:not([hidden])")].map((claim) => claim.dataset.id);
  words.value = "FIRST so";
  words.dispatchEvent(new Event("input"));
  const found = left(), shown = document.getElementById("shown").textContent;
  words.value = "";
  document.getElementById("verdict").value = "refuted";
  document.getElementById("verdict").dispatchEvent(new Event("change"));
  return {found, shown, refuted: left(), chapters: document.querySelectorAll("section.chapter:not([hidden])").length};
})()"""


def test_claims_are_found_by_words_and_verdict(site: Path, profile: Path) -> None:
    seen = look(site / "index.html", 360, profile, dark=True, more=SEARCHED)
    assert (seen["problems"], seen["outside"], seen["stray"], seen["fetched"]) == ([], [], 0, [])
    assert seen["scroll_width"] <= seen["width"] == 360
    assert (seen["found"], seen["shown"]) == (["first"], "1 of 6 claims")
    assert (seen["refuted"], seen["chapters"]) == (["third"], 1)
    assert seen["background"] == "rgb(20, 24, 29)"


def test_the_page_of_a_claim_fits_a_phone(site: Path, profile: Path) -> None:
    seen = look(site / "claim" / "first.html", 360, profile)
    assert (seen["problems"], seen["outside"], seen["stray"], seen["unpainted"]) == ([], [], 0, 0)
    assert seen["scroll_width"] <= seen["width"] == 360
    assert min(seen["pictures"]) >= 320
    assert seen["text_px"] >= 8.9


@pytest.mark.long
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize(
    "page", ["index", "compared", "method", "chapter/http", "claim/first", "claim/ways", "claim/probed"]
)
def test_every_kind_of_page_fits(site: Path, profile: Path, page: str, width: int) -> None:
    seen = look(site / f"{page}.html", width, profile)
    assert (seen["problems"], seen["outside"], seen["stray"], seen["fetched"]) == ([], [], 0, [])
    assert seen["scroll_width"] <= seen["width"] == width


# The command, and bad input


def test_the_report_of_a_folder_is_its_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation, "_CLAIMS", 1)
    (tmp_path / "claims.json").write_text(json.dumps(verdicts(claims=[])))
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/index.html\n"
    assert "0 claims." in text(tmp_path, "index.html")


@pytest.mark.parametrize(
    ("options", "why"),
    [(["-o", "x"], "leave out --out"), (["--svg"], "leave out --out"), (["also.json"], "name one folder")],
)
def test_what_a_folder_cannot_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], why: str
) -> None:
    assert cli.main(["report", str(tmp_path), *options]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "holds no claims.json"),
        ("{", "is cut short"),
        ("[]", "not a wirebench result file"),
        (json.dumps(verdicts(schema=2)), "has schema version 2, and this wirebench reads up to 1; update wirebench"),
        (json.dumps(verdicts(seed="x")), r"\$\.seed"),
        (json.dumps(verdicts()).replace("probe_encoded_bytes", "speed"), "'speed' is of another version"),
        (json.dumps(verdicts()).replace('"lost.json"', '"../lost.json"'), r"\$\.claims\[1\]\.file"),
    ],
)
def test_a_folder_that_cannot_be_read(tmp_path: Path, content: str | None, why: str) -> None:
    if content is not None:
        (tmp_path / "claims.json").write_text(content)
    with pytest.raises(UsageError, match=why):
        write_site(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] in ([], ["claims.json"])


def test_a_folder_of_an_earlier_version_lacks_what_was_added_since(tmp_path: Path) -> None:
    old = verdicts()
    for name in ("chapters", "chosen"):
        del old[name]
    for one in old["claims"]:
        del one["sides"], one["conditions"]
    (tmp_path / "claims.json").write_text(json.dumps(old))
    run = load_claims(tmp_path)
    assert (dict(run.chapters), run.waiting) == ({"http": "http", "state": "state"}, ())
    first, *_ = run.claims
    assert first["id"] == "first"


# README's pictures


def test_figures_are_files_of_their_own(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.name for path in write_figures(site, tmp_path / "figures")]
    assert names == ["verdicts.svg", "effects.svg"]
    drawn = (tmp_path / "figures" / "effects.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    assert SERIES[0].light in drawn
    assert main([str(site), str(tmp_path / "again")]) == 0
    assert "not measured" in capsys.readouterr().err


def test_there_may_be_no_reference_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "claims"), str(tmp_path)]) == 2
    assert "there is no reference run; measure one with" in capsys.readouterr().err
