"""A page in a real browser: what it shows, and whether it complains."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_FLAGS = [
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
_FRAME = """<!doctype html>
<meta charset="utf-8">
<iframe id="frame" style="width: {width}px; height: 900px; border: 0" srcdoc="{page}"></iframe>
<script>
document.getElementById("frame").addEventListener("load", (event) => {{
  const seen = event.target.contentDocument.getElementById("seen");
  document.body.append(seen);
  event.target.remove();
}});
</script>"""

# Runs before anything else in the page, and at its end leaves what it saw where --dump-dom shows it.
_WATCH = """<script>
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
    ...MORE,
  };
  const pre = document.createElement("pre");
  pre.id = "seen";
  pre.textContent = JSON.stringify(seen);
  document.body.append(pre);
});
</script>"""


def look(page: Path, width: int, profile: Path, dark: bool = False, more: str = "({})") -> dict[str, Any]:
    """What a page shows in a frame of a width. `more` is a JavaScript expression, an object of what else is seen once
    the page is there. Skips the test where there is no browser."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed (Debian package: chromium)")
    watched = page.read_text(encoding="utf-8").replace("<head>", "<head>" + _WATCH.replace("MORE", more), 1)
    frame = profile / "frame.html"
    frame.write_text(_FRAME.format(width=width, page=html.escape(watched)), encoding="utf-8")
    command = [browser, *_FLAGS, f"--user-data-dir={profile}", "--window-size=1400,1000"]
    if dark:
        command.append("--blink-settings=preferredColorScheme=0")
    done = subprocess.run(
        [*command, "--dump-dom", frame.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None
    seen: dict[str, Any] = json.loads(html.unescape(found[1]))
    return seen
