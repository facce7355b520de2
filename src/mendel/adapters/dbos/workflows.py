"""Durable workflows on DBOS, which stores the result of every step in a database."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID, WorkflowStatus
from dbos import error as dbos_errors

from mendel.durable import (
    Clock,
    ExecutionAbandoned,
    Payload,
    StepOutcome,
    WorkflowCall,
    WorkflowFunction,
    WorkflowRun,
    Workflows,
    WorkflowState,
    as_json,
    result_or_raise,
    run_step,
)
from mendel.errors import Corrupt, DeadlineExceeded, RunNotFound, StoreUnavailable
from mendel.values import from_builtins, from_micros, to_builtins, to_micros

T = TypeVar("T")
DatabaseErrors = Callable[[], AbstractContextManager[None]]

_UNFINISHED = ["PENDING", "ENQUEUED", "DELAYED"]
_ENDED = {"SUCCESS": WorkflowState.DONE, "CANCELLED": WorkflowState.CANCELLED, "ERROR": WorkflowState.FAILED}
_PROCESS = threading.Lock()  # the first DBOS() of a process sets the configuration; later calls return that instance
_FIRST_POLL = 0.002
_SLOWEST_POLL = 0.1


class DbosWorkflows:
    """
    Implements :class:`mendel.durable.Workflows` on DBOS.

    DBOS allows one instance per process, so one object of this class is open at a time. The next process with the same
    executor id and application version resumes the workflows of a killed process within about a second; other
    executors leave these workflows alone.

    Args:
        database: The path of a SQLite file that only DBOS uses, or a PostgreSQL URL.
        executor_id: Stays the same over restarts; unique among the processes that share the database.
        application_version: A developer raises it when the order or the names of steps change. A hash of the source
            would strand running workflows after every edit.
        clock: Gives the time from which a sleep is measured.
        database_errors: A context manager that translates errors of the database that DBOS uses into Mendel's errors.
        patience: How long leaving the context waits for the steps that are under way; a step that takes longer runs
            again after the next start.
    """

    def __init__(
        self,
        database: Path | str,
        *,
        executor_id: str,
        application_version: str,
        clock: Clock,
        database_errors: DatabaseErrors,
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        self._database = str(database)
        self._executor_id = executor_id
        self._application_version = application_version
        self._clock = clock
        self._database_errors = database_errors
        self._patience = patience
        self._functions: dict[str, WorkflowFunction] = {}
        self._bodies: dict[str, Callable[[Payload], Payload]] = {}
        self._changed = threading.Condition()
        self._open = False
        self._cancelled: set[str] = set()
        self._running = 0

    def register(self, name: str, function: WorkflowFunction) -> None:
        if self._open:
            raise RuntimeError(
                f"The workflow {name!r} was registered after the workflows were opened; register it before open()."
            )
        self._functions[name] = function

    @contextmanager
    def open(self) -> Iterator[Workflows]:
        """Start DBOS and resume unfinished workflows; leaving the context stops every run at its next step."""
        if not _PROCESS.acquire(blocking=False):
            raise RuntimeError("DBOS workflows are already open in this process.")
        try:
            self._launch()
            yield self
        finally:
            self._close()
            _PROCESS.release()

    def start(self, call: WorkflowCall) -> None:
        if call.name not in self._functions:
            raise LookupError(f"No workflow with the name {call.name!r} is registered.")
        self._must_be_open()

        def begin() -> None:
            with SetWorkflowID(call.id):
                DBOS.start_workflow(self._bodies[call.name], as_json(call.input))

        try:
            self._ask(begin)
        except dbos_errors.DBOSConflictingWorkflowError:  # another workflow name has used this id
            return

    def get(self, workflow_id: str) -> WorkflowRun | None:
        self._must_be_open()
        status = self._ask(lambda: DBOS.get_workflow_status(workflow_id))
        return None if status is None else _seen(status)

    def unfinished(self) -> tuple[WorkflowRun, ...]:
        """Every run of any executor that is neither done, failed nor cancelled."""
        self._must_be_open()
        return tuple(_seen(status) for status in self._ask(lambda: DBOS.list_workflows(status=_UNFINISHED)))

    def wait(self, workflow_id: str, *, timeout: timedelta) -> WorkflowRun:
        end = time.monotonic() + timeout.total_seconds()
        pause = _FIRST_POLL
        while True:
            run = self.get(workflow_id)
            if run is None:
                raise RunNotFound(f"No workflow run has the id {workflow_id!r}.")
            if run.state is not WorkflowState.RUNNING:
                return run
            if time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"The workflow run {workflow_id!r} did not end within {timeout}; it keeps running."
                )
            time.sleep(min(pause, max(0.0, end - time.monotonic())))
            pause = min(_SLOWEST_POLL, pause * 2)

    def cancel(self, workflow_id: str) -> None:
        self._must_be_open()
        self._ask(lambda: DBOS.cancel_workflow(workflow_id))
        with self._changed:
            self._cancelled.add(workflow_id)
            self._changed.notify_all()

    def _ask(self, question: Callable[[], T]) -> T:
        """Call DBOS outside any workflow step: inside a step, DBOS would record the call as part of the workflow."""
        with self._database_errors():
            return Context().run(question)

    def _must_be_open(self) -> None:
        if not self._open:
            raise RuntimeError("The workflows are not open: call this inside 'with workflows.open()'.")

    def _launch(self) -> None:
        url = self._database if "://" in self._database else _prepare_sqlite(Path(self._database))
        logger = logging.getLogger("dbos")
        if not logger.handlers:  # otherwise DBOS would print; the application configures logging
            logger.addHandler(logging.NullHandler())
        config = DBOSConfig(
            name="mendel",
            system_database_url=url,
            executor_id=self._executor_id,
            application_version=self._application_version,
            serializer=DBOSPortableJSONSerializer(),
            log_level="WARNING",
            enable_otlp=False,
            notification_listener_polling_interval_sec=0.2,  # closing waits for this thread at most this long
        )
        self._cancelled.clear()
        with self._database_errors():
            DBOS(config=config)
            self._bodies = {name: self._body(name, function) for name, function in self._functions.items()}
            self._open = True
            DBOS.launch()

    def _body(self, name: str, function: WorkflowFunction) -> Callable[[Payload], Payload]:
        def body(payload: Payload) -> Payload:
            with self._counted():
                return as_json(function(_DbosRun(self, DBOS.workflow_id or ""), payload))

        return DBOS.workflow(name=name)(body)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._running == 0, self._patience.total_seconds())
        DBOS.destroy(destroy_registry=True)

    def _must_stop(self, workflow_id: str) -> bool:
        return not self._open or workflow_id in self._cancelled

    def _pause(self, workflow_id: str, span: timedelta) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._must_stop(workflow_id), max(0.0, span.total_seconds()))


class _DbosRun:
    """Implements :class:`mendel.durable.WorkflowContext` for one run."""

    def __init__(self, owner: DbosWorkflows, workflow_id: str) -> None:
        self._owner = owner
        self._id = workflow_id
        self._named: set[str] = set()

    @property
    def id(self) -> str:
        return self._id

    def step(self, name: str, act: Callable[[], Payload]) -> Payload:
        if name in self._named:
            raise RuntimeError(f"The workflow run {self._id!r} has two steps named {name!r}; number the steps.")
        self._named.add(name)
        self._go_on()
        outcome: Any = DBOS.run_step({"name": name}, lambda: to_builtins(run_step(act)))
        return result_or_raise(from_builtins(outcome, StepOutcome))

    def sleep(self, name: str, span: timedelta) -> None:
        until = self.step(name, lambda: {"until": to_micros(self._owner._clock() + span)})["until"]  # noqa: SLF001
        self._owner._pause(self._id, from_micros(until) - self._owner._clock())  # noqa: SLF001 - one machine in two
        self._go_on()

    def _go_on(self) -> None:
        if self._owner._must_stop(self._id):  # noqa: SLF001 - one machine in two classes
            raise ExecutionAbandoned(f"The workflow run {self._id!r} was stopped because its hub is stopping.")


def _seen(status: WorkflowStatus) -> WorkflowRun:
    state = WorkflowState.RUNNING if status.status in _UNFINISHED else _ENDED.get(status.status, WorkflowState.FAILED)
    error = None
    if state is WorkflowState.FAILED:
        kind = getattr(status.error, "name", type(status.error).__name__)
        error = status.status if status.error is None else f"{kind}: {status.error}"
    result: Payload | None = status.output if state is WorkflowState.DONE else None
    return WorkflowRun(id=status.workflow_id, name=status.name, state=state, result=result, error=error)


def _prepare_sqlite(path: Path) -> str:
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(f"The workflow database {path} cannot be opened: {error}.") from error
    except sqlite3.DatabaseError as error:
        raise Corrupt(
            (f"The workflow database {path} is damaged: {error}."), remedy="Restore the file from a backup."
        ) from error
    return f"sqlite:///{path.resolve()}"
