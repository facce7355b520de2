"""Inference for REST, gRPC and ZMQ: load model versions, check requests, batch them, predict, and log predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.serving.acceleration.proof import accelerated
    from mendel.serving.artifact_loading import load_predictor, require_digest
    from mendel.serving.artifact_writer import check_predictor, outputs_of, take_probe_of_artifact, write_artifact
    from mendel.serving.carried_project import CARRIED, project_of
    from mendel.serving.csv_rows import parse_csv
    from mendel.serving.entities import (
        Answered,
        AnswerMetadata,
        BackendPlace,
        Caller,
        Check,
        ImageIdentity,
        InferenceAnswer,
        InferenceCall,
        Input,
        KernelStatus,
        LoadKey,
        Matrix,
        ModelStatus,
        Readiness,
        Records,
        RefusedLoad,
        ServerIdentity,
        Tensor,
        Tensors,
        VersionStatus,
    )
    from mendel.serving.flavours.flavour_table import FLAVOURS, flavour_for, flavour_of
    from mendel.serving.flavours.project_classifier import TrainedClassifier
    from mendel.serving.flavours.remote_model import RemoteAddress, RemoteModel
    from mendel.serving.input_codec import frame_of
    from mendel.serving.isolated_model import IsolatedModel
    from mendel.serving.kernel import Kernel
    from mendel.serving.loaded_version import predict_example
    from mendel.serving.metrics import count_swap, render, version_counters
    from mendel.serving.mlmodel import Mlmodel, read_mlmodel
    from mendel.serving.model_roots import model_directory, model_from_directory
    from mendel.serving.model_statistics import ModelStatistics
    from mendel.serving.packed_code import carries_code
    from mendel.serving.plain_json import (
        PlainRequest,
        event_time_of,
        key_of,
        model_name_of,
        parse_plain,
        plain_answer,
        plain_body,
        shown,
    )
    from mendel.serving.policy import ServingPolicy
    from mendel.serving.ports import (
        Backend,
        BreakerView,
        CounterSlots,
        Environments,
        LoadBackend,
        PredictionSink,
        RepositoryControl,
        Series,
    )
    from mendel.serving.predictor import Acceleration, Outputs, Predictor, PredictorDescriptor
    from mendel.serving.probe_rows import Probe, read_probe
    from mendel.serving.request_json import check_depth, check_keys, check_levels, malformed, read_json, without_mark
    from mendel.serving.request_size import check_json_size, check_msgpack_size, check_parts, check_values
    from mendel.serving.routing import version_number
    from mendel.serving.row_batches import Frame
    from mendel.serving.signature_inference import infer_signature
    from mendel.serving.single_process import LocalBreakers, LocalCounters
    from mendel.serving.tensors import elements, from_raw, raw_of, to_raw
    from mendel.serving.unregistered_version import (
        single_version_model,
        standalone_state,
        unregistered_model,
        version_ref,
        write_unregistered_artifact,
    )
    from mendel.serving.v2_metadata import (
        PREDICT,
        PROBA,
        TensorSpec,
        answer_parameters,
        input_specs,
        output_specs,
        output_tensors,
    )
    from mendel.serving.version_directory import (
        ARTIFACT,
        CarriedVersion,
        read_version_directory,
        write_version_directory,
    )
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "ARTIFACT",
    "CARRIED",
    "FLAVOURS",
    "PREDICT",
    "PROBA",
    "Acceleration",
    "AnswerMetadata",
    "Answered",
    "Backend",
    "BackendPlace",
    "BreakerView",
    "Caller",
    "CarriedVersion",
    "Check",
    "CounterSlots",
    "Environments",
    "Frame",
    "ImageIdentity",
    "InferenceAnswer",
    "InferenceCall",
    "Input",
    "IsolatedModel",
    "Kernel",
    "KernelStatus",
    "LoadBackend",
    "LoadKey",
    "LocalBreakers",
    "LocalCounters",
    "Matrix",
    "Mlmodel",
    "ModelStatistics",
    "ModelStatus",
    "Outputs",
    "PlainRequest",
    "PredictionSink",
    "Predictor",
    "PredictorDescriptor",
    "Probe",
    "Readiness",
    "Records",
    "RefusedLoad",
    "RemoteAddress",
    "RemoteModel",
    "RepositoryControl",
    "Series",
    "ServerIdentity",
    "ServingPolicy",
    "Tensor",
    "TensorSpec",
    "Tensors",
    "TrainedClassifier",
    "VersionStatus",
    "accelerated",
    "answer_parameters",
    "carries_code",
    "check_depth",
    "check_json_size",
    "check_keys",
    "check_levels",
    "check_msgpack_size",
    "check_parts",
    "check_predictor",
    "check_values",
    "count_swap",
    "elements",
    "event_time_of",
    "flavour_for",
    "flavour_of",
    "frame_of",
    "from_raw",
    "infer_signature",
    "input_specs",
    "key_of",
    "load_predictor",
    "malformed",
    "model_directory",
    "model_from_directory",
    "model_name_of",
    "output_specs",
    "output_tensors",
    "outputs_of",
    "parse_csv",
    "parse_plain",
    "plain_answer",
    "plain_body",
    "predict_example",
    "project_of",
    "raw_of",
    "read_json",
    "read_mlmodel",
    "read_probe",
    "read_version_directory",
    "render",
    "require_digest",
    "shown",
    "single_version_model",
    "standalone_state",
    "take_probe_of_artifact",
    "to_raw",
    "unregistered_model",
    "version_counters",
    "version_number",
    "version_ref",
    "without_mark",
    "write_artifact",
    "write_unregistered_artifact",
    "write_version_directory",
]
