"""The one inference path, used by every door."""

from mendel.serving.artifact import infer_signature, write_artifact, write_project_artifact
from mendel.serving.calls import (
    AnswerMetadata,
    Check,
    InferenceAnswer,
    InferenceCall,
    Input,
    KernelStatus,
    Matrix,
    ModelStatus,
    Readiness,
    Records,
    ServerIdentity,
    Tensor,
    Tensors,
    VersionStatus,
)
from mendel.serving.kernel import Kernel
from mendel.serving.local import LocalBreakers, LocalCounters
from mendel.serving.metrics import render, version_counters
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import (
    BreakerView,
    CounterSlots,
    PredictionSink,
    RepositoryControl,
    Series,
)

__all__ = [
    "AnswerMetadata",
    "BreakerView",
    "Check",
    "CounterSlots",
    "InferenceAnswer",
    "InferenceCall",
    "Input",
    "Kernel",
    "KernelStatus",
    "LocalBreakers",
    "LocalCounters",
    "Matrix",
    "ModelStatus",
    "PredictionSink",
    "Readiness",
    "Records",
    "RepositoryControl",
    "Series",
    "ServerIdentity",
    "ServingPolicy",
    "Tensor",
    "Tensors",
    "VersionStatus",
    "infer_signature",
    "render",
    "version_counters",
    "write_artifact",
    "write_project_artifact",
]
