"""Incidents, runs of playbooks, the kill switch, and looking on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, Response

from mendel.healing import HealingStore
from mendel.transports.hub.access import Deployer, Reader
from mendel.transports.hub.answers import NounBody, NounResponse, noun_of
from mendel.transports.hub.nouns import PauseRequest, Reason
from mendel.transports.hub.parts import HubParts
from mendel.values import ModelName

T = TypeVar("T")


def care_routes(parts: HubParts) -> APIRouter:
    """The routes of healing."""
    routes = APIRouter(tags=["healing"])
    _add_incidents(routes, parts)
    _add_runs(routes, parts)
    return routes


def _add_incidents(routes: APIRouter, parts: HubParts) -> None:
    healing, clock = parts.healing, parts.clock

    @routes.get("/incidents")
    def incidents(_: Reader, model: str | None = None) -> Response:
        return NounResponse(_kept(parts, lambda store: store.incidents(_name(model))))

    @routes.get("/incidents/{incident_id}")
    def incident(_: Reader, incident_id: str) -> Response:
        return NounResponse(_kept(parts, lambda store: store.incident(incident_id)))

    @routes.get("/incidents/{incident_id}/decisions")
    def decisions(_: Reader, incident_id: str) -> Response:
        return NounResponse(_kept(parts, lambda store: store.decisions(incident_id)))

    @routes.post("/incidents/{incident_id}/acknowledge")
    def acknowledge(actor: Deployer, incident_id: str) -> Response:
        return NounResponse(healing.acknowledge(incident_id, by=actor, now=clock()))

    @routes.post("/incidents/{incident_id}/resolve")
    def resolve(actor: Deployer, body: NounBody, incident_id: str) -> Response:
        wish = noun_of(body, Reason)
        return NounResponse(healing.resolve(incident_id, by=actor, how=wish.reason, now=clock()))

    @routes.post("/models/{model}/monitor")
    def observe(_: Deployer, model: str) -> Response:
        return NounResponse(parts.observe(ModelName(model)))


def _add_runs(routes: APIRouter, parts: HubParts) -> None:
    healing, clock = parts.healing, parts.clock

    @routes.get("/runs")
    def runs(_: Reader, model: str | None = None) -> Response:
        return NounResponse(_kept(parts, lambda store: store.runs(_name(model))))

    @routes.get("/runs/{run_id}")
    def run(_: Reader, run_id: str) -> Response:
        return NounResponse(_kept(parts, lambda store: store.run(run_id)))

    @routes.post("/runs/{run_id}/approve")
    def approve(actor: Deployer, run_id: str) -> Response:
        return NounResponse(healing.approve(run_id, by=actor, now=clock()))

    @routes.post("/runs/{run_id}/decline")
    def decline(actor: Deployer, body: NounBody, run_id: str) -> Response:
        wish = noun_of(body, Reason)
        return NounResponse(healing.decline(run_id, by=actor, reason=wish.reason, now=clock()))

    @routes.post("/models/{model}/playbooks/{playbook}", status_code=202)
    def start(actor: Deployer, body: NounBody, model: str, playbook: str) -> Response:
        wish = noun_of(body, Reason)
        run = healing.start(ModelName(model), playbook, by=actor, reason=wish.reason, now=clock())
        return NounResponse(run, status_code=202)

    @routes.post("/healing/pause", status_code=204)
    def pause(actor: Deployer, body: NounBody) -> Response:
        wish = noun_of(body, PauseRequest)
        healing.pause(model=wish.model, by=actor, reason=wish.reason, now=clock())
        return Response(status_code=204)

    @routes.post("/healing/resume", status_code=204)
    def resume(actor: Deployer, body: NounBody) -> Response:
        wish = noun_of(body, PauseRequest)
        healing.resume(model=wish.model, by=actor, now=clock())
        return Response(status_code=204)


def _kept(parts: HubParts, ask: Callable[[HealingStore], T]) -> T:
    return parts.unit.read(lambda tx: ask(tx.store(HealingStore)))


def _name(model: str | None) -> ModelName | None:
    return None if model is None else ModelName(model)
