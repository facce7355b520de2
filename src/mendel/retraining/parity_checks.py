"""Let a version answer its probe rows in a new Python process before it leaves development."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import BoundedSemaphore
from typing import Final

from mendel.errors import Conflict, MendelError, Unavailable
from mendel.registry import Registry, VersionRecord
from mendel.registry.parity_rule import needs_clean_check
from mendel.retraining.ports import CodeSource, Limits, ParityJob, Runner
from mendel.values import Digest, VersionRef
from mendel.values.directory_trees import file_digest
from mendel.values.parity import ParityReport, ParityStatus

_LIMITS: Final = Limits(time=timedelta(minutes=5))
_AT_ONCE: Final = 2
_MOST_WAITING: Final = 8


class ParityChecks:
    """
    Checks versions with the runner, outside of every transaction, and records the results.

    An artefact that passed is not asked again by this process, also not for another version with the same files.

    Args:
        runner: Loads and asks the versions; this process loads none.
    """

    def __init__(self, registry: Registry, runner: Runner) -> None:
        self._registry = registry
        self._runner = runner
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._waiting = BoundedSemaphore(_MOST_WAITING)
        self._passed: dict[tuple[Digest, CodeSource | None], ParityReport] = {}

    def before_leaving(self, ref: VersionRef, *, by: str) -> None:
        """
        Check the version *ref* if it is in development, has probe rows, and did not pass this check before.

        Raises:
            VersionNotFound: The version does not exist.
            Unavailable: Too many checks run or wait.
        """
        record = self._registry.versions.get(ref)
        if needs_clean_check(record):
            self._registry.parity.record_clean(ref, self._report(record), by=by)

    def probe(self, ref: VersionRef, rows: Path, *, file: str, by: str) -> VersionRecord:
        """
        Let the stored model of *ref* answer rows of a file directly, and compare these answers with the served ones.

        Args:
            rows: The file, ``.parquet`` or ``.csv``; *file* is the name that is recorded.

        Raises:
            VersionNotFound: The version does not exist.
            Conflict: The version cannot be loaded here, or its model cannot answer the rows, or not twice alike.
        """
        report = self._report(self._registry.versions.get(ref), rows)
        if report.status is ParityStatus.NOT_MEASURED:
            raise Conflict(
                f"The parity of {ref} cannot be measured with {file}: {report.told}.",
                remedy="Give rows that the model was fitted on, on a machine with the packages of the model.",
            )
        return self._registry.parity.record_probed(ref, report, file=file, digest=file_digest(rows), by=by)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait for a turn; of many requests only a few may wait, because each one holds a thread of the hub."""
        if not self._waiting.acquire(blocking=False):
            raise Unavailable(
                f"{_MOST_WAITING} parity checks run or wait already.", remedy="Try again when they have ended."
            )
        try:
            with self._turns:
                yield
        finally:
            self._waiting.release()

    def _report(self, record: VersionRecord, rows: Path | None = None) -> ParityReport:
        """Give the result of the check; a version that cannot be checked here is not measured, whatever the reason."""
        project, tag = record.project, record.release_tag
        if project is not None:
            tag = project.tag or tag
            if tag is None:
                return ParityReport.not_measured("the version has no release tag from which its code could be taken")
            if not Path(project.repository).is_dir():
                return ParityReport.not_measured(f"the repository {project.repository} is not on this machine")
        source = None if project is None or tag is None else CodeSource(project=Path(project.repository), revision=tag)
        key = record.artifact_digest, source
        if rows is None and (known := self._passed.get(key)) is not None:
            return known
        with self._turn(), tempfile.TemporaryDirectory(prefix="mendel-parity-") as scratch:
            job = ParityJob(
                source=source,
                classifier="" if project is None else project.classifier,
                artifact=self._registry.versions.tree(record.ref),
                output=Path(scratch) / "job",
                rows=rows,
                limits=_LIMITS,
            )
            try:
                report = self._runner.check_parity(job)
            except MendelError as error:
                return ParityReport.not_measured(error.message, detail=getattr(error, "log_tail", ""))
        if rows is None and report.status is ParityStatus.PASSED:
            self._passed[key] = report
        return report
