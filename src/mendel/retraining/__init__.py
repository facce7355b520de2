"""One training run as resumable steps, ending in a candidate."""

from mendel.retraining.ports import (
    CodeSource,
    Limits,
    LoadJob,
    LoadResult,
    OnProgress,
    Progress,
    ReplayJob,
    ReplayResult,
    Runner,
    Tables,
    TrainJob,
    TrainResult,
    ignore_progress,
)

__all__ = [
    "CodeSource",
    "Limits",
    "LoadJob",
    "LoadResult",
    "OnProgress",
    "Progress",
    "ReplayJob",
    "ReplayResult",
    "Runner",
    "Tables",
    "TrainJob",
    "TrainResult",
    "ignore_progress",
]
