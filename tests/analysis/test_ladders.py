"""The ladders: what each way should take, what is drawn of a conversation, and the page that shows them."""

import base64
import json
import re
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_ladders import RTT_NS, WAYS, https_run, ladder_of, step
from synthetic_run import Plan, build_run

from analysis.load_results import Ladder, Scenario, Step, load_run
from analysis.load_results import ladder_of as loaded
from analysis.plots import ladder as plots
from analysis.plots import style
from analysis.report import write_report
from analysis.ways import differs, expectation, way_name, way_names
from bench.errors import UsageError

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "https.json"
    path.write_text(json.dumps(https_run(way2=0.6)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scenario(path: Path) -> Scenario:
    return load_run(path).trials[0].scenario


@pytest.fixture(scope="module")
def report(path: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report([path], tmp_path_factory.mktemp("out")).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("protocol", "tls", "handshake", "fast_open", "rtts"),
    [
        ("http1", "off", "full", "off", 2),
        ("http1", "off", "full", "on", 1),
        ("http1", "1.2", "full", "off", 4),
        ("http1", "1.2", "resumed", "off", 3),
        ("http2", "1.3", "full", "off", 3),
        ("http1", "1.3", "resumed", "off", 3),
        ("http1", "1.3", "early-data", "off", 2),
        ("http1", "1.3", "full", "on", 2),
        ("http1", "1.3", "early-data", "on", 1),
        ("http3", "1.3", "full", "off", 2),
        ("http3", "1.3", "early-data", "off", 1),
        ("udp", "off", "full", "off", 1),
        ("websocket", "off", "full", "off", None),
        ("http1", "1.2 or later", "full", "off", None),
        ("http1", "1.2", "early-data", "off", None),
    ],
)
def test_round_trips_follow_from_the_specifications(
    scenario: Scenario, protocol: str, tls: str, handshake: str, fast_open: str, rtts: int | None
) -> None:
    way = replace(scenario, protocol=protocol, tls=tls, handshake=handshake, fast_open=fast_open)
    expected = expectation(way)
    assert (expected and expected.rtts) == rtts


def test_an_upgrade_costs_a_round_trip_where_a_request_has_a_body(scenario: Scenario) -> None:
    way = replace(scenario, protocol="http2-upgrade", tls="off", handshake="full", fast_open="off")
    words = []
    for operation in ("bytes", "work:cpu=1us", "echo"):
        expected = expectation(replace(way, operation=operation))
        assert expected is not None
        words.append(expected.words)
    assert words == [*["1 (TCP) + 1 (request)"] * 2, "1 (TCP) + 1 (Upgrade) + 1 (request)"]
    assert way_name(way) == "HTTP/2 by Upgrade, no TLS"


def test_what_an_expectation_is_made_of_is_said(scenario: Scenario) -> None:
    expected = expectation(replace(scenario, protocol="http1", tls="1.3", handshake="full", fast_open="on"))
    assert expected is not None
    assert expected.words == "0 (TCP) + 1 (TLS 1.3) + 1 (request)"
    assert [differs(expected, rtts) for rtts in (1.84, 1.86, 2.14, 2.16, None)] == [True, False, False, True, False]
    assert not differs(None, 5.0)


def test_ways_have_names_that_tell_them_apart(path: Path, scenario: Scenario) -> None:
    every = {trial.scenario for trial in load_run(path).trials}
    assert len({way_name(each) for each in every}) == len(WAYS)
    alike = [replace(scenario, workers=1), replace(scenario, workers=2, execution="reuseport")]
    assert len(set(way_names(alike).values())) == 2


def ladder(*steps: Step, rtt_ns: int = RTT_NS, first_byte_ns: int | None = None, left_out: int = 0) -> Ladder:
    rtts = None if first_byte_ns is None or not rtt_ns else first_byte_ns / rtt_ns
    return Ladder("tcp", rtt_ns, len(steps), 100, 0, first_byte_ns, rtts, steps, left_out)


def packet(up: bool, at_ms: float, label: str, lost: bool = False, again: bool = False) -> Step:
    sent_ns = int(at_ms * 1e6)
    return Step(up, sent_ns, None if lost else sent_ns + RTT_NS // 2, label, 60, again)


def test_packets_sent_together_are_one_arrow_and_bare_acknowledgements_none() -> None:
    drawn = plots.arrows_of(
        ladder(
            packet(True, 0, "SYN"),
            packet(False, 50, "SYN/ACK"),
            packet(True, 100, "ACK"),
            packet(True, 100.1, "ClientHello"),
            packet(False, 150, "ServerHello, ChangeCipherSpec, encrypted handshake ×2, Finished"),
            packet(False, 150.1, "… Finished"),
        )
    )
    assert [arrow.label for arrow in drawn.arrows] == [
        "SYN",
        "SYN/ACK",
        "ClientHello",
        "ServerHello, Finished (2\u00a0packets)",
    ]
    assert (drawn.acknowledgements, drawn.more) == (1, 0)


def test_what_was_lost_or_sent_again_is_an_arrow_of_its_own() -> None:
    drawn = plots.arrows_of(
        ladder(
            packet(True, 0, "data"),
            packet(True, 0.1, "data", lost=True),
            packet(True, 0.2, "ACK", lost=True),
            packet(True, 0.3, "data", again=True),
        )
    )
    assert [arrow.label for arrow in drawn.arrows] == ["data", "data, ACK (2\u00a0packets, lost)", "data (again)"]


def test_a_long_conversation_ends_in_how_many_more_there_are() -> None:
    steps = [packet(bool(number % 2), number * 20.0, f"packet {number}") for number in range(60)]
    drawn = plots.arrows_of(ladder(*steps, left_out=40))
    assert len(drawn.arrows) == plots.MAX_ARROWS
    assert drawn.more == 60 - plots.MAX_ARROWS + 40
    # What comes long after the answer is not drawn either.
    drawn = plots.arrows_of(
        ladder(packet(True, 0, "a"), packet(False, 50, "b"), packet(True, 9e3, "c"), first_byte_ns=RTT_NS)
    )
    assert ([arrow.label for arrow in drawn.arrows], drawn.more) == (["a", "b"], 1)


def svg_of(made: Ladder) -> ET.Element:
    return ET.fromstring(style.to_svg(plots.plot(made, "a", "A way", "Words.").figure, ground=True))


def ids(root: ET.Element, prefix: str) -> list[str]:
    return [
        each.get("id", "") for each in root.iter(f"{SVG}g") if re.fullmatch(rf"{prefix}(-\d+)?", each.get("id", ""))
    ]


def test_the_svg_has_an_arrow_for_each_and_marks_the_first_byte() -> None:
    root = svg_of(
        ladder(
            packet(True, 0, "SYN", lost=True),
            packet(True, 1000, "SYN", again=True),
            packet(False, 1050, "SYN/ACK"),
            packet(True, 1100, "<b>$x$ & 日本</b>"),
            packet(False, 1150, "data"),
            first_byte_ns=1_200_000_000,
        )
    )
    assert ids(root, "arrow") == [f"arrow-{number}" for number in range(5)]
    assert ids(root, "lost") == ["lost-0"]
    assert len(ids(root, "first-byte")) == 1
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert {"client", "server", "SYN (lost)", "SYN (again)", "SYN/ACK", "data", "first byte", "12.00 RTT"} <= set(texts)
    assert "<b>$x$ & 日本</b>" in texts
    assert {"0", "1 RTT", "100 ms"} <= set(texts)


@pytest.mark.parametrize(
    "made",
    [
        ladder(),
        ladder(packet(True, 0, "SYN", lost=True)),
        ladder(packet(True, 0, "a"), rtt_ns=0, first_byte_ns=50_000_000),
        ladder(Step(True, 0, 0, "a", 60, False), rtt_ns=0, first_byte_ns=0),
        ladder(
            packet(True, 0, "x" * 400), packet(False, 60_000, ", ".join(["word"] * 90)), first_byte_ns=60_000_000_000
        ),
    ],
    ids=["nothing", "all lost", "no delay", "no time", "long words and times"],
)
def test_odd_ladders_are_drawn_too(made: Ladder) -> None:
    plot = plots.plot(made, "a", "A way", "Words.")
    assert plot.figure.get_figheight() < 25  # inches of 72 pixels
    ET.fromstring(
        style.inline_svg(style.to_svg(plot.figure, ground=False), "a", plot.alt).replace(
            "<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1
        )
    )


def test_a_plot_says_in_words_what_it_shows() -> None:
    plot = plots.plot(ladder(packet(True, 0, "SYN"), packet(False, 50, "SYN/ACK")), "a", "A way", "Words.")
    assert plot.alt == "The first packets of A way, in order: client: SYN; server: SYN/ACK."


def test_labels_do_not_cover_one_another() -> None:
    """The places of texts on arrows, as the drawing has them, do not meet."""
    for way in WAYS:
        figure = plots.plot(loaded(ladder_of(way)), "a", "A way", "Words.").figure
        texts = [text for text in figure.axes[0].texts if text.get_rotation() and text.get_text()]
        places = [(*text.get_position(), len(text.get_text()) * 5.0, text.get_rotation()) for text in texts]
        for number, (x, y, width, _) in enumerate(places):
            for x2, y2, width2, _ in places[:number]:
                if abs(y - y2) < 9:
                    assert abs(x - x2) > (width + width2) / 2 - 30, way


def test_the_report_shows_every_way_with_expected_and_measured(report: str) -> None:
    assert "HTTP/1.1, TCP Fast Open, TLS 1.3 0-RTT" in report
    assert report.count('<figure id="run-1-ladder-') == len(WAYS)
    assert "8 of 9 ways with an expectation took as long, within 0.15 RTT. Not so: HTTP/1.1, TLS 1.3." in report
    assert "First byte after 4.02 RTT, expected 4 = 1 (TCP) + 2 (TLS 1.2) + 1 (request)." in report
    assert '<li><a href="#run-1-ladders">Ladders</a></li>' in report
    assert re.findall(r"#[0-9a-fA-F]{6}\b", report.partition('class="ladders"')[2].partition("</section>")[0]) == []


def test_a_way_that_took_longer_says_so_beside_its_ladder(report: str) -> None:
    figure = report.partition('<figure id="run-1-ladder-3">')[2].partition("</figure>")[0]
    assert "0.62 RTT more than the 3 expected. The ladder shows where." in figure
    assert report.count('<p class="warning" role="note">') - report.count("unmatched-stacks</code>). Sentences") == 1


def test_a_run_without_captures_has_no_ladders(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(build_run(plans=[Plan("g", "http1")], rounds=3)), encoding="utf-8")
    assert "Ladders" not in write_report([path], tmp_path / "out").read_text(encoding="utf-8")


def test_pictures_of_ladders_on_request(path: Path, tmp_path: Path) -> None:
    write_report([path], tmp_path, ["svg"])
    assert len(list((tmp_path / "images").glob("run-1-ladder-*.svg"))) == len(WAYS)


def test_a_ladder_without_an_answer_is_shown_and_not_measured(tmp_path: Path) -> None:
    data = https_run(rounds=1)
    for trial in data["trials"]:
        trial["wire"]["captured"]["first_byte_rtts"] = None
        trial["wire"]["ladder"] |= {
            "first_byte_ns": None,
            "first_byte_rtts": None,
            "steps": [step(True, 0, "SYN", lost=True)],
        }
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    page = write_report([path], tmp_path / "out").read_text(encoding="utf-8")
    assert "No first byte was seen, expected 3 = " in page
    assert "not measured" in page


def test_the_packets_of_a_ladder_are_there_to_be_had(tmp_path: Path) -> None:
    data = https_run(rounds=1)
    kept = zlib.compress(b"packets")
    plain, *others = sorted(data["trials"], key=lambda trial: trial["scenario"]["tls"] != "off")
    plain["wire"]["ladder"]["pcap"] = base64.b64encode(kept).decode()
    others[0]["wire"]["ladder"]["pcap"] = None
    path = tmp_path / "https.json"
    path.write_text(json.dumps(data))
    page = write_report([path], tmp_path / "out").read_text(encoding="utf-8")
    links = re.findall(r'<a download="([^"]+)" href="data:application/vnd.tcpdump.pcap;base64,([^"]+)">', page)
    assert [(name, base64.b64decode(content)) for name, content in links] == [("http-1.1-no-tls.pcap", b"packets")]

    plain["wire"]["ladder"]["pcap"] = base64.b64encode(kept[:-3]).decode()
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=f"{path.name}.*the capture of its ladder is damaged"):
        write_report([path], tmp_path / "out")
