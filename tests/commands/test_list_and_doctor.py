"""`wirebench list` and `wirebench doctor`."""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import catalogue, cli, doctor, registry
from bench.doctor import kernel, lab, machine, software
from bench.doctor.check import Check
from bench.errors import UnsupportedError
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.peers.programs import Program
from bench.protocols import PROTOCOLS
from bench.scenario import parse_operation
from bench.schedule import parse_load
from tests.commands.conftest import Command


def test_list_shows_everything_with_a_line_about_it(wirebench: Command) -> None:
    shown = wirebench("list").stdout
    found = json.loads(wirebench("list", "--json", "-").stdout)
    assert list(found) == [*catalogue.KINDS, "unsupported"]
    assert set(found["protocols"]) == set(PROTOCOLS)
    assert set(found["executions"]) == set(registry.EXECUTIONS)
    for kind in catalogue.KINDS:
        for name, line in found[kind].items():
            assert line
            assert f"{name}  " in shown
            assert line in shown


def test_list_of_one_kind(wirebench: Command) -> None:
    done = wirebench("list", "suites")
    assert done.stdout.startswith("suites\n")
    assert "quick" in done.stdout
    assert "protocols\n" not in done.stdout


def test_what_does_not_go_together_is_shown_with_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "executions"]) == 0
    shown = capsys.readouterr().out
    row = next(line for line in shown.splitlines() if line.startswith("  thread-per-connection") and "yes" in line)
    why = registry.unsupported("udp", "thread-per-connection")
    assert why is not None
    cells = re.split(r"\s{2,}", row.strip())
    mark = cells[1 + list(PROTOCOLS).index("udp")].removeprefix("no ")
    assert f"  {mark} {why}" in shown


def test_what_is_declared_of_servers_is_what_they_say_themselves() -> None:
    """`wirebench list` imports no server, so the table must not be wrong."""
    for name, protocol in PROTOCOLS.items():
        served_by = registry.load(protocol.server)
        assert (name, protocol.transport_kind) == (name, served_by.transport_kind)
        assert (name, protocol.lives) == (name, served_by.lives)


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys; from bench import catalogue; catalogue.catalogue(); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"'aioquic'", "'aiortc'", "'grpc'", "'hypercorn'", "'matplotlib'"} & set(
        re.findall(r"'\w+'", done.stdout)
    )


def test_list_protocols_shows_their_properties_and_counted_bytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = {name: PROTOCOLS[name] for name in ("http1", "tcp", "webrtc")}
    monkeypatch.setattr(catalogue, "PROTOCOLS", few)
    assert cli.main(["list", "protocols", "--json", str(tmp_path / "p.json")]) == 0
    shown, said = capsys.readouterr()
    assert "counting" in said
    found = json.loads((tmp_path / "p.json").read_text())["properties"]
    assert list(found) == list(few)
    for name, protocol in few.items():
        assert found[name]["declared"] == asdict(protocol.properties)
        for answer in asdict(protocol.properties).values():
            assert answer in shown
    assert [counted["tls"] for counted in found["tcp"]["counted"]] == ["off", "1.3"]
    assert found["tcp"]["counted"][0]["first"] == {"sent_bytes": 84, "received_bytes": 84}  # a header of 20 bytes
    assert "↑ 84 ↓ 84, no TLS" in shown
    (webrtc,) = found["webrtc"]["counted"]
    assert (webrtc["first"], webrtc["later"]) == (None, None)
    assert f"not counted, DTLS 1.2: {webrtc['why_not']}" in shown


def test_what_is_listed_can_be_used() -> None:
    for text in catalogue.LOADS:
        assert str(parse_load(text, "load")) == text
    for text in catalogue.LINKS:
        # A key that says what another does needs that other one.
        needed = {"jitter=2ms": "rtt=40ms,", "reorder=1%": "rtt=40ms,"}.get(text, "")
        assert text == "loopback" or str(parse_link(needed + text, "link"))
    for name in catalogue.OPERATIONS:
        assert parse_operation(name, "operation")


def test_doctor(wirebench: Command) -> None:
    done = wirebench("doctor", "--json", "checks.json")
    assert done.returncode == 0, done.stderr
    checks = json.loads((wirebench.folder / "checks.json").read_text())
    names = {check["name"] for check in checks}
    expected = ["Python", "uvloop", "CPUs", "open files", "timer wake-ups", "reading the clock", "load average", "curl"]
    assert names.issuperset(expected)
    for check in checks:
        assert check["state"] in ("ok", "warn")
        assert check["state"] == "ok" or check["fix"]
        assert check["found"] in done.stdout


def test_what_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "find", lambda self: None)
    monkeypatch.setattr(software, "_MEASURING", ("uvloop", "no_such_module"))
    fixes = {check.name: (check.state, check.fix) for check in (*software.software(), *software.peers())}
    assert fixes["h2load"] == ("warn", "apt-get install nghttp2-client")
    assert fixes["nginx"] == ("warn", "apt-get install nginx-light")
    assert fixes["uvloop"][0] == "ok"
    state, fix = fixes["no_such_module"]
    assert (state, fix.endswith("-m pip install no_such_module")) == ("fail", True)


def test_what_makes_measuring_impossible_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(software, "_MEASURING", ("no_such_module",))
    assert cli.main(["doctor"]) == 3
    assert "1 of these must be fixed" in capsys.readouterr().out


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_poor_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting that can be bad is, and each gets a fix."""
    settings = {
        "/sys/fs/cgroup/cpu.max": "50000 100000",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
        "/sys/devices/system/cpu/intel_pstate/no_turbo": "0",
        "/sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet",
        "/proc/sys/net/core/somaxconn": "128",
        "/proc/sys/net/ipv4/ip_local_port_range": "60000 60999",
    }
    monkeypatch.setattr(machine, "read", settings.get)
    monkeypatch.setattr(machine, "_usable", lambda: 1)
    monkeypatch.setattr(machine, "raise_open_files", lambda: 1024)
    monkeypatch.setattr(machine.os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    found = by_name(list(machine.machine()))
    poor = {"CPUs", "CPU quota", "governor", "turbo", "clock source", "open files", "somaxconn", "local ports"}
    poor.add("load average")
    assert {name for name, check in found.items() if check.state == "warn"} == poor
    assert all(found[name].fix for name in poor)
    assert "0.5 CPUs" in found["CPU quota"].found


def test_a_kernel_that_lets_nothing_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "read", lambda path: None)
    found = by_name(list(kernel.kernel()))
    for name in ("schedstat", "smaps_rollup"):
        assert (found[name].state, bool(found[name].fix)) == ("warn", True)


def test_a_machine_without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Lab) -> Lab:
        raise UnsupportedError("no links here: the kernel allows us none; as root: sysctl -w something=1")

    monkeypatch.setattr(Lab, "__enter__", refuse)
    (check,) = lab.lab()
    assert (check.name, check.state, check.fix) == ("links", "warn", "as root: sysctl -w something=1")


def test_the_sum_of_checks_says_what_it_means() -> None:
    good, bad = Check("a", "x", "ok", "fine"), Check("a", "y", "warn", "poor", "mend")
    worst = Check("b", "z", "fail", "no")
    assert doctor.show([good]).endswith("This machine can measure.")
    assert "poor → mend" in doctor.show([good, bad])
    assert doctor.exit_code([good, bad]) == 0
    assert doctor.exit_code([good, worst]) == 3
