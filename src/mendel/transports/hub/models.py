"""Models, versions, lifecycle, policies, health."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Header, Response, UploadFile

from mendel.errors import InvalidInput, InvalidValue
from mendel.registry import GateRecord, Override, Registration, Snapshot
from mendel.transports.hub.access import Deployer, Reader, Registrar
from mendel.transports.hub.answers import NounBody, NounResponse
from mendel.transports.hub.nouns import Approve, Canary, ChangeStage, Promote, RollBack
from mendel.transports.hub.parts import HubParts
from mendel.values import ModelName, Stage, VersionRef, VersionUuid, from_json
from mendel.values.trees import unpack_tree
from mendel.views import card_of, render_card


def model_routes(parts: HubParts) -> APIRouter:
    """The routes of the registry."""
    routes = APIRouter(tags=["models"])
    _add_reading(routes, parts)
    _add_registering(routes, parts)
    _add_lifecycle(routes, parts)
    _add_health(routes, parts)
    return routes


def _add_reading(routes: APIRouter, parts: HubParts) -> None:
    registry = parts.registry

    @routes.get("/models")
    def models(_: Reader) -> Response:
        return NounResponse(registry.models())

    @routes.get("/models/{model}/versions")
    def versions(_: Reader, model: str) -> Response:
        return NounResponse(registry.versions(ModelName(model)))

    @routes.get("/models/{model}/versions/{number}")
    def version(_: Reader, model: str, number: int) -> Response:
        return NounResponse(registry.version(VersionRef(ModelName(model), number)))

    @routes.get("/versions/by-uuid/{uuid}")
    def by_uuid(_: Reader, uuid: str) -> Response:
        return NounResponse(registry.by_uuid(VersionUuid(uuid)))

    @routes.get("/models/{model}/lineage")
    def lineage(_: Reader, model: str) -> Response:
        return NounResponse(registry.lineage(ModelName(model)))

    @routes.get("/models/{model}/history")
    def history(_: Reader, model: str) -> Response:
        return NounResponse(registry.history(ModelName(model)))

    @routes.get("/models/{model}/deployment")
    def deployment(_: Reader, model: str) -> Response:
        return NounResponse(registry.deployment(ModelName(model)))

    @routes.get("/models/{model}/policy")
    def policy(_: Reader, model: str) -> Response:
        return NounResponse(registry.policy(ModelName(model)))

    @routes.get("/models/{model}/versions/{number}/card")
    def card(_: Reader, model: str, number: int) -> Response:
        ref = VersionRef(ModelName(model), number)
        text = render_card(card_of(parts.unit, registry, ref, parts.clock()))
        return Response(text, media_type="text/markdown; charset=utf-8")


def _add_registering(routes: APIRouter, parts: HubParts) -> None:
    @routes.post("/models/{model}/versions", status_code=201)
    def register(
        actor: Registrar,
        model: str,
        registration: Annotated[str, Form()],
        artifact: Annotated[UploadFile, File()],
        data: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        """Take a version: its particulars as JSON, its files as a tar, its training data as another."""
        wish = replace(from_json(registration, Registration), by=actor)
        if wish.model != model:
            raise InvalidValue(f"The registration is for {wish.model!r}, not {model!r}.")
        with tempfile.TemporaryDirectory(dir=parts.scratch) as scratch:
            tree = Path(scratch) / "artifact"
            unpack_tree(artifact.file, tree)
            beside = None
            if data is not None:
                beside = Path(scratch) / "data"
                unpack_tree(data.file, beside)
            record = parts.registry.register(wish, tree, data=beside)
        return NounResponse(parts.registry.registered(record.ref), status_code=201)

    @routes.put("/models/{model}/policy")
    def set_policy(body: NounBody, actor: Deployer, model: str) -> Response:
        document: dict[str, Any] = from_json(body, dict[str, Any])
        return NounResponse(parts.registry.set_policy(ModelName(model), document, by=actor))


def _add_lifecycle(routes: APIRouter, parts: HubParts) -> None:
    registry = parts.registry

    @routes.post("/models/{model}/versions/{number}/approve")
    def approve(body: NounBody, actor: Deployer, model: str, number: int) -> Response:
        wish = from_json(body, Approve)
        ref = VersionRef(ModelName(model), number)
        return NounResponse(registry.approve(ref, policy=wish.policy, bias=wish.bias, by=actor))

    @routes.post("/models/{model}/versions/{number}/gate-reports", status_code=204)
    def gate_report(body: NounBody, _: Deployer, model: str, number: int) -> Response:
        registry.record_gate_report(VersionRef(ModelName(model), number), from_json(body, GateRecord))
        return Response(status_code=204)

    @routes.post("/models/{model}/versions/{number}/canary")
    def canary(body: NounBody, actor: Deployer, model: str, number: int) -> Response:
        wish = from_json(body, Canary)
        return NounResponse(registry.canary(ModelName(model), number, wish.share, by=actor))

    @routes.post("/models/{model}/versions/{number}/stage")
    def stage(body: NounBody, actor: Deployer, model: str, number: int) -> Response:
        wish = from_json(body, ChangeStage)
        if wish.to not in list(Stage):
            raise InvalidValue(f"{wish.to!r} is no stage.", remedy=f"Stages are {', '.join(Stage)}.")
        ref = VersionRef(ModelName(model), number)
        return NounResponse(registry.transition(ref, Stage(wish.to), by=actor, reason=wish.reason))

    @routes.post("/models/{model}/versions/{number}/promote")
    def promote(
        body: NounBody, actor: Deployer, model: str, number: int, if_match: Annotated[str | None, Header()] = None
    ) -> Response:
        wish = from_json(body, Promote)
        override = None if wish.override is None else Override(reason=wish.override, by=actor)
        ref = VersionRef(ModelName(model), number)
        return NounResponse(
            registry.promote(
                ref, by=actor, reason=wish.reason, expected_generation=_generation(if_match), override=override
            )
        )

    @routes.post("/models/{model}/rollback")
    def rollback(body: NounBody, actor: Deployer, model: str) -> Response:
        wish = from_json(body, RollBack)
        if wish.dry_run:
            return NounResponse(registry.plan_roll_back(ModelName(model), to=wish.to, to_time=wish.to_time))
        return NounResponse(
            registry.roll_back(ModelName(model), by=actor, reason=wish.reason, to=wish.to, to_time=wish.to_time)
        )


def _add_health(routes: APIRouter, parts: HubParts) -> None:
    registry = parts.registry

    @routes.get("/models/{model}/rollback-check")
    def rollback_check(_: Reader, model: str) -> Response:
        return NounResponse(registry.check_rollback_triggers(ModelName(model)))

    @routes.get("/models/{model}/health")
    def health(_: Reader, model: str) -> Response:
        return NounResponse(registry.health(ModelName(model)))

    @routes.post("/models/{model}/snapshots")
    def snapshot(body: NounBody, actor: Deployer, model: str) -> Response:
        told = from_json(body, Snapshot)
        if told.ref.model != model:
            raise InvalidValue(f"The snapshot is of {told.ref.model!r}, not {model!r}.")
        return NounResponse(registry.record_performance_snapshot(told, by=actor))

    @routes.get("/fleet")
    def fleet(_: Reader) -> Response:
        return NounResponse(registry.fleet())


def _generation(if_match: str | None) -> int | None:
    if if_match is None:
        return None
    text = if_match.strip().strip('"')
    if not text.isdigit():
        raise InvalidInput(f"If-Match {if_match!r} is not a generation.", remedy="Send the number in quotes.")
    return int(text)
