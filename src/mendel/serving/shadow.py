"""Copies of requests for a shadow version, whose answers are logged and not returned."""

from __future__ import annotations

import asyncio

from mendel.errors import InvalidInput
from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.entities import InferenceCall
from mendel.serving.loaded_deployments import LoadedDeployment
from mendel.serving.loaded_version import LoadedVersion


def send_to_shadow(
    hosted: LoadedDeployment,
    version: LoadedVersion,
    call: InferenceCall,
    ticket: PendingRequest[Outcome],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    Give the shadow a copy of *ticket*, after the request itself was queued.

    The shadow gets no copy, and one is counted as shed, when the shadow's queue has reached ``max_shadow_queue`` or the
    answering version's queue is longer than that.
    """
    shadow = hosted.versions.get(hosted.deployment.shadow or 0)
    if shadow is None or shadow is version:
        return
    bound = shadow.policy.max_shadow_queue
    if shadow.lane.queued >= bound or version.lane.queued > bound:
        shadow.meter.shed()
        return
    loop.call_soon(_submit, shadow, call, ticket, loop)


def _submit(
    shadow: LoadedVersion, call: InferenceCall, original: PendingRequest[Outcome], loop: asyncio.AbstractEventLoop
) -> None:
    try:
        rows = shadow.artifact.codec.decode(call.input)
    except InvalidInput:
        shadow.meter.shed()  # its signature does not know such requests
        return
    copy: PendingRequest[Outcome] = PendingRequest(
        rows=rows,
        door=original.door,
        correlation_id=original.correlation_id,
        event_micros=original.event_micros,
        arrived=original.arrived,
        deadline=original.deadline,
        future=loop.create_future(),
        shadow=True,
    )
    copy.future.add_done_callback(_forget)
    shadow.meter.queued()
    shadow.lane.submit(copy)


def _forget(future: asyncio.Future[Outcome]) -> None:
    """Nobody waits for it; an exception of it is in the counts and in the log."""
    if not future.cancelled():
        future.exception()
