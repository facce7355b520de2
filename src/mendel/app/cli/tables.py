"""The tables that commands print, one for each kind of result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from mendel.app.cli.output import Grid, Result

if TYPE_CHECKING:
    from mendel.app.images.image_list import Kept
    from mendel.app.settings import Origin
    from mendel.durable import LedgerEntry
    from mendel.healing import CanaryState, Incident, LookVolume, PlaybookRun
    from mendel.operations.time_travel import ModelAt
    from mendel.projects import StatusRow
    from mendel.registry import (
        ForeignVersion,
        KeyDescription,
        ProductionPeriod,
        RowDifference,
        VersionRecord,
        VersionState,
        WaitingPromotion,
    )
    from mendel.views import ModelRow

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedClassifier:
    """A configured classifier; ``source`` states whether the file of its predictor exists."""

    classifier: str
    predictor: str
    description: str
    default: bool
    source: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierState:
    """A classifier, its newest release, and the checkout of its project."""

    classifier: str
    version: str | None
    tag: str | None
    commit: str | None
    branch: str | None
    dirty: bool
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Generic[T]):
    """
    The format in which results of one type are printed as a table.

    Attributes:
        row: Gives the cells of one result, one for each column.
        empty: The text that is printed instead of a table without rows.
    """

    title: str
    columns: tuple[str, ...]
    row: Callable[[T], Sequence[object]]
    empty: str

    def grid(self, found: Iterable[T], *, title: str | None = None) -> Grid:
        """Make a table with one row for each item of *found*."""
        rows = [self.row(one) for one in found]
        return Grid(title=title or self.title, columns=self.columns, rows=rows, empty=self.empty)

    def result(self, found: Sequence[T], *, title: str | None = None) -> Result:
        """Make the result of a command: *found* as the value for JSON, and as a table for people."""
        return Result(found, (self.grid(found, title=title),))


def _model(row: ModelRow) -> Sequence[object]:
    health, servers = row.health, row.convergence
    return (
        row.model,
        row.production or "-",
        health.stage or "-",
        health.health_status,
        _share(health.metrics.avg_error_rate),
        _number(health.metrics.avg_latency_p95_ms),
        f"{servers.serving} of {servers.servers}",
        row.open_incidents,
        "; ".join(health.reasons),
    )


def _version(record: VersionRecord) -> Sequence[object]:
    return (
        record.number,
        record.stage,
        _time(record.registered_at),
        record.release_tag or "-",
        "-" if record.image is None else record.image.digest.removeprefix("sha256:")[:12],
        record.derived_from or "-",
        record.uuid,
    )


def _tenure(tenure: ProductionPeriod) -> Sequence[object]:
    until = _time(tenure.end) if tenure.end else "now"
    return (tenure.version, _time(tenure.start), until, tenure.actor, tenure.reason)


def _looks(found: LookVolume) -> Sequence[object]:
    return found.model, found.day.isoformat(), found.looks, found.size_bytes


def _model_at(found: ModelAt) -> Sequence[object]:
    deployment = found.deployment
    return (
        found.model,
        deployment.production or "-",
        ", ".join(f"version {route.version} {route.share:.0%}" for route in deployment.routes[1:]) or "-",
        deployment.shadow or "-",
        deployment.fallback or "-",
        deployment.generation,
        found.policy.version,
        len(found.versions),
    )


def _version_at(version: VersionState) -> Sequence[object]:
    given = {"policy": version.governance.policy_compliant, "bias": version.governance.bias_check_passed}
    approvals = ", ".join(f"{flag} by {approval.by}" for flag, approval in given.items() if approval)
    return (version.ref.number, version.stage, _time(version.registered_at), version.release_tag or "-", approvals)


def _change(row: RowDifference) -> Sequence[object]:
    told = "; ".join(f"{one.field}: {_value(one.before)} -> {_value(one.after)}" for one in row.fields)
    return (row.kind, row.row, row.change, told)


def _value(value: object) -> str:
    return "-" if value is None else str(value)


def _incident(found: Incident) -> Sequence[object]:
    opened = _time(found.opened_at)
    return (found.id, found.ref, found.cause, found.severity, found.status, opened, found.title)


def _run(run: PlaybookRun) -> Sequence[object]:
    state = run.state + (f" for {run.held_for}" if run.held_for else "")
    return (run.id, run.playbook, run.ref, state, len(run.steps), run.reason)


def _entry(entry: LedgerEntry) -> Sequence[object]:
    event = entry.event
    return (entry.sequence, _time(event.time), event.type, event.subject, event.actor)


def _key(key: KeyDescription) -> Sequence[object]:
    end = "-" if key.expires_at is None else _time(key.expires_at)
    return (key.id, key.label, ", ".join(key.scopes), key.state, _time(key.added_at), end)


def _canary(state: CanaryState) -> Sequence[object]:
    run, decision = state.run, state.decision
    step = f"{run.step + 1} of {len(run.steps)}"
    until = "-" if decision.until is None else _time(decision.until)
    return (run.ref, step, f"{run.share:.0%}", _time(run.step_began), decision.verdict, until, decision.why)


def _promotion(planned: WaitingPromotion) -> Sequence[object]:
    until = "-" if planned.until is None else _time(planned.until)
    return (planned.ref, planned.state, _time(planned.at), until, planned.by, planned.why)


def _foreign(found: ForeignVersion) -> Sequence[object]:
    return (found.number, "foreign", found.uuid or "-", found.source)


def _setting(origin: Origin) -> Sequence[object]:
    return (origin.key, origin.value, origin.source)


def _release(row: StatusRow) -> Sequence[object]:
    return (row.classifier, row.version, f"{row.tool} {row.mark}".strip(), row.status, row.action)


def _classifier(listed: ListedClassifier) -> Sequence[object]:
    predictor = listed.predictor + ("" if listed.source else " (missing)")
    return (listed.classifier, predictor, yes(listed.default), listed.description)


def _state(state: ClassifierState) -> Sequence[object]:
    return (
        state.classifier,
        state.version or "-",
        state.tag or "-",
        (state.commit or "-")[:8],
        state.branch or "-",
        yes(state.dirty),
        state.status,
    )


def _image(named: tuple[str, Kept]) -> Sequence[object]:
    reference, kept = named
    image = kept.image
    return (reference, image.digest, _time(image.created), f"{image.size_bytes / 1e6:.1f} MB", kept.where)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def yes(fact: bool) -> str:
    """Give ``yes`` or ``no``."""
    return "yes" if fact else "no"


def principal(name: str, labels: Mapping[str, str]) -> str:
    """Give the principal *name* as people read it: with the label of the key, if it is a key."""
    return f"{name} ({labels[name]})" if name in labels else name


MODELS = Table(
    title="Models",
    columns=("Model", "Version", "Stage", "Health", "Errors", "p95 ms", "Servers", "Incidents", "Why"),
    row=_model,
    empty="No model is registered.",
)
VERSIONS = Table(
    title="Versions",
    columns=("Version", "Stage", "Registered", "Release", "Image", "Parent", "Uuid"),
    row=_version,
    empty="The model has no versions.",
)
HISTORY = Table(
    title="Versions in production",
    columns=("Version", "From", "Until", "By", "Reason"),
    row=_tenure,
    empty="The model was never in production.",
)
MODELS_AT = Table(
    title="Models",
    columns=("Model", "Production", "Canary", "Shadow", "Fallback", "Generation", "Policy", "Versions"),
    row=_model_at,
    empty="The registry had no model.",
)
VERSIONS_AT = Table(
    title="Versions",
    columns=("Version", "Stage", "Registered", "Release", "Approvals"),
    row=_version_at,
    empty="The model had no versions.",
)
CHANGES = Table(
    title="Changes",
    columns=("Kind", "Row", "Change", "Fields"),
    row=_change,
    empty="Nothing in the registry changed.",
)
CANARIES = Table(
    title="Canaries in steps",
    columns=("Version", "Step", "Share", "Since", "Now", "Until", "Why"),
    row=_canary,
    empty="No canary grows in steps.",
)
PROMOTIONS = Table(
    title="Planned promotions",
    columns=("Version", "State", "Planned for", "Until", "By", "Why"),
    row=_promotion,
    empty="No promotion was ever planned.",
)
FOREIGN = Table(
    title="Foreign versions",
    columns=("Version", "Stage", "Uuid", "Source"),
    row=_foreign,
    empty="MLflow has no version that was registered without Mendel.",
)
INCIDENTS = Table(
    title="Incidents",
    columns=("Incident", "Version", "Cause", "Severity", "Status", "Opened", "Title"),
    row=_incident,
    empty="No incident was ever opened.",
)
LOOKS = Table(
    title="Looks",
    columns=("Model", "Day", "Looks", "Bytes"),
    row=_looks,
    empty="No look was stored yet.",
)
RUNS = Table(
    title="Runs",
    columns=("Run", "Playbook", "Version", "State", "Steps", "Reason"),
    row=_run,
    empty="No playbook was ever run.",
)
EVENTS = Table(
    title="Ledger",
    columns=("#", "Time", "Event", "Subject", "By"),
    row=_entry,
    empty="The ledger has no such event.",
)
KEYS = Table(
    title="API keys",
    columns=("Key", "Label", "Scopes", "State", "Added", "Expires"),
    row=_key,
    empty="There are no API keys.",
)
SETTINGS = Table(title="Settings", columns=("Key", "Value", "From"), row=_setting, empty="There are no settings.")
RELEASES = Table(
    title="Classifier Version Status",
    columns=("Classifier", "Version", "MLServer", "Status", "Action Required"),
    row=_release,
    empty="The project has no classifiers.",
)
CLASSIFIERS = Table(
    title="Classifiers",
    columns=("Classifier", "Predictor", "Default", "Description"),
    row=_classifier,
    empty="The project has no classifiers.",
)
CLASSIFIER_STATES = Table(
    title="Classifiers",
    columns=("Classifier", "Version", "Tag", "Commit", "Branch", "Dirty", "Status"),
    row=_state,
    empty="The project has no classifiers.",
)
IMAGES = Table(
    title="Images",
    columns=("Image", "Digest", "Created", "Size", "Kept in"),
    row=_image,
    empty="No image was built yet. Build one with: mendel build",
)
