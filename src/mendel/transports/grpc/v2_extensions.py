"""Triton's extensions to ``inference.GRPCInferenceService``: statistics, and the model repository."""

from __future__ import annotations

from typing import Final

from mendel.protos import open_inference_pb2 as pb
from mendel.serving import Kernel, ModelStatistics, version_number
from mendel.transports.grpc.methods import Call, Method, UnaryMethod
from mendel.transports.protocol_extensions import path_to_load, repository_entries
from mendel.values import ModelName, Scope

_SERVICE: Final = "/inference.GRPCInferenceService"
_READY: Final = "READY"
_CHOICE: Final = "parameter_choice"
_TIMES: Final = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")


async def _model_statistics(kernel: Kernel, request: pb.ModelStatisticsRequest, _: Call) -> pb.ModelStatisticsResponse:
    """Answer with the statistics of loaded versions: of one, of one model, or of all models."""
    found = kernel.statistics(request.name or None, version_number(request.version))
    return pb.ModelStatisticsResponse(model_stats=map(_statistics, found))


def _statistics(one: ModelStatistics) -> pb.ModelStatistics:
    times = {name: getattr(one.inference_stats, name) for name in _TIMES}
    durations = {name: pb.StatisticDuration(count=time.count, ns=time.ns) for name, time in times.items()}
    return pb.ModelStatistics(
        name=one.name,
        version=one.version,
        inference_count=one.inference_count,
        execution_count=one.execution_count,
        inference_stats=pb.InferStatistics(**durations),
    )


async def _repository_index(kernel: Kernel, request: pb.RepositoryIndexRequest, _: Call) -> pb.RepositoryIndexResponse:
    """List the loaded versions and, unless only ready ones are wanted, the models without a loaded version."""
    response = pb.RepositoryIndexResponse()
    for entry in repository_entries(kernel):
        if entry.state == _READY or not request.ready:
            response.models.add(name=entry.name, version=entry.version, state=entry.state, reason=entry.reason)
    return response


async def _load(kernel: Kernel, request: pb.RepositoryModelLoadRequest, call: Call) -> pb.RepositoryModelLoadResponse:
    """Load a model's deployed versions, or the model at the parameter ``model_path``, in every process."""
    control = kernel.repository_control()
    call.model = request.model_name
    parameters = {name: getattr(one, one.WhichOneof(_CHOICE) or "", None) for name, one in request.parameters.items()}
    await control.load(ModelName(request.model_name), path=path_to_load(parameters))
    return pb.RepositoryModelLoadResponse()


async def _unload(
    kernel: Kernel, request: pb.RepositoryModelUnloadRequest, call: Call
) -> pb.RepositoryModelUnloadResponse:
    """Unload a model in every process of the server."""
    control = kernel.repository_control()
    call.model = request.model_name
    await control.unload(ModelName(request.model_name))
    return pb.RepositoryModelUnloadResponse()


METHODS: Final[tuple[Method, ...]] = (
    UnaryMethod(
        name=f"{_SERVICE}/ModelStatistics",
        scope=Scope.PREDICT,
        request=pb.ModelStatisticsRequest,
        answer=_model_statistics,
    ),
    UnaryMethod(
        name=f"{_SERVICE}/RepositoryIndex",
        scope=Scope.READ,
        request=pb.RepositoryIndexRequest,
        answer=_repository_index,
    ),
    UnaryMethod(
        name=f"{_SERVICE}/RepositoryModelLoad", scope=Scope.DEPLOY, request=pb.RepositoryModelLoadRequest, answer=_load
    ),
    UnaryMethod(
        name=f"{_SERVICE}/RepositoryModelUnload",
        scope=Scope.DEPLOY,
        request=pb.RepositoryModelUnloadRequest,
        answer=_unload,
    ),
)
