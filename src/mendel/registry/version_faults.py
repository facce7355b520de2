"""The faults of a version at its registration and on servers, with details for callers with the scope ``deploy``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendel.registry.snapshots import ServerState
from mendel.registry.version_records import VersionRecord
from mendel.values.parity import ParityReport


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFault:
    """
    Why a version could not be loaded, or how its answers differ, for callers with the scope ``deploy``.

    Attributes:
        where: The name of the server, ``a server``, or the check: ``registration``, ``new Python process`` or ``probed
            file``.
        fault: The type of the exception and its code location, or the first row that differs.
        detail: The message of the exception, or both answers of the first difference; empty if ``fault`` says
            everything.
    """

    where: str
    fault: str
    detail: str = ""


def version_faults(record: VersionRecord, servers: Sequence[ServerState]) -> tuple[VersionFault, ...]:
    """
    Give what the parity checks of *record* found, and the last report of each server that could not load *record*.

    If no server reports a fault now, the differences that servers reported before are given.
    """
    reported = tuple(
        VersionFault(where=server.name, fault=line.error or "", detail=line.detail or "")
        for server in servers
        for line in server.report.convergence
        if (line.model, line.failed_version) == (record.model, record.number)
    )
    served = () if reported else _differences("a server", record.served_parity)
    probed = None if record.probed is None else record.probed.report
    return (
        *_differences("registration", record.parity),
        *_differences("new Python process", record.clean_parity),
        *_differences("probed file", probed),
        *reported,
        *served,
    )


def _differences(where: str, report: ParityReport | None) -> tuple[VersionFault, ...]:
    if report is None or (report.admits(None) and not report.detail):
        return ()
    return (VersionFault(where=where, fault=report.reason, detail=report.detail),)
