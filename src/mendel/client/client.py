"""The Python client of a hub, which sends the operations of the control API over HTTP or calls them in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar, cast

import httpx

from mendel.client.deployment_changes import DeploymentChanges
from mendel.client.model_registration import ModelRegistering
from mendel.client.names import if_match
from mendel.client.names import model_request as _model
from mendel.client.names import optional_name as _name
from mendel.client.names import version_request as _version
from mendel.durable import Checkpoint, ConsistencyProof, Finding, LedgerKey, LedgerState, Receipt
from mendel.errors import HubUnavailable, InvalidValue, MendelError
from mendel.healing import Backtest, DecisionRecord, Explanation, Incident, LookResult, LookVolume, PlaybookRun
from mendel.operations import (
    Operation,
    evidence,
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
    time_travel,
)
from mendel.operations.binding import url_of, write_request
from mendel.operations.ledger import LedgerPage, LedgerProof
from mendel.operations.lifecycle import Promotion
from mendel.operations.operation import JSON_TYPE
from mendel.operations.problems import MEDIA_TYPE, from_problem
from mendel.operations.requests import Nothing, OfModel
from mendel.operations.time_travel import RegistryAt, RegistryChanges
from mendel.predictions import LabelRow, LogStats
from mendel.registry import (
    GateRecord,
    HealthReport,
    KeyDescription,
    LineageEntry,
    NewKey,
    PolicyDocument,
    ProductionPeriod,
    Registered,
    Registration,
    RollbackCheck,
    RolledBack,
    ServerState,
    Snapshot,
    VersionFault,
    VersionImage,
    VersionRecord,
)
from mendel.values import (
    Deployment,
    Digest,
    ModelName,
    Stage,
    VersionRef,
    VersionUuid,
    from_json,
    render_duration,
    to_json,
)
from mendel.values.atomic_files import translated_disk_errors
from mendel.values.directory_trees import pack_tree, unpack_tree
from mendel.views import FleetView, IncidentView, ModelView

Q = TypeVar("Q")
R = TypeVar("R")
_LABELS_AT_ONCE = 5_000
_SIZES_AT_ONCE = 500
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_LONG_S = 600.0
"""The timeout of an upload or a download, in seconds."""
_JUDGED_S = 3_660.0
"""The timeout of a judgement, in seconds: as long as the job of a policy may take by default, and a minute."""


class Client(ModelRegistering, DeploymentChanges):
    """
    A client of one hub. Use it in a ``with`` block, or call :meth:`close`.

    ``embedded`` is true when no hub runs, and the client opened the data directory itself; ``where`` is the hub's URL
    or that directory. ``on_this_machine`` is true if no hub runs, or if the hub's URL names this machine. ``working``
    shows a person what the client waits for, while the ``with`` block runs.

    When the hub refuses a request, the method raises the hub's error with the same class of :mod:`mendel.errors`; when
    the hub cannot be reached, :class:`~mendel.errors.HubUnavailable`.
    """

    def __init__(
        self,
        http: httpx.Client,
        *,
        where: str | None = None,
        working: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._http = http
        self.embedded = where is not None
        self.where = where or str(http.base_url)
        self.on_this_machine = self.embedded or http.base_url.host in _LOOPBACK
        self.working = working

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection to the hub; for a hub in this process, close its databases."""
        self._http.close()

    # -- registering and reading --

    def register(
        self, registration: Registration, tree: Path, *, data: Path | None = None, will_approve: bool = False
    ) -> Registered:
        """
        Register the artefact in the directory *tree* as a new version.

        Args:
            registration: The facts about the version.
            data: A directory of files to store with the version but not to serve, such as training data; None without.
            will_approve: True registers nothing unless the caller's key may also approve the version.
        """
        with _packed(tree) as artifact, ExitStack() as closing:
            beside = None if data is None else closing.enter_context(_packed(data))
            request = models.Register(
                model=registration.model,
                registration=registration,
                artifact=artifact,
                data=beside,
                will_approve=will_approve,
            )
            return self._call(models.register, request, timeout=_LONG_S)

    def download(self, digest: Digest, into: Path) -> None:
        """
        Download the artefact with the digest *digest* into the directory *into*, and check its digest.

        Raises:
            ArtifactNotFound: The registry has no artefact with this digest.
            DigestMismatch: The downloaded files have another digest.
        """
        with tempfile.TemporaryFile() as packed:
            self._fetch(models.download, models.OneDigest(digest=Digest(digest)), packed)
            packed.seek(0)
            unpack_tree(packed, into, expect=digest)

    def models(self) -> tuple[ModelName, ...]:
        """List the names of all models that have a version."""
        return self._call(models.models, Nothing())

    def model(self, model: str) -> ModelView:
        """Get a model with its versions, deployment, health, policy, incidents and runs."""
        return self._call(models.model, _model(model))

    def versions(self, model: str) -> tuple[VersionRecord, ...]:
        """List the versions of *model*, oldest first."""
        return self._call(models.versions, _model(model))

    def version(self, ref: str | VersionRef) -> VersionRecord:
        """Get a version by ``NAME@N``, for example ``credit@3``."""
        return self._call(models.version, _version(ref))

    def get_model_by_uuid(self, uuid: str) -> VersionRecord:
        """Get the version with the uuid *uuid* (``m-`` and 32 hex digits)."""
        return self._call(models.get_model_by_uuid, models.OneUuid(uuid=VersionUuid(uuid)))

    def versions_by_image(self, digest: str) -> tuple[VersionRecord, ...]:
        """List the versions whose recorded image has the digest *digest*; empty for an unknown image."""
        return self._call(models.versions_by_image, models.OneDigest(digest=Digest(digest)))

    def record_image(self, ref: str | VersionRef, image: VersionImage) -> VersionRecord:
        """Record the container image that contains a version; the image must have the version's release."""
        one = _version(ref)
        return self._call(models.record_image, models.RecordImage(model=one.model, number=one.number, body=image))

    def lineage(self, model: str) -> tuple[LineageEntry, ...]:
        """List the versions of *model* with their contributors and the total improvement up to each version."""
        return self._call(models.lineage, _model(model))

    def deployment(self, model: str) -> Deployment:
        """Get the deployment of *model*: the versions that servers should serve and their shares of the traffic."""
        return self._call(lifecycle.deployment, _model(model))

    def history(self, model: str) -> tuple[ProductionPeriod, ...]:
        """List the periods in production of the versions of *model*, with the caller who promoted each."""
        return self._call(lifecycle.history, _model(model))

    def state_at(self, at: str | datetime, model: str | None = None) -> RegistryAt:
        """
        Get stages, deployments and policies as they were at a point in the past.

        Args:
            at: A time with its zone (``2026-03-01T12:00Z``), a duration before now (``2h``), or the sequence number of
                a ledger entry (``120`` or ``seq:120``).
            model: The name of one model; None gives all models.

        Raises:
            StateUnknown: The ledger does not tell the state at that point.
        """
        return self._call(time_travel.state_at, time_travel.StateAt(at=_point(at), model=_name(model)))

    def diff(self, since: str | datetime, until: str | datetime | None = None) -> RegistryChanges:
        """
        List the rows of the registry that changed between two points, written as in :meth:`state_at`.

        Args:
            until: The later point; None takes now.

        Raises:
            StateUnknown: The ledger does not tell the state at one of the points.
        """
        end = None if until is None else _point(until)
        return self._call(time_travel.diff, time_travel.Diff(since=_point(since), until=end))

    def version_faults(self, ref: str | VersionRef) -> tuple[VersionFault, ...]:
        """List why servers cannot load a version, and how its answers differ, with the values of the probe rows."""
        return self._call(models.version_faults, _version(ref))

    def card(self, ref: str | VersionRef) -> str:
        """Get the model card of a version as Markdown."""
        return self._call(models.card, _version(ref))

    # -- lifecycle --

    def approve(self, ref: str | VersionRef, *, policy: bool = False, bias: bool = False) -> VersionRecord:
        """Set governance flags of a version; False leaves a flag unchanged."""
        one = _version(ref)
        request = lifecycle.Approve(model=one.model, number=one.number, policy=policy, bias=bias)
        return self._call(lifecycle.approve, request)

    def accept_difference(self, ref: str | VersionRef, *, reason: str) -> VersionRecord:
        """Accept that the answers of a version differ from the answers of the fitted model."""
        one = _version(ref)
        request = lifecycle.AcceptDifference(model=one.model, number=one.number, reason=reason)
        return self._call(lifecycle.accept_difference, request)

    def judge(self, ref: str | VersionRef, data: str | Path, *, target: str | None = None) -> GateRecord:
        """
        Let the gates judge a version for a first deployment, and store the gate report.

        Args:
            data: A Parquet file of rows that were kept out of the training, with their true outcomes.
            target: The column with the true outcome; None takes ``monitoring.target`` of the policy.

        Raises:
            Conflict: The model has a production version, or the code of the version is not on the hub's machine.
        """
        one, path = _version(ref), Path(data)
        with translated_disk_errors(path, act="read"):
            rows = path.open("rb")
        with rows:
            request = lifecycle.Judge(model=one.model, number=one.number, rows=rows, target=target)
            return self._call(lifecycle.judge, request, timeout=_JUDGED_S)

    def change_stage(
        self, ref: str | VersionRef, to: str, *, reason: str = "", without_parity: str | None = None
    ) -> VersionRecord:
        """
        Move a version to the stage *to*.

        Before a version leaves development, a new Python process answers its probe rows, which takes some seconds.

        Args:
            without_parity: The reason to let a version leave development whose parity is not measured, which the ledger
                records; None requires that its parity is measured.

        Raises:
            IllegalTransition: The transition table forbids the move.
            Conflict: The version answers otherwise than its model, or its parity is not measured.
        """
        one = _version(ref)
        request = lifecycle.ChangeStage(
            model=one.model, number=one.number, to=_stage(to), reason=reason, without_parity=without_parity
        )
        return self._call(lifecycle.change_stage, request, timeout=_LONG_S)

    def probe(self, ref: str | VersionRef, data: str | Path) -> VersionRecord:
        """
        Probe a version with rows of a file, after its registration.

        In a new Python process, the stored model answers hard rows of the file directly; these answers are compared
        with the served ones, all rows together and each alone. The trainer's own object takes no part.

        Args:
            data: A Parquet or CSV file of rows that the model was fitted on; further columns are ignored.

        Raises:
            Conflict: Parity cannot be measured with these rows; the message says why.
        """
        one, path = _version(ref), Path(data)
        with translated_disk_errors(path, act="read"):
            rows = path.open("rb")
        with rows:
            request = lifecycle.Probe(model=one.model, number=one.number, file=path.name, rows=rows)
            return self._call(lifecycle.probe, request, timeout=_LONG_S)

    def promote(
        self, ref: str | VersionRef, *, reason: str = "", override: str | None = None, generation: int | None = None
    ) -> Promotion:
        """
        Put a version into production.

        Args:
            reason: The reason, which the ledger records.
            override: The reason to promote without a passing gate report, which the ledger records; None requires a
                passing report.
            generation: The expected generation of the deployment; if the deployment was changed since, the method
                raises ``GenerationConflict``. None skips the check.

        Returns:
            The new deployment, with the receipt of the promotion's entry in the ledger.
        """
        one = _version(ref)
        request = lifecycle.Promote(
            model=one.model,
            number=one.number,
            reason=reason,
            override=override,
            if_match=if_match(generation),
        )
        return self._call(lifecycle.promote, request)

    def rollback(
        self,
        model: str,
        *,
        reason: str,
        to: int | None = None,
        to_time: datetime | str | None = None,
        dry_run: bool = False,
    ) -> RolledBack:
        """
        Put a former production version back into production.

        Args:
            reason: The reason, which the ledger records.
            to: The number of the version.
            to_time: A point at which the version was in production, as in :meth:`state_at`. Without *to* and *to_time*,
                the newest former production version is taken.
            dry_run: True only finds the version and changes nothing.
        """
        point = None if to_time is None else _point(to_time)
        request = lifecycle.RollBack(model=ModelName(model), reason=reason, to=to, to_time=point, dry_run=dry_run)
        return self._call(lifecycle.rollback, request)

    def undeploy(
        self, model: str, *, reason: str = "", deprecate: bool = False, generation: int | None = None
    ) -> Deployment:
        """
        Take the production version out of production, whether or not a server could ever load it.

        The model then serves nothing, and its incidents are resolved.

        Args:
            deprecate: Deprecate the version instead of moving it to sandbox, so that it never serves again.
            generation: The expected generation of the deployment; if the deployment was changed since, the method
                raises ``GenerationConflict``. None skips the check.
        """
        request = lifecycle.Undeploy(
            model=ModelName(model),
            reason=reason,
            deprecate=deprecate,
            if_match=if_match(generation),
        )
        return self._call(lifecycle.undeploy, request)

    def policy(self, model: str) -> PolicyDocument:
        """Get the policy of *model*; version 0 means the defaults."""
        return self._call(policies.policy, _model(model))

    def set_policy(self, model: str, body: Mapping[str, Any]) -> PolicyDocument:
        """Replace the policy of *model*; an unchanged policy makes no new policy version."""
        return self._call(policies.set_policy, policies.SetPolicy(model=ModelName(model), body=dict(body)))

    # -- watching and healing --

    def check_rollback_triggers(self, model: str, *, window: str | timedelta | None = None) -> RollbackCheck:
        """
        Check whether the production version's performance violates the rollback policy; change nothing.

        Args:
            window: The length of the window, such as ``10m``; None takes the policy's (``rollback.window``).
        """
        length = render_duration(window) if isinstance(window, timedelta) else window
        request = performance.CheckTriggers(model=ModelName(model), window=length)
        return self._call(performance.check_rollback_triggers, request)

    def health(self, model: str) -> HealthReport:
        """Get the health of the production version of *model*."""
        return self._call(performance.health, _model(model))

    def fleet(self) -> FleetView:
        """Get all models with their production versions and their health."""
        return self._call(performance.fleet, Nothing())

    def record_performance_snapshot(self, snapshot: Snapshot) -> RollbackCheck:
        """
        Store the performance of a version that another system measured.

        Returns:
            The result of checking the production version against the rollback policy.
        """
        request = performance.RecordSnapshot(model=snapshot.ref.model, body=snapshot)
        return self._call(performance.record_performance_snapshot, request)

    def servers(self) -> tuple[ServerState, ...]:
        """List the servers with the versions that they reported to serve."""
        return self._call(servers.servers, Nothing())

    def observe(self, model: str) -> LookResult:
        """Check the counters and the prediction log of *model* now, and let healing react."""
        return self._call(incidents.observe, _model(model))

    def incidents(self, model: str | None = None) -> tuple[Incident, ...]:
        """List the newest 100 incidents of *model*, newest first; None lists those of all models."""
        return self._call(incidents.incidents, OfModel(model=_name(model)))

    def incident(self, incident_id: str) -> Incident:
        """Get an incident with its timeline."""
        return self._call(incidents.incident, incidents.OneIncident(incident_id=incident_id))

    def incident_details(self, incident_id: str) -> IncidentView:
        """Get an incident with its timeline, decisions and runs."""
        return self._call(incidents.incident_details, incidents.OneIncident(incident_id=incident_id))

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        """List the decisions of healing about an incident, oldest first."""
        return self._call(incidents.decisions, incidents.OneIncident(incident_id=incident_id))

    def explain_incident(self, incident_id: str) -> tuple[Explanation, ...]:
        """
        Explain each decision about an incident, oldest first.

        An explanation has the measured values with their bounds, the guards of the decision, and the rule that decided.
        """
        return self._call(evidence.explain_incident, incidents.OneIncident(incident_id=incident_id))

    def looks(self, model: str | None = None) -> tuple[LookVolume, ...]:
        """Count the stored looks and their bytes, by model and day."""
        return self._call(evidence.looks, OfModel(model=_name(model)))

    def backtest(
        self,
        model: str | None = None,
        *,
        period: timedelta = timedelta(days=30),
        policy: Mapping[str, Any] | None = None,
        playbooks: Mapping[str, str] | None = None,
    ) -> Backtest:
        """
        Decide the recorded looks of *period* again; change nothing.

        Args:
            model: The model; None takes all models.
            policy: The sections of another policy; None keeps the recorded policies.
            playbooks: The texts of playbooks by file name, used beside the shipped ones instead of the hub's.
        """
        request = evidence.RunBacktest(
            model=_name(model),
            period=period,
            policy=None if policy is None else dict(policy),
            playbooks=None if playbooks is None else dict(playbooks),
        )
        return self._call(evidence.backtest, request, timeout=_LONG_S)

    def acknowledge(self, incident_id: str) -> Incident:
        """Record that the caller investigates an incident."""
        return self._call(incidents.acknowledge, incidents.OneIncident(incident_id=incident_id))

    def resolve(self, incident_id: str, *, reason: str) -> Incident:
        """Close an incident as resolved, for the given *reason*."""
        return self._call(incidents.resolve, incidents.Resolve(incident_id=incident_id, reason=reason))

    def runs(self, model: str | None = None, *, waiting: bool = False) -> tuple[PlaybookRun, ...]:
        """
        List the newest 1000 runs of playbooks, oldest first.

        Args:
            model: The model of the runs; None lists runs of all models.
            waiting: True lists only runs that wait for a person.
        """
        return self._call(runs.runs, runs.Runs(model=_name(model), waiting=waiting))

    def run(self, run_id: str) -> PlaybookRun:
        """Get a run of a playbook with its steps."""
        return self._call(runs.run, runs.OneRun(run_id=run_id))

    def approve_run(self, run_id: str) -> PlaybookRun:
        """Approve a run that waits for a person, so that the run continues."""
        return self._call(runs.approve_run, runs.OneRun(run_id=run_id))

    def decline_run(self, run_id: str, *, reason: str) -> PlaybookRun:
        """Refuse a run that waits for a person."""
        return self._call(runs.decline_run, runs.Decline(run_id=run_id, reason=reason))

    def start_playbook(self, model: str, playbook: str, *, reason: str) -> PlaybookRun:
        """Run a playbook on the production version of *model*."""
        request = runs.StartPlaybook(model=ModelName(model), playbook=playbook, reason=reason)
        return self._call(runs.start_playbook, request)

    def pause_healing(self, model: str | None = None, *, reason: str) -> None:
        """Pause healing for *model*; None pauses healing for all models."""
        self._call(runs.pause_healing, runs.PauseHealing(model=_name(model), reason=reason))

    def resume_healing(self, model: str | None = None) -> None:
        """Resume healing for *model*; None resumes healing that was paused for all models."""
        self._call(runs.resume_healing, runs.PauseHealing(model=_name(model)))

    # -- the log --

    def label(self, rows: Sequence[LabelRow]) -> None:
        """Log the true outcomes of predictions, in as many requests as needed; the hub records the time of receipt."""
        for start in range(0, len(rows), _LABELS_AT_ONCE):
            told = [_told(row) for row in rows[start : start + _LABELS_AT_ONCE]]
            self._call(labels.label, labels.PostLabels(body=to_json({"labels": told})))

    def stats(self, model: str) -> LogStats:
        """Get the number of predictions and labels of *model*, its label coverage, and the last 100 predictions."""
        return self._call(labels.stats, _model(model))

    # -- proof --

    def events(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> LedgerPage:
        """List the entries of the ledger after the sequence number *after*, oldest first; None means all subjects."""
        return self._call(ledger.events, ledger.Events(after=after, limit=limit, subject=subject))

    def verify_ledger(
        self,
        *,
        sizes: Sequence[int] = (),
        tables: bool = False,
        progress: Callable[[LedgerProof], object] = lambda _: None,
    ) -> LedgerProof:
        """
        Verify the hash chain of the whole ledger, its tree, its head row and every signed anchor.

        Args:
            sizes: Also give the states of the ledger when it had these numbers of entries.
            tables: True also rebuilds versions, deployments, policies and production periods from the events, and
                compares them with the registry's tables.
            progress: Receives the result so far after each piece of the ledger.

        Returns:
            The result; its ``findings`` name each fault, and are empty if the ledger holds.
        """
        due = sorted(set(sizes))
        findings: list[Finding] = []
        states: list[LedgerState] = []
        proof = LedgerProof(first=1, last=0, head_hash="", anchored=0, anchors=0, next="")
        anchors = 0
        while proof.next is not None:
            near = [size for size in due if proof.last < size <= proof.last + ledger.PIECE][:_SIZES_AT_ONCE]
            limit = near[-1] - proof.last if len(near) == _SIZES_AT_ONCE else ledger.PIECE
            request = ledger.VerifyLedger(cursor=proof.next or None, limit=limit, sizes=tuple(near), tables=tables)
            proof = self._call(ledger.verify_ledger, request, timeout=_LONG_S)
            findings += proof.findings
            states += proof.states
            anchors += proof.anchors
            progress(proof)
        return replace(proof, anchors=anchors, findings=tuple(findings), states=tuple(states))

    def checkpoint(self) -> Checkpoint:
        """Sign the ledger as it is now, and store the checkpoint as an anchor outside the database."""
        return self._call(ledger.checkpoint, Nothing())

    def receipt(self, entry: int | str) -> Receipt:
        """
        Get the proof that the ledger contains an entry, which anyone can check without Mendel.

        Args:
            entry: The number of the entry, or the id of its event.

        Raises:
            NotFound: The ledger has no such entry, or no checkpoint covers the entry yet.
        """
        return self._call(ledger.receipt, ledger.OneReceipt(entry=str(entry)))

    def consistency(self, old_size: int) -> ConsistencyProof:
        """Get the proof that the ledger, as the newest checkpoint has it, still begins with *old_size* entries."""
        return self._call(ledger.consistency, ledger.Consistency(old_size=old_size))

    def ledger_keys(self) -> tuple[LedgerKey, ...]:
        """List the public keys that sign or signed checkpoints, oldest first."""
        return self._call(ledger.ledger_keys, Nothing())

    def rotate_ledger_key(self, *, lost: bool = False) -> LedgerKey:
        """
        Sign checkpoints with a new key from now on; the checkpoints of the former key still verify.

        Args:
            lost: Whether the former private key is lost, so that it cannot sign for the new one.
        """
        return self._call(ledger.rotate_ledger_key, ledger.RotateLedgerKey(lost=lost))

    # -- who may --

    def list_keys(self) -> tuple[KeyDescription, ...]:
        """List every API key without its secret, oldest first; expired and revoked keys too."""
        return self._call(keys.list_keys, Nothing())

    def add_key(self, scopes: Sequence[str], *, label: str, expires_at: datetime | None = None) -> NewKey:
        """Create an API key, which is refused from *expires_at* on; its secret cannot be read again later."""
        return self._call(keys.add_key, keys.AddKey(scopes=tuple(scopes), label=label, expires_at=expires_at))

    def rotate_key(
        self, key_id: str, *, overlap: timedelta = timedelta(0), expires_at: datetime | None = None
    ) -> NewKey:
        """
        Give an API key a new secret.

        Args:
            overlap: How long the former secret is accepted too.
            expires_at: The new end of the key; None keeps its end.
        """
        return self._call(keys.rotate_key, keys.RotateKey(key_id=key_id, overlap=overlap, expires_at=expires_at))

    def revoke_key(self, key_id: str) -> KeyDescription:
        """Refuse an API key from now on; the last admin key cannot be revoked."""
        return self._call(keys.revoke_key, keys.OneKey(key_id=key_id))

    def principals(self) -> dict[str, str]:
        """Map the principal of each API key, as events name it, to the label of the key."""
        return self._call(keys.principals, Nothing())

    # -- the wire --

    def _call(self, operation: Operation[Q, R], request: Q, **options: Any) -> R:
        with self.working(operation.summary.partition(";")[0].rstrip(".")), self._reached():
            response = self._http.send(self._written(operation, request, **options))
        if not response.is_success:
            raise _error_of(response)
        if operation.response is None or operation.media_type != JSON_TYPE:
            return cast("R", response.text or None)
        return cast("R", from_json(response.content, operation.response))

    def _fetch(self, operation: Operation[Q, Iterator[bytes]], request: Q, into: IO[bytes]) -> None:
        """Write a large response body to *into* in chunks."""
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
                f"The hub at {self._http.base_url} does not answer: {error}.",
                remedy="Start a hub with 'mendel up', or correct the hub's URL.",
            ) from error


def _error_of(response: httpx.Response) -> MendelError:
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        return from_problem(from_json(response.content, dict[str, Any]))
    said = " ".join(response.text[:200].split())
    return HubUnavailable(
        f"The server at {response.url} is not a hub; its answer was {response.status_code} {said}",
        remedy="Correct the hub's URL.",
    )


def _told(label: LabelRow) -> dict[str, object]:
    said = {"prediction_id": label.prediction_id, "true_label": label.true_label, "label_source": label.label_source}
    return said | ({"label_timestamp": label.label_timestamp} if label.label_timestamp else {})


def _point(point: str | datetime) -> str:
    return point if isinstance(point, str) else point.isoformat()


def _stage(name: str) -> Stage:
    if name not in list(Stage):
        raise InvalidValue(f"{name!r} is not a stage.", remedy=f"Choose one of: {', '.join(Stage)}.")
    return Stage(name)


@contextmanager
def _packed(tree: Path) -> Iterator[Any]:
    with tempfile.TemporaryFile() as file:
        pack_tree(tree, file, exclude=("data",))
        file.seek(0)
        yield file
