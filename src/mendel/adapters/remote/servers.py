"""The servers of one remote model: which of them are ready, and which takes the next call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import structlog

from mendel.adapters.remote.discovery import ASK_S
from mendel.adapters.remote.server_client import (
    Announced,
    Attempt,
    Busy,
    Moved,
    NoAnswer,
    Overdue,
    Refused,
    ServerClient,
    Unreachable,
    bounded,
)
from mendel.adapters.remote.tensor_form import TensorForm
from mendel.errors import MendelError
from mendel.serving import RemoteAddress
from mendel.serving.model_faults import place_of
from mendel.values import ExternalServer

_EVERY_S: Final = 1.0
_BEAT_S: Final = 1.0
"""How long a health check may take."""
_MOST_MISSED: Final = 2
"""After so many late health checks in a row, a server is left, less than 4 s after it stopped."""
_SPARED_S: Final = 1.0
"""How long another server is preferred to one that was busy or lost a call."""
_FAREWELL_S: Final = 3.0
_UNASKED: Final = "it has not been asked yet"
_log = structlog.get_logger("mendel.remote")


class Server:
    """
    One server of a remote model, and a thread that asks it every second whether the model is ready there.

    Args:
        fit: Gives the form in which the server takes rows, from what it announces; raises ModelNotLoadable.
        left: Called when the server is no longer ready, or a health check is late.
    """

    def __init__(
        self,
        address: RemoteAddress,
        client: ServerClient,
        fit: Callable[[Announced], TensorForm],
        left: Callable[[], None],
    ) -> None:
        self.address, self.client = address, client
        self.form: TensorForm | None = None
        self.beaten = threading.Event()
        self.last_call = 0.0
        self.left_at = 0.0
        self._fit, self._left = fit, left
        self._mutex = threading.Lock()
        self._reason: str | None = _UNASKED
        self._missed = 0
        self._spared_until = 0.0
        self._attempts: set[Attempt] = set()
        self._wake = threading.Event()
        self._stopped = False
        self._question = Attempt(0.0)
        self._thread = threading.Thread(target=self._beat_on, name=f"mendel-remote-{address}", daemon=True)

    @property
    def ready(self) -> bool:
        return self._reason is None

    @property
    def reason(self) -> str:
        """Why the server is not ready; empty if it is."""
        return self._reason or ""

    @property
    def load(self) -> tuple[bool, int, float]:
        """Sorts servers: those that answer health checks and were not busy first, then by running calls."""
        return self._missed > 0 or time.monotonic() < self._spared_until, len(self._attempts), self.last_call

    @property
    def state(self) -> ExternalServer:
        reason, calls = self._reason, len(self._attempts)
        late = "a health check was not answered in time" if self._missed else ""
        return ExternalServer(
            address=str(self.address),
            status="unhealthy" if reason is not None else "degraded" if late else "healthy",
            detail=reason or late,
            calls=calls,
        )

    def start(self) -> None:
        self._thread.start()

    @contextmanager
    def attempt(self, until: float) -> Iterator[Attempt]:
        """Count a call as running; what the call shows of the server's health is noted."""
        attempt = Attempt(until)
        with self._mutex:
            self._attempts.add(attempt)
            self.last_call = time.monotonic()
        try:
            yield attempt
        except Moved:
            raise
        except (Unreachable, Refused, Busy) as failure:
            self._spared_until = time.monotonic() + _SPARED_S
            if not isinstance(failure, Busy):
                self._note(str(failure), None)
            self._wake.set()
            raise
        except NoAnswer:
            self._wake.set()
            raise
        finally:
            with self._mutex:
                self._attempts.discard(attempt)

    def end_attempts(self, reason: NoAnswer) -> None:
        """End every running call."""
        with self._mutex:
            attempts = tuple(self._attempts)
        for attempt in attempts:
            attempt.end(reason)

    def answers(self) -> bool:
        """Ask the server whether it is alive, after a call took too long."""
        try:
            with bounded(_BEAT_S) as attempt:
                self.client.unready(attempt)
        except (NoAnswer, MendelError) as failure:
            return not isinstance(failure, Overdue | Unreachable)
        return True

    def stop(self) -> None:
        """End the thread and the running calls, and close the connections."""
        self._stopped = True
        self._wake.set()
        unloaded = Moved("the model was unloaded")
        self.end_attempts(unloaded)
        self._question.end(unloaded)
        if self._thread.is_alive():
            self._thread.join(_FAREWELL_S)
        self.client.close()

    def _beat_on(self) -> None:
        while not self._stopped:
            self._wake.clear()
            try:
                late = self._beat()
            except Exception as error:  # noqa: BLE001 - the thread that asks goes on, whatever a server answers
                self._note(f"its health check failed with {place_of(error)}", None)
                late = False
            self.beaten.set()
            if self._reason is not None or late:
                self._left()
            self._end_overdue()
            if not late or self._reason is not None:
                self._wake.wait(_EVERY_S)

    def _beat(self) -> bool:
        """Ask the server once; tell whether it did not answer in time."""
        form, late = self.form, False
        try:
            if form is None:
                with self._asking(ASK_S) as attempt:
                    form = self._fit(self.client.announced(attempt))
            with self._asking(_BEAT_S) as attempt:
                reason = self.client.unready(attempt)
        except Overdue as failure:
            late, reason = True, str(failure)
        except NoAnswer as failure:
            reason = str(failure)
        except MendelError as error:  # what it announces does not fit, or cannot be read
            reason = error.message
        self._missed = self._missed + 1 if late else 0
        if not late or self._missed >= _MOST_MISSED or self._reason is not None:
            self._note(reason, form if reason is None else None)  # it may come back with another model
        return late

    def _note(self, reason: str | None, form: TensorForm | None) -> None:
        with self._mutex:
            before, self._reason, self.form = self._reason, reason, form
            if reason is not None:
                self.left_at = time.monotonic()
        if reason is None and before is not None:
            _log.info("remote_server_ready", address=str(self.address))
        elif reason is not None and before in {None, _UNASKED}:
            _log.warning("remote_server_left", address=str(self.address), reason=reason)

    @contextmanager
    def _asking(self, seconds: float) -> Iterator[Attempt]:
        with bounded(seconds) as self._question:
            if self._stopped:
                raise Moved("the model was unloaded")
            yield self._question

    def _end_overdue(self) -> None:
        """End calls whose answer trickles in so slowly that no single wait for it ends."""
        now = time.monotonic()
        with self._mutex:
            overdue = [attempt for attempt in self._attempts if attempt.until < now]
        for attempt in overdue:
            attempt.end(Overdue("it did not answer in time"))


class Servers:
    """The servers of one remote model; :meth:`open` starts to ask them."""

    def __init__(
        self,
        clients: Sequence[tuple[RemoteAddress, ServerClient]],
        fit: Callable[[RemoteAddress, Announced], TensorForm],
    ) -> None:
        self.all = tuple(Server(address, client, partial(fit, address), self._move) for address, client in clients)

    def open(self) -> None:
        """Ask every server, and wait until one is ready or all were asked."""
        for server in self.all:
            server.start()
        until = time.monotonic() + ASK_S + _BEAT_S
        waiting = list(self.all)
        while waiting and self.choose(()) is None and time.monotonic() < until:
            waiting[0].beaten.wait(0.02)
            waiting = [server for server in waiting if not server.beaten.is_set()]

    def choose(self, tried: Collection[Server]) -> Server | None:
        """Give the ready server, not among *tried*, that is healthiest and has the fewest running calls."""
        ready = [server for server in self.all if server.ready and server not in tried]
        return min(ready, key=lambda server: server.load, default=None)

    @property
    def reasons(self) -> str:
        """Why servers are not ready."""
        return "; ".join(f"{server.address}: {server.reason}" for server in self.all if not server.ready)

    def close(self) -> None:
        for server in self.all:
            server.stop()

    def _move(self) -> None:
        """End the calls of servers that were left, if another server can answer them."""
        if self.choose(()) is None:
            return
        for server in self.all:
            if not server.ready:
                server.end_attempts(Moved(server.reason))
