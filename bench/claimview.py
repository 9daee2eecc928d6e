"""What `wirebench claims` shows: which claims there are, verdicts as they come, and all of them in the end."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from analysis.simulation import MARGIN, Simulated
from analysis.verdict import MODES, Mode, Standing, Verdict
from analysis.verdict_words import crossing_words, finding_line
from bench import display, preflight
from bench.claim import Claim, read_claim
from bench.claiming import CLAIMS, ClaimRun, ClaimsFolder, Done, changed, record, run_claims
from bench.claims import CHAPTERS, claim_files
from bench.errors import UsageError
from bench.output import STDOUT, columns, say, show, write_json
from bench.placement import choose_placement
from bench.registry import choose
from bench.run import Silent, Watcher, choose_seed


def choose_claims(names: Sequence[str]) -> list[Claim]:
    """The claims that these names of chapters and claims mean; all, if there are none. Raises UsageError."""
    files = claim_files()
    for name in names:
        choose(name, [*CHAPTERS, *files], "CHAPTER|ID")
    wanted = [
        claim_id for claim_id, (chapter, _) in files.items() if not names or chapter in names or claim_id in names
    ]
    if not wanted:
        raise UsageError(f"there is no claim in {', '.join(names)} yet")
    return [read_claim(claim_id) for claim_id in wanted]


def choose_mode(quick: bool, thorough: bool) -> Mode:
    """Raises UsageError for both at once."""
    if quick and thorough:
        raise UsageError("--quick and --thorough: choose one of them")
    return MODES["quick" if quick else "thorough" if thorough else "normal"]


def list_json(claims: Sequence[Claim]) -> str:
    """The claims as JSON."""
    fields = ("id", "chapter", "sentence", "why", "source")
    return json.dumps([{field: getattr(claim, field) for field in fields} for claim in claims], indent=1)


def show_list(claims: Sequence[Claim]) -> str:
    """The claims by chapter, each with its sentence."""
    lines = []
    for chapter, title in CHAPTERS.items():
        rows = [(f"  {claim.id}", claim.sentence) for claim in claims if claim.chapter == chapter]
        if rows:
            lines += ["", title, columns(rows)]
    return "\n".join(lines[1:])


# Verdicts


def run(
    claims: Sequence[Claim],
    mode: Mode,
    seed: int | None,
    out: str | None,
    report: bool,
    junit: str | None,
    json_file: str | None,
    command: Sequence[str],
) -> int:
    """Run claims and show what comes out. Gives the exit status."""
    preflight.raise_open_files()
    placement = choose_placement(1)
    path = Path(out) if out is not None else CLAIMS / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = ClaimsFolder(path, mode, choose_seed(seed), placement, command, claims)
    waiting = {claim.id for claim in claims if not folder.is_done(claim)}
    if done := len(claims) - len(waiting):
        say(f"{done} of {len(claims)} claims have their verdict in {path} already")
    with ExitStack() as stack:

        def watcher(run: ClaimRun) -> Watcher:
            stack.close()
            claim, before = run.claim, run.done.rounds
            if claim.probe:
                return Silent()
            left = f"{len(waiting)} claims left" if waiting else f"undecided after {before} rounds"
            scenarios = list(claim.scenarios({}).values())
            title = f"{claim.id} ({left})"
            return stack.enter_context(display.watch(title, scenarios, run.rounds, rounds_before=before))

        def on_verdict(done: Done) -> None:
            waiting.discard(done.claim.id)
            stack.close()
            say(line_of(record(done)))

        try:
            run_claims(claims, mode, folder, placement, watcher, on_verdict)
        except KeyboardInterrupt:
            stack.close()
            say(
                f"{len(claims) - len(waiting)} of {len(claims)} claims have their verdict: go on with --out {path}, "
                f"or see them with: wirebench report {path}"
            )
            raise
    wanted = {claim.id for claim in claims}
    records = [one for one in folder.records if one["id"] in wanted]
    if json_file is not None:
        write_json(json_file, folder.text())
    if junit is not None:
        write_json(junit, junit_xml(records))
    last = path
    if report:
        from analysis.report.site import write_site

        last = write_site(path)
    if json_file != STDOUT:
        show(f"{summary(records)}\n\n{last}")
    return exit_code(records)


def exit_code(records: Sequence[dict[str, Any]]) -> int:
    """1 if a verdict that is known came out otherwise, 3 if nothing could be measured, else 0."""
    if changed(records):
        return 1
    return 0 if any(one["verdict"] != str(Verdict.UNDECIDED) for one in records) else 3


def line_of(one: dict[str, Any]) -> str:
    """A verdict in a line."""
    return f"{one['verdict']:<16} {one['id']}: {one['sentence']}" + (f" ({one['why']})" if one["why"] else "")


def summary(records: Sequence[dict[str, Any]]) -> str:
    """All verdicts by chapter, with what was measured for each rule."""
    lines: list[str] = []
    for chapter, title in CHAPTERS.items():
        found = [one for one in records if one["chapter"] == chapter]
        if found:
            lines += ["", title]
        for one in found:
            lines.append(f"  {line_of(one)}")
            lines += [f"      {finding_line(finding)}" for finding in one["findings"]]
            lines += [f"      {crossing_words(one, crossing)}" for crossing in one["crossings"]]
            if one in changed([one]):
                lines.append(f"      known is that it is {one['expected']}")
    counts = Counter(one["verdict"] for one in records)
    said = ", ".join(f"{counts[str(verdict)]} {verdict}" for verdict in Verdict if counts[str(verdict)])
    return "\n".join([*lines[1:], "", f"{len(records)} claims: {said}"])


def junit_xml(records: Sequence[dict[str, Any]]) -> str:
    """The verdicts as JUnit XML: a failure is a verdict that is known and came out otherwise; what is undecided or
    unsupported is skipped."""
    suites = ElementTree.Element("testsuites", name="wirebench claims")
    for chapter in CHAPTERS:
        found = [one for one in records if one["chapter"] == chapter]
        if not found:
            continue
        skipped = [one for one in found if one["verdict"] in (Verdict.UNDECIDED, Verdict.UNSUPPORTED)]
        counts = {"tests": len(found), "failures": len(changed(found)), "skipped": len(skipped)}
        suite = ElementTree.SubElement(suites, "testsuite", {"name": chapter, **{k: str(v) for k, v in counts.items()}})
        for one in found:
            case = ElementTree.SubElement(
                suite, "testcase", classname=chapter, name=one["id"], time=f"{one['seconds']:.1f}"
            )
            if one in changed([one]):
                message = f"{one['verdict']}, and known is that it is {one['expected']}"
                ElementTree.SubElement(case, "failure", message=message).text = "\n".join(
                    map(finding_line, one["findings"])
                )
            elif one in skipped:
                ElementTree.SubElement(case, "skipped", message=line_of(one))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


# How often verdicts are right


def simulated_json(found: Sequence[Simulated]) -> str:
    """Them as JSON."""
    return json.dumps(
        [
            {
                "difference": one.difference,
                "noise": one.noise,
                "rounds": one.rounds,
                "most_rounds": one.most_rounds,
                "claims": one.claims,
                **{str(standing): one.standings[standing] for standing in Standing},
            }
            for one in found
        ],
        indent=1,
    )


def show_simulated(found: Sequence[Simulated]) -> str:
    """Them as a table."""
    rows = [("true difference", "noise of a trial", *map(str, Standing))]
    rows += [
        (f"{one.difference:.0%}", f"{one.noise:.0%}", *(f"{one.share(standing):.1%}" for standing in Standing))
        for one in found
    ]
    title = (
        f"{found[0].claims} simulated claims each that one server is faster by {MARGIN:.0%} or more, "
        f"{found[0].rounds} rounds and up to {found[0].most_rounds} where undecided"
    )
    return f"{title}\n{columns(rows, right=range(5))}"
