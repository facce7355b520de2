"""A loaded model version: its predictor, input codec, request queue and metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mendel.drift import Reference
from mendel.durable import Clock
from mendel.errors import DeadlineExceeded, InvalidInput, ModelError, ModelNotLoadable, Unavailable
from mendel.projects import Project
from mendel.resilience import BreakerPhase
from mendel.serving.answering import Answering, Delivered, InFlight, by_door
from mendel.serving.artifact_writer import REFERENCE
from mendel.serving.batch_execution import BatchRun, Outcome
from mendel.serving.batching import Lane, PendingRequest
from mendel.serving.entities import AnswerMetadata, LoadKey, Matrix, ServerIdentity
from mendel.serving.input_codec import LISTS, RECORDS, InputCodec
from mendel.serving.input_contract import InputContract
from mendel.serving.memory_budget import Claim
from mendel.serving.meters import VersionMeter
from mendel.serving.metrics import TIMEOUT
from mendel.serving.mlmodel import INPUT_EXAMPLE
from mendel.serving.model_faults import not_loadable
from mendel.serving.parity import check_parity
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import Backend, BreakerView, CounterSlots, LoadBackend, PredictionSink
from mendel.serving.prediction_outputs import flat_classes
from mendel.serving.prediction_records import RecordedVersion
from mendel.serving.predictor import Outputs, PredictorDescriptor
from mendel.serving.probe_rows import read_probe
from mendel.serving.row_batches import Frame, assemble
from mendel.serving.training_ranges import TrainingRanges
from mendel.serving.unregistered_version import is_registered, version_ref
from mendel.values import ModelName, ReleaseTag, ServedVersion
from mendel.values.directory_trees import tree_files


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelContext:
    """
    The objects that all versions of one kernel share.

    Attributes:
        steady: A monotonic clock in seconds.
        announce: Called with the loads that run, before a load begins and after a load has ended.
        is_shared: Tells for an artefact's directory whether all workers share one process for its model.
        in_flight: The requests that have no answer yet.
    """

    policy: ServingPolicy
    load_backend: LoadBackend
    announce: Callable[[frozenset[LoadKey]], None]
    is_shared: Callable[[Path], bool]
    sink: PredictionSink | None
    counters: CounterSlots
    breakers: BreakerView
    clock: Clock
    steady: Callable[[], float]
    rng: random.Random
    project: Project | None
    identity: ServerIdentity
    in_flight: InFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedArtifact:
    """
    A backend that predicted the artefact's input example, and the input codec and drift reference of the artefact.

    Attributes:
        reference: None when the artefact has no drift reference.
        footprint_bytes: The size of the artefact's files.
        memory_bytes: The growth of the process's resident memory during the load, including memory that requests took
            meanwhile; for a model with a process of its own, this worker's share of that process's memory. None if the
            system does not report memory.
        answered: The answer to the input example; None if the artefact has no input example.
        claim: The part of the memory budget that this artefact takes; None outside of a server.
    """

    backend: Backend
    codec: InputCodec
    reference: Reference | None
    footprint_bytes: int
    memory_bytes: int | None = None
    answered: Outputs | None = None
    claim: Claim | None = None

    def end(self) -> None:
        """Stop the backend, and give its memory back to the budget; may be called twice."""
        self.backend.kill()
        if self.claim is not None:
            self.claim.release()

    @property
    def descriptor(self) -> PredictorDescriptor:
        """The description of the predictor that the backend runs."""
        return self.backend.descriptor


def load_artifact(directory: Path, served: ServedVersion, context: KernelContext) -> LoadedArtifact:
    """
    Load an artefact and predict its input example, if it has one. Blocks; call it in a thread.

    Raises:
        MendelError: The artefact cannot be loaded, or predicting its input example failed.
    """
    backend = context.load_backend(directory, digest=served.artifact_digest, project=context.project)
    try:
        codec = codec_of(served, backend.descriptor, context.policy)

        def predict(frame: Frame) -> Outputs:
            return backend.predict(frame, math.inf)

        answered = predict_example(directory, codec, predict)
        _require_parity(directory, codec, predict, steady=context.steady, served=served)
        path = directory / REFERENCE
        reference = Reference.from_json(path.read_bytes()) if path.is_file() else None
        backend.checked()
    except BaseException:
        backend.kill()
        raise
    return LoadedArtifact(
        backend=backend,
        codec=codec,
        reference=reference,
        footprint_bytes=footprint(directory),
        answered=answered,
    )


def codec_of(served: ServedVersion, descriptor: PredictorDescriptor, policy: ServingPolicy) -> InputCodec:
    """
    Build the input codec of a version.

    Without a signature and without ``api.feature_order``, ``api.adapter`` decides between records and lists as rows.
    """
    forms = {
        "records": frozenset({RECORDS} if descriptor.dataframe else {RECORDS, LISTS}),
        "ndarray": frozenset({LISTS}),
    }
    contract = descriptor.contract
    if contract is None and served.signature is not None and served.signature.inputs:
        contract = InputContract.of_signature(served.signature)
    return InputCodec(
        contract,
        order=descriptor.order,
        max_rows=policy.max_rows,
        forms=forms.get(descriptor.adapter, frozenset({RECORDS, LISTS})),
    )


def footprint(directory: Path) -> int:
    """Give the total size in bytes of an artefact's files, which counts against ``memory_budget_bytes``."""
    return sum(path.stat().st_size for _, path in tree_files(directory, exclude=("data",)))


def predict_example(directory: Path, codec: InputCodec, predict: Callable[[Frame], Outputs]) -> Outputs | None:
    """
    Predict the input example of the artefact in *directory*; None without an input example.

    Raises:
        ModelNotLoadable: The example cannot be read or predicted.
    """
    path = directory / INPUT_EXAMPLE
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_bytes())
        rows = document["data"] if "data" in document else document["inputs"]
        columns = tuple(document["columns"]) if "columns" in document else None
        return predict(assemble([codec.decode(Matrix(rows=rows, columns=columns))]))
    except InvalidInput as error:
        raise ModelNotLoadable(
            f"The input example {INPUT_EXAMPLE} is refused because of feature {getattr(error, 'feature', None)!r}.",
            detail=str(error),
        ) from error
    except ModelError as error:
        raise not_loadable(f"Predicting the input example {INPUT_EXAMPLE}", error.__cause__ or error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise not_loadable(f"Reading the input example {INPUT_EXAMPLE}", error) from error


def _require_parity(
    directory: Path,
    codec: InputCodec,
    predict: Callable[[Frame], Outputs],
    *,
    steady: Callable[[], float],
    served: ServedVersion,
) -> None:
    report = check_parity(read_probe(directory), codec, predict, steady=steady)
    if not report.admits(served.accepted_difference):
        raise ModelNotLoadable(
            f"The answers differ from those of the fitted model: {report.reason}.",
            detail=report.detail,
            difference_id=report.difference_id,
            remedy=f"See the answers of version {served.number} with mendel parity show; load it with the packages "
            "that the model was fitted with, or accept the difference with: mendel parity accept.",
        )


class LoadedVersion:
    """
    A loaded model version. Create and use it on the event loop only.

    ``generation`` and ``metadata`` change when the deployment changes while the version stays loaded. ``used_at`` is
    the second of the monotonic clock of its last request, or of its load.
    """

    def __init__(
        self, model: ModelName, served: ServedVersion, artifact: LoadedArtifact, context: KernelContext
    ) -> None:
        self.ref = version_ref(model, served.number)
        self.served = served
        self.artifact = artifact
        self.policy = context.policy
        self.loaded_at = context.clock()
        self.used_at = context.steady()
        self.generation = 0
        self.metadata = self._describe(context, 0, self.loaded_at)
        self.meter = VersionMeter(context.counters, self.ref)
        self.meter.memory(artifact.memory_bytes or 0)
        self._context = context
        self._loop = asyncio.get_running_loop()
        context.breakers.keep(self.ref)
        classes = flat_classes(artifact.descriptor.classes or ())
        self._recorded = {
            shadow: RecordedVersion(
                model=model,
                served=served,
                generation=0,
                image_digest=_image_digest(served, context.identity),
                classes=classes,
                shadow=shadow,
            )
            for shadow in (False, True)
        }
        run = BatchRun(
            backend=artifact.backend,
            reference=None if artifact.reference is None else TrainingRanges(artifact.reference),
            sink=context.sink if is_registered(served) else None,
            whose=lambda shadow: self._recorded[shadow],
            clock=context.clock,
            steady=context.steady,
            rng=context.rng,
            required=context.policy.logging_required,
            calling=(lambda _: None) if artifact.backend.stops_calls else self.meter.calling,
        )
        self.lane: Lane[Outcome] = Lane(
            str(self.ref),
            execute=run,
            ran=self._ran,
            dropped=self._dropped,
            deliver=self._deliver,
            width=min(artifact.descriptor.width, context.policy.bulkhead.max_concurrent),
            max_rows=context.policy.max_batch_rows,
            one_request_per_batch=artifact.descriptor.response.one_request_per_call,
            longest_call=None if artifact.backend.stops_calls else context.policy.predict_timeout.total_seconds(),
            loop=self._loop,
            steady=context.steady,
        )

    @property
    def died(self) -> str | None:
        """The reason why this version cannot answer now; None while it can."""
        if self.lane.stuck:
            limit = self.policy.predict_timeout.total_seconds()
            return f"A call of the model has been running for more than {limit:g} s."
        return self.artifact.backend.died

    @property
    def unready(self) -> str | None:
        """The reason why calls of this version fail now; None when it can answer, or may be tried again."""
        if (died := self.died) is not None:
            return died
        if self._context.breakers.phase(self.ref) is BreakerPhase.OPEN:
            return "Its circuit breaker is open, because too many calls failed."
        return None

    def serve_as(self, generation: int, now: datetime, served: ServedVersion) -> None:
        """Set the deployment *generation* and the registry's facts *served* that later answers and log rows contain."""
        if generation != self.generation:
            self.generation = generation
            self.served = served
            self.metadata = self._describe(self._context, generation, now)
            self._recorded = {
                shadow: replace(
                    old,
                    served=served,
                    generation=generation,
                    image_digest=_image_digest(served, self._context.identity),
                )
                for shadow, old in self._recorded.items()
            }

    @property
    def idle(self) -> bool:
        """Whether no request waits for this version or is being answered by it."""
        return not self.lane.queued and not self.lane.running

    async def retire(self, patience: timedelta) -> None:
        """Wait for the requests in flight, at most *patience*, then unload the version."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lane.idle(), patience.total_seconds())
        self.lane.close()
        await asyncio.to_thread(self.artifact.end)
        self.meter.memory(-(self.artifact.memory_bytes or 0))
        self._context.breakers.forget(self.ref)

    def _ran(self, tickets: Sequence[PendingRequest[Outcome]], outcomes: Sequence[Outcome] | BaseException) -> None:
        if isinstance(outcomes, Unavailable):  # the model was not called
            self._dropped(tickets)
            return
        failed = [isinstance(outcomes, BaseException) or _faulty(outcomes[place]) for place in range(len(tickets))]
        for epoch, (succeeded, faults) in _by_epoch(tickets, failed).items():
            self._context.breakers.record(self.ref, epoch=epoch, succeeded=succeeded, failed=faults)
        self.meter.started(len(tickets))
        self.meter.batch(tickets, outcomes, failed, self._context.steady())

    def _dropped(self, tickets: Sequence[PendingRequest[Outcome]]) -> None:
        self.meter.started(len(tickets))
        for epoch, (_, unused) in _by_epoch(tickets, [True] * len(tickets)).items():
            self._context.breakers.record(self.ref, epoch=epoch, unused=unused)

    def _deliver(self, delivered: Delivered) -> None:
        waiting = [pair for pair in delivered if not pair[0].shadow]
        try:
            answers = self._answering().by_door(waiting)
        except Exception as error:  # noqa: BLE001 - each request gets an answer, even if it is the defect of Mendel
            answers = by_door((ticket, error) for ticket, _ in waiting)
        for done, answered in answers.items():
            self._loop.call_soon(done, answered)  # so that the fault of a door fails only its own requests
        self._context.in_flight.leave(len(waiting))
        self.meter.left(len(waiting))
        late = sum(isinstance(outcome, DeadlineExceeded) for ticket, outcome in waiting if not ticket.is_abandoned)
        if late:
            self.meter.outcome(TIMEOUT, late)

    def _answering(self) -> Answering:
        context = self._context
        return Answering(ref=self.ref, metadata=self.metadata, at=context.clock(), now=context.steady())

    def _describe(self, context: KernelContext, generation: int, now: datetime) -> AnswerMetadata:
        served, descriptor, server = self.served, self.artifact.descriptor, context.identity
        document: Mapping[str, Any] = {
            "project": server.project,
            "classifier": str.__str__(self.ref.model),
            "predictor_class": descriptor.class_name,
            "predictor_module": descriptor.module,
            "git_commit": server.commit_of(served),
            "git_tag": served.release_tag,
            "model_version": label_of(served),
            "model_uuid": str.__str__(served.uuid) if is_registered(served) else None,
            **({"model_image_digest": str.__str__(served.image_digest)} if served.image_digest else {}),
            "deployed_at": now.isoformat(),
            "mlserver_version": server.tool_version,
            "mlserver_api_commit": server.tool_commit,
            **({"image": server.image.document} if server.image else {}),
        }
        return AnswerMetadata(
            model=self.ref.model,
            version=served.number,
            label=label_of(served),
            uuid=served.uuid,
            generation=max(generation, 0),
            deployed_at=now,
            task=served.task,
            classes=descriptor.classes,
            document=document,
        )


def _image_digest(served: ServedVersion, identity: ServerIdentity) -> str | None:
    """Give the digest of the image registered for the version, else of this server's image; None without images."""
    return served.image_digest or (None if identity.image is None else identity.image.digest)


def label_of(served: ServedVersion) -> str | None:
    """
    Give the version as text for answers.

    A registered version gives its number; an unregistered one gives the version of its release, such as ``1.2.0``, or
    None when the hosted commit is not a release.
    """
    if is_registered(served):
        return str(served.number)
    return None if served.release_tag is None else str(ReleaseTag.parse(served.release_tag).version)


def _faulty(outcome: Outcome) -> bool:
    return isinstance(outcome.error, ModelError)


def _by_epoch(tickets: Sequence[PendingRequest[Outcome]], failed: Sequence[bool]) -> dict[int, tuple[int, int]]:
    """Count the requests that succeeded and failed for each epoch of the breaker, without copies for a shadow."""
    counts: dict[int, list[int]] = {}
    for ticket, bad in zip(tickets, failed, strict=True):
        if not ticket.shadow:
            counts.setdefault(ticket.epoch, [0, 0])[bad] += 1
    return {epoch: (good, bad) for epoch, (good, bad) in counts.items()}
