"""Interfaces of serving: model backends, the prediction log, shared metrics and shared circuit breakers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mendel.predictions import LabelRow, PredictionBlock
from mendel.projects import Project
from mendel.resilience import Admission, BreakerPhase
from mendel.serving.entities import BackendPlace
from mendel.serving.predictor import Outputs, PredictorDescriptor
from mendel.serving.row_batches import Frame
from mendel.values import Digest, ModelName, VersionRef


class Backend(Protocol):
    """
    Runs the predictor of one loaded model version, for example in a thread of the server or in a separate process.

    The kernel does the logging, batching, circuit breaking and limiting of requests. A backend must pass
    ``tests/contracts/test_backends.py``.
    """

    @property
    def descriptor(self) -> PredictorDescriptor:
        """The description of the predictor; only ``acceleration`` may change."""

    @property
    def died(self) -> str | None:
        """The reason, in a sentence, why the predictor does not run, for good or for now; None while it runs."""

    @property
    def place(self) -> BackendPlace:
        """Where the predictor runs now."""

    @property
    def stops_calls(self) -> bool:
        """Whether :meth:`predict` itself ends a call that takes longer than ``policy.predict_timeout``."""

    def predict(self, frame: Frame, deadline: float) -> Outputs:
        """
        Predict every row of *frame*, in order.

        Blocks; the kernel calls it in at most ``descriptor.width`` threads at once.

        Args:
            frame: The rows of several requests; of a single request if ``descriptor.response.one_request_per_call``.
            deadline: The second of the monotonic clock at which the last request expires. A call that begins before the
                deadline is not ended at the deadline, because ending it may cost the time of a restart.

        Raises:
            ModelStopped: The call took longer than ``policy.predict_timeout``, or its process ended. The rows are not
                tried again one by one.
            ModelFailed: The model raised an exception (SystemExit included), did not return one answer per row, or
                returned a value that JSON cannot represent. The next call may succeed, unless ``died`` is set.
            DeadlineExceeded: The call had not begun at *deadline*.
        """

    def checked(self) -> None:
        """
        Tell the backend that the artefact has passed the checks of its load.

        The backend may now prepare a faster predictor in a separate thread; it must give the same answers. The method
        is called at most once, and never after :meth:`kill`.
        """

    def kill(self) -> None:
        """
        Stop this backend at once, abandon a running call, and free its resources; ``died`` is set afterwards.

        May be called twice, raises nothing, and may block.
        """


class LoadBackend(Protocol):
    """Loads an artefact into a new backend."""

    def __call__(self, directory: Path, *, digest: Digest | None, project: Project | None) -> Backend:
        """
        Load the artefact in *directory*. Blocks; called in a thread.

        Args:
            digest: The expected digest of the directory; None skips the check.
            project: The project whose code the artefact may need; None when this server hosts no project.

        Raises:
            DigestMismatch: The directory does not have the expected digest; no file was loaded.
            ModelNotLoadable: The artefact contains no predictor, or a package or code that it needs is missing; no
                thread or process is left running.
        """


class Environments(Protocol):
    """
    Python environments for artefacts that contain their project's code and lock.

    Only an artefact that was trained in the environment of its lock gets such an environment, so that a model always
    runs with the packages that trained it.
    """

    def python_of(self, directory: Path) -> str | None:
        """
        Give the interpreter for the artefact in *directory*; None means the interpreter of the server.

        Raises:
            NeedsNewImage: The artefact needs an environment that this server does not have.
            ModelNotLoadable: The artefact or its lock cannot be read.
        """

    def make(self, directory: Path) -> None:
        """
        Make the environment of the artefact in *directory*, if it needs one that this server may make and lacks.

        Blocks, up to minutes; two calls for equal locks make one environment, also from several processes.

        Raises:
            NeedsNewImage: This machine has no Python of the version that the lock names.
            ModelNotLoadable: The artefact or its lock cannot be read.
            MendelError: A package cannot be fetched or unpacked.
        """


class PredictionSink(Protocol):
    """
    The prediction log, usually a spool on disk. Predictions are written before the answer is sent.

    Several threads may call its methods at once; each call is one write. When the disk is full or fails, the methods
    return False instead of raising, until writing works again.
    """

    def append(self, block: PredictionBlock) -> bool:
        """Write the predictions of one batch; give False if they could not be written."""

    def append_labels(self, labels: Sequence[LabelRow]) -> bool:
        """Write labels; give False if no label could be written."""


@dataclass(frozen=True, slots=True)
class Series:
    """
    A time series of a metric: the name of the metric and its labels, sorted by name.

    ``gauge`` is True for a current value, which is dropped when its process ends; counts stay.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    gauge: bool = False


class CounterSlots(Protocol):
    """
    Integer counters that the processes of a server share; reading gives the sum over all processes.

    Each series has ``width`` consecutive cells. Reserving cells is slow and happens once per series; adding is fast and
    takes no lock, because only one event loop per process writes. Counts stay after their process ends; gauges do not.
    """

    def reserve(self, series: Series, width: int = 1) -> int:
        """
        Give the number of the first cell of *series*; the same series always gets the same number.

        Without free cells the number is -1; adding to cell -1 does nothing.
        """

    def add(self, cell: int, amount: int = 1) -> None:
        """Add *amount* to the value of *cell*; a negative amount is allowed for gauges only."""

    def put(self, cell: int, value: int) -> None:
        """Set the value of *cell*, which belongs to a gauge."""

    def totals(self) -> Mapping[Series, tuple[int, ...]]:
        """Give each series summed over all processes; different series may be read at slightly different times."""


class BreakerView(Protocol):
    """
    The circuit breakers of a server's model versions; all processes of the server share their state.

    The caller must record the result of every admitted call exactly once, with the epoch of its admission; otherwise a
    half-open breaker runs out of probe calls. Methods are called on the event loop and must not block.
    """

    def admit(self, version: VersionRef) -> Admission:
        """Decide whether one call may go to *version* now."""

    def record(self, version: VersionRef, *, epoch: int, succeeded: int = 0, failed: int = 0, unused: int = 0) -> None:
        """
        Record the results of calls that were admitted in *epoch*.

        Args:
            succeeded: The number of calls that the model answered.
            failed: The number of calls in which the model failed.
            unused: The number of calls that never reached the model, or whose deadline passed.
        """

    def keep(self, version: VersionRef) -> None:
        """Keep the breaker of *version*, which this process loaded, even if every other process forgets it."""

    def phase(self, version: VersionRef) -> BreakerPhase:
        """Give the phase of the version's breaker: closed, open or half-open."""

    def forget(self, version: VersionRef) -> None:
        """Drop the breaker of *version*, which this process unloaded."""


class RepositoryControl(Protocol):
    """
    Loads and unloads models in every process of the server, at the request of a caller with the scope ``deploy``.

    Loading and unloading never change the deployments. Both calls return after every process has loaded or unloaded the
    model. An unloaded model stays unloaded, and a model loaded by path stays loaded, until the opposite call or until
    the server stops.
    """

    async def load(self, model: ModelName, *, path: str | None = None) -> None:
        """
        Load the deployed versions of *model*, or the artefact in the directory *path* under the name *model*.

        Raises:
            ModelNotFound: No such model is deployed or was loaded by path.
            Forbidden: *path* is not a directory below ``serving.model_roots``.
            AlreadyExists: *path* is given, and a model with this name is deployed.
            NotReady: A process could not load the model; the message gives the reason. Nothing else has changed.
        """

    async def unload(self, model: ModelName) -> int | None:
        """
        Unload *model*; a model that was loaded by path is then no longer known.

        Returns the decrease of the processes' resident memory in bytes; None if it cannot be measured.

        Raises:
            ModelNotFound: No such model is deployed or was loaded by path.
        """
