"""The ports of serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mendel.predictions import LabelRow, PredictionBlock
from mendel.projects import Project
from mendel.resilience import Admission, BreakerPhase
from mendel.serving.predictor import Outputs, PredictorDescriptor
from mendel.serving.row_batches import Frame
from mendel.values import Digest, ModelName, VersionRef


class Backend(Protocol):
    """
    The place where the predictor of one loaded version runs: a thread of the server, a process of its own...

    Recording, batching, breaker and bulkhead stay with the kernel, on its side of this port. A backend must pass
    ``tests/contracts/test_backends.py``.
    """

    @property
    def descriptor(self) -> PredictorDescriptor:
        """What the kernel needs to know of the predictor; constant."""

    @property
    def died(self) -> str | None:
        """Why it can answer no more, in a sentence; None while it can. Once it died it stays dead."""

    def predict(self, frame: Frame, deadline: float) -> Outputs:
        """
        Answer every row of *frame*, in order; where ``descriptor.response.one_request_per_call``, of one request only.

        Blocks; called from at most ``descriptor.width`` threads at once. The kernel starts no further thread for it.

        Args:
            deadline: Second of the kernel's steady clock after which nobody waits for the answer. A backend that can
                stop a call stops it then; one that cannot returns late.

        Raises:
            ModelFailed: The model raised anything at all, SystemExit included; or what it returned is not one answer
                per row, or nothing that JSON can carry. The next call may succeed, unless the backend died.
            DeadlineExceeded: The call was stopped.
        """

    def kill(self) -> None:
        """
        End it now and give everything back; a call that runs is abandoned. Idempotent, raises nothing, may block.

        What is killed has died.
        """


class LoadBackend(Protocol):
    """A kind of backend: loads artefacts."""

    def __call__(self, directory: Path, *, digest: Digest | None, project: Project | None) -> Backend:
        """
        Load the artefact in *directory*. Blocks; called in a thread.

        Args:
            digest: What the directory's content must hash to; None trusts it.
            project: Gives the code of its classifiers; None where no project is hosted.

        Raises:
            DigestMismatch: The content is another; nothing of it was read.
            ModelNotLoadable: There is no predictor in it, or what it needs is not here. Nothing is left running.
        """


class PredictionSink(Protocol):
    """
    Where predictions and labels are written before the answer leaves; the spool, as a rule.

    Called from worker threads, several at once; each call is one write. Full or failing, it says False and goes on
    saying so until it can write again; it never raises for a disk.
    """

    def append(self, block: PredictionBlock) -> bool:
        """Write one batch; False: it is not written, and answers say ``logged: false``."""

    def append_labels(self, labels: Sequence[LabelRow]) -> bool:
        """Write labels; False: none is written."""


@dataclass(frozen=True, slots=True)
class Series:
    """
    One line of metrics: a name and its labels, sorted.

    ``gauge`` values belong to a living process and go with it; the others are counts, which outlive it.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()
    gauge: bool = False


class CounterSlots(Protocol):
    """
    Whole-number counts, readable in sum over every process of the server.

    A series owns ``width`` consecutive cells. Reserving takes time and memory, once; adding is cheap and takes no
    lock: one event loop writes. What a process counted survives its death, gauges excepted.
    """

    def reserve(self, series: Series, width: int = 1) -> int:
        """
        The first cell of *series*, which is always the same.

        -1 when there is no room for it; adding to -1 does nothing.
        """

    def add(self, cell: int, amount: int = 1) -> None:
        """Add *amount*, which is negative for gauges only."""

    def put(self, cell: int, value: int) -> None:
        """Set a gauge."""

    def totals(self) -> Mapping[Series, tuple[int, ...]]:
        """The sum of every series over all processes; not atomic between series."""


class BreakerView(Protocol):
    """
    The breakers of a server's versions, on the aggregate of its processes.

    Every admitted call is answered by exactly one recorded end, with the epoch it was admitted in, so that probes are
    never lost. Called on the event loop; must not block.
    """

    def admit(self, version: VersionRef) -> Admission:
        """Whether one call may go to *version* now."""

    def record(self, version: VersionRef, *, epoch: int, succeeded: int = 0, failed: int = 0, unused: int = 0) -> None:
        """
        Ends of calls admitted in *epoch*: the model answered, the model failed, or it was never asked.

        A passed deadline is ``unused``.
        """

    def phase(self, version: VersionRef) -> BreakerPhase:
        """Where the breaker stands."""

    def forget(self, version: VersionRef) -> None:
        """The version was unloaded here; what is known of it may go."""


class RepositoryControl(Protocol):
    """
    Loads and unloads models on all processes of the server, at the request of a caller with the scope ``deploy``.

    Never changes which versions are desired.
    """

    async def load(self, model: ModelName) -> None:
        """Load what is desired of *model*; returns after every process has."""

    async def unload(self, model: ModelName) -> None:
        """Free *model*'s memory; returns after every process has."""
