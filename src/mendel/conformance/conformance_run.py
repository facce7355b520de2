"""Run the checks against one model of a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Final, TypeVar

import httpx

from mendel.conformance.check_table import GRPC_CHECKS, REST_CHECKS, Check
from mendel.conformance.connections import Subject, grpc_server, rest_server
from mendel.conformance.findings import Finding, Report, Requirement, Transport, Verdict
from mendel.conformance.outcomes import CheckEnded, NotOffered, Undecided, Violation, shown
from mendel.conformance.sample_inputs import given_inputs
from mendel.errors import InvalidValue

S = TypeVar("S")
OnCheck = Callable[[str], None]
_VERDICTS: Final[dict[type[CheckEnded], Verdict]] = {
    Violation: Verdict.FAILED,
    Undecided: Verdict.UNDECIDED,
    NotOffered: Verdict.SKIPPED,
}
_TIMEOUT: Final = timedelta(seconds=10)


def check(
    url: str | None = None,
    *,
    grpc: str | None = None,
    model: str | None = None,
    version: str | None = None,
    api_key: str | None = None,
    request: str | None = None,
    timeout: timedelta = _TIMEOUT,
    required_only: bool = False,
    allow_changes: bool = False,
    on_check: OnCheck = lambda _: None,
) -> Report:
    """
    Check a server against the Open Inference Protocol v2.

    Args:
        url: The address of the REST server, for example ``http://127.0.0.1:8008``; None checks only gRPC.
        grpc: The address of the gRPC server, ``HOST:PORT``; None checks only REST.
        model: The name of the model; None takes the first one that the server lists, which not every server does.
        version: The version of the model; None leaves the choice to the server.
        api_key: The key that is sent as a bearer token.
        request: An inference request in JSON that the model accepts; None makes inputs from the metadata.
        timeout: The time in which each request must be answered.
        required_only: Whether to leave out extensions and information.
        allow_changes: Whether the model may be unloaded and loaded.
        on_check: Called with the name of each check before the check is made.

    Raises:
        InvalidValue: No address is given, an address is not valid, or *request* is not an inference request.
        Unavailable: The server cannot be reached.
        ModelNotFound: The server has no such model, or does not list its models.
        Unauthenticated: The server refuses the API key.
    """
    if url is None and grpc is None:
        raise InvalidValue("No address is given.", remedy="Give the address of the REST or of the gRPC server.")
    subject = Subject(
        model=model,
        version=version,
        api_key=api_key,
        given=None if request is None else given_inputs(request),
        seconds=timeout.total_seconds(),
        allow_changes=allow_changes,
    )
    findings: list[Finding] = []
    with ExitStack() as stack:
        rest = None if url is None else stack.enter_context(rest_server(subject, url))
        called = None if grpc is None else stack.enter_context(grpc_server(subject, grpc, rest))
        if rest is not None:
            findings += _made(_chosen(REST_CHECKS, required_only), rest, Transport.REST, on_check)
            model = rest.model
        if called is not None:
            findings += _made(_chosen(GRPC_CHECKS, required_only), called, Transport.GRPC, on_check)
    return Report(url=url, grpc=grpc, model=str(model), findings=tuple(findings))


def _chosen(checks: Sequence[Check[S]], required_only: bool) -> list[Check[S]]:
    return [one for one in checks if one.requirement is Requirement.REQUIRED or not required_only]


def _made(checks: Sequence[Check[S]], server: S, transport: Transport, on_check: OnCheck) -> Iterator[Finding]:
    for one in checks:
        on_check(one.name)
        begun = time.monotonic()
        verdict, detail = _outcome(one, server)
        yield Finding(
            check=one.name,
            transport=transport,
            requirement=one.requirement,
            claim=one.claim,
            section=one.section,
            verdict=verdict,
            detail=detail,
            seconds=time.monotonic() - begun,
        )


def _outcome(one: Check[S], server: S) -> tuple[Verdict, str]:
    try:
        return Verdict.PASSED, one.run(server)
    except CheckEnded as ended:
        return _VERDICTS[type(ended)], str(ended)
    except httpx.HTTPError as error:
        return Verdict.FAILED, f"The server gave no answer: {shown(str(error) or type(error).__name__)}"
