"""Healing: open incidents from signals, decide about them, and run playbooks that may change production."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.healing.backtest import Afterwards, Alternative, Backtest, BacktestAction, run_backtest
    from mendel.healing.canaries import Canaries, CanaryState
    from mendel.healing.canary_steps import (
        AtEnd,
        CanaryDecision,
        CanaryPolicy,
        PairedErrors,
        StepVerdict,
        decide_step,
        paired_errors,
    )
    from mendel.healing.causes import Circumstances, Diagnosis, cause_of, diagnose
    from mendel.healing.decision import Act, Decision, Observe, Propose, Rule, Wait, decide
    from mendel.healing.decision_facts import Facts
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
        SignalState,
        TimelineEntry,
    )
    from mendel.healing.explanation import Comparison, Explanation, explain
    from mendel.healing.former_replay import FormerReplay
    from mendel.healing.healing import Healing
    from mendel.healing.incident_journal import WORKFLOW, pause_of
    from mendel.healing.look_book import LookBook
    from mendel.healing.look_judgement import judge_counters, judge_log
    from mendel.healing.look_replay import Difference, decide_again, difference, judge_again
    from mendel.healing.looks import (
        LOOK_SCHEMA,
        CounterFacts,
        DecidedIncident,
        LogFacts,
        Look,
        LookKind,
        LookVolume,
        ServerFact,
        Standing,
        pack_look,
        unpack_look,
    )
    from mendel.healing.monitor import Monitor, Observation
    from mendel.healing.playbook_runs import (
        PlaybookRun,
        RunState,
        StepOutcome,
        StepState,
    )
    from mendel.healing.playbook_workflow import PlaybookWorkflow
    from mendel.healing.playbooks import Action, Playbook, Step, load_playbooks, parse_playbook, shipped_playbooks
    from mendel.healing.policy import REMEDIES, Autonomy, HealingPolicy, Level, Remedies
    from mendel.healing.ports import EffectMonitor, FormerVersion, HealingStore, ReplayOutcome, Training
    from mendel.healing.remedies import Former, Remedy, remedy_for
    from mendel.healing.server_convergence import DeploymentConvergence, convergence_of
    from mendel.healing.server_watch import ServerWatch
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "LOOK_SCHEMA",
    "REMEDIES",
    "WORKFLOW",
    "Act",
    "Action",
    "Afterwards",
    "Alternative",
    "AtEnd",
    "Autonomy",
    "Backtest",
    "BacktestAction",
    "Canaries",
    "CanaryDecision",
    "CanaryPolicy",
    "CanaryState",
    "Cause",
    "Circumstances",
    "Comparison",
    "CounterFacts",
    "DecidedIncident",
    "Decision",
    "DecisionRecord",
    "DeploymentConvergence",
    "Diagnosis",
    "Difference",
    "Effect",
    "EffectMonitor",
    "EffectState",
    "Evidence",
    "Explanation",
    "Facts",
    "Finding",
    "Former",
    "FormerReplay",
    "FormerVersion",
    "Healing",
    "HealingPolicy",
    "HealingStore",
    "Incident",
    "IncidentContext",
    "IncidentStatus",
    "Level",
    "Log",
    "LogFacts",
    "Look",
    "LookBook",
    "LookKind",
    "LookResult",
    "LookVolume",
    "Monitor",
    "Observation",
    "Observe",
    "PairedErrors",
    "Pause",
    "Playbook",
    "PlaybookRun",
    "PlaybookWorkflow",
    "Propose",
    "Remedies",
    "Remedy",
    "ReplayOutcome",
    "Rule",
    "RunState",
    "ServerFact",
    "ServerWatch",
    "Signal",
    "SignalKind",
    "SignalState",
    "Standing",
    "Step",
    "StepOutcome",
    "StepState",
    "StepVerdict",
    "TimelineEntry",
    "Training",
    "Verdict",
    "Wait",
    "cause_of",
    "convergence_of",
    "decide",
    "decide_again",
    "decide_step",
    "diagnose",
    "difference",
    "explain",
    "judge_again",
    "judge_counters",
    "judge_log",
    "load_playbooks",
    "pack_look",
    "paired_errors",
    "parse_playbook",
    "pause_of",
    "reference_of",
    "remedy_for",
    "run_backtest",
    "shipped_playbooks",
    "unpack_look",
]
