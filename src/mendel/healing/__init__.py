"""Cause -> incident -> decision -> playbook: the only room that changes what is live on its own."""

from mendel.healing.books import Action, Playbook, Step, load_playbooks, parse_playbook, shipped_playbooks
from mendel.healing.causes import Circumstances, Diagnosis, cause_of, diagnose
from mendel.healing.decide import Act, Decision, Facts, LabelCount, Observe, Propose, Rule, Wait, decide
from mendel.healing.nouns import (
    Cause,
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
from mendel.healing.ports import HealingStore
from mendel.healing.records import DecisionRecord, Verdict

__all__ = [
    "REMEDIES",
    "Act",
    "Action",
    "Autonomy",
    "Cause",
    "Circumstances",
    "Decision",
    "DecisionRecord",
    "Diagnosis",
    "Evidence",
    "Facts",
    "HealingPolicy",
    "HealingStore",
    "Incident",
    "IncidentContext",
    "IncidentStatus",
    "LabelCount",
    "Level",
    "Looked",
    "Observe",
    "Outlook",
    "Pause",
    "Playbook",
    "PlaybookRun",
    "Propose",
    "Rule",
    "RunState",
    "Signal",
    "SignalKind",
    "Step",
    "StepOutcome",
    "StepState",
    "TimelineEntry",
    "Verdict",
    "Wait",
    "cause_of",
    "decide",
    "diagnose",
    "load_playbooks",
    "parse_playbook",
    "shipped_playbooks",
]
