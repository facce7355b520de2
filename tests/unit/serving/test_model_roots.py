"""A model that a caller loaded by path is never taken for a deployment of the hub."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mendel.adapters.processes.convergence import converged_models
from mendel.adapters.processes.worker_messages import Status
from mendel.errors import ArtifactNotFound
from mendel.serving import InferenceCall, Records, model_from_directory, version_counters
from mendel.values import ModelName
from support.served_models import clock, deployed, make_kernel, shelf

__all__ = ["make_kernel", "shelf"]
MODEL = ModelName("sum")
ROW = Records(rows=[{"a": 1.0, "b": 2.0, "c": 3.0}])


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_deployment_under_the_name_of_a_model_loaded_by_path_is_not_served_yet(attempt, make_kernel, shelf):
    """Whatever generations both have, a server says that it serves the deployment only when it does."""
    shelf.put("sum", 1)
    tree = shelf.directory / "sum-1"
    deployment = deployed("sum", generation=attempt)
    async with make_kernel() as kernel:
        state = shelf.desire(deployment)
        by_path = model_from_directory(MODEL, tree, attempt=attempt, now=clock())
        (line,) = await kernel.apply(replace(state, models=(by_path,)), lambda _: tree)
        status = Status(accepting=True, ready=True, detail="", revision=0, convergence=(line,), spool={})
        assert converged_models(state, (status,)) == ()
        answer = await kernel.infer(InferenceCall(model="sum", input=ROW, door="rest"))
        assert (answer.metadata.generation, answer.logged) == (0, False)
        assert (kernel.status().models[0].generation_desired, kernel.status().models[0].generation_serving) == (None, 0)

        def absent(digest):
            raise ArtifactNotFound(f"No artefact {digest} yet.")

        (line,) = await kernel.apply(replace(state, revision=9), absent)
        assert (line.generation_desired, line.failed_version) == (attempt, 1)
        assert line.generation_serving < attempt
        assert version_counters(kernel.counters.totals()) == ()
