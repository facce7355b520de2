"""Models, versions, stages, lineage, snapshots and rollback, over the RegistryStore and ArtifactStore ports."""

from mendel.registry.admission import admit, inherited_governance
from mendel.registry.approving import mirror_alias
from mendel.registry.carrying import MIRROR_ALIAS
from mendel.registry.descriptor import Descriptor, read_descriptor
from mendel.registry.health import Fleet, FleetIssue, HealthMetrics, HealthReport
from mendel.registry.history import GateRecord, Override, RolledBack, Tenure, former_versions, in_production_at
from mendel.registry.keys import ApiKey, key_digest
from mendel.registry.lifecycle import (
    TRANSITIONS,
    ModelState,
    Plan,
    StageChange,
    plan_canary,
    plan_promotion,
    plan_release_of_kept,
    plan_rollback,
    plan_transition,
    require_transition,
)
from mendel.registry.lineage import Contributor, LineageEntry
from mendel.registry.policies import Flag, GovernancePolicy, PolicyDocument, Profile, RollbackPolicy
from mendel.registry.ports import ArtifactStore, ForeignVersion, Mirror, Publication, Published, RegistryStore
from mendel.registry.registration import (
    PendingRegistration,
    Registered,
    Registration,
    default_name,
    registration_metadata,
)
from mendel.registry.registry import Registry
from mendel.registry.snapshots import (
    FROM_COUNTERS,
    ServerState,
    Snapshot,
    grown,
    latency_percentile,
    snapshot_of,
    total,
)
from mendel.registry.triggers import (
    Criterion,
    CriterionReading,
    Remedy,
    RollbackCheck,
    exceeds,
    judge,
    remedy_of,
    severity_of,
)
from mendel.registry.versions import (
    Approval,
    Expectations,
    Governance,
    Improvement,
    ProjectSource,
    Provenance,
    VersionRecord,
    VersionStatus,
)

__all__ = [
    "FROM_COUNTERS",
    "MIRROR_ALIAS",
    "TRANSITIONS",
    "ApiKey",
    "Approval",
    "ArtifactStore",
    "Contributor",
    "Criterion",
    "CriterionReading",
    "Descriptor",
    "Expectations",
    "Flag",
    "Fleet",
    "FleetIssue",
    "ForeignVersion",
    "GateRecord",
    "Governance",
    "GovernancePolicy",
    "HealthMetrics",
    "HealthReport",
    "Improvement",
    "LineageEntry",
    "Mirror",
    "ModelState",
    "Override",
    "PendingRegistration",
    "Plan",
    "PolicyDocument",
    "Profile",
    "ProjectSource",
    "Provenance",
    "Publication",
    "Published",
    "Registered",
    "Registration",
    "Registry",
    "RegistryStore",
    "Remedy",
    "RollbackCheck",
    "RollbackPolicy",
    "RolledBack",
    "ServerState",
    "Snapshot",
    "StageChange",
    "Tenure",
    "VersionRecord",
    "VersionStatus",
    "admit",
    "default_name",
    "exceeds",
    "former_versions",
    "grown",
    "in_production_at",
    "inherited_governance",
    "judge",
    "key_digest",
    "latency_percentile",
    "mirror_alias",
    "plan_canary",
    "plan_promotion",
    "plan_release_of_kept",
    "plan_rollback",
    "plan_transition",
    "read_descriptor",
    "registration_metadata",
    "remedy_of",
    "require_transition",
    "severity_of",
    "snapshot_of",
    "total",
]
