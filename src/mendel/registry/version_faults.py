"""The faults of a version at its registration and on servers, with details for callers with the scope ``deploy``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mendel.registry.snapshots import ServerState
from mendel.registry.version_records import VersionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFault:
    """
    Why a version could not be loaded, or how its answers differ, for callers with the scope ``deploy``.

    Attributes:
        where: The name of the server, or ``registration``.
        fault: The type of the exception and its code location, or the first row that differs.
        detail: The message of the exception, or both answers of the first difference; empty if ``fault`` says
            everything.
    """

    where: str
    fault: str
    detail: str = ""


def version_faults(record: VersionRecord, servers: Sequence[ServerState]) -> tuple[VersionFault, ...]:
    """Give the parity difference found at registration, and the last report of each server that could not load it."""
    return (
        *_difference(record),
        *(
            VersionFault(where=server.name, fault=line.error or "", detail=line.detail or "")
            for server in servers
            for line in server.report.convergence
            if (line.model, line.failed_version) == (record.model, record.number)
        ),
    )


def _difference(record: VersionRecord) -> Iterator[VersionFault]:
    if record.parity is not None and not record.parity.admits(None):
        yield VersionFault(where="registration", fault=record.parity.reason, detail=record.parity.detail)
