"""The command that checks servers against the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.output import Grid, Result, progress
from mendel.app.cli.parameters import argument, option
from mendel.errors import Denied, ModelNotFound, Unavailable

if TYPE_CHECKING:
    from mendel.conformance import Finding, Report

_TITLES = {
    "required": "Required by the specification",
    "extension": "Extensions",
    "information": "Left open by the specification",
}


class NotChecked(click.ClickException):
    """The server could not be checked at all."""

    exit_code = 2


def check_server(
    url: Annotated[str | None, argument("[URL]", "The address of the REST server, http://HOST:PORT.")] = None,
    *,
    grpc: Annotated[str | None, option(metavar="HOST:PORT", help="Check the gRPC server at this address too.")] = None,
    model: Annotated[
        str | None, option(metavar="NAME", help="The model to ask.", show_default="the first one that is listed")
    ] = None,
    version: Annotated[str | None, option(metavar="V", help="The version of the model to ask.")] = None,
    api_key: Annotated[str | None, option(metavar="KEY", help="The API key.", envvar="MENDEL_KEY")] = None,
    request: Annotated[
        Path | None,
        option(metavar="FILE", existing=True, help="An inference request in JSON that the model accepts."),
    ] = None,
    timeout: Annotated[float, option(metavar="S", bounds=(0.1, 600), help="Wait so many seconds for an answer.")] = 10,
    only: Annotated[str, option(choices=("required", "all"), help="Check the required points alone, or all.")] = "all",
    allow_changes: Annotated[bool, option("--allow-changes", help="Also unload and load the model.")] = False,
    junit: Annotated[Path | None, option(metavar="FILE", help="Write the findings to FILE as JUnit XML.")] = None,
) -> Result:
    """
    Check a server against the Open Inference Protocol v2.

    The inputs are made from the datatypes and shapes that the server announces. Points that the model makes
    undecidable do not fail; --request gives a request that the model accepts. Exits with 1 if a required point fails,
    and with 2 if the server cannot be reached or has no such model.
    """
    from mendel.conformance import check, junit_xml  # noqa: PLC0415 - help must be quick

    if url is None and grpc is None:
        raise click.UsageError("Give the address of the REST server, or --grpc HOST:PORT.")
    try:
        with progress("Checking") as shown:
            report = check(
                url,
                grpc=grpc,
                model=model,
                version=version,
                api_key=api_key,
                request=None if request is None else request.read_text(encoding="utf-8"),
                timeout=timedelta(seconds=timeout),
                required_only=only == "required",
                allow_changes=allow_changes,
                on_check=lambda name: shown.phase("Checking", f" {name}"),
            )
    except (Unavailable, ModelNotFound, Denied) as error:
        raise NotChecked(str(error)) from error
    if junit is not None:
        junit.write_text(junit_xml(report), encoding="utf-8")
    return Result(report, _lines(report), exit_code=0 if report.conforms else 1)


def _lines(report: Report) -> Iterator[str | Grid]:
    from mendel.conformance import SPECIFICATION  # noqa: PLC0415 - help must be quick

    for requirement, title in _TITLES.items():
        rows = [_row(finding) for finding in report.findings if finding.requirement == requirement]
        if rows:
            yield Grid(title=title, columns=("Check", "Verdict", "Section", "Seen"), rows=rows, empty="")
            yield ""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items())
    yield f"Sections of inference_rest.md and inference_grpc.md in {SPECIFICATION}"
    yield f"Model {report.model!r}: {counts}. {_conclusion(report)}"


def _conclusion(report: Report) -> str:
    failed = sum(finding.violates for finding in report.findings)
    return f"Required points that fail: {failed}." if failed else "No required point fails."


def _row(finding: Finding) -> tuple[str, ...]:
    return (finding.check, finding.verdict, finding.section, finding.detail)
