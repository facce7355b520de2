"""When a version's parity lets it leave development, and how the version's checks are told."""

from __future__ import annotations

from collections.abc import Iterator

from mendel.errors import Conflict
from mendel.registry.version_records import VersionRecord
from mendel.values import Stage
from mendel.values.parity import ParityReport, ParityStatus

_REMOTE = "remote"
_NO_ROWS = "the version has no probe rows"


def parity_reports(record: VersionRecord) -> tuple[ParityReport, ...]:
    """Give the reports of all checks of a version, in the order in which the checks are made."""
    probed = None if record.probed is None else record.probed.report
    checks = (record.parity, record.clean_parity, probed, record.served_parity)
    return tuple(report for report in checks if report is not None)


def needs_clean_check(record: VersionRecord) -> bool:
    """
    Tell whether the probe rows must be answered in a new Python process before the version leaves development.

    A check that did not pass is repeated, because the packages of the machine may have been corrected. Nothing is
    checked for a version without probe rows, or whose answers already differed at registration.
    """
    registered, clean, accepted = record.parity, record.clean_parity, _accepted(record)
    if record.stage is not Stage.DEVELOPMENT or registered is None or not _measured(registered):
        return False
    return registered.admits(accepted) and (clean is None or not _measured(clean) or not clean.admits(accepted))


def unmeasured_because(record: VersionRecord) -> str | None:
    """Say why no check in a new Python process measured the version's parity; None if one did."""
    reports = (record.clean_parity, None if record.probed is None else record.probed.report)
    if any(report is not None and _measured(report) for report in reports):
        return None
    if record.clean_parity is not None:
        return record.clean_parity.reason
    if record.parity is None:
        return _NO_ROWS
    return "no new Python process has answered the probe rows" if _measured(record.parity) else record.parity.reason


def serves_without_parity(record: VersionRecord) -> bool:
    """Tell whether the version is beyond development although no check measured its parity, as before this rule."""
    registered = record.parity is not None and _measured(record.parity)
    return unmeasured_because(record) is not None and (record.without_parity is not None or not registered)


def unaccepted_difference(record: VersionRecord) -> ParityReport | None:
    """Give the first report with a difference that no person accepted; None without one."""
    return next((report for report in parity_reports(record) if not report.admits(_accepted(record))), None)


def require_parity(record: VersionRecord) -> None:
    """
    Check that the version may leave development.

    Raises:
        Conflict: A check found a difference that no person accepted, or parity is not measured and no person gave a
            reason to go without it.
    """
    if (report := unaccepted_difference(record)) is not None:
        raise Conflict(
            f"{record.ref} cannot leave the stage development: its answers differ from the fitted model's "
            f"({report.told}).",
            remedy="Register a corrected model, or accept the difference with: "
            f"mendel parity accept {record.ref} --reason WHY",
        )
    why = unmeasured_because(record)
    if why is not None and record.without_parity is None:
        waiving = f"mendel stage {record.ref} sandbox --without-parity WHY"
        raise Conflict(
            f"{record.ref} cannot leave the stage development: its parity is not measured ({why}).",
            remedy=f"Give a reason with: {waiving}"
            if record.flavor == _REMOTE
            else f"Measure the parity with: mendel probe {record.ref} --data FILE; or give a reason with: {waiving}",
        )


def parity_lines(record: VersionRecord) -> Iterator[str]:
    """Tell the result of every check of a version's parity, and what persons decided about it."""
    yield f"Parity: {record.parity or f'not measured: {_NO_ROWS}'}"
    if record.clean_parity is not None:
        yield f"Parity in a new Python process: {record.clean_parity}"
    if (probed := record.probed) is not None:
        yield (
            f"Parity probed from file {probed.file} ({probed.digest}) by {probed.by}: {probed.report}; "
            "the stored model answered the rows, not the trainer's own object"
        )
    if record.served_parity is not None:
        yield f"Parity on servers: {record.served_parity}"
    if record.accepted is not None:
        yield f"Difference accepted by {record.accepted.by}: {record.accepted.reason}"
    if (waived := record.without_parity) is not None:
        yield f"Left development without parity ({waived.unmeasured}) by {waived.by}: {waived.reason}"


def _accepted(record: VersionRecord) -> str | None:
    return None if record.accepted is None else record.accepted.id


def _measured(report: ParityReport) -> bool:
    return report.status is not ParityStatus.NOT_MEASURED
