"""Healing: open incidents from signals, decide about them, and run playbooks that may change production."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.healing.causes import Circumstances, Diagnosis, cause_of, diagnose
    from mendel.healing.decision import Act, Decision, Facts, Observe, Propose, Rule, Wait, decide
    from mendel.healing.decision_records import DecisionRecord, Verdict
    from mendel.healing.drift_and_quality_checks import Log, reference_of
    from mendel.healing.entities import (
        Cause,
        Effect,
        EffectState,
        Evidence,
        Finding,
        Incident,
        IncidentContext,
        IncidentStatus,
        LookResult,
        Pause,
        Signal,
        SignalKind,
        TimelineEntry,
    )
    from mendel.healing.healing import Healing
    from mendel.healing.incident_journal import WORKFLOW, pause_of
    from mendel.healing.monitor import Monitor
    from mendel.healing.playbook_runs import (
        PlaybookRun,
        RunState,
        StepOutcome,
        StepState,
    )
    from mendel.healing.playbook_workflow import PlaybookWorkflow
    from mendel.healing.playbooks import Action, Playbook, Step, load_playbooks, parse_playbook, shipped_playbooks
    from mendel.healing.policy import REMEDIES, Autonomy, HealingPolicy, Level
    from mendel.healing.ports import EffectMonitor, HealingStore, Training
    from mendel.healing.server_convergence import DeploymentConvergence, convergence_of
    from mendel.healing.server_watch import ServerWatch
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "REMEDIES",
    "WORKFLOW",
    "Act",
    "Action",
    "Autonomy",
    "Cause",
    "Circumstances",
    "Decision",
    "DecisionRecord",
    "DeploymentConvergence",
    "Diagnosis",
    "Effect",
    "EffectMonitor",
    "EffectState",
    "Evidence",
    "Facts",
    "Finding",
    "Healing",
    "HealingPolicy",
    "HealingStore",
    "Incident",
    "IncidentContext",
    "IncidentStatus",
    "Level",
    "Log",
    "LookResult",
    "Monitor",
    "Observe",
    "Pause",
    "Playbook",
    "PlaybookRun",
    "PlaybookWorkflow",
    "Propose",
    "Rule",
    "RunState",
    "ServerWatch",
    "Signal",
    "SignalKind",
    "Step",
    "StepOutcome",
    "StepState",
    "TimelineEntry",
    "Training",
    "Verdict",
    "Wait",
    "cause_of",
    "convergence_of",
    "decide",
    "diagnose",
    "load_playbooks",
    "parse_playbook",
    "pause_of",
    "reference_of",
    "shipped_playbooks",
]
