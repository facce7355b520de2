"""The Python face of the hub, over HTTP or in this process: one implementation, whichever it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

import httpx

from mendel.client.model_registration import ModelRegistering
from mendel.errors import HubUnavailable, MendelError
from mendel.healing import DecisionRecord, Incident, Outlook, PlaybookRun
from mendel.predictions import LabelRow
from mendel.registry import (
    GateRecord,
    HealthReport,
    LineageEntry,
    PolicyDocument,
    Registered,
    Registration,
    RollbackCheck,
    RolledBack,
    ServerState,
    Snapshot,
    Tenure,
    VersionImage,
    VersionRecord,
)
from mendel.transports.hub.nouns import (
    Approve,
    Canary,
    ChangeStage,
    LedgerPage,
    LedgerProof,
    NewKey,
    PauseRequest,
    Promote,
    Reason,
    RollBack,
)
from mendel.transports.hub.problems import MEDIA_TYPE, from_problem
from mendel.values import Deployment, Digest, ModelName, VersionRef, from_json, to_json
from mendel.values.directory_trees import pack_tree, unpack_tree
from mendel.views import FleetView

if TYPE_CHECKING:
    from mendel.predictions import LogStats

T = TypeVar("T")
_LABELS_AT_ONCE = 5_000


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
        with _packed(tree) as artifact, _packed(data) as beside:
            files = {"artifact": ("artifact.tar", artifact, "application/x-tar")}
            if beside is not None:
                files["data"] = ("data.tar", beside, "application/x-tar")
            form = {"registration": to_json(registration).decode()}
            return self._send(
                Registered, "POST", f"{_of(registration.model)}/versions", data=form, files=files, timeout=600
            )

    def download(self, digest: Digest, into: Path) -> None:
        """
        Fetch the served files of the artefact *digest* into the directory *into*, checked.

        Raises:
            ArtifactNotFound: The registry has none of that digest.
            DigestMismatch: What came is another.
        """
        with tempfile.TemporaryFile() as packed:
            self._fetch(f"/artifacts/{_part(digest)}", packed)
            packed.seek(0)
            unpack_tree(packed, into, expect=digest)

    def models(self) -> tuple[ModelName, ...]:
        """Every model that has a version."""
        return self._get(tuple[ModelName, ...], "/models")

    def versions(self, model: str) -> tuple[VersionRecord, ...]:
        """The versions of *model*, ascending."""
        return self._get(tuple[VersionRecord, ...], f"{_of(model)}/versions")

    def version(self, ref: str | VersionRef) -> VersionRecord:
        """One version, by ``NAME@N``."""
        return self._get(VersionRecord, _path(ref))

    def get_model_by_uuid(self, uuid: str) -> VersionRecord:
        """One version, by its uuid."""
        return self._get(VersionRecord, f"/versions/by-uuid/{_part(uuid)}")

    def versions_by_image(self, digest: str) -> tuple[VersionRecord, ...]:
        """Every version that is delivered in the image of that digest; empty when none is."""
        return self._get(tuple[VersionRecord, ...], f"/versions/by-image/{_part(digest)}")

    def record_image(self, ref: str | VersionRef, image: VersionImage) -> VersionRecord:
        """Say which container image delivers a version; it must be of the version's release."""
        return self._send(VersionRecord, "PUT", f"{_path(ref)}/image", content=to_json(image))

    def lineage(self, model: str) -> tuple[LineageEntry, ...]:
        """The versions of *model* in order, with who contributed what and the improvement so far."""
        return self._get(tuple[LineageEntry, ...], f"{_of(model)}/lineage")

    def deployment(self, model: str) -> Deployment:
        """What servers shall serve of *model*."""
        return self._get(Deployment, f"{_of(model)}/deployment")

    def history(self, model: str) -> tuple[Tenure, ...]:
        """Which version was in production when, and who decided so."""
        return self._get(tuple[Tenure, ...], f"{_of(model)}/history")

    def card(self, ref: str | VersionRef) -> str:
        """The model card of a version, Markdown."""
        return self._request("GET", f"{_path(ref)}/card").text

    # -- lifecycle --

    def approve(self, ref: str | VersionRef, *, policy: bool = False, bias: bool = False) -> VersionRecord:
        """Set the governance flags of a version."""
        return self._post(VersionRecord, f"{_path(ref)}/approve", Approve(policy=policy, bias=bias))

    def record_gate_report(self, ref: str | VersionRef, record: GateRecord) -> None:
        """Keep a gate report; promotion requires a passing one."""
        self._request("POST", f"{_path(ref)}/gate-reports", content=to_json(record))

    def change_stage(self, ref: str | VersionRef, to: str, *, reason: str = "") -> VersionRecord:
        """Move a version along the transition table."""
        return self._post(VersionRecord, f"{_path(ref)}/stage", ChangeStage(to=to, reason=reason))

    def promote(
        self, ref: str | VersionRef, *, reason: str = "", override: str | None = None, generation: int | None = None
    ) -> Deployment:
        """
        Put a version into production.

        Args:
            override: Why it goes there without a passing gate report; recorded.
            generation: The generation you saw; somebody else's change in between raises ``GenerationConflict``.
        """
        headers = {} if generation is None else {"if-match": f'"{generation}"'}
        wish = Promote(reason=reason, override=override)
        return self._send(Deployment, "POST", f"{_path(ref)}/promote", content=to_json(wish), headers=headers)

    def rollback(
        self, model: str, *, reason: str, to: int | None = None, to_time: datetime | None = None, dry_run: bool = False
    ) -> RolledBack:
        """Take the serving version out of production and bring the former one back; a dry run only says which."""
        wish = RollBack(reason=reason, to=to, to_time=to_time, dry_run=dry_run)
        return self._post(RolledBack, f"{_of(model)}/rollback", wish)

    def canary(self, ref: str | VersionRef, share: float) -> Deployment:
        """Give a version a share of the traffic beside production, a fraction in (0, 1)."""
        return self._post(Deployment, f"{_path(ref)}/canary", Canary(share=share))

    def policy(self, model: str) -> PolicyDocument:
        """The policy of *model* as it stands."""
        return self._get(PolicyDocument, f"{_of(model)}/policy")

    def set_policy(self, model: str, body: Mapping[str, Any]) -> PolicyDocument:
        """Replace the policy of *model*; the same body again makes no new version."""
        return self._send(PolicyDocument, "PUT", f"{_of(model)}/policy", content=to_json(dict(body)))

    # -- watching and healing --

    def check_rollback_triggers(self, model: str) -> RollbackCheck:
        """Whether the serving version's performance crosses the rollback policy; changes nothing."""
        return self._get(RollbackCheck, f"{_of(model)}/rollback-check")

    def health(self, model: str) -> HealthReport:
        """How the serving version is."""
        return self._get(HealthReport, f"{_of(model)}/health")

    def fleet(self) -> FleetView:
        """How all models are."""
        return self._get(FleetView, "/fleet")

    def record_performance_snapshot(self, snapshot: Snapshot) -> RollbackCheck:
        """Push the performance of a version as another system measured it; what the triggers make of it."""
        return self._post(RollbackCheck, f"{_of(snapshot.ref.model)}/snapshots", snapshot)

    def servers(self) -> tuple[ServerState, ...]:
        """Every server as it last reported: what it serves, and how far it is."""
        return self._get(tuple[ServerState, ...], "/servers")

    def observe(self, model: str) -> Outlook:
        """Look at and study *model* now, and let healing act on what is found."""
        return self._post(Outlook, f"{_of(model)}/monitor", None)

    def incidents(self, model: str | None = None) -> tuple[Incident, ...]:
        """Incidents, newest first."""
        return self._get(tuple[Incident, ...], "/incidents", model=model)

    def incident(self, incident_id: str) -> Incident:
        """One incident with its timeline."""
        return self._get(Incident, f"/incidents/{_part(incident_id)}")

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        """What was decided about an incident, oldest first."""
        return self._get(tuple[DecisionRecord, ...], f"/incidents/{_part(incident_id)}/decisions")

    def acknowledge(self, incident_id: str) -> Incident:
        """Say that somebody looks into it."""
        return self._post(Incident, f"/incidents/{_part(incident_id)}/acknowledge", None)

    def resolve(self, incident_id: str, *, reason: str) -> Incident:
        """Say that it is over."""
        return self._post(Incident, f"/incidents/{_part(incident_id)}/resolve", Reason(reason=reason))

    def runs(self, model: str | None = None) -> tuple[PlaybookRun, ...]:
        """Runs of playbooks, oldest first."""
        return self._get(tuple[PlaybookRun, ...], "/runs", model=model)

    def run(self, run_id: str) -> PlaybookRun:
        """One run with its steps."""
        return self._get(PlaybookRun, f"/runs/{_part(run_id)}")

    def approve_run(self, run_id: str) -> PlaybookRun:
        """Let a proposed or held run go on."""
        return self._post(PlaybookRun, f"/runs/{_part(run_id)}/approve", None)

    def decline_run(self, run_id: str, *, reason: str) -> PlaybookRun:
        """Refuse a proposed or held run."""
        return self._post(PlaybookRun, f"/runs/{_part(run_id)}/decline", Reason(reason=reason))

    def start_playbook(self, model: str, playbook: str, *, reason: str) -> PlaybookRun:
        """Run a playbook on the production version because you say so."""
        return self._post(PlaybookRun, f"{_of(model)}/playbooks/{_part(playbook)}", Reason(reason=reason))

    def pause_healing(self, model: str | None = None, *, reason: str) -> None:
        """Switch healing off, for one model or for all."""
        self._request("POST", "/healing/pause", content=to_json(PauseRequest(model=_name(model), reason=reason)))

    def resume_healing(self, model: str | None = None) -> None:
        """Switch it on again."""
        self._request("POST", "/healing/resume", content=to_json(PauseRequest(model=_name(model), reason="")))

    # -- the log --

    def label(self, labels: Sequence[LabelRow]) -> None:
        """Tell the true outcomes of predictions, in as many requests as they need; the hub notes when it got them."""
        for start in range(0, len(labels), _LABELS_AT_ONCE):
            told = [_told(label) for label in labels[start : start + _LABELS_AT_ONCE]]
            self._request("POST", "/monitoring/labels", content=to_json({"labels": told}))

    def stats(self, model: str) -> LogStats:
        """Totals, the last 100, label coverage."""
        from mendel.predictions import LogStats  # noqa: PLC0415

        return self._get(LogStats, "/monitoring/stats", model=model)

    # -- proof --

    def events(self, *, after: int = 0, limit: int = 1000, subject: str | None = None) -> LedgerPage:
        """Entries of the ledger after a sequence number, ascending."""
        return self._get(LedgerPage, "/events", after=after, limit=limit, subject=subject)

    def verify_ledger(self) -> LedgerProof:
        """
        Check the whole hash chain and every anchor.

        Raises:
            LedgerBroken: At the first sequence that does not hold.
        """
        return self._get(LedgerProof, "/ledger/verify")

    def add_key(self, scopes: Sequence[str], *, label: str) -> str:
        """Make a key and give its secret, which is shown this once."""
        wish = {"scopes": list(scopes), "label": label}
        return self._send(NewKey, "POST", "/keys", content=to_json(wish)).secret

    # -- the wire --

    def _get(self, kind: type[T], path: str, **query: object) -> T:
        return self._send(kind, "GET", path, params={k: v for k, v in query.items() if v is not None})

    def _post(self, kind: type[T], path: str, noun: object) -> T:
        return self._send(kind, "POST", path, content=b"" if noun is None else to_json(noun))

    def _send(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        return from_json(self._request(method, path, **options).content, kind)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        if "content" in options:
            options["headers"] = {"content-type": "application/json", **options.get("headers", {})}
        with self._reached():
            response = self._http.request(method, f"/api/v1{path}", **options)
        if response.is_success:
            return response
        raise _error_of(response)

    def _fetch(self, path: str, into: IO[bytes]) -> None:
        """Write a large answer to *into* as it comes."""
        with self._reached(), self._http.stream("GET", f"/api/v1{path}", timeout=600) as response:
            if not response.is_success:
                response.read()
                raise _error_of(response)
            for chunk in response.iter_bytes():
                into.write(chunk)

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
        f"What answers at {response.url} is no hub: {response.status_code} {said}", remedy="Correct the hub's URL."
    )


def _told(label: LabelRow) -> dict[str, object]:
    said = {"prediction_id": label.prediction_id, "true_label": label.true_label, "label_source": label.label_source}
    return said | ({"label_timestamp": label.label_timestamp} if label.label_timestamp else {})


def _path(ref: str | VersionRef) -> str:
    version = ref if isinstance(ref, VersionRef) else VersionRef.parse(ref)
    return f"{_of(version.model)}/versions/{version.number}"


def _of(model: str) -> str:
    return f"/models/{ModelName(model)}"


def _part(text: str) -> str:
    return quote(text, safe="")


def _name(model: str | None) -> ModelName | None:
    return None if model is None else ModelName(model)


@contextmanager
def _packed(tree: Path | None) -> Iterator[Any]:
    if tree is None:
        yield None
        return
    with tempfile.TemporaryFile() as file:
        pack_tree(tree, file, exclude=("data",))
        file.seek(0)
        yield file
