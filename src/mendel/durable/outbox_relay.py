"""The outbox relay starts the workflows that committed transactions requested, each at least once."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.durable.ports import Outbox, Transaction, UnitOfWork, WorkflowCall, Workflows


@dataclass(frozen=True, slots=True)
class OutboxRelay:
    """
    Starts the workflows whose calls wait in the outbox.

    A relay that is killed after it started a workflow, but before it removed the call, starts the workflow again; the
    second start does nothing, because starting is idempotent by id.
    """

    unit: UnitOfWork
    workflows: Workflows

    def start_pending(self, *, limit: int = 100) -> int:
        """
        Start the workflows of the oldest waiting calls, at most *limit*, and remove the calls from the outbox.

        Returns:
            The number of workflows started; when it equals *limit*, more calls may wait.

        Raises:
            LookupError: A call names a workflow that was not registered; the calls before it were started.
        """

        def oldest(tx: Transaction) -> tuple[WorkflowCall, ...]:
            return tx.store(Outbox).pending(limit)

        calls = self.unit.read(oldest)
        for call in calls:
            self.workflows.start(call)
            self._forget(call.id)
        return len(calls)

    def _forget(self, call_id: str) -> None:
        def mark(tx: Transaction) -> None:
            tx.store(Outbox).mark_started(call_id)

        self.unit.write(mark)
