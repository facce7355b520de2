"""Models, versions, lifecycle, policies, health."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from starlette.concurrency import run_in_threadpool

from mendel.errors import InvalidInput, InvalidValue
from mendel.registry import GateRecord, Override, Registered, Registration, Snapshot, VersionImage
from mendel.transports.hub.access import Deployer, Reader, Registrar
from mendel.transports.hub.answers import NounBody, NounResponse, noun_of
from mendel.transports.hub.nouns import Approve, Canary, ChangeStage, Promote, RollBack
from mendel.transports.hub.parts import HubParts
from mendel.transports.hub.policies import checked_policy
from mendel.transports.hub.uploads import Upload, uploaded
from mendel.values import Digest, ModelName, Stage, VersionRef, VersionUuid, from_json
from mendel.values.directory_trees import unpack_tree
from mendel.views import Views, card_of, render_card

MAX_UPLOAD_BYTES = 16 << 30


def model_routes(parts: HubParts) -> APIRouter:
    """The routes of the registry."""
    routes = APIRouter(tags=["models"])
    _add_reading(routes, parts)
    _add_lookups(routes, parts)
    _add_registering(routes, parts)
    _add_lifecycle(routes, parts)
    _add_health(routes, parts)
    return routes


def _add_reading(routes: APIRouter, parts: HubParts) -> None:
    registry = parts.registry

    @routes.get("/models")
    def models(_: Reader) -> Response:
        return NounResponse(registry.versions.models())

    @routes.get("/models/{model}/versions")
    def versions(_: Reader, model: str) -> Response:
        return NounResponse(registry.versions.of(ModelName(model)))

    @routes.get("/models/{model}/versions/{number}")
    def version(_: Reader, model: str, number: int) -> Response:
        return NounResponse(registry.versions.get(VersionRef(ModelName(model), number)))

    @routes.get("/models/{model}/lineage")
    def lineage(_: Reader, model: str) -> Response:
        return NounResponse(registry.versions.lineage(ModelName(model)))

    @routes.get("/models/{model}/history")
    def history(_: Reader, model: str) -> Response:
        return NounResponse(registry.lifecycle.history(ModelName(model)))

    @routes.get("/models/{model}/deployment")
    def deployment(_: Reader, model: str) -> Response:
        return NounResponse(registry.lifecycle.deployment(ModelName(model)))

    @routes.get("/models/{model}/policy")
    def policy(_: Reader, model: str) -> Response:
        return NounResponse(registry.policies.of(ModelName(model)))

    @routes.get("/models/{model}/versions/{number}/card")
    def card(_: Reader, model: str, number: int) -> Response:
        ref = VersionRef(ModelName(model), number)
        text = render_card(card_of(parts.unit, registry, ref, parts.clock()))
        return Response(text, media_type="text/markdown; charset=utf-8")


def _add_lookups(routes: APIRouter, parts: HubParts) -> None:
    @routes.get("/versions/by-uuid/{uuid}")
    def by_uuid(_: Reader, uuid: str) -> Response:
        return NounResponse(parts.registry.versions.by_uuid(VersionUuid(uuid)))

    @routes.get("/versions/by-image/{digest}")
    def by_image(_: Reader, digest: str) -> Response:
        return NounResponse(parts.registry.versions.by_image(Digest(digest)))


def _add_registering(routes: APIRouter, parts: HubParts) -> None:
    @routes.post("/models/{model}/versions", status_code=201)
    async def register(actor: Registrar, request: Request, model: str) -> Response:
        """Take a form: ``registration`` (JSON), ``artifact`` (the served files, a tar), and maybe ``data`` (a tar)."""
        async with uploaded(request, MAX_UPLOAD_BYTES) as upload:
            registered = await run_in_threadpool(_register, parts, ModelName(model), upload, actor)
        return NounResponse(registered, status_code=201)

    @routes.put("/models/{model}/versions/{number}/image")
    def record_image(actor: Registrar, body: NounBody, model: str, number: int) -> Response:
        ref = VersionRef(ModelName(model), number)
        return NounResponse(parts.registry.versions.record_image(ref, noun_of(body, VersionImage), by=actor))

    @routes.put("/models/{model}/policy")
    def set_policy(actor: Deployer, body: NounBody, model: str) -> Response:
        document: dict[str, Any] = from_json(body, dict[str, Any])
        return NounResponse(parts.registry.policies.set(ModelName(model), checked_policy(document, at=model), by=actor))


def _register(parts: HubParts, model: ModelName, upload: Upload, actor: str) -> Registered:
    wish = replace(noun_of(upload.text("registration"), Registration), by=actor)
    if wish.model != model:
        raise InvalidValue(f"The registration is for {wish.model!r}, not {model!r}.")
    artifact, data = upload.file("artifact"), upload.file("data")
    if artifact is None:
        raise InvalidInput("The form has no file part 'artifact'.")
    with tempfile.TemporaryDirectory(dir=parts.scratch) as scratch:
        tree = Path(scratch) / "artifact"
        unpack_tree(artifact, tree)
        beside = None
        if data is not None:
            beside = Path(scratch) / "data"
            unpack_tree(data, beside)
        record = parts.registry.versions.register(wish, tree, data=beside)
    return parts.registry.versions.registered(record.ref)


def _add_lifecycle(routes: APIRouter, parts: HubParts) -> None:
    registry = parts.registry

    @routes.post("/models/{model}/versions/{number}/approve")
    def approve(actor: Deployer, body: NounBody, model: str, number: int) -> Response:
        wish = noun_of(body, Approve)
        ref = VersionRef(ModelName(model), number)
        return NounResponse(registry.lifecycle.approve(ref, policy=wish.policy, bias=wish.bias, by=actor))

    @routes.post("/models/{model}/versions/{number}/gate-reports", status_code=204)
    def gate_report(actor: Deployer, body: NounBody, model: str, number: int) -> Response:
        registry.lifecycle.record_gate_report(
            VersionRef(ModelName(model), number), from_json(body, GateRecord), by=actor
        )
        return Response(status_code=204)

    @routes.post("/models/{model}/versions/{number}/canary")
    def canary(actor: Deployer, body: NounBody, model: str, number: int) -> Response:
        wish = noun_of(body, Canary)
        return NounResponse(registry.lifecycle.canary(ModelName(model), number, wish.share, by=actor))

    @routes.post("/models/{model}/versions/{number}/stage")
    def stage(actor: Deployer, body: NounBody, model: str, number: int) -> Response:
        wish = noun_of(body, ChangeStage)
        if wish.to not in list(Stage):
            raise InvalidValue(f"{wish.to!r} is no stage.", remedy=f"Stages are {', '.join(Stage)}.")
        ref = VersionRef(ModelName(model), number)
        return NounResponse(registry.lifecycle.transition(ref, Stage(wish.to), by=actor, reason=wish.reason))

    @routes.post("/models/{model}/versions/{number}/promote")
    def promote(
        actor: Deployer, body: NounBody, model: str, number: int, if_match: Annotated[str | None, Header()] = None
    ) -> Response:
        wish = noun_of(body, Promote)
        override = None if wish.override is None else Override(reason=wish.override, by=actor)
        ref = VersionRef(ModelName(model), number)
        return NounResponse(
            registry.lifecycle.promote(
                ref, by=actor, reason=wish.reason, expected_generation=_generation(if_match), override=override
            )
        )

    @routes.post("/models/{model}/rollback")
    def rollback(actor: Deployer, body: NounBody, model: str) -> Response:
        wish = noun_of(body, RollBack)
        if wish.dry_run:
            return NounResponse(registry.lifecycle.plan_roll_back(ModelName(model), to=wish.to, to_time=wish.to_time))
        return NounResponse(
            registry.lifecycle.roll_back(
                ModelName(model), by=actor, reason=wish.reason, to=wish.to, to_time=wish.to_time
            )
        )


def _add_health(routes: APIRouter, parts: HubParts) -> None:
    registry = parts.registry

    @routes.get("/models/{model}/rollback-check")
    def rollback_check(_: Reader, model: str) -> Response:
        return NounResponse(registry.performance.check_rollback_triggers(ModelName(model)))

    @routes.get("/models/{model}/health")
    def health(_: Reader, model: str) -> Response:
        return NounResponse(registry.performance.health(ModelName(model)))

    @routes.post("/models/{model}/snapshots")
    def snapshot(actor: Deployer, body: NounBody, model: str) -> Response:
        told = noun_of(body, Snapshot)
        if told.ref.model != model:
            raise InvalidValue(f"The snapshot is of {told.ref.model!r}, not {model!r}.")
        return NounResponse(registry.performance.record_snapshot(told, by=actor))

    @routes.get("/fleet")
    def fleet(_: Reader) -> Response:
        return NounResponse(parts.unit.read(lambda tx: tx.store(Views).fleet(parts.clock())))


def _generation(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    text = if_match.strip().strip('"')
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput(f"If-Match {if_match!r} is not a generation.", remedy="Send the number in quotes.")
    return int(text)
