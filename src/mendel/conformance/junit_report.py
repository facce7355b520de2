"""Write a report as JUnit XML, which CI systems show as test results."""

from __future__ import annotations

from itertools import groupby
from xml.etree import ElementTree as ET

from mendel.conformance.check_table import SPECIFICATION
from mendel.conformance.findings import Finding, Report, Verdict


def junit_xml(report: Report) -> str:
    """
    Give *report* as JUnit XML: one suite for each protocol and requirement.

    Only required points that fail are failures, as for the exit code of the command; all that is undecided, skipped, or
    not required and failed is a skipped test with the reason.
    """
    root = ET.Element("testsuites", name="Open Inference Protocol v2")
    ordered = sorted(report.findings, key=_suite)
    for name, findings in groupby(ordered, key=_suite):
        _add_suite(root, name, list(findings), report)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(finding: Finding) -> str:
    return f"{finding.transport} {finding.requirement}"


def _add_suite(root: ET.Element, name: str, findings: list[Finding], report: Report) -> None:
    failures = sum(finding.violates for finding in findings)
    passed = sum(finding.verdict is Verdict.PASSED for finding in findings)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=name,
        hostname=str(report.url or report.grpc),
        tests=str(len(findings)),
        failures=str(failures),
        errors="0",
        skipped=str(len(findings) - failures - passed),
        time=f"{sum(finding.seconds for finding in findings):.3f}",
    )
    for finding in findings:
        case = ET.SubElement(
            suite, "testcase", name=finding.check, classname=name.replace(" ", "."), time=f"{finding.seconds:.3f}"
        )
        _add_outcome(case, finding)


def _add_outcome(case: ET.Element, finding: Finding) -> None:
    where = f"{finding.claim}\n{SPECIFICATION}: {finding.section}"
    if finding.verdict is Verdict.PASSED:
        ET.SubElement(case, "system-out").text = f"{where}\n{finding.detail}"
    elif finding.violates:
        ET.SubElement(case, "failure", message=finding.detail, type=str(finding.requirement)).text = where
    else:
        ET.SubElement(case, "skipped", message=f"{finding.verdict}: {finding.detail}").text = where
