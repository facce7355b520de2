"""Record the checks of a version's parity, and the difference that a person accepts."""

from __future__ import annotations

from dataclasses import replace

from mendel.durable import Clock, StepKey, Transaction
from mendel.errors import Conflict
from mendel.registry.lookups import require_version
from mendel.registry.parity_rule import parity_reports
from mendel.registry.ports import RegistryStore
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_records import AcceptedDifference, ProbedParity, VersionRecord
from mendel.values import Digest, Stage, VersionRef
from mendel.values.parity import ParityReport, ParityStatus


class ParityRecords:
    """Writes what is known about the parity of versions; every change is one transaction together with its event."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def record_clean(
        self, ref: VersionRef, report: ParityReport, *, by: str, step: StepKey | None = None
    ) -> VersionRecord:
        """
        Record the result of answering the probe rows in a new Python process; the same result again changes nothing.

        A result is kept when a later check could not measure, and when the version has left development.

        Raises:
            VersionNotFound: The version does not exist.
        """
        now = self._clock()

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            known, measured = record.clean_parity, report.status is not ParityStatus.NOT_MEASURED
            outdated = known is not None and known.status is not ParityStatus.NOT_MEASURED and not measured
            if known == report or outdated or record.stage is not Stage.DEVELOPMENT:
                return record
            changed = replace(record, clean_parity=report)
            store.replace_version(changed)
            tx.append(self._transactions.version_event("model.parity_checked", record, by, now, parity=report.public))
            return changed

        return self._transactions.write_once(VersionRecord, work, step)

    def record_probed(
        self, ref: VersionRef, report: ParityReport, *, file: str, digest: Digest, by: str
    ) -> VersionRecord:
        """
        Record the result for rows that came in a file; the same result of the same file again changes nothing.

        A difference that the rows of another file showed remains until a probe of that file no longer shows it.

        Raises:
            VersionNotFound: The version does not exist.
        """
        now = self._clock()

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            known = record.probed
            others = {} if known is None else {one: ids for one, ids in known.found.items() if one != digest}
            found = others | ({digest: report.difference_id} if report.difference_id else {})
            whole = report.joined(known.report, " ".join(found.values())) if known is not None and others else report
            if known is not None and (known.digest, known.report) == (digest, whole):
                return record
            probed = ProbedParity(report=whole, file=file, digest=digest, by=by, at=now, found=found)
            changed = replace(record, probed=probed)
            store.replace_version(changed)
            tx.append(
                self._transactions.version_event(
                    "model.parity_probed", record, by, now, parity=whole.public, file=file, file_digest=digest
                )
            )
            return changed

        return self._transactions.write(work)

    def accept_difference(self, ref: VersionRef, *, by: str, reason: str) -> VersionRecord:
        """
        Record that a person accepts the differences that the checks of the version found, and no other differences.

        Raises:
            VersionNotFound: The version does not exist.
            Conflict: No check of the version found a difference.
        """
        now = self._clock()

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            differing = [report for report in parity_reports(record) if not report.admits(None)]
            if not differing:
                raise Conflict(f"The answers of {ref} do not differ from the fitted model's: no difference to accept.")
            former = "" if record.accepted is None else record.accepted.id
            ids = dict.fromkeys(" ".join((former, *(report.difference_id for report in differing))).split())
            newest = next((report for report in differing if not report.admits(former)), differing[0])
            accepted = AcceptedDifference(difference=newest.reason, id=" ".join(ids), by=by, at=now, reason=reason)
            changed = replace(record, accepted=accepted)
            store.replace_version(changed)
            store.bump_revision()  # servers that refused the version load it now
            tx.append(
                self._transactions.version_event(
                    "model.difference_accepted", record, by, now, difference=accepted.difference, reason=reason
                )
            )
            return changed

        return self._transactions.write(work)
