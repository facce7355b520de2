"""One loaded version: its predictor, its codec, its lane and its counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from mendel.drift import Reference
from mendel.durable import Clock
from mendel.errors import InvalidInput, ModelError, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.artifact_loading import load
from mendel.serving.artifact_writer import GOLDEN_INPUT, REFERENCE
from mendel.serving.batch_execution import BatchRun, Outcome
from mendel.serving.batching import Lane, Ticket
from mendel.serving.entities import AnswerMetadata, Matrix, ServerIdentity
from mendel.serving.input_codec import LISTS, RECORDS, InputCodec
from mendel.serving.meters import VersionMeter
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import BreakerView, CounterSlots, PredictionSink
from mendel.serving.prediction_records import Recorded
from mendel.serving.predictor import Predictor
from mendel.serving.row_batches import assemble
from mendel.serving.unregistered_version import is_registered, version_ref
from mendel.values import ModelName, ReleaseTag, ServedVersion
from mendel.values.directory_trees import tree_files


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelContext:
    """What every version of a kernel shares; ``steady`` counts seconds and never goes back."""

    policy: ServingPolicy
    sink: PredictionSink | None
    counters: CounterSlots
    breakers: BreakerView
    clock: Clock
    steady: Callable[[], float]
    rng: random.Random
    project: Project | None
    identity: ServerIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An artefact as read from disk, and proved by its golden input where it has one."""

    predictor: Predictor
    codec: InputCodec
    reference: Reference | None
    footprint_bytes: int
    golden: bool


def read_version(directory: Path, served: ServedVersion, *, policy: ServingPolicy, project: Project | None) -> Read:
    """
    Load an artefact and run its golden input through decoding, predicting and encoding. Blocks; call it in a thread.

    Raises:
        MendelError: It cannot be loaded, or it failed its golden input.
    """
    predictor = load(directory, digest=served.artifact_digest, project=project)
    try:
        codec = codec_of(served, predictor, policy)
        golden = _warm_up(directory, codec, predictor)
        path = directory / REFERENCE
        reference = Reference.from_json(path.read_bytes()) if path.is_file() else None
    except BaseException:
        predictor.close()
        raise
    return Read(
        predictor=predictor, codec=codec, reference=reference, footprint_bytes=footprint(directory), golden=golden
    )


def codec_of(served: ServedVersion, predictor: Predictor, policy: ServingPolicy) -> InputCodec:
    """The codec for requests to *predictor*: where nothing names the features, ``api.adapter`` says how rows come."""
    forms = {
        "records": frozenset({RECORDS} if predictor.dataframe else {RECORDS, LISTS}),
        "ndarray": frozenset({LISTS}),
    }
    return InputCodec(
        served.signature,
        order=predictor.order,
        max_rows=policy.max_rows,
        forms=forms.get(predictor.adapter, frozenset({RECORDS, LISTS})),
    )


def footprint(directory: Path) -> int:
    """Bytes of an artefact's files, by which the memory budget goes."""
    return sum(path.stat().st_size for _, path in tree_files(directory, exclude=("data",)))


def _warm_up(directory: Path, codec: InputCodec, predictor: Predictor) -> bool:
    path = directory / GOLDEN_INPUT
    if not path.is_file():
        return False
    try:
        document = json.loads(path.read_bytes())
        rows = document["data"] if "data" in document else document["inputs"]
        columns = tuple(document["columns"]) if "columns" in document else None
        predictor.predict(assemble([codec.decode(Matrix(rows=rows, columns=columns))]))
    except (ModelError, InvalidInput) as error:
        raise ModelNotLoadable(f"The model fails its golden input: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelNotLoadable(f"The golden input cannot be read: {error}.") from error
    return True


class LoadedVersion:
    """
    A version that can answer. Made, used and retired on the event loop.

    ``generation`` and ``metadata`` change when the deployment does, and the version stays.
    """

    def __init__(self, model: ModelName, served: ServedVersion, read: Read, around: KernelContext) -> None:
        self.ref = version_ref(model, served.number)
        self.served = served
        self.read = read
        self.policy = around.policy
        self.loaded_at = around.clock()
        self.generation = 0
        self.metadata = self._describe(around, 0, self.loaded_at)
        self.meter = VersionMeter(around.counters, self.ref)
        self._around = around
        classes = tuple(map(str, read.predictor.classes or ()))
        self._recorded = {
            shadow: Recorded(
                model=model,
                served=served,
                generation=0,
                image_digest=_image_digest(served, around.identity),
                classes=classes,
                shadow=shadow,
            )
            for shadow in (False, True)
        }
        run = BatchRun(
            predictor=read.predictor,
            reference=read.reference,
            sink=around.sink if is_registered(served) else None,
            whose=lambda shadow: self._recorded[shadow],
            clock=around.clock,
            steady=around.steady,
            rng=around.rng,
            required=around.policy.logging_required,
        )
        self.lane: Lane[Outcome] = Lane(
            str(self.ref),
            execute=run,
            done=self._ran,
            dropped=self._dropped,
            width=min(read.predictor.width, around.policy.bulkhead.max_concurrent),
            max_rows=around.policy.max_batch_rows,
            alone=read.predictor.answering.alone,
            loop=asyncio.get_running_loop(),
            steady=around.steady,
        )

    def serve_as(self, generation: int, now: datetime, served: ServedVersion) -> None:
        """From here on this version's answers carry *generation*, and what the registry says of it now."""
        if generation != self.generation:
            self.generation = generation
            self.served = served
            self.metadata = self._describe(self._around, generation, now)
            self._recorded = {
                shadow: replace(
                    old,
                    served=served,
                    generation=generation,
                    image_digest=_image_digest(served, self._around.identity),
                )
                for shadow, old in self._recorded.items()
            }

    async def retire(self, patience: timedelta) -> None:
        """Wait for what is in flight, at most *patience*, then give everything back."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lane.idle(), patience.total_seconds())
        self.lane.close()
        await asyncio.to_thread(self.read.predictor.close)
        self._around.breakers.forget(self.ref)

    def _ran(self, tickets: Sequence[Ticket[Outcome]], outcomes: Sequence[Outcome] | BaseException) -> None:
        failed = [isinstance(outcomes, BaseException) or _faulty(outcomes[place]) for place in range(len(tickets))]
        for epoch in {ticket.epoch for ticket in tickets if not ticket.shadow}:
            mine = [bad for t, bad in zip(tickets, failed, strict=True) if t.epoch == epoch and not t.shadow]
            self._around.breakers.record(self.ref, epoch=epoch, succeeded=mine.count(False), failed=mine.count(True))
        self.meter.started(len(tickets))
        self.meter.batch(tickets, outcomes, failed, self._around.steady())

    def _dropped(self, ticket: Ticket[Outcome]) -> None:
        self.meter.started(1)
        if not ticket.shadow:
            self._around.breakers.record(self.ref, epoch=ticket.epoch, unused=1)

    def _describe(self, around: KernelContext, generation: int, now: datetime) -> AnswerMetadata:
        served, predictor, who = self.served, self.read.predictor, around.identity
        document: Mapping[str, Any] = {
            "project": who.project,
            "classifier": str.__str__(self.ref.model),
            "predictor_class": predictor.class_name,
            "predictor_module": predictor.module,
            "git_commit": who.git_commit,
            "git_tag": served.release_tag,
            "model_version": label_of(served),
            "model_uuid": str.__str__(served.uuid) if is_registered(served) else None,
            **({"model_image_digest": str.__str__(served.image_digest)} if served.image_digest else {}),
            "deployed_at": now.isoformat(),
            "mlserver_version": who.tool_version,
            "mlserver_api_commit": who.tool_commit,
            **({"image": who.image.document} if who.image else {}),
        }
        return AnswerMetadata(
            model=self.ref.model,
            version=served.number,
            label=label_of(served),
            uuid=served.uuid,
            generation=generation,
            deployed_at=now,
            task=served.task,
            classes=predictor.classes,
            document=document,
        )


def _image_digest(served: ServedVersion, identity: ServerIdentity) -> str | None:
    """Of the image that the registry has for the version, else of the one this server runs in."""
    return served.image_digest or (None if identity.image is None else identity.image.digest)


def label_of(served: ServedVersion) -> str | None:
    """What answers call the version: its number; for a project itself that of its release, or None between releases."""
    if is_registered(served):
        return str(served.number)
    return None if served.release_tag is None else str(ReleaseTag.parse(served.release_tag).version)


def _faulty(outcome: Outcome) -> bool:
    return isinstance(outcome.error, ModelError)
