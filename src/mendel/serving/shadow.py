"""Send copies of requests to a shadow version, whose predictions are logged but not returned to callers."""

from __future__ import annotations

import asyncio

from mendel.errors import InvalidInput
from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.loaded_deployments import LoadedDeployment
from mendel.serving.loaded_version import LoadedVersion


def send_to_shadow(
    hosted: LoadedDeployment,
    version: LoadedVersion,
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
    loop.call_soon(_submit, shadow, ticket)


def _submit(shadow: LoadedVersion, original: PendingRequest[Outcome]) -> None:
    call = original.call
    try:
        rows = shadow.artifact.codec.decode(call.input)
    except InvalidInput:
        shadow.meter.shed()  # the rows do not fit the signature of the shadow version
        return
    copy: PendingRequest[Outcome] = PendingRequest(
        rows=rows, call=call, arrived=original.arrived, deadline=original.deadline, shadow=True
    )
    shadow.meter.queued()
    shadow.lane.submit((copy,))
