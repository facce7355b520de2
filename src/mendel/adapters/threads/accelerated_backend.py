"""Run the predictor in the calling thread; use an ONNX graph instead of the model if both give equal answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from mendel.adapters.threads.thread_backend import ThreadBackend
from mendel.errors import Unsupported
from mendel.projects import Project
from mendel.serving import Acceleration, Predictor, accelerated, load_predictor, read_probe
from mendel.serving.model_faults import place_of
from mendel.values import Digest

_log = structlog.get_logger("mendel.acceleration")
_PATIENCE: Final = timedelta(minutes=2)
_FAREWELL: Final = timedelta(seconds=5)
_SEED: Final = 0
"""The seed of the compared rows, so that every process compares the same rows and makes the same decision."""


class AcceleratedLoads:
    """
    Implements :class:`mendel.serving.LoadBackend` for ``serving.accelerate: onnx``.

    A version is served with its loaded model as soon as the model has passed the checks of the load. Then a thread
    converts the model and compares the answers: one model at a time, and never while an artefact is being loaded, so
    that no model becomes ready later.
    """

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._loading = 0
        self._comparing = False

    def __call__(self, directory: Path, *, digest: Digest | None, project: Project | None) -> AcceleratedBackend:
        self._count(1)
        try:
            predictor = load_predictor(directory, digest=digest, project=project)
        except BaseException:
            self.end_load()
            raise
        return AcceleratedBackend(predictor, directory, self)

    def end_load(self) -> None:
        """Record that a load has ended, so that waiting comparisons may start."""
        self._count(-1)

    def accelerate(self, backend: AcceleratedBackend, directory: Path) -> None:
        """Replace the predictor of *backend*, or record the reason against it; ends early if the backend is killed."""
        with self._change:
            self._change.wait_for(lambda: backend.died is not None or not (self._comparing or self._loading))
            if backend.died is not None:
                return
            self._comparing = True
        began = time.monotonic()

        def going_on() -> bool:
            with self._change:
                self._change.wait_for(lambda: backend.died is not None or not self._loading)
            return backend.died is None and time.monotonic() - began < _PATIENCE.total_seconds()

        try:
            _replace(backend, directory, going_on)
        finally:
            with self._change:
                self._comparing = False
                self._change.notify_all()

    def notice(self) -> None:
        """Wake the waiting comparisons after a backend was killed."""
        self._count(0)

    def _count(self, more: int) -> None:
        with self._change:
            self._loading += more
            self._change.notify_all()


class AcceleratedBackend(ThreadBackend):
    """A :class:`ThreadBackend` whose predictor is replaced once; running calls finish with the former predictor."""

    def __init__(self, predictor: Predictor, directory: Path, loads: AcceleratedLoads) -> None:
        super().__init__(_declined(predictor, "the graph has not been compared with the model yet"))
        self._directory = directory
        self._loads = loads
        self._loading = True
        self._thread: threading.Thread | None = None

    def checked(self) -> None:
        super().checked()
        self._end_load()
        self._thread = threading.Thread(
            target=self._loads.accelerate, args=(self, self._directory), name="mendel-accelerate", daemon=True
        )
        self._thread.start()

    def kill(self) -> None:
        """Also wait briefly for the comparison, because a process that ends during a call of onnxruntime crashes."""
        super().kill()
        self._end_load()
        self._loads.notice()
        if self._thread is not None:
            self._thread.join(_FAREWELL.total_seconds())

    def _end_load(self) -> None:
        if self._loading:
            self._loading = False
            self._loads.end_load()


def _replace(backend: AcceleratedBackend, directory: Path, going_on: Callable[[], bool]) -> None:
    original = backend.predictor
    try:
        quick = accelerated(original, read_probe(directory), rng=np.random.default_rng(_SEED), going_on=going_on)
    except Unsupported as declined:
        reason = declined.message
    except Exception as error:  # noqa: BLE001 - whatever a converter raises, the loaded model goes on answering
        reason = f"the conversion failed with {place_of(error)}"
    else:
        backend.predictor = quick
        _log.info("accelerated", artefact=directory.name, by="onnx")
        return
    if backend.died is None:
        backend.predictor = _declined(original, reason)
        _log.warning("not_accelerated", artefact=directory.name, reason=reason)


def _declined(predictor: Predictor, reason: str) -> Predictor:
    acceleration = Acceleration(accelerated=False, reason=reason)
    return predictor.described(replace(predictor.descriptor, acceleration=acceleration))
