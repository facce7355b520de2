"""The Python face of the hub, over HTTP or in this process: one implementation, whichever it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar, cast

import httpx

from mendel.client.model_registration import ModelRegistering
from mendel.errors import HubUnavailable, InvalidValue, MendelError
from mendel.healing import DecisionRecord, Incident, LookResult, PlaybookRun
from mendel.operations import (
    Operation,
    incidents,
    keys,
    labels,
    ledger,
    lifecycle,
    models,
    performance,
    policies,
    runs,
    servers,
)
from mendel.operations.binding import url_of, write_request
from mendel.operations.ledger import LedgerPage, LedgerProof
from mendel.operations.operation import JSON_TYPE
from mendel.operations.problems import MEDIA_TYPE, from_problem
from mendel.operations.requests import Nothing, OfModel, OneModel, OneVersion
from mendel.predictions import LabelRow, LogStats
from mendel.registry import (
    GateRecord,
    HealthReport,
    LineageEntry,
    PolicyDocument,
    ProductionPeriod,
    Registered,
    Registration,
    RollbackCheck,
    RolledBack,
    ServerState,
    Snapshot,
    VersionImage,
    VersionRecord,
)
from mendel.values import Deployment, Digest, ModelName, Stage, VersionRef, VersionUuid, from_json, to_json
from mendel.values.directory_trees import pack_tree, unpack_tree
from mendel.views import FleetView, IncidentView, ModelView

Q = TypeVar("Q")
R = TypeVar("R")
_LABELS_AT_ONCE = 5_000
_LONG_S = 600.0
"""How long an upload or a download may take."""


class Client(ModelRegistering):
    """
    Speaks to one hub. Use it in a ``with`` block, or :meth:`close` it.

    Every method raises what the hub raised, as the same class of :mod:`mendel.errors`, and
    :class:`~mendel.errors.HubUnavailable` when it does not answer.
    """

    def __init__(self, http: httpx.Client, *, closing: ExitStack | None = None, embedded: bool = False) -> None:
        self._http = http
        self._closing = closing or ExitStack()
        self.embedded = embedded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; in process, close the databases."""
        self._http.close()
        self._closing.close()

    # -- registering and reading --

    def register(self, registration: Registration, tree: Path, *, data: Path | None = None) -> Registered:
        """Register the artefact directory *tree* (and the directory *data* kept beside it) as one new version."""
        with _packed(tree) as artifact, ExitStack() as closing:
            beside = None if data is None else closing.enter_context(_packed(data))
            request = models.Register(
                model=registration.model, registration=registration, artifact=artifact, data=beside
            )
            return self._call(models.register, request, timeout=_LONG_S)

    def download(self, digest: Digest, into: Path) -> None:
        """
        Fetch the served files of the artefact *digest* into the directory *into*, checked.

        Raises:
            ArtifactNotFound: The registry has none of that digest.
            DigestMismatch: What came is another.
        """
        with tempfile.TemporaryFile() as packed:
            self._fetch(models.download, models.OneDigest(digest=Digest(digest)), packed)
            packed.seek(0)
            unpack_tree(packed, into, expect=digest)

    def models(self) -> tuple[ModelName, ...]:
        """Every model that has a version."""
        return self._call(models.models, Nothing())

    def model(self, model: str) -> ModelView:
        """One model: its versions, deployment, health, policy, incidents and runs."""
        return self._call(models.model, _model(model))

    def versions(self, model: str) -> tuple[VersionRecord, ...]:
        """The versions of *model*, ascending."""
        return self._call(models.versions, _model(model))

    def version(self, ref: str | VersionRef) -> VersionRecord:
        """One version, by ``NAME@N``."""
        return self._call(models.version, _version(ref))

    def get_model_by_uuid(self, uuid: str) -> VersionRecord:
        """One version, by its uuid."""
        return self._call(models.get_model_by_uuid, models.OneUuid(uuid=VersionUuid(uuid)))

    def versions_by_image(self, digest: str) -> tuple[VersionRecord, ...]:
        """Every version that is delivered in the image of that digest; empty when none is."""
        return self._call(models.versions_by_image, models.OneDigest(digest=Digest(digest)))

    def record_image(self, ref: str | VersionRef, image: VersionImage) -> VersionRecord:
        """Say which container image delivers a version; it must be of the version's release."""
        one = _version(ref)
        return self._call(models.record_image, models.RecordImage(model=one.model, number=one.number, body=image))

    def lineage(self, model: str) -> tuple[LineageEntry, ...]:
        """The versions of *model* in order, with who contributed what and the improvement so far."""
        return self._call(models.lineage, _model(model))

    def deployment(self, model: str) -> Deployment:
        """What servers shall serve of *model*."""
        return self._call(lifecycle.deployment, _model(model))

    def history(self, model: str) -> tuple[ProductionPeriod, ...]:
        """Which version was in production when, and who decided so."""
        return self._call(lifecycle.history, _model(model))

    def card(self, ref: str | VersionRef) -> str:
        """The model card of a version, Markdown."""
        return self._call(models.card, _version(ref))

    # -- lifecycle --

    def approve(self, ref: str | VersionRef, *, policy: bool = False, bias: bool = False) -> VersionRecord:
        """Set the governance flags of a version."""
        one = _version(ref)
        request = lifecycle.Approve(model=one.model, number=one.number, policy=policy, bias=bias)
        return self._call(lifecycle.approve, request)

    def accept_difference(self, ref: str | VersionRef, *, reason: str) -> VersionRecord:
        """Accept the difference between the served answers of a version and the model's own answers."""
        one = _version(ref)
        request = lifecycle.AcceptDifference(model=one.model, number=one.number, reason=reason)
        return self._call(lifecycle.accept_difference, request)

    def record_gate_report(self, ref: str | VersionRef, record: GateRecord) -> None:
        """Keep a gate report; promotion requires a passing one."""
        one = _version(ref)
        request = lifecycle.RecordGateReport(model=one.model, number=one.number, body=record)
        self._call(lifecycle.record_gate_report, request)

    def change_stage(self, ref: str | VersionRef, to: str, *, reason: str = "") -> VersionRecord:
        """Move a version along the transition table."""
        one = _version(ref)
        request = lifecycle.ChangeStage(model=one.model, number=one.number, to=_stage(to), reason=reason)
        return self._call(lifecycle.change_stage, request)

    def promote(
        self, ref: str | VersionRef, *, reason: str = "", override: str | None = None, generation: int | None = None
    ) -> Deployment:
        """
        Put a version into production.

        Args:
            override: Why it goes there without a passing gate report; recorded.
            generation: The generation you saw; somebody else's change in between raises ``GenerationConflict``.
        """
        one = _version(ref)
        request = lifecycle.Promote(
            model=one.model,
            number=one.number,
            reason=reason,
            override=override,
            if_match=None if generation is None else f'"{generation}"',
        )
        return self._call(lifecycle.promote, request)

    def rollback(
        self, model: str, *, reason: str, to: int | None = None, to_time: datetime | None = None, dry_run: bool = False
    ) -> RolledBack:
        """Take the serving version out of production and bring the former one back; a dry run only says which."""
        request = lifecycle.RollBack(model=ModelName(model), reason=reason, to=to, to_time=to_time, dry_run=dry_run)
        return self._call(lifecycle.rollback, request)

    def undeploy(
        self, model: str, *, reason: str = "", deprecate: bool = False, generation: int | None = None
    ) -> Deployment:
        """
        Take the production version out of production, whether or not a server could ever load it.

        The model then serves nothing, and its incidents are resolved.

        Args:
            deprecate: Deprecate the version instead of moving it to sandbox, so that it never serves again.
            generation: The generation you saw; somebody else's change in between raises ``GenerationConflict``.
        """
        request = lifecycle.Undeploy(
            model=ModelName(model),
            reason=reason,
            deprecate=deprecate,
            if_match=None if generation is None else f'"{generation}"',
        )
        return self._call(lifecycle.undeploy, request)

    def canary(self, ref: str | VersionRef, share: float) -> Deployment:
        """Give a version a share of the traffic beside production, a fraction in (0, 1)."""
        one = _version(ref)
        return self._call(lifecycle.canary, lifecycle.Canary(model=one.model, number=one.number, share=share))

    def policy(self, model: str) -> PolicyDocument:
        """The policy of *model* as it stands."""
        return self._call(policies.policy, _model(model))

    def set_policy(self, model: str, body: Mapping[str, Any]) -> PolicyDocument:
        """Replace the policy of *model*; the same body again makes no new version."""
        return self._call(policies.set_policy, policies.SetPolicy(model=ModelName(model), body=dict(body)))

    # -- watching and healing --

    def check_rollback_triggers(self, model: str) -> RollbackCheck:
        """Whether the serving version's performance crosses the rollback policy; changes nothing."""
        return self._call(performance.check_rollback_triggers, _model(model))

    def health(self, model: str) -> HealthReport:
        """How the serving version is."""
        return self._call(performance.health, _model(model))

    def fleet(self) -> FleetView:
        """How all models are."""
        return self._call(performance.fleet, Nothing())

    def record_performance_snapshot(self, snapshot: Snapshot) -> RollbackCheck:
        """Push the performance of a version as another system measured it; what the triggers make of it."""
        request = performance.RecordSnapshot(model=snapshot.ref.model, body=snapshot)
        return self._call(performance.record_performance_snapshot, request)

    def servers(self) -> tuple[ServerState, ...]:
        """Every server as it last reported: what it serves, and how far it is."""
        return self._call(servers.servers, Nothing())

    def observe(self, model: str) -> LookResult:
        """Check *model* now, its counters and its log, and let healing act on what is found."""
        return self._call(incidents.observe, _model(model))

    def incidents(self, model: str | None = None) -> tuple[Incident, ...]:
        """Incidents, newest first."""
        return self._call(incidents.incidents, OfModel(model=_name(model)))

    def incident(self, incident_id: str) -> Incident:
        """One incident with its timeline."""
        return self._call(incidents.incident, incidents.OneIncident(incident_id=incident_id))

    def incident_details(self, incident_id: str) -> IncidentView:
        """One incident with its timeline, decisions and runs."""
        return self._call(incidents.incident_details, incidents.OneIncident(incident_id=incident_id))

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        """What was decided about an incident, oldest first."""
        return self._call(incidents.decisions, incidents.OneIncident(incident_id=incident_id))

    def acknowledge(self, incident_id: str) -> Incident:
        """Acknowledge an incident: a person works on it."""
        return self._call(incidents.acknowledge, incidents.OneIncident(incident_id=incident_id))

    def resolve(self, incident_id: str, *, reason: str) -> Incident:
        """Say that it is over."""
        return self._call(incidents.resolve, incidents.Resolve(incident_id=incident_id, reason=reason))

    def runs(self, model: str | None = None, *, waiting: bool = False) -> tuple[PlaybookRun, ...]:
        """Runs of playbooks, oldest first; only those that wait for a person if *waiting*."""
        return self._call(runs.runs, runs.Runs(model=_name(model), waiting=waiting))

    def run(self, run_id: str) -> PlaybookRun:
        """One run with its steps."""
        return self._call(runs.run, runs.OneRun(run_id=run_id))

    def approve_run(self, run_id: str) -> PlaybookRun:
        """Let a proposed or held run go on."""
        return self._call(runs.approve_run, runs.OneRun(run_id=run_id))

    def decline_run(self, run_id: str, *, reason: str) -> PlaybookRun:
        """Refuse a proposed or held run."""
        return self._call(runs.decline_run, runs.Decline(run_id=run_id, reason=reason))

    def start_playbook(self, model: str, playbook: str, *, reason: str) -> PlaybookRun:
        """Run a playbook on the production version because you say so."""
        request = runs.StartPlaybook(model=ModelName(model), playbook=playbook, reason=reason)
        return self._call(runs.start_playbook, request)

    def pause_healing(self, model: str | None = None, *, reason: str) -> None:
        """Switch healing off, for one model or for all."""
        self._call(runs.pause_healing, runs.PauseHealing(model=_name(model), reason=reason))

    def resume_healing(self, model: str | None = None) -> None:
        """Let healing act again, for one model or for all."""
        self._call(runs.resume_healing, runs.PauseHealing(model=_name(model)))

    # -- the log --

    def label(self, rows: Sequence[LabelRow]) -> None:
        """Tell the true outcomes of predictions, in as many requests as they need; the hub notes when it got them."""
        for start in range(0, len(rows), _LABELS_AT_ONCE):
            told = [_told(row) for row in rows[start : start + _LABELS_AT_ONCE]]
            self._call(labels.label, labels.PostLabels(body=to_json({"labels": told})))

    def stats(self, model: str) -> LogStats:
        """Totals, the last 100, label coverage."""
        return self._call(labels.stats, _model(model))

    # -- proof --

    def events(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> LedgerPage:
        """Entries of the ledger after a sequence number, ascending."""
        return self._call(ledger.events, ledger.Events(after=after, limit=limit, subject=subject))

    def verify_ledger(self) -> LedgerProof:
        """
        Check the whole hash chain and every anchor.

        Raises:
            LedgerBroken: At the first sequence that does not hold.
        """
        return self._call(ledger.verify_ledger, Nothing())

    def add_key(self, scopes: Sequence[str], *, label: str) -> str:
        """Make a key and give its secret, which is shown this once."""
        return self._call(keys.add_key, keys.AddKey(scopes=tuple(scopes), label=label)).secret

    # -- the wire --

    def _call(self, operation: Operation[Q, R], request: Q, **options: Any) -> R:
        with self._reached():
            response = self._http.send(self._written(operation, request, **options))
        if not response.is_success:
            raise _error_of(response)
        if operation.response is None or operation.media_type != JSON_TYPE:
            return cast("R", response.text or None)
        return cast("R", from_json(response.content, operation.response))

    def _fetch(self, operation: Operation[Q, Iterator[bytes]], request: Q, into: IO[bytes]) -> None:
        """Write a large answer to *into* as it comes."""
        with self._reached():
            response = self._http.send(self._written(operation, request, timeout=_LONG_S), stream=True)
            with closing(response):
                if not response.is_success:
                    response.read()
                    raise _error_of(response)
                for chunk in response.iter_bytes():
                    into.write(chunk)

    def _written(self, operation: Operation[Q, Any], request: Q, **options: Any) -> httpx.Request:
        message = write_request(operation, request)
        headers = dict(message.headers)
        if message.files:
            options |= {"data": message.texts, "files": message.files}
        elif operation.has_body:
            options["content"] = message.body
            headers.setdefault("content-type", next(iter(operation.body.media_types)))
        url, query = url_of(operation, message), message.query or None
        return self._http.build_request(operation.method, url, params=query, headers=headers, **options)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise HubUnavailable(
                f"The hub at {self._http.base_url} does not answer: {error}.", remedy="Is it running? Try: mendel up"
            ) from error


def _error_of(response: httpx.Response) -> MendelError:
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        return from_problem(from_json(response.content, dict[str, Any]))
    said = " ".join(response.text[:200].split())
    return HubUnavailable(
        f"The server at {response.url} is not a hub: it answered {response.status_code} {said}",
        remedy="Correct the hub's URL.",
    )


def _told(label: LabelRow) -> dict[str, object]:
    said = {"prediction_id": label.prediction_id, "true_label": label.true_label, "label_source": label.label_source}
    return said | ({"label_timestamp": label.label_timestamp} if label.label_timestamp else {})


def _version(ref: str | VersionRef) -> OneVersion:
    version = ref if isinstance(ref, VersionRef) else VersionRef.parse(ref)
    return OneVersion(model=version.model, number=version.number)


def _model(model: str) -> OneModel:
    return OneModel(model=ModelName(model))


def _name(model: str | None) -> ModelName | None:
    return None if model is None else ModelName(model)


def _stage(name: str) -> Stage:
    if name not in list(Stage):
        raise InvalidValue(f"{name!r} is not a stage.", remedy=f"Choose one of {', '.join(Stage)}.")
    return Stage(name)


@contextmanager
def _packed(tree: Path) -> Iterator[Any]:
    with tempfile.TemporaryFile() as file:
        pack_tree(tree, file, exclude=("data",))
        file.seek(0)
        yield file
