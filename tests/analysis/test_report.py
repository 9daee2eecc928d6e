"""The report: complete, safe to open anywhere, and honest about what can't be written."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_run import Plan, build_run

from analysis.report import write_report
from bench.errors import OutputError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def small_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "small.json"
    path.write_text(json.dumps(build_run(seed=3, plans=[Plan("g", "http1"), Plan("g", "tcp")])), encoding="utf-8")
    return path


class Outline(HTMLParser):
    """What a page is made of: its words, headings, ids, links and whatever it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.headings: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [value for value in (given.get("id"),) if value]
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif tag != "use":
            self.fetched += [value for key in ("src", "href", "data", "srcset", "action") if (value := given.get(key))]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def outline(page: Path) -> Outline:
    return Outline(page.read_text(encoding="utf-8"))


def test_nothing_is_fetched_from_anywhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert outline(page).fetched == ["data:,"]  # the icon: none
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert "default-src 'none'" in text


def test_every_section_is_there_in_order(page: Path) -> None:
    text = outline(page).text
    places = [
        text.index(words)
        for words in (
            "In short",
            "tcp answered the most requests",
            "Throughput",
            "Latency against offered rate",
            "Reasons not to trust a trial",
            "Requests that were not answered rightly",
            "Combinations that make no sense",
            "As read back from the system",
            "wirebench run quick --seed 1",
            "The trial is the unit of replication",
            "figures.csv",
        )
    ]
    assert places == sorted(places)


def test_it_says_what_went_wrong(page: Path) -> None:
    text = outline(page).text
    assert "the server did not start within 10 s" in text
    assert "worker 1 killed by signal 9, restarted" in text
    assert "udp has no connections, so there is none to give a thread to" in text
    assert "45 timeout" in text  # 7 + 8 + 9 + 10 + 11, over the rounds
    assert "a load process used 91 % of a core" in text
    assert "No verdict on udp" in text


def test_headings_ids_and_links_hold_together(page: Path) -> None:
    made = outline(page)
    assert made.headings[0] == "h1"
    assert made.headings.count("h1") == 1
    assert all(int(b[1]) - int(a[1]) <= 1 for a, b in zip(made.headings, made.headings[1:], strict=False))
    assert len(made.ids) == len(set(made.ids))
    assert {link[1:] for link in made.links if link.startswith("#")} <= set(made.ids)
    assert made.tags.count("figure") == made.tags.count("figcaption") >= 20


def test_downloads_are_the_files_beside_the_page(page: Path) -> None:
    links = [link for link in outline(page).links if link.startswith("data:text/csv;base64,")]
    inside = [base64.b64decode(link.partition(",")[2]) for link in links]
    assert inside == [(page.parent / name).read_bytes() for name in ("figures.csv", "summary.csv")]
    assert sorted(path.name for path in page.parent.iterdir()) == ["figures.csv", "report.html", "summary.csv"]


def test_the_same_file_gives_the_same_page(small_path: Path, tmp_path: Path) -> None:
    first, second = (write_report([small_path], tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_whatever_a_file_says_is_text_and_never_markup(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>\"'&</style></svg><img src=x onerror=alert(1)>"
    data = build_run(plans=[Plan("g", "http1"), Plan("g", "tcp", troubles=frozenset({"saturated"}))], rounds=3)
    data |= {"suite": bad, "description": bad, "command": ["wirebench", bad]}
    data["environment"] = {bad: {bad: bad}, "loose": bad}
    data["unsupported"][0]["why"] = bad
    for trial in data["trials"]:
        trial["scenario"] |= {"group": bad, "protocol": bad + trial["scenario"]["protocol"], "name": bad}
        for doubt in trial["doubts"]:
            doubt["detail"] = bad
        trial["counts"]["errors"] = {bad: 1}
    data["trials"][0]["error"] = bad
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    made = outline(write_report([path], tmp_path / "out"))
    assert made.tags.count("script") == made.tags.count("style") == 1
    assert "img" not in made.tags
    assert "<script>alert(1)</script>" in made.text


def test_several_runs_are_chapters_and_not_compared(small_path: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.json"
    second.write_text(
        json.dumps(build_run(seed=5, plans=[Plan("g", "http1")], rounds=2, name="other")), encoding="utf-8"
    )
    made = outline(write_report([small_path, second], tmp_path / "out"))
    assert made.headings.count("h1") == 2
    assert len(made.ids) == len(set(made.ids))
    assert "run 2 of 2" in made.text
    assert "They were not interleaved" in made.text
    assert "2 rounds give no intervals" in made.text


@pytest.mark.parametrize(
    ("status", "says"), [("interrupted", "was interrupted after 2 trials"), ("running", "had not ended")]
)
def test_a_run_that_did_not_end_says_so(tmp_path: Path, status: str, says: str) -> None:
    data = build_run(plans=[Plan("g", "http1")], rounds=2) | {"status": status, "finished": None}
    path = tmp_path / "part.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    assert says in outline(write_report([path], tmp_path / "out")).text


def test_a_run_without_any_trial_is_a_page_too(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    path.write_text(json.dumps(build_run(plans=[]) | {"status": "running", "finished": None}), encoding="utf-8")
    assert "0 scenarios in 5 rounds: 0 trials" in outline(write_report([path], tmp_path / "out")).text


def test_pictures_on_request(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(build_run(plans=[Plan("g", "http1")], rounds=3)), encoding="utf-8")
    write_report([path], tmp_path / "out", ["png", "svg"])
    names = {picture.name for picture in (tmp_path / "out" / "images").iterdir()}
    assert {"run-1-group-1-throughput.png", "run-1-group-1-throughput.svg"} <= names
    svg = (tmp_path / "out" / "images" / "run-1-group-1-throughput.svg").read_text(encoding="utf-8")
    assert svg.startswith("<?xml")
    assert "var(--" not in svg


def test_a_bad_result_file_is_a_usage_error_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        write_report([tmp_path / "missing.json"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_histogram_names_its_trial(tmp_path: Path) -> None:
    data = build_run(plans=[Plan("g", "http1")], rounds=3)
    data["trials"][1]["latency_ns"]["hdr"] = "AAAA"
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(UsageError, match=r"run\.json: \$\.trials\[1\]: the histogram is damaged"):
        write_report([path], tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_an_output_error(small_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_report([small_path], tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write"):
        write_report([small_path], Path("/proc/wirebench-report"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_an_output_error(small_path: Path, tmp_path: Path) -> None:
    images = tmp_path / "out" / "images"
    images.mkdir(parents=True)
    (images / "run-1-group-1-throughput.png").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"throughput\.png: No space left on device"):
        write_report([small_path], tmp_path / "out", ["png"])


def test_reading_and_tables_do_not_import_matplotlib() -> None:
    code = "import sys, analysis.report, analysis.tables, analysis.compare; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_each_request_of_a_mix_and_its_thresholds(tmp_path: Path) -> None:
    record = build_run(seed=3, rounds=2, plans=[Plan("g", "http1")])
    for trial, held in zip(record["trials"], (True, False), strict=True):
        use = {"completed": 1000, "errors": {"status": 2}, "complaint": "a <b>", "latency_ns": trial["latency_ns"]}
        trial["requests"] = {"get": use, "never": {"completed": 0, "errors": {}, "complaint": None, "latency_ns": None}}
        trial["thresholds"] = [
            {"threshold": "p99 of get < 2ms", "unit": "ns", "value": 1e6 if held else 3e6, "held": held},
            {"threshold": "errors < 1%", "unit": "share", "value": 0.002, "held": True},
            {"threshold": "p99.9 < 1s", "unit": "ns", "value": None, "held": None},
        ]
    path = tmp_path / "run.json"
    path.write_text(json.dumps(record))
    text = outline(write_report([path], tmp_path / "page")).text
    assert re.search(r"get 2,000 .* 4 status: a <b> never 0 – – – none", text)
    assert "p99 of get < 2ms 2 ms ✗ held in 1 of 2 rounds" in text
    assert "errors < 1% 0.2 % ✓ held in 2 of 2 rounds p99.9 < 1s not measured ? held in 0 of 2 rounds" in text
