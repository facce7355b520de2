"""The relay: what a transaction asked to start is started, at least once."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.durable.ports import Outbox, Transaction, UnitOfWork, WorkflowCall, Workflows


@dataclass(frozen=True, slots=True)
class Relay:
    """
    Passes calls from the outbox on to the workflows.

    Killed between starting a call and forgetting it, it starts the call again, which does nothing: starting is
    idempotent by id.
    """

    unit: UnitOfWork
    workflows: Workflows

    def pass_on(self, *, limit: int = 100) -> int:
        """
        Start the oldest pending calls, at most *limit*, and forget them.

        Returns:
            How many were passed on; *limit* of them means that more may wait.

        Raises:
            LookupError: A call names a workflow that was never registered; those before it were passed on.
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
