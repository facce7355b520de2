"""Send copies of requests to a shadow version, whose predictions are logged but not returned to callers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mendel.errors import InvalidInput
from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.loaded_deployments import LoadedDeployment
from mendel.serving.loaded_version import LoadedVersion


def send_to_shadow(
    hosted: LoadedDeployment,
    version: LoadedVersion,
    tickets: Sequence[PendingRequest[Outcome]],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """
    Queue copies of requests for the shadow version of the deployment, if it has one; call before *tickets* are queued.

    At most ``max_shadow_queue`` copies wait. The metric ``mendel_shadow_shed_total`` counts the requests without a
    copy: those beyond that number, and all while more than ``max_shadow_queue`` requests wait for *version*.
    """
    shadow = hosted.versions.get(hosted.deployment.shadow or 0)
    if shadow is None or shadow is version:
        return
    bound = shadow.policy.max_shadow_queue
    room = 0 if version.lane.queued > bound else max(0, bound - shadow.lane.queued)
    if len(tickets) > room:
        shadow.meter.shed(len(tickets) - room)
    if room:
        loop.call_soon(_submit, shadow, tickets[:room])


def _submit(shadow: LoadedVersion, originals: Sequence[PendingRequest[Outcome]]) -> None:
    copies: list[PendingRequest[Outcome]] = []
    for original in originals:
        try:
            rows = shadow.artifact.codec.decode(original.call.input)
        except InvalidInput:
            shadow.meter.shed()  # the rows do not fit the signature of the shadow version
            continue
        copies.append(
            PendingRequest(
                rows=rows, call=original.call, arrived=original.arrived, deadline=original.deadline, shadow=True
            )
        )
    shadow.meter.queued(len(copies))
    shadow.lane.submit(copies)
