"""The registry: models, versions, stages, lineage, snapshots and rollback, over two ports (rows and artefacts)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.registry.admission import admit, inherited_governance
    from mendel.registry.api_keys import ApiKey, KeyDescription, NewKey, key_digest
    from mendel.registry.artifact_mirror import mirror_alias
    from mendel.registry.artifact_mirror_repair import MirrorReading
    from mendel.registry.availability import (
        Availability,
        Held,
        Presence,
        PresenceOf,
        availability_by,
        availability_of,
        presence_at,
    )
    from mendel.registry.health import HealthMetrics, HealthReport
    from mendel.registry.history import (
        GateRecord,
        Override,
        ProductionPeriod,
        RolledBack,
        former_versions,
        in_production_at,
    )
    from mendel.registry.lineage import Contributor, LineageEntry
    from mendel.registry.lookups import unknown_model
    from mendel.registry.planned_changes import CanaryRun, PlannedChanges, WaitingPromotion, WaitingState
    from mendel.registry.points_in_time import AfterEntry, PointInTime, parse_point
    from mendel.registry.policies import Flag, GovernancePolicy, PolicyDocument, Profile, RollbackPolicy
    from mendel.registry.ports import (
        ArtifactStore,
        ForeignVersion,
        Mirror,
        MirroredAlias,
        Publication,
        Published,
        RegistryStore,
        StoredRow,
    )
    from mendel.registry.promotion_windows import Opening, PromotionPolicy, next_opening
    from mendel.registry.registration import (
        PendingRegistration,
        Registered,
        Registration,
        RegistrationMetadata,
        default_name,
    )
    from mendel.registry.registry import Registry
    from mendel.registry.registry_state import NumberedPeriod, RegistryState, VersionState, fold
    from mendel.registry.rollback_triggers import (
        Criterion,
        CriterionReading,
        Remedy,
        RollbackCheck,
        exceeds,
        judge,
        remedy_of,
        severity_of,
    )
    from mendel.registry.serving_metrics import (
        MeasuredPerformance,
        ServingWindow,
        evidence_of,
        health_report,
        in_production_since,
        judge_performance,
        nothing_serves,
        policy_window,
        serving_window,
    )
    from mendel.registry.side_route_plans import SideRole, plan_canary, plan_side_version
    from mendel.registry.snapshot_history import MINUTE, StudyReadings
    from mendel.registry.snapshots import (
        FROM_COUNTERS,
        ServerState,
        Snapshot,
        grown,
        is_newer,
        latency_percentile,
        snapshot_of,
        total,
    )
    from mendel.registry.stage_plans import (
        TRANSITIONS,
        ModelState,
        Plan,
        StageChange,
        plan_promotion,
        plan_release_of_kept,
        plan_rollback,
        plan_transition,
        require_transition,
    )
    from mendel.registry.stage_transitions import MIRROR_ALIAS
    from mendel.registry.state_check import StateFault, state_faults
    from mendel.registry.state_differences import FieldDifference, RowChange, RowDifference, RowKind, differences
    from mendel.registry.timeline import PastState, RegistryDiff, Timeline
    from mendel.registry.version_faults import VersionFault
    from mendel.registry.version_records import (
        Approval,
        Expectations,
        Governance,
        Improvement,
        ProjectSource,
        Provenance,
        VersionImage,
        VersionRecord,
        VersionStatus,
    )
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "FROM_COUNTERS",
    "MINUTE",
    "MIRROR_ALIAS",
    "TRANSITIONS",
    "AfterEntry",
    "ApiKey",
    "Approval",
    "ArtifactStore",
    "Availability",
    "CanaryRun",
    "Contributor",
    "Criterion",
    "CriterionReading",
    "Expectations",
    "FieldDifference",
    "Flag",
    "ForeignVersion",
    "GateRecord",
    "Governance",
    "GovernancePolicy",
    "HealthMetrics",
    "HealthReport",
    "Held",
    "Improvement",
    "KeyDescription",
    "LineageEntry",
    "MeasuredPerformance",
    "Mirror",
    "MirrorReading",
    "MirroredAlias",
    "ModelState",
    "NewKey",
    "NumberedPeriod",
    "Opening",
    "Override",
    "PastState",
    "PendingRegistration",
    "Plan",
    "PlannedChanges",
    "PointInTime",
    "PolicyDocument",
    "Presence",
    "PresenceOf",
    "ProductionPeriod",
    "Profile",
    "ProjectSource",
    "PromotionPolicy",
    "Provenance",
    "Publication",
    "Published",
    "Registered",
    "Registration",
    "RegistrationMetadata",
    "Registry",
    "RegistryDiff",
    "RegistryState",
    "RegistryStore",
    "Remedy",
    "RollbackCheck",
    "RollbackPolicy",
    "RolledBack",
    "RowChange",
    "RowDifference",
    "RowKind",
    "ServerState",
    "ServingWindow",
    "SideRole",
    "Snapshot",
    "StageChange",
    "StateFault",
    "StoredRow",
    "StudyReadings",
    "Timeline",
    "VersionFault",
    "VersionImage",
    "VersionRecord",
    "VersionState",
    "VersionStatus",
    "WaitingPromotion",
    "WaitingState",
    "admit",
    "availability_by",
    "availability_of",
    "default_name",
    "differences",
    "evidence_of",
    "exceeds",
    "fold",
    "former_versions",
    "grown",
    "health_report",
    "in_production_at",
    "in_production_since",
    "inherited_governance",
    "is_newer",
    "judge",
    "judge_performance",
    "key_digest",
    "latency_percentile",
    "mirror_alias",
    "next_opening",
    "nothing_serves",
    "parse_point",
    "plan_canary",
    "plan_promotion",
    "plan_release_of_kept",
    "plan_rollback",
    "plan_side_version",
    "plan_transition",
    "policy_window",
    "presence_at",
    "remedy_of",
    "require_transition",
    "serving_window",
    "severity_of",
    "snapshot_of",
    "state_faults",
    "total",
    "unknown_model",
]
