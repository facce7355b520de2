"""Every check of the kit: its name, what the specification says of it, and the function that makes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mendel.conformance import (
    grpc_errors,
    grpc_extensions,
    grpc_health,
    grpc_inference,
    inference,
    rest_errors,
    rest_extensions,
    rest_health,
    rest_inference,
    rest_load,
)
from mendel.conformance.findings import Requirement
from mendel.conformance.grpc_server import GrpcServer
from mendel.conformance.rest_server import RestServer

SPECIFICATION: Final = "https://github.com/kserve/open-inference-protocol/tree/main/specification/protocol"
"""The documents in which the sections stand: ``inference_rest.md`` and ``inference_grpc.md``."""
REQUIRED, EXTENSION, INFORMATION = Requirement
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[S]):
    """
    One check.

    Attributes:
        name: The protocol and the point, for example ``rest.infer.id``.
        section: The section of the specification, or the document of the extension.
        run: Makes the check; gives a remark if the server passes, else raises the outcome.
    """

    name: str
    requirement: Requirement
    section: str
    run: Callable[[S], str]

    @property
    def claim(self) -> str:
        """What the check expects: the first line of the function's docstring."""
        return (inspect.getdoc(self.run) or "").partition("\n")[0]


def _row(name: str, run: Callable[[S], str], section: str, requirement: Requirement = REQUIRED) -> Check[S]:
    return Check(name=name, run=run, section=section, requirement=requirement)


_TRITON: Final = "Triton, protocol extensions"

REST_CHECKS: Final[tuple[Check[RestServer], ...]] = (
    _row("rest.live", rest_health.server_live, "Server Live"),
    _row("rest.ready", rest_health.server_ready, "Server Ready"),
    _row("rest.metadata", rest_health.server_metadata, "Server Metadata Response JSON Object"),
    _row("rest.model.metadata", rest_health.model_metadata, "Model Metadata Response JSON Object"),
    _row("rest.model.tensors", inference.announced_tensors, "Model Metadata Response JSON Object; Tensor Data Types"),
    _row("rest.model.ready", rest_health.model_ready, "Model Ready"),
    _row("rest.model.versions", rest_health.model_versions, "HTTP/REST, paths; Model Metadata"),
    _row("rest.infer", inference.infer, "Inference Request JSON Object"),
    _row("rest.infer.variable_axes", inference.variable_axes, "Model Metadata Response JSON Object; Request Input"),
    _row("rest.infer.model_name", rest_inference.model_name, "Inference Response JSON Object"),
    _row("rest.infer.model_version", rest_inference.model_version, "Inference Response JSON Object"),
    _row("rest.infer.outputs", rest_inference.outputs, "Response Output"),
    _row("rest.infer.elements", rest_inference.output_elements, "Response Output; Tensor Data"),
    _row("rest.infer.agreement", inference.agreement, "Model Metadata Response JSON Object; Response Output"),
    _row("rest.infer.id", rest_inference.request_id, "Inference Request JSON Object"),
    _row("rest.infer.requested_outputs", rest_inference.requested_outputs, "Request Output"),
    _row("rest.infer.nested_data", rest_inference.nested_data, "Tensor Data"),
    _row("rest.infer.parameters", rest_inference.parameters, "Parameters"),
    _row("rest.infer.answer_parameters", rest_inference.answer_parameters, "Parameters", INFORMATION),
    _row("rest.infer.repetition", inference.repetition, "not specified", INFORMATION),
    _row("rest.error.unknown_model", rest_errors.unknown_model, "Inference Response JSON Error Object"),
    _row("rest.error.unknown_version", rest_errors.unknown_version, "Inference Response JSON Error Object"),
    _row("rest.error.wrong_shape", rest_errors.wrong_shape, "Request Input; Inference Response JSON Error Object"),
    _row("rest.error.unknown_datatype", rest_errors.unknown_datatype, "Tensor Data Types"),
    _row("rest.error.wrong_element", rest_errors.wrong_element, "Tensor Data"),
    _row("rest.error.missing_inputs", rest_errors.missing_inputs, "Inference Request JSON Object"),
    _row("rest.error.not_json", rest_errors.not_json, "Inference Response JSON Error Object"),
    _row("rest.error.live_afterwards", rest_errors.live_after_errors, "Server Live"),
    _row("rest.concurrency", rest_load.concurrency, "Inference Request JSON Object"),
    _row("rest.keep_alive", rest_load.keep_alive, "not specified", INFORMATION),
    _row("rest.binary.inputs", rest_extensions.binary_inputs, f"{_TRITON}: binary tensor data", EXTENSION),
    _row("rest.binary.outputs", rest_extensions.binary_outputs, f"{_TRITON}: binary tensor data", EXTENSION),
    _row("rest.statistics", rest_extensions.statistics, f"{_TRITON}: statistics", EXTENSION),
    _row("rest.repository.index", rest_extensions.repository_index, f"{_TRITON}: model repository", EXTENSION),
    _row("rest.repository.reload", rest_extensions.repository_reload, f"{_TRITON}: model repository", EXTENSION),
)
GRPC_CHECKS: Final[tuple[Check[GrpcServer], ...]] = (
    _row("grpc.live", grpc_health.server_live, "Server Live"),
    _row("grpc.ready", grpc_health.server_ready, "Server Ready"),
    _row("grpc.metadata", grpc_health.server_metadata, "Server Metadata"),
    _row("grpc.model.metadata", grpc_health.model_metadata, "Model Metadata"),
    _row("grpc.model.tensors", inference.announced_tensors, "Model Metadata; Tensor Data Types"),
    _row("grpc.model.ready", grpc_health.model_ready, "Model Ready"),
    _row("grpc.model.versions", grpc_health.model_versions, "Model Metadata; Inference"),
    _row("grpc.infer", inference.infer, "Inference; Tensor Data"),
    _row("grpc.infer.variable_axes", inference.variable_axes, "Model Metadata; Inference"),
    _row("grpc.infer.raw_contents", grpc_inference.raw_contents, "Inference; Tensor Data"),
    _row("grpc.infer.model_name", grpc_inference.model_name, "Inference"),
    _row("grpc.infer.outputs", grpc_inference.outputs, "Inference; Tensor Data"),
    _row("grpc.infer.elements", grpc_inference.output_elements, "Tensor Data"),
    _row("grpc.infer.agreement", inference.agreement, "Model Metadata; Inference"),
    _row("grpc.infer.id", grpc_inference.request_id, "Inference"),
    _row("grpc.infer.requested_outputs", grpc_inference.requested_outputs, "Inference"),
    _row("grpc.infer.parameters", grpc_inference.request_parameters, "Parameters"),
    _row("grpc.error.unknown_model", grpc_errors.unknown_model, "Inference"),
    _row("grpc.error.unknown_version", grpc_errors.unknown_version, "Inference"),
    _row("grpc.error.wrong_shape", grpc_errors.wrong_shape, "Tensor Data"),
    _row("grpc.error.wrong_raw_length", grpc_errors.wrong_raw_length, "Inference"),
    _row("grpc.error.unknown_datatype", grpc_errors.unknown_datatype, "Tensor Data Types"),
    _row("grpc.error.missing_inputs", grpc_errors.missing_inputs, "Model Metadata; Inference"),
    _row("grpc.error.malformed_message", grpc_errors.malformed_message, "Inference"),
    _row("grpc.error.live_afterwards", grpc_errors.live_after_errors, "Server Live"),
    _row("grpc.concurrency", grpc_inference.concurrency, "Inference"),
    _row("grpc.deadline", grpc_inference.deadline, "not specified", INFORMATION),
    _row("grpc.equal_to_rest", grpc_extensions.equal_to_rest, "gRPC", INFORMATION),
    _row("grpc.statistics", grpc_extensions.statistics, f"{_TRITON}: statistics", EXTENSION),
    _row("grpc.repository.index", grpc_extensions.repository_index, f"{_TRITON}: model repository", EXTENSION),
    _row("grpc.large_message", grpc_extensions.large_message, "gRPC, message size", EXTENSION),
    _row("grpc.health_service", grpc_extensions.health_service, "gRPC, health checking protocol", EXTENSION),
    _row("grpc.reflection", grpc_extensions.reflection, "gRPC, server reflection protocol", EXTENSION),
)
