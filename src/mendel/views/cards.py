"""Read and render the model card of a version, from registry, incidents and ledger; every number names its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from mendel.durable import Ledger, LedgerEntry, Transaction, UnitOfWork
from mendel.healing import HealingStore, Incident
from mendel.registry import Approval, GateRecord, HealthReport, ProductionPeriod, Provenance, Registry, VersionRecord
from mendel.registry.parity_rule import parity_lines
from mendel.values import VersionRef
from mendel.values.library_versions import differing_libraries

UNKNOWN = "unknown"
_EVENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """The contents of a model card, read at the time ``at``."""

    record: VersionRecord
    at: datetime
    tenures: tuple[ProductionPeriod, ...]
    gates: tuple[GateRecord, ...]
    incidents: tuple[Incident, ...]
    entries: tuple[LedgerEntry, ...]
    health: HealthReport | None
    labels: Mapping[str, str]


def card_of(unit: UnitOfWork, registry: Registry, ref: VersionRef, at: datetime) -> CardView:
    """
    Read the contents of the model card of *ref*.

    Raises:
        VersionNotFound: The version does not exist.
    """
    record = registry.versions.get(ref)

    def work(tx: Transaction) -> tuple[tuple[Incident, ...], tuple[LedgerEntry, ...]]:
        incidents = tuple(one for one in tx.store(HealingStore).incidents(ref.model) if one.ref == ref)
        return incidents, tx.store(Ledger).entries(subject=str(ref), limit=_EVENTS)

    incidents, entries = unit.read(work)
    serving = registry.lifecycle.deployment(ref.model).production == ref.number
    return CardView(
        record=record,
        at=at,
        tenures=tuple(tenure for tenure in registry.lifecycle.history(ref.model) if tenure.version == ref.number),
        gates=registry.lifecycle.gate_records(ref),
        incidents=incidents,
        entries=entries,
        health=registry.performance.health(ref.model, now=at) if serving else None,
        labels=registry.keys.labels(),
    )


def render_card(view: CardView) -> str:
    """Render the card as Markdown, with front matter in the format of model hubs."""
    record = view.record
    born = _source(view.entries, "model.registered")
    sections = [
        _front_matter(record),
        f"# Model Card: {record.model}",
        _section("Model Details", _details(record, born)),
        _section("Description", _quoted(record.description) or UNKNOWN),
        _section("Intended Use", _quoted(str(record.metadata.get("intended_use", UNKNOWN)))),
        _section("Training Data", _training(record, born)),
        _section("Evaluation Metrics", _metrics(record, born)),
        _section("Performance in Production", _performance(view)),
        _section("Drift and Incidents", _incidents(view)),
        _section("Governance", _governance(view)),
        _section("Deployment", _deployment(view)),
        _section("Limitations", _quoted(str(record.metadata.get("limitations", UNKNOWN)))),
        _section("Tags", _list([f"{key}: {value}" for key, value in sorted(record.tags.items())]) or "none"),
        _section("Artifacts", _artifacts(record)),
        f"_Rendered {_time(view.at)}._",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(record: VersionRecord) -> str:
    document = {
        "library_name": record.framework or record.flavor,
        "pipeline_tag": f"tabular-{record.task}",
        "tags": ["tabular", *sorted(record.tags)],
        "model-index": [
            {
                "name": str(record.model),
                "results": [
                    {
                        "task": {"type": f"tabular-{record.task}"},
                        "dataset": {"name": "evaluation rows", "type": "tabular"},
                        "metrics": [
                            {"type": name, "value": round(value, 6)} for name, value in sorted(record.metrics.items())
                        ],
                    }
                ],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(document, sort_keys=False, allow_unicode=True)}---"


def _details(record: VersionRecord, born: str) -> str:
    return _rows(
        {
            "Version": f"{record.number} ({record.uuid})",
            "Stage": record.stage,
            "Task": record.task,
            "Flavour": record.flavor,
            "Framework": record.framework or UNKNOWN,
            "Written with": _libraries(record),
            "Owner": record.owner or UNKNOWN,
            "Team": record.team or UNKNOWN,
            "Registered": f"{_time(record.registered_at)} by {record.registered_by} ({born})",
            "Release": record.release_tag or "none",
            "Image": UNKNOWN if record.image is None else f"{record.image.reference} ({record.image.digest})",
            "Parent": str(record.derived_from or "none"),
        }
    )


def _libraries(record: VersionRecord) -> str:
    """List the libraries that wrote the artefact, with the version installed here if it differs."""
    differing = {one.name: str(one) for one in differing_libraries(record.libraries)}
    return ", ".join(differing.get(name, f"{name} {number}") for name, number in record.libraries.items()) or UNKNOWN


def _commit(provenance: Provenance) -> str:
    if provenance.git_commit_hash is None:
        return UNKNOWN
    origin = "" if provenance.git_origin is None else f" of {provenance.git_origin}"
    return f"{provenance.git_commit_hash}{origin}{', with uncommitted changes' if provenance.git_dirty else ''}"


def _training(record: VersionRecord, born: str) -> str:
    provenance = record.provenance
    return _rows(
        {
            "Rows": _or_unknown(provenance.training_dataset_size),
            "Fingerprint": record.training_fingerprint or UNKNOWN,
            "Trained": _time(provenance.training_timestamp) if provenance.training_timestamp else UNKNOWN,
            "Commit": _commit(provenance),
            "Drift reference": record.reference_digest or "none",
            "Source": born,
        }
    )


def _metrics(record: VersionRecord, born: str) -> str:
    if not record.metrics:
        return UNKNOWN
    lines = ["| Metric | Value | Source |", "|---|---|---|"]
    return "\n".join(
        lines + [f"| {_cell(name)} | {value:.4f} | {born} |" for name, value in sorted(record.metrics.items())]
    )


def _performance(view: CardView) -> str:
    if view.health is None:
        return "This version is not in production now."
    health, source = view.health, f"counters of the servers, read {_time(view.at)}"
    return _rows(
        {
            "Health": health.health_status + (f": {'; '.join(health.reasons)}" if health.reasons else ""),
            "Error rate": _percent(health.metrics.avg_error_rate),
            "Latency p95": UNKNOWN
            if health.metrics.avg_latency_p95_ms is None
            else f"{health.metrics.avg_latency_p95_ms:.1f} ms",
            "OOD rate": _percent(health.metrics.avg_ood_rate),
            "Source": source,
        }
    )


def _incidents(view: CardView) -> str:
    if not view.incidents:
        return f"No incident was opened (as of {_time(view.at)})."
    return _list(
        [f"{one.id}, {_time(one.opened_at)}, {one.severity}, {one.status}: {one.description}" for one in view.incidents]
    )


def _governance(view: CardView) -> str:
    flags = view.record.governance
    gates = [f"Gates: {gate.verdict} (report {gate.report_digest}, {_time(gate.at)})" for gate in view.gates] or [
        "Gates: no gate report exists"
    ]
    overrides = [
        f"Promoted without a passing gate report by {entry.event.actor}: "
        f"{entry.event.data['override']['reason']} (event {entry.sequence})"
        for entry in view.entries
        if entry.event.type == "model.promoted" and entry.event.data.get("override")
    ]
    approvals = [
        f"Policy compliance: {_approval(flags.policy_compliant)}",
        f"Bias check: {_approval(flags.bias_check_passed)}",
    ]
    return _list([*approvals, *parity_lines(view.record), *gates, *overrides, *_key_labels(view)])


def _key_labels(view: CardView) -> list[str]:
    """Name the keys that the card mentions."""
    flags = view.record.governance
    approvals = [one.by for one in (flags.policy_compliant, flags.bias_check_passed) if one is not None]
    named = {view.record.registered_by, *approvals, *(one.event.actor for one in view.entries)}
    return [f"The label of {one} is {view.labels[one]}" for one in sorted(named & set(view.labels))]


def _deployment(view: CardView) -> str:
    if not view.tenures:
        return "This version was never in production."
    return _list(
        [
            f"In production from {_time(t.start)} until {_time(t.end) if t.end else 'now'}, "
            f"by {t.actor}{f': {t.reason}' if t.reason else ''} (event {t.start_event})"
            for t in view.tenures
        ]
    )


def _artifacts(record: VersionRecord) -> str:
    return _list(
        [
            f"Served files: `{record.artifact_digest}`",
            f"Training data: `{record.data_digest}`" if record.data_digest else "Training data: not stored",
            f"Code: `{record.code_digest}`" if record.code_digest else "Code: none (registered without a project)",
            f"MLflow: `models:/{record.uuid}`",
        ]
    )


def _source(entries: tuple[LedgerEntry, ...], kind: str) -> str:
    found = next((entry for entry in entries if entry.event.type == kind), None)
    return UNKNOWN if found is None else f"event {found.sequence}"


def _approval(approval: Approval | None) -> str:
    return "not given" if approval is None else f"given by {approval.by}, {_time(approval.at)}"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _rows(cells: dict[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {_cell(value)} |" for key, value in cells.items())])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {_cell(line)}" for line in lines)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2%}"


def _quoted(text: str) -> str:
    """Escape heading marks in text from users, so that the card's structure stays intact."""
    return "\n".join(f"\\{line}" if line.lstrip().startswith("#") else line for line in text.splitlines())


def _or_unknown(value: object) -> str:
    return UNKNOWN if value is None else str(value)
