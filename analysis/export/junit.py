"""A comparison as JUnit XML: a case for each scenario and metric; what is worse has failed, what is unknown is
skipped."""

from xml.etree import ElementTree

from analysis.regression import Change, RunComparison


def junit(comparison: RunComparison) -> str:
    """The document, with a suite for each scenario."""
    root = ElementTree.Element("testsuites", name="wirebench")
    for scenario in dict.fromkeys(answer.scenario for answer in comparison.answers):
        answers = [answer for answer in comparison.answers if answer.scenario == scenario]
        counts = [sum(answer.change is change for answer in answers) for change in (Change.WORSE, Change.UNKNOWN)]
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=scenario,
            tests=str(len(answers)),
            failures=str(counts[0]),
            errors="0",
            skipped=str(counts[1]),
        )
        for answer in answers:
            case = ElementTree.SubElement(suite, "testcase", classname=scenario, name=answer.metric.name, time="0")
            words = f"{answer.metric.title}: {answer.effect_words or answer.question.why_not}"
            if answer.change is Change.WORSE:
                ElementTree.SubElement(
                    case, "failure", message=words, type="worse"
                ).text = f"{comparison.head} against {comparison.base}, margin {comparison.margin:.0%}, n {answer.n}"
            elif answer.change is Change.UNKNOWN:
                ElementTree.SubElement(case, "skipped", message=f"unknown: {words}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
