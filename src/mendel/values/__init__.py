"""Immutable value types that every room uses: validated when created, without I/O and without a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.values.config_mapping import from_mapping, unknown_key_message
    from mendel.values.deployments import (
        LATENCY_BOUNDS_MS,
        Deployment,
        DesiredModel,
        DesiredState,
        ExternalServer,
        ModelConvergence,
        Route,
        ServedVersion,
        ServerReport,
        VersionCounters,
    )
    from mendel.values.json_codec import (
        MAX_DEPTH,
        Json,
        check_integer,
        check_text,
        from_builtins,
        from_json,
        read_json,
        to_builtins,
        to_json,
    )
    from mendel.values.measured import Measured, Measurement, NotMeasured
    from mendel.values.model_names import Digest, ModelName, VersionRef, VersionUuid
    from mendel.values.releases import Bump, ReleaseTag, SemVer
    from mendel.values.scopes import Principal, Scope
    from mendel.values.signatures import ColumnSpec, ColumnType, Signature
    from mendel.values.stages import Health, Severity, Stage
    from mendel.values.table import Table
    from mendel.values.time import (
        EPOCH,
        Moment,
        Window,
        from_micros,
        parse_duration,
        render_duration,
        require_utc,
        to_micros,
    )
    from mendel.values.tls_files import TlsFiles
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "EPOCH",
    "LATENCY_BOUNDS_MS",
    "MAX_DEPTH",
    "Bump",
    "ColumnSpec",
    "ColumnType",
    "Deployment",
    "DesiredModel",
    "DesiredState",
    "Digest",
    "ExternalServer",
    "Health",
    "Json",
    "Measured",
    "Measurement",
    "ModelConvergence",
    "ModelName",
    "Moment",
    "NotMeasured",
    "Principal",
    "ReleaseTag",
    "Route",
    "Scope",
    "SemVer",
    "ServedVersion",
    "ServerReport",
    "Severity",
    "Signature",
    "Stage",
    "Table",
    "TlsFiles",
    "VersionCounters",
    "VersionRef",
    "VersionUuid",
    "Window",
    "check_integer",
    "check_text",
    "from_builtins",
    "from_json",
    "from_mapping",
    "from_micros",
    "parse_duration",
    "read_json",
    "render_duration",
    "require_utc",
    "to_builtins",
    "to_json",
    "to_micros",
    "unknown_key_message",
]
