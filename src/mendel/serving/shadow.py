"""Send copies of requests to a shadow version, whose predictions are logged but not returned to callers."""

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
    Queue a copy of the request *ticket* for the shadow version of the deployment, if it has one.

    No copy is sent, and the metric ``mendel_shadow_shed_total`` counts the request, when ``max_shadow_queue`` requests
    wait for the shadow version or more than ``max_shadow_queue`` wait for the answering *version*.
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
        shadow.meter.shed()  # the rows do not fit the signature of the shadow version
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
    """Retrieve the exception of a copy, so that asyncio does not warn; metrics and prediction log record failures."""
    if not future.cancelled():
        future.exception()
