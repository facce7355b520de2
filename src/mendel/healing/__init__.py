"""Cause -> incident -> decision -> playbook: the only room that changes what is live on its own."""

from mendel.healing.books import Action, Playbook, Step, load_playbooks, parse_playbook, shipped_playbooks
from mendel.healing.causes import Circumstances, Diagnosis, cause_of, diagnose
from mendel.healing.convergence import Following, following
from mendel.healing.decide import Act, Decision, Facts, Observe, Propose, Rule, Wait, decide
from mendel.healing.healing import Healing
from mendel.healing.journal import WORKFLOW, pause_of
from mendel.healing.monitor import Monitor
from mendel.healing.nouns import (
    Cause,
    Effect,
    EffectState,
    Evidence,
    Incident,
    IncidentContext,
    IncidentStatus,
    Looked,
    Outlook,
    Pause,
    PlaybookRun,
    RunState,
    Signal,
    SignalKind,
    StepOutcome,
    StepState,
    TimelineEntry,
)
from mendel.healing.policy import REMEDIES, Autonomy, HealingPolicy, Level
from mendel.healing.ports import HealingStore, Lifecycle, Training, Watcher
from mendel.healing.records import DecisionRecord, Verdict
from mendel.healing.study import Log, reference_of
from mendel.healing.workflow import PlaybookWorkflow

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
    "Diagnosis",
    "Effect",
    "EffectState",
    "Evidence",
    "Facts",
    "Following",
    "Healing",
    "HealingPolicy",
    "HealingStore",
    "Incident",
    "IncidentContext",
    "IncidentStatus",
    "Level",
    "Lifecycle",
    "Log",
    "Looked",
    "Monitor",
    "Observe",
    "Outlook",
    "Pause",
    "Playbook",
    "PlaybookRun",
    "PlaybookWorkflow",
    "Propose",
    "Rule",
    "RunState",
    "Signal",
    "SignalKind",
    "Step",
    "StepOutcome",
    "StepState",
    "TimelineEntry",
    "Training",
    "Verdict",
    "Wait",
    "Watcher",
    "cause_of",
    "decide",
    "diagnose",
    "following",
    "load_playbooks",
    "parse_playbook",
    "pause_of",
    "reference_of",
    "shipped_playbooks",
]
