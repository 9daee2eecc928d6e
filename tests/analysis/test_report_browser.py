"""The report in a real browser: wide, as narrow as a phone, light and dark."""

import json
from pathlib import Path

import pytest
from browser import look
from synthetic_ladders import https_run

from analysis.report import write_report

SORTED = """(() => {
  const table = document.querySelector("table.sortable");
  const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
  const before = order();
  const button = table.tHead.rows[0].cells[1].querySelector("button");
  button.click();
  const ascending = order();
  button.click();
  return {before, ascending, descending: order()};
})()"""
"""The first column of a table, before and after it is sorted by the second: up, then down."""


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it_without_complaint(page: Path, profile: Path, width: int) -> None:
    dark = width == 360
    seen = look(page, width, profile, dark, more=SORTED)
    assert seen["problems"] == []
    assert seen["fetched"] == []
    assert seen["width"] == width
    assert seen["scroll_width"] <= seen["width"]
    assert seen["outside"] == []
    assert seen["stray"] == 0
    assert len(seen["pictures"]) >= 20
    assert min(seen["pictures"]) >= 320
    assert seen["text_px"] >= 9  # the height of a line of the smallest text
    assert seen["unpainted"] == 0
    assert (seen["background"], seen["ink"]) == (
        ("rgb(20, 24, 29)", "rgb(230, 237, 243)") if dark else ("rgb(255, 255, 254)", "rgb(28, 33, 40)")
    )
    # The table sorts by its second column, up and then down.
    assert seen["before"] == ["http1", "http2", "tcp", "udp †"]
    assert seen["ascending"] == ["http1", "http2", "udp †", "tcp"]
    assert seen["descending"] == seen["ascending"][::-1]


@pytest.mark.parametrize("width", [390, 1280])
def test_parts_and_properties_fit_and_sort_by_themselves(mixed_page: Path, profile: Path, width: int) -> None:
    seen = look(mixed_page, width, profile, more=SORTED)
    assert (seen["problems"], seen["outside"], seen["stray"]) == ([], [], 0)
    assert seen["scroll_width"] <= seen["width"] == width
    part = "lean tier, no TLS"
    assert seen["before"] == [part, "http1", "http2"]
    assert seen["ascending"] == [part, "http1", "http2"]
    assert seen["descending"] == [part, "http2", "http1"]


@pytest.mark.parametrize("width", [390, 1280])
def test_ladders_fit_beside_each_other_or_below(profile: Path, tmp_path: Path, width: int) -> None:
    result = tmp_path / "https.json"
    result.write_text(json.dumps(https_run(way2=0.6)), encoding="utf-8")
    seen = look(write_report([result], tmp_path / "out"), width, profile)
    assert (seen["problems"], seen["outside"], seen["stray"]) == ([], [], 0)
    assert seen["scroll_width"] <= seen["width"] == width
    assert min(seen["pictures"]) >= 320
    assert seen["text_px"] >= 9
