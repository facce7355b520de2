"""The planned promotions and the canaries in steps in the state database."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from mendel.adapters.sql.registry_tables import canary_runs, planned_promotions
from mendel.registry import CanaryRun, WaitingPromotion, WaitingState
from mendel.values import ModelName, from_json, to_json


class SqlPlannedChanges:
    """Implements :class:`mendel.registry.PlannedChanges` over one transaction's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def promotion(self, model: ModelName) -> WaitingPromotion | None:
        query = select(planned_promotions.c.body).where(planned_promotions.c.model == model)
        body = self._connection.execute(query).scalar()
        return None if body is None else from_json(body, WaitingPromotion)

    def promotions(self, *, waiting: bool) -> tuple[WaitingPromotion, ...]:
        query = select(planned_promotions.c.body).order_by(planned_promotions.c.model)
        if waiting:
            query = query.where(planned_promotions.c.state == WaitingState.WAITING.value)
        return tuple(from_json(body, WaitingPromotion) for body in self._connection.execute(query).scalars())

    def put_promotion(self, promotion: WaitingPromotion) -> None:
        model = promotion.ref.model
        self._connection.execute(delete(planned_promotions).where(planned_promotions.c.model == model))
        row = {"model": model, "state": promotion.state.value, "body": to_json(promotion).decode()}
        self._connection.execute(insert(planned_promotions), row)

    def canary_run(self, model: ModelName) -> CanaryRun | None:
        body = self._connection.execute(select(canary_runs.c.body).where(canary_runs.c.model == model)).scalar()
        return None if body is None else from_json(body, CanaryRun)

    def canary_runs(self) -> tuple[CanaryRun, ...]:
        bodies = self._connection.execute(select(canary_runs.c.body).order_by(canary_runs.c.model)).scalars()
        return tuple(from_json(body, CanaryRun) for body in bodies)

    def put_canary_run(self, run: CanaryRun) -> None:
        self.drop_canary_run(run.ref.model)
        self._connection.execute(insert(canary_runs), {"model": run.ref.model, "body": to_json(run).decode()})

    def drop_canary_run(self, model: ModelName) -> None:
        self._connection.execute(delete(canary_runs).where(canary_runs.c.model == model))
