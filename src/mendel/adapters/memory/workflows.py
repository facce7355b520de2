"""Workflows in memory: each run is a thread, and step results live as long as the object."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from mendel.durable import (
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
from mendel.errors import DeadlineExceeded, RunNotFound


@dataclass(slots=True, kw_only=True)
class _Execution:
    """The state of one workflow run; changed only under the lock of its :class:`MemoryWorkflows`."""

    call: WorkflowCall
    state: WorkflowState = WorkflowState.RUNNING
    result: Payload | None = None
    error: str | None = None
    outcomes: dict[str, StepOutcome] = field(default_factory=dict)
    wakes: dict[str, float] = field(default_factory=dict)

    def seen(self) -> WorkflowRun:
        return WorkflowRun(id=self.call.id, name=self.call.name, state=self.state, result=self.result, error=self.error)


class MemoryWorkflows:
    """
    Implements :class:`mendel.durable.Workflows` with a thread for each run.

    A function that raises a ``BaseException`` which is no ``Exception`` counts as killed: its run stays unfinished,
    and the next :meth:`open` resumes the run. Tests kill workflows in this way.

    Args:
        patience: How long leaving the context waits for the steps that are under way.
    """

    def __init__(self, *, patience: timedelta = timedelta(seconds=10)) -> None:
        self._patience = patience
        self._functions: dict[str, WorkflowFunction] = {}
        self._executions: dict[str, _Execution] = {}
        self._changed = threading.Condition()
        self._open = False
        self._threads: list[threading.Thread] = []

    def register(self, name: str, function: WorkflowFunction) -> None:
        if self._open:
            raise RuntimeError(
                f"The workflow {name!r} was registered after the workflows were opened; register it before open()."
            )
        self._functions[name] = function

    @contextmanager
    def open(self) -> Iterator[Workflows]:
        """Resume unfinished workflows; leaving the context stops every run at its next step."""
        with self._changed:
            if self._open:
                raise RuntimeError("These workflows are open already.")
            self._open = True
            for execution in self._executions.values():
                if execution.state is WorkflowState.RUNNING:
                    self._launch(execution)
        try:
            yield self
        finally:
            self._close()

    def start(self, call: WorkflowCall) -> None:
        if call.name not in self._functions:
            raise LookupError(f"No workflow with the name {call.name!r} is registered.")
        with self._changed:
            if not self._open:
                raise RuntimeError("The workflows are not open: call this inside 'with workflows.open()'.")
            if call.id not in self._executions:
                kept = WorkflowCall(name=call.name, id=call.id, input=as_json(call.input))
                self._executions[call.id] = _Execution(call=kept)
                self._launch(self._executions[call.id])

    def get(self, workflow_id: str) -> WorkflowRun | None:
        with self._changed:
            execution = self._executions.get(workflow_id)
            return None if execution is None else execution.seen()

    def unfinished(self) -> tuple[WorkflowRun, ...]:
        """Every run that is under way, and every run that the next :meth:`open` resumes."""
        with self._changed:
            return tuple(
                execution.seen() for execution in self._executions.values() if execution.state is WorkflowState.RUNNING
            )

    def wait(self, workflow_id: str, *, timeout: timedelta) -> WorkflowRun:
        with self._changed:
            execution = self._executions.get(workflow_id)
            if execution is None:
                raise RunNotFound(f"No workflow run has the id {workflow_id!r}.")
            self._changed.wait_for(lambda: execution.state is not WorkflowState.RUNNING, timeout.total_seconds())
            if execution.state is WorkflowState.RUNNING:
                raise DeadlineExceeded(
                    f"The workflow run {workflow_id!r} did not end within {timeout}; it keeps running."
                )
            return execution.seen()

    def cancel(self, workflow_id: str) -> None:
        with self._changed:
            execution = self._executions.get(workflow_id)
            if execution is not None and execution.state is WorkflowState.RUNNING:
                execution.state = WorkflowState.CANCELLED
                self._changed.notify_all()

    def _launch(self, execution: _Execution) -> None:
        thread = threading.Thread(
            target=self._run, args=(execution,), name=f"workflow {execution.call.id}", daemon=True
        )
        self._threads = [alive for alive in self._threads if alive.is_alive()] + [thread]
        thread.start()

    def _run(self, execution: _Execution) -> None:
        call = execution.call
        try:
            result = as_json(self._functions[call.name](_MemoryRun(self, execution), call.input))
        except Exception as error:  # noqa: BLE001 - the supervisor of runs: the error is their outcome
            self._end(execution, WorkflowState.FAILED, error=f"{type(error).__name__}: {error}")
        except BaseException:  # noqa: BLE001 - killed or abandoned: it stays unfinished
            return
        else:
            self._end(execution, WorkflowState.DONE, result=result)

    def _end(
        self, execution: _Execution, state: WorkflowState, *, result: Payload | None = None, error: str | None = None
    ) -> None:
        with self._changed:
            if execution.state is WorkflowState.RUNNING:
                execution.state, execution.result, execution.error = state, result, error
                self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.notify_all()
        end = time.monotonic() + self._patience.total_seconds()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._threads = []


class _MemoryRun:
    """Implements :class:`mendel.durable.WorkflowContext` for one run."""

    def __init__(self, owner: MemoryWorkflows, execution: _Execution) -> None:
        self._owner = owner
        self._execution = execution
        self._named: set[str] = set()

    @property
    def id(self) -> str:
        return self._execution.call.id

    def step(self, name: str, act: Callable[[], Payload]) -> Payload:
        self._enter(name)
        if name not in self._execution.outcomes:
            self._execution.outcomes[name] = run_step(act)
        return result_or_raise(self._execution.outcomes[name])

    def sleep(self, name: str, span: timedelta) -> None:
        self._enter(name)
        wake = self._execution.wakes.setdefault(name, time.monotonic() + span.total_seconds())
        with self._owner._changed:  # noqa: SLF001 - one machine in two classes
            self._owner._changed.wait_for(self._must_stop, wake - time.monotonic())  # noqa: SLF001 - the same
        self._go_on()

    def _enter(self, name: str) -> None:
        if name in self._named:
            raise RuntimeError(f"The workflow run {self.id!r} has two steps named {name!r}; number the steps.")
        self._named.add(name)
        self._go_on()

    def _must_stop(self) -> bool:
        return not self._owner._open or self._execution.state is not WorkflowState.RUNNING  # noqa: SLF001 - the same

    def _go_on(self) -> None:
        if self._must_stop():
            raise ExecutionAbandoned(f"The workflow run {self.id!r} was stopped because its hub is stopping.")
