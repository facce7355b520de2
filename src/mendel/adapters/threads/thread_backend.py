"""Run the predictor in the calling thread: the fastest backend, for models that never hang or crash."""

from __future__ import annotations

import os
from pathlib import Path

from mendel.errors import MendelError, ModelFailed
from mendel.projects import Project
from mendel.serving import BackendPlace, Frame, Outputs, Predictor, PredictorDescriptor, load_predictor
from mendel.values import Digest


def load_in_thread(directory: Path, *, digest: Digest | None, project: Project | None) -> ThreadBackend:
    """Implements :class:`mendel.serving.LoadBackend`: loads the artefact into this process."""
    return ThreadBackend(load_predictor(directory, digest=digest, project=project))


class ThreadBackend:
    """
    Implements :class:`mendel.serving.Backend` in this process.

    A thread cannot be stopped: a call continues after its deadline and after :meth:`kill` until the model returns.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._died: str | None = None

    @property
    def descriptor(self) -> PredictorDescriptor:
        return self.predictor.descriptor

    @property
    def died(self) -> str | None:
        """The reason why predictions fail; None until :meth:`kill` was called."""
        return self._died

    @property
    def place(self) -> BackendPlace:
        return BackendPlace(backend="thread", pid=os.getpid(), memory_bytes=None)

    @property
    def stops_calls(self) -> bool:
        return False

    def predict(self, frame: Frame, deadline: float) -> Outputs:
        del deadline
        if self._died is not None:
            raise ModelFailed(self._died)
        try:
            return self.predictor.predict(frame)
        except MendelError:
            raise
        except BaseException as error:
            raise ModelFailed(f"The model raised {type(error).__name__}: {error}") from error

    def checked(self) -> None:
        """Let the predictor call the model once per batch, if the checks have shown that one call is enough."""
        self.predictor.checked()

    def kill(self) -> None:
        if self._died is None:
            self._died = "The model was unloaded, so it can no longer predict."
            self.predictor.close()
            self.predictor = Predictor(None, self.predictor.descriptor)  # the model's memory is free without collection
