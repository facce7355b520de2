"""Operations on stages and deployments: approve, promote, roll back, undeploy."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from mendel.durable import Ledger, LedgerEntry, Receipt, Transaction
from mendel.errors import (
    Conflict,
    GenerationConflict,
    IllegalTransition,
    InvalidInput,
    MendelError,
    ModelNotFound,
    NeedsNewImage,
    NothingToReturnTo,
    PromotionRefused,
    RunnerFailed,
    StateUnknown,
    StoreUnavailable,
    Unavailable,
    VersionNotFound,
)
from mendel.healing import LookResult
from mendel.operations.hub_parts import Call
from mendel.operations.operation import BodyKind, Header, operation
from mendel.operations.requests import Number, OneModel, OneVersion
from mendel.operations.time_travel import point_of
from mendel.registry import GateRecord, Override, ProductionPeriod, RegistryStore, RolledBack, VersionRecord
from mendel.values import Deployment, Scope, Stage, check_integer

ROWS = BodyKind(max_bytes=256 << 20, media_types={"multipart/form-data": None})
_MAX_DIGITS = 19
_ENDINGS = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approve(OneVersion):
    """The request to set governance flags of a version; False leaves a flag unchanged."""

    policy: bool = False
    bias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDifference(OneVersion):
    """The request to accept that a version's answers differ from the fitted model's answers, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge(OneVersion):
    """
    The request to judge a version for a first deployment.

    Attributes:
        rows: A Parquet file of rows that were kept out of the training, with their true outcomes.
        target: The column with the true outcome; None takes ``monitoring.target`` of the policy.
    """

    rows: BinaryIO
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeStage(OneVersion):
    """
    The request to move a version to another stage.

    Attributes:
        without_parity: The reason to let a version leave development whose parity is not measured; None requires that
            its parity is measured.
    """

    to: Stage
    reason: str = ""
    without_parity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe(OneVersion):
    """
    The request to probe a version with rows of a file.

    Attributes:
        file: The name of the file, which ends with ``.parquet``, ``.csv`` or ``.csv.gz``.
        rows: The file itself.
    """

    file: str
    rows: BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(OneVersion):
    """
    The request to put a version into production.

    Attributes:
        override: The reason to promote without a passing gate report; None requires a passing report.
        if_match: The expected generation of the deployment, in quotes; None promotes at any generation.
    """

    reason: str = ""
    override: str | None = None
    if_match: Annotated[str | None, Header("if-match")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion(Deployment):
    """
    The deployment after a promotion, and the proof that the ledger contains the promotion.

    Attributes:
        receipt: The receipt of the event ``model.promoted``; None if no checkpoint could be signed now.
        no_receipt: The reason why there is no receipt; empty with a receipt.
    """

    receipt: Receipt | None = None
    no_receipt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack(OneModel):
    """
    The request to roll back to a former production version.

    Attributes:
        to: The number of the version.
        to_time: A point at which the version was in production, written as in ``state_at``. Without ``to`` and
            ``to_time``, the newest former production version is taken.
        dry_run: True only finds the version and changes nothing.
    """

    reason: str
    to: Number | None = None
    to_time: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeploy(OneModel):
    """
    Takes the production version out of production; the model then serves nothing.

    Attributes:
        deprecate: Deprecate the version instead of moving it to sandbox.
        if_match: The generation of the deployment that the caller has seen, in quotes.
    """

    reason: str = ""
    deprecate: bool = False
    if_match: Annotated[str | None, Header("if-match")] = None


@operation("GET", "/models/{model}/deployment", scope=Scope.READ, errors=(ModelNotFound,))
def deployment(call: Call, request: OneModel) -> Deployment:
    """Show the deployment of a model: the desired state that its servers follow."""
    return call.hub.registry.lifecycle.deployment(request.model)


@operation("GET", "/models/{model}/history", scope=Scope.READ, errors=(ModelNotFound,))
def history(call: Call, request: OneModel) -> tuple[ProductionPeriod, ...]:
    """List the periods in production of the versions of a model, with the caller who promoted each."""
    return call.hub.registry.lifecycle.history(request.model)


@operation("POST", "/models/{model}/versions/{number}/approve", scope=Scope.APPROVE, errors=(VersionNotFound, Conflict))
def approve(call: Call, request: Approve) -> VersionRecord:
    """Set the governance flags of a version, in the name of the caller's key."""
    registry = call.hub.registry
    return registry.lifecycle.approve(request.ref, policy=request.policy, bias=request.bias, by=call.by).public


@operation(
    "POST",
    "/models/{model}/versions/{number}/parity/accept",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, Conflict, InvalidInput),
)
def accept_difference(call: Call, request: AcceptDifference) -> VersionRecord:
    """Accept that the answers of a version differ from the answers of the fitted model."""
    if not request.reason.strip():
        raise InvalidInput(
            "The acceptance of a difference needs a reason.", remedy="Give the reason in the field 'reason'."
        )
    return call.hub.registry.parity.accept_difference(request.ref, by=call.by, reason=request.reason)


@operation(
    "POST",
    "/models/{model}/versions/{number}/judge",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, Conflict, RunnerFailed, Unavailable),
    body=ROWS,
)
def judge(call: Call, request: Judge) -> GateRecord:
    """Let the gates judge a version for a first deployment: a new Python process answers the rows of a file."""
    with _received(call, request.rows, ".parquet") as rows:
        return call.hub.gates.judge(request.ref, rows, target=request.target, by=call.by)


@operation(
    "POST",
    "/models/{model}/versions/{number}/stage",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, IllegalTransition, Conflict, InvalidInput),
)
def change_stage(call: Call, request: ChangeStage) -> VersionRecord:
    """Move a version to another stage; before it leaves development, check its parity in a new Python process."""
    lifecycle, why = call.hub.registry.lifecycle, request.without_parity
    if why is not None and not why.strip():
        raise InvalidInput(
            "Moving a version out of development without a parity check needs a reason.",
            remedy="Write the reason into the field 'without_parity'.",
        )
    if request.to is Stage.SANDBOX:
        call.hub.parity.before_leaving(request.ref, by=call.by)
    return lifecycle.transition(request.ref, request.to, by=call.by, reason=request.reason, without_parity=why)


@operation(
    "POST",
    "/models/{model}/versions/{number}/probe",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, Conflict),
    body=ROWS,
)
def probe(call: Call, request: Probe) -> VersionRecord:
    """Compare served answers to rows of a file with the direct answers of the stored model; record the result."""
    ending = next((one for one in _ENDINGS if request.file.endswith(one)), None)
    if ending is None:
        raise InvalidInput(
            f"The name of {request.file[:200]!r} ends with neither .parquet nor .csv.",
            remedy="Give a Parquet or CSV file.",
        )
    with _received(call, request.rows, ending) as rows:
        return call.hub.parity.probe(request.ref, rows, file=Path(request.file).name[:200], by=call.by)


@operation(
    "POST",
    "/models/{model}/versions/{number}/promote",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, GenerationConflict, IllegalTransition, PromotionRefused, NeedsNewImage),
)
def promote(call: Call, request: Promote) -> Promotion:
    """Put a version into production; the result contains the receipt of the promotion's entry in the ledger."""
    override = None if request.override is None else Override(reason=request.override, by=call.by)
    deployment = call.hub.registry.lifecycle.promote(
        request.ref,
        by=call.by,
        reason=request.reason,
        expected_generation=generation_of(request.if_match),
        override=override,
    )
    values = {one.name: getattr(deployment, one.name) for one in fields(deployment)}
    return Promotion(**values, **_proved(call, deployment))


@operation(
    "POST",
    "/models/{model}/rollback",
    scope=Scope.DEPLOY,
    errors=(ModelNotFound, StateUnknown, NothingToReturnTo, IllegalTransition, PromotionRefused, NeedsNewImage),
)
def rollback(call: Call, request: RollBack) -> RolledBack:
    """Put a former production version back into production; the result contains the receipt of its ledger entry."""
    lifecycle, to = call.hub.registry.lifecycle, request.to
    if request.to_time is not None:
        if to is not None:
            raise InvalidInput("The rollback names both a version and a time; give only one.")
        to = call.hub.registry.timeline.production_at(request.model, point_of(call, request.to_time))
    if request.dry_run:
        return lifecycle.plan_roll_back(request.model, to=to)
    done = lifecycle.roll_back(request.model, by=call.by, reason=request.reason, to=to)
    return replace(done, **_proved(call, done.deployment))


@operation("POST", "/models/{model}/undeploy", scope=Scope.DEPLOY, errors=(ModelNotFound, GenerationConflict, Conflict))
def undeploy(call: Call, request: Undeploy) -> Deployment:
    """Take the production version out of production; the model then serves nothing, and its incidents are resolved."""
    hub, now = call.hub, call.hub.clock()
    deployment = hub.registry.lifecycle.undeploy(
        request.model,
        by=call.by,
        reason=request.reason,
        deprecate=request.deprecate,
        expected_generation=generation_of(request.if_match),
    )
    hub.healing.clear(LookResult(model=request.model, ref=None, at=now), now)
    return deployment


def _proved(call: Call, deployment: Deployment) -> dict[str, Any]:
    """
    Give the fields ``receipt`` and ``no_receipt`` of a change of production, whose checkpoint is signed now.

    The change is made; so a ledger that cannot be signed or an anchor that cannot be stored does not undo it.
    """
    hub = call.hub
    try:
        hub.notary.sign(hub.clock())
        entry = hub.unit.read(lambda tx: _cause(tx, deployment))
        receipt = None if entry is None else hub.notary.receipt(entry.sequence)
    except MendelError as error:
        return {"no_receipt": error.message}
    with suppress(StoreUnavailable, Conflict):  # the hub tries again, and its health shows the error
        hub.notary.store()
    return {"receipt": receipt}


def _cause(tx: Transaction, deployment: Deployment) -> LedgerEntry | None:
    """Find the entry of the event that began the production period of *deployment*."""
    ledger = tx.store(Ledger)
    for period in reversed(tx.store(RegistryStore).tenures(deployment.model)):
        entry = ledger.by_event(period.start_event)
        if entry is not None and entry.event.data.get("generation") == deployment.generation:
            return entry
    return None


@contextmanager
def _received(call: Call, rows: BinaryIO, ending: str) -> Iterator[Path]:
    """Copy an uploaded file to a path that ends with *ending*; deleted on exit."""
    with tempfile.TemporaryDirectory(dir=call.hub.scratch) as scratch:
        path = Path(scratch) / f"rows{ending}"
        with path.open("wb") as file:
            shutil.copyfileobj(rows, file)
        yield path


def generation_of(if_match: str | None) -> int | None:
    """
    Parse the header ``If-Match``: the generation of a deployment, in quotes; None without the header.

    Raises:
        InvalidInput: The header is not a generation in quotes.
    """
    if if_match is None:
        return None
    digits = if_match.strip().strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS):
        raise InvalidInput(
            f"The header If-Match is {if_match[:40]!r}, which is not the generation of a deployment.",
            remedy="Send the number of the generation in quotes.",
        )
    return check_integer(int(digits))
