"""Retrain a model in resumable steps that end with a judged candidate version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.retraining.entities import Asked, Candidate
    from mendel.retraining.fingerprints import DatasetFingerprint, fingerprint
    from mendel.retraining.gate_evidence import answers_of
    from mendel.retraining.holdout_gates import HoldoutGates, code_of
    from mendel.retraining.label_supply import LabelSupply, Ready, Waiting, labels_needed, may_start, usable
    from mendel.retraining.parity_checks import ParityChecks
    from mendel.retraining.policy import JobLimits, RetrainingPolicy, parse_bytes
    from mendel.retraining.ports import (
        CodeSource,
        LabelledRows,
        Limits,
        LoadJob,
        LoadResult,
        OnProgress,
        ParityJob,
        Progress,
        Replay,
        ReplayJob,
        ReplayResult,
        Runner,
        Tables,
        TrainJob,
        TrainResult,
        ignore_progress,
    )
    from mendel.retraining.training_data import TRAINED_UNTIL, schema_violations
    from mendel.retraining.training_run import Retraining
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "TRAINED_UNTIL",
    "Asked",
    "Candidate",
    "CodeSource",
    "DatasetFingerprint",
    "HoldoutGates",
    "JobLimits",
    "LabelSupply",
    "LabelledRows",
    "Limits",
    "LoadJob",
    "LoadResult",
    "OnProgress",
    "ParityChecks",
    "ParityJob",
    "Progress",
    "Ready",
    "Replay",
    "ReplayJob",
    "ReplayResult",
    "Retraining",
    "RetrainingPolicy",
    "Runner",
    "Tables",
    "TrainJob",
    "TrainResult",
    "Waiting",
    "answers_of",
    "code_of",
    "fingerprint",
    "ignore_progress",
    "labels_needed",
    "may_start",
    "parse_bytes",
    "schema_violations",
    "usable",
]
