"""The report in a real browser: wide, as narrow as a phone, light and dark."""

import html
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_ladders import https_run

from analysis.report import write_report

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]

# A window cannot be as narrow as a phone, a frame can.
FRAME = """<!doctype html>
<iframe id="frame" style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe>
<script>
document.getElementById("frame").addEventListener("load", (event) => {{
  const seen = event.target.contentDocument.getElementById("seen");
  document.body.append(seen);
  event.target.remove();
}});
</script>"""

# Runs before anything else in the page, and at its end leaves what it saw where --dump-dom shows it.
WATCH = """<script>
const problems = [];
addEventListener("error", (event) => problems.push("error: " + (event.message || event.target.outerHTML)), true);
addEventListener("securitypolicyviolation", (event) => problems.push("blocked: " + event.violatedDirective), true);
addEventListener("load", () => {
  const root = document.documentElement;
  const scrolls = (element) => element.closest(".scroll") !== null;
  const outside = [...document.querySelectorAll("body *")].filter(
    (element) => !scrolls(element) && !element.closest(".skip") && !element.closest("svg")
      && element.getBoundingClientRect().right > root.clientWidth + 1,
  );
  const texts = [...document.querySelectorAll("svg.plot text")];
  const table = document.querySelector("table.sortable");
  const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent.trim());
  const before = order();
  const button = table.tHead.rows[0].cells[1].querySelector("button");
  button.click();
  const ascending = order();
  button.click();
  const seen = {
    problems,
    width: root.clientWidth,
    scroll_width: root.scrollWidth,
    outside: outside.slice(0, 5).map((element) => element.outerHTML.slice(0, 120)),
    fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
    pictures: [...document.querySelectorAll("svg.plot")].map((svg) => svg.getBoundingClientRect().width),
    text_px: Math.min(...texts.map((text) => text.getBoundingClientRect().height)),
    stray: texts.filter((text) => text.getBoundingClientRect().right > root.clientWidth + 1).length,
    unpainted: [...document.querySelectorAll("svg.plot path")].filter(
      (path) => /var\\(/.test(path.getAttribute("style") || "") && /^$/.test(getComputedStyle(path).stroke)).length,
    background: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
    before, ascending, descending: order(),
  };
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
});
</script>"""


@pytest.fixture
def profile() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def look(browser: str, page: Path, profile: Path, *flags: str) -> dict[str, Any]:
    command = [browser, *FLAGS, f"--user-data-dir={profile}", "--window-size=1400,1000", *flags]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen


@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it_without_complaint(page: Path, profile: Path, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed (Debian package: chromium)")
    watched = page.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH, 1)
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(watched)), encoding="utf-8")
    dark = width == 360
    seen = look(browser, frame, profile, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
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
def test_parts_and_properties_fit_and_sort_by_themselves(
    mixed_page: Path, profile: Path, tmp_path: Path, width: int
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed (Debian package: chromium)")
    watched = mixed_page.read_text(encoding="utf-8").replace("<head>", "<head>" + WATCH, 1)
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(watched)), encoding="utf-8")
    seen = look(browser, frame, profile)
    assert (seen["problems"], seen["outside"], seen["stray"]) == ([], [], 0)
    assert seen["scroll_width"] <= seen["width"] == width
    part = "lean tier, no TLS"
    assert seen["before"] == [part, "http1", "http2"]
    assert seen["ascending"] == [part, "http1", "http2"]
    assert seen["descending"] == [part, "http2", "http1"]


@pytest.mark.parametrize("width", [390, 1280])
def test_ladders_fit_beside_each_other_or_below(profile: Path, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed (Debian package: chromium)")
    result = tmp_path / "https.json"
    result.write_text(json.dumps(https_run(way2=0.6)), encoding="utf-8")
    page = write_report([result], tmp_path / "out").read_text(encoding="utf-8")
    frame = tmp_path / "frame.html"
    watched = page.replace("<head>", "<head>" + WATCH, 1)
    frame.write_text(FRAME.format(width=width, page=html.escape(watched)), encoding="utf-8")
    seen = look(browser, frame, profile)
    assert (seen["problems"], seen["outside"], seen["stray"]) == ([], [], 0)
    assert seen["scroll_width"] <= seen["width"] == width
    assert min(seen["pictures"]) >= 320
    assert seen["text_px"] >= 9
