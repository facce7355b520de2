"""Run the predictor in a process of its own, which the workers of a server share."""

from __future__ import annotations

import errno
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from mendel.adapters.processes.model_processes import FAREWELL_S
from mendel.errors import DeadlineExceeded, ModelFailed, ModelNotLoadable, ModelStopped, NotReady
from mendel.projects import Project
from mendel.serving import (
    BackendPlace,
    Environments,
    Frame,
    IsolatedModel,
    Outputs,
    PredictorDescriptor,
    ServingPolicy,
    model_program,
    project_of,
    read_mlmodel,
    require_digest,
)
from mendel.values import Digest
from mendel.values.library_versions import LibraryVersion, differing_libraries

_PATIENCE_S: Final = 2.0
"""The longest time that a call waits for a process that starts again."""
_NEWS_S: Final = 1.0
_SOON: Final = timedelta(seconds=1)
_FAREWELL_S: Final = FAREWELL_S + 2.0
_GRACE_S: Final = 1.0
"""
How much later the second of two clocks ends a call or a load: the process itself a call that its worker does not end,
because the worker has ended; the worker a load that the supervisor does not end.
"""
_UNREAD: Final = frozenset({errno.EPIPE, errno.ECONNRESET})
"""The errors of a connection whose other end was closed before it had read everything."""
_NO_REASON: Final = "The process of the model ended."
_NO_HOST: Final = "The supervisor of this server does not start processes of models."


class ProcessLoads:
    """
    Implements :class:`mendel.serving.LoadBackend`: orders a process for the artefact from :class:`ModelProcesses`.

    Args:
        host: The socket of the :class:`~mendel.adapters.processes.model_processes.ModelProcesses`.
        environments: Give the Python that runs a model, if ``policy.model_python`` does not.
    """

    def __init__(self, host: Path, policy: ServingPolicy, *, environments: Environments) -> None:
        self._host = host
        self._policy = policy
        self._environments = environments

    def __call__(self, directory: Path, *, digest: Digest | None, project: Project | None) -> ProcessBackend:
        require_digest(directory, digest)
        mlmodel = read_mlmodel(directory)
        project = project_of(directory, mlmodel, project)
        model = IsolatedModel(directory=directory.resolve(), mlmodel=mlmodel, project=project)
        interpreter = self._policy.model_python or self._environments.python_of(directory)
        differing = differing_libraries(mlmodel.libraries) if interpreter is None else ()
        order = {
            **model.order(),
            "name": directory.name,
            "interpreter": interpreter or sys.executable,
            "most_memory": self._policy.model_memory_bytes,
            "log_level": logging.getLogger().getEffectiveLevel(),
            "load_limit": self._policy.load_timeout.total_seconds(),
            "call_limit": self._policy.predict_timeout.total_seconds() + _GRACE_S,
        }
        news = self._ordered(order)
        try:
            first = self._first(news)
            _require_loaded(first, differing)
            return ProcessBackend(model, news, first, self._policy, differing)
        except BaseException:
            news.close()
            raise

    def _ordered(self, order: Mapping[str, Any]) -> _News:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._host))
            connection.sendall(model_program.json_line(order))
        except OSError as error:
            connection.close()
            raise NotReady(_NO_HOST) from error
        return _News(connection)

    def _first(self, news: _News) -> Mapping[str, Any]:
        """Wait until the process runs or has failed to load; a process of other workers may be starting again."""
        limit = self._policy.load_timeout.total_seconds()
        until, ended = time.monotonic() + limit + _GRACE_S, ""
        try:
            while True:
                news.connection.settimeout(min(max(0.001, until - time.monotonic()), threading.TIMEOUT_MAX))
                told = news.wait()
                if "ended" not in told:
                    news.connection.settimeout(None)
                    return told
                ended = told["ended"]
        except TimeoutError as error:
            if ended:
                raise NotReady(ended) from error
            raise ModelNotLoadable(
                f"Loading the model took longer than serving.load_timeout ({limit:g} s).",
                remedy="Raise serving.load_timeout, or make the version load faster.",
            ) from error
        except OSError as error:
            raise NotReady(_NO_HOST) from error


@dataclass(frozen=True, slots=True)
class _Running:
    pid: int
    address: str
    restarts: int


class _News:
    """What the supervisor says about a process; a thread reads it after the first line."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._lines = connection.makefile("rb")

    def wait(self) -> Mapping[str, Any]:
        """Give the next news; raises OSError when the supervisor has closed the connection."""
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError
        news: Mapping[str, Any] = json.loads(line)
        return news

    def close(self) -> None:
        self._lines.close()
        self.connection.close()


class ProcessBackend:
    """
    Implements :class:`mendel.serving.Backend` with a process that may be shared with other workers.

    While the process starts again, ``died`` gives the reason why it ended, and calls wait for it up to 2 s.
    """

    def __init__(
        self,
        model: IsolatedModel,
        news: _News,
        first: Mapping[str, Any],
        policy: ServingPolicy,
        differing: tuple[LibraryVersion, ...],
    ) -> None:
        facts = first["facts"]
        described = model.descriptor(facts)
        self._descriptor = replace(described, other_libraries=differing)
        self._form = model.input_form(described, facts)
        self._limit = policy.predict_timeout.total_seconds()
        self._news = news
        self._change = threading.Condition()
        self._running: _Running | None = None
        self._reason = ""
        self._external = False
        self._killed = False
        self._idle: list[_Call] = []
        self._busy: set[_Call] = set()
        self._note(first)
        self._gone = threading.Event()
        threading.Thread(target=self._follow, name=f"mendel-process-{first['running']}", daemon=True).start()

    @property
    def descriptor(self) -> PredictorDescriptor:
        return self._descriptor

    @property
    def died(self) -> str | None:
        return None if self._running is not None else self._reason

    @property
    def place(self) -> BackendPlace:
        running = self._running
        if running is None:
            return BackendPlace(backend="process", pid=None, memory_bytes=None)
        memory = model_program.resident_bytes(str(running.pid))
        return BackendPlace(backend="process", pid=running.pid, memory_bytes=memory, restarts=running.restarts)

    @property
    def stops_calls(self) -> bool:
        return True

    def predict(self, frame: Frame, deadline: float) -> Outputs:
        head, parts = model_program.packed_columns(frame.columns, frame.floats)
        head["proba"] = self._descriptor.proba
        if self._descriptor.dataframe and self._form["contract"] is None:
            head["names"] = frame.shape.names
        while True:
            call = self._call(deadline)
            try:
                reply, body = self._asked(call, head, parts, deadline)
            except TimeoutError:
                raise self._overdue(call) from None
            except OSError:
                call.close()
                stopped = self._news_of_end(call.running)
                if call.began:
                    raise stopped from None
                continue  # the process ended before this call began, so another process may answer it
            self._keep(call)
            return self._outputs(reply, body, len(frame))

    def _asked(
        self, call: _Call, head: Mapping[str, Any], parts: list[Any], deadline: float
    ) -> tuple[Mapping[str, Any], bytearray]:
        with self._change:
            if call.running is not self._running:
                call.began = False
                raise ConnectionResetError
            self._busy.add(call)
        try:
            return call.ask(head, parts, deadline)
        finally:
            with self._change:
                self._busy.discard(call)

    def checked(self) -> None:
        """Do nothing, because this backend never replaces its predictor."""

    def kill(self) -> None:
        with self._change:
            first, self._killed = not self._killed, True
            self._reason, self._running = "The model was unloaded, so it can no longer predict.", None
            self._external = False
            idle, self._idle = self._idle, []
            self._change.notify_all()
        for call in idle:
            call.close()
        if first:
            with suppress(OSError):
                self._news.connection.shutdown(socket.SHUT_WR)
            self._gone.wait(_FAREWELL_S)

    def _follow(self) -> None:
        """Note the supervisor's news until it closes the connection."""
        try:
            while True:
                self._note(self._news.wait())
        except (OSError, ValueError):
            self._note({"ended": "The supervisor of the model's process has ended.", "external": True})
        finally:
            self._gone.set()
            self._news.close()

    def _note(self, news: Mapping[str, Any]) -> None:
        with self._change:
            if self._killed:
                return
            self._running = None
            if "running" in news:
                self._running = _Running(news["running"], news["address"], news["restarts"])
            else:
                self._reason, self._external = news["ended"], news["external"]
            idle, self._idle = self._idle, []
            for call in self._busy:
                call.end()
            self._change.notify_all()
        for call in idle:
            call.close()

    def _call(self, deadline: float) -> _Call:
        """Give a connection to the running process; wait for a process that starts again."""
        until = min(deadline, time.monotonic() + _PATIENCE_S)
        with self._change:
            self._change.wait_for(lambda: self._running or self._killed, max(0.0, until - time.monotonic()))
            running = self._running
            if running is None:
                if not self._killed and until >= deadline:
                    raise DeadlineExceeded("The deadline passed before the model answered.")
                raise self._stopped()
            if self._idle:
                return self._idle.pop()
        try:
            return _Call(running, self._form, self._limit)
        except OSError:
            self._news_of_end(running)
            with self._change:
                if self._running == running:  # it runs and refuses connections
                    raise ModelStopped(_NO_REASON) from None
            return self._call(deadline)

    def _keep(self, call: _Call) -> None:
        """Keep the connection for the next call, unless its process has ended meanwhile."""
        with self._change:
            kept = call.running is self._running
            if kept:
                self._idle.append(call)
        if not kept:
            call.close()

    def _news_of_end(self, running: _Running) -> ModelStopped | NotReady:
        """
        Wait briefly for the news that the process *running* has ended, and give the error of its calls.

        Without news nobody is blamed: the news before were about another end.
        """
        with self._change:
            if not self._change.wait_for(lambda: self._running != running, _NEWS_S):
                return NotReady(_NO_REASON, retry_after=_SOON)
            return self._stopped()

    def _stopped(self) -> ModelStopped | NotReady:
        """Give the error of a call; the version is not blamed if another program ended its process."""
        reason = self._reason or _NO_REASON
        return NotReady(reason, retry_after=_SOON) if self._external else ModelStopped(reason)

    def _overdue(self, call: _Call) -> ModelFailed | DeadlineExceeded:
        call.close()
        if not call.began:
            return DeadlineExceeded("The deadline passed before the model answered.")
        reason = f"a call took longer than serving.predict_timeout ({self._limit:g} s)"
        with suppress(OSError):
            command = {"kill": call.running.pid, "reason": reason}
            self._news.connection.sendall(model_program.json_line(command))
        self._news_of_end(call.running)
        return ModelStopped(
            f"The model took longer than {self._limit:g} s, so its process was ended.",
            remedy="Raise serving.predict_timeout, or make the model faster.",
        )

    def _outputs(self, reply: Mapping[str, Any], body: bytearray, rows: int) -> Outputs:
        if (invalid := reply.get("invalid")) is not None:
            raise ModelFailed(str(invalid))
        if (fault := reply.get("fault")) is not None:
            kind, text = str(fault["kind"]), fault["text"] or "without a message"
            raise ModelFailed(f"The model raised {kind.partition(' from ')[0]}: {text}", kind=kind, at=str(fault["at"]))
        try:
            returned, at = model_program.unpacked_answer(reply["answer"], body, 0)
            proba = model_program.unpacked_answer(reply["proba"], body, at)[0] if "proba" in reply else None
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelFailed("The process of the model sent a reply that cannot be read.") from error
        return self._descriptor.outputs(rows, returned, proba)


class _Call:
    """
    A connection to a process, for one call at a time.

    Attributes:
        began: False while the call waits in the process for the calls of other workers, and if it never reached it.
    """

    def __init__(self, running: _Running, form: Mapping[str, Any], limit: float) -> None:
        self.running = running
        self.began = True
        self._limit = limit
        self._connection = socket.socket(socket.AF_UNIX)
        self._reader = self._connection.makefile("rb")
        try:
            self._connection.settimeout(limit)
            self._connection.connect(running.address)
            model_program.send(self._connection, {"form": form})
        except OSError:
            self.close()
            raise

    def ask(self, head: Mapping[str, Any], parts: list[Any], deadline: float) -> tuple[Mapping[str, Any], bytearray]:
        """
        Send a batch, and give the reply.

        Raises:
            TimeoutError: The call took longer than the limit, or did not begin before *deadline*.
            OSError: The process ended.
        """
        self.began = True
        self._connection.settimeout(self._limit)
        try:
            model_program.send(self._connection, head, *parts)
            message = model_program.receive(self._reader)
        except OSError as error:
            if error.errno in _UNREAD:
                self.began = False
            raise
        while True:
            if message is None:
                raise ConnectionResetError
            reply, body = message
            if "waiting" not in reply:
                return reply, body
            self.began = not reply["waiting"]
            left = self._limit if self.began else max(0.001, deadline - time.monotonic())
            self._connection.settimeout(min(left, threading.TIMEOUT_MAX))
            message = model_program.receive(self._reader)

    def end(self) -> None:
        """Let the call end in another thread, also if something else holds the connection of the ended process open."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._reader.close()
        self._connection.close()


def _require_loaded(first: Mapping[str, Any], differing: tuple[LibraryVersion, ...]) -> None:
    """Raise the error of a load that failed; a process that was killed from outside is no fault of the version."""
    failed = first.get("failed")
    if failed is None:
        return
    remedy = failed.get("remedy", "")
    if failed.get("external"):
        raise NotReady(failed["message"], remedy=remedy)
    if not remedy and differing:
        remedy = f"Install the package versions that wrote the artefact: {', '.join(map(str, differing))}."
    raise ModelNotLoadable(failed["message"], detail=failed.get("detail", ""), remedy=remedy)
