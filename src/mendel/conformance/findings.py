"""What a run of the conformance checks found, as frozen values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """The protocol over which a check asks the server."""

    REST = "REST"
    GRPC = "gRPC"


class Requirement(StrEnum):
    """
    What the specification says of the point that a check tests.

    ``required``: every server must do this. ``extension``: servers may announce this. ``information``: the
    specification leaves this open, but clients often rely on it.
    """

    REQUIRED = "required"
    EXTENSION = "extension"
    INFORMATION = "information"


class Verdict(StrEnum):
    """
    How a check ended.

    ``undecided``: the check could not be made, for example because the model refused every made input; ``skipped``:
    the server or the model does not have what the check tests, and need not have it.
    """

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    The result of one check.

    Attributes:
        claim: What the check tests, in one sentence.
        section: The section of the specification that the claim follows from.
        detail: What was seen; for a failed check, the difference from the claim.
        seconds: The duration of the check.
    """

    check: str
    transport: Transport
    requirement: Requirement
    claim: str
    section: str
    verdict: Verdict
    detail: str
    seconds: float

    @property
    def violates(self) -> bool:
        """Whether a required point failed."""
        return self.verdict is Verdict.FAILED and self.requirement is Requirement.REQUIRED


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    The findings about one model of one server, in the order in which the checks ran.

    Attributes:
        url: The address of the REST server; None if only gRPC was checked.
        grpc: The address of the gRPC server; None if only REST was checked.
    """

    url: str | None
    grpc: str | None
    model: str
    findings: tuple[Finding, ...]

    @property
    def conforms(self) -> bool:
        """Whether no required point failed; a point that is undecided does not count."""
        return not any(finding.violates for finding in self.findings)

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings of the checks that failed."""
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.FAILED)

    @property
    def counts(self) -> dict[Verdict, int]:
        """The number of findings of each verdict."""
        counted = Counter(finding.verdict for finding in self.findings)
        return {verdict: counted[verdict] for verdict in Verdict}
