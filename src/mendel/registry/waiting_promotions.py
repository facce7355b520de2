"""Promotions at a set time: durable, listed, cancelled by command, and carried out by a hub."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from mendel.durable import Clock, StepKey, Transaction
from mendel.errors import Conflict, InvalidInput, MendelError
from mendel.registry.api_keys import KEY_PREFIX
from mendel.registry.history import Override
from mendel.registry.lifecycle import Lifecycle
from mendel.registry.lookups import current_policy, require_model, require_version
from mendel.registry.planned_changes import PlannedChanges, WaitingPromotion, WaitingState
from mendel.registry.ports import RegistryStore
from mendel.registry.promotion_windows import next_opening
from mendel.registry.transactions import RegistryTransactions
from mendel.values import ModelName, Scope, VersionRef, require_utc


class WaitingPromotions:
    """
    Plans promotions for later; a model has at most one that waits. Only a hub carries them out.

    Every change is one transaction together with its event.
    """

    def __init__(self, transactions: RegistryTransactions, clock: Clock, lifecycle: Lifecycle) -> None:
        self._transactions = transactions
        self._clock = clock
        self._lifecycle = lifecycle

    def plan(
        self,
        ref: VersionRef,
        at: datetime,
        *,
        by: str,
        reason: str = "",
        override: str | None = None,
        expected_generation: int | None = None,
    ) -> WaitingPromotion:
        """
        Let *ref* wait until *at*, or until the first later time that the policy allows, and then be promoted.

        The checks of a promotion are made now, so that its errors are told to the caller, and again at that time.

        Raises:
            InvalidInput: *at* is in the past.
            Conflict: Another promotion of the model waits.
            VersionNotFound, GenerationConflict, IllegalTransition, PromotionRefused, NeedsNewImage: Nothing changed.
        """
        now = self._clock()
        asked = WaitingPromotion(
            id=self._transactions.new_id(),
            ref=ref,
            at=require_utc(at),
            by=by,
            requested_at=now,
            reason=reason,
            override=override,
            expected_generation=expected_generation,
        )
        if asked.at < now:
            raise InvalidInput(f"The time {asked.at:%Y-%m-%dT%H:%M:%SZ} is in the past.", remedy="Give a later time.")

        def work(tx: Transaction) -> WaitingPromotion:
            store, planned = tx.store(RegistryStore), tx.store(PlannedChanges)
            standing = planned.promotion(ref.model)
            if standing is not None and standing.state is WaitingState.WAITING:
                raise Conflict(
                    f"The promotion of {standing.ref} already waits.",
                    remedy=f"Cancel it first with: mendel promotions cancel {ref.model}",
                )
            told = _with_prospect(store, asked, now)
            self._lifecycle.require_promotable(store, told.ref, _override(told), at=told.until or told.at)
            planned.put_promotion(told)
            self._say(tx, "promotion.planned", told, by, now)
            return told

        return self._transactions.write(work)

    def all(self, model: ModelName | None = None) -> tuple[WaitingPromotion, ...]:
        """Give the last planned promotion of *model*, or of every model; those that wait say until when and why."""
        now = self._clock()

        def work(tx: Transaction) -> tuple[WaitingPromotion, ...]:
            store, found = tx.store(RegistryStore), tx.store(PlannedChanges).promotions(waiting=False)
            return tuple(_with_prospect(store, one, now) for one in found if model in {None, one.ref.model})

        return self._transactions.read_all(work)

    def cancel(self, model: ModelName, *, by: str, reason: str = "") -> WaitingPromotion:
        """
        Cancel the promotion of *model* that waits.

        Raises:
            ModelNotFound: The model does not exist.
            Conflict: No promotion of the model waits.
        """
        now = self._clock()

        def work(tx: Transaction) -> WaitingPromotion:
            require_model(tx.store(RegistryStore), model)
            standing = tx.store(PlannedChanges).promotion(model)
            if standing is None or standing.state is not WaitingState.WAITING:
                raise Conflict(
                    f"No promotion of {model} waits.", remedy="See the planned promotions with: mendel promotions list"
                )
            told = replace(standing, state=WaitingState.CANCELLED, why=reason or "cancelled")
            return self._end(tx, told, now, by)

        return self._transactions.write(work)

    def carry_out_due(self) -> tuple[WaitingPromotion, ...]:
        """
        Promote every version whose time has come and whose policy allows promotions now; give those that ended.

        A promotion that is refused now ends, too, and says why. After a crash the call continues: the promotion and its
        end are made once.
        """
        now = self._clock()

        def due(tx: Transaction) -> tuple[WaitingPromotion, ...]:
            store, waiting = tx.store(RegistryStore), tx.store(PlannedChanges).promotions(waiting=True)
            return tuple(one for one in waiting if _with_prospect(store, one, now).until == now)

        return tuple(self._carried_out(one, now) for one in self._transactions.read_all(due))

    def _carried_out(self, waiting: WaitingPromotion, now: datetime) -> WaitingPromotion:
        try:
            self._require_rights(waiting, now)
            deployment = self._lifecycle.promote(
                waiting.ref,
                by=waiting.by,
                reason=waiting.reason or f"planned at {waiting.requested_at:%Y-%m-%dT%H:%M:%SZ}",
                expected_generation=waiting.expected_generation,
                override=_override(waiting),
                evidence={"planned": waiting.id, "at": waiting.at},
                step=StepKey(workflow_id=f"promotion/{waiting.id}", step="promote"),
            )
        except (Conflict, InvalidInput) as error:
            return self._ended(waiting, WaitingState.REFUSED, _told(error), now)
        return self._ended(waiting, WaitingState.DONE, f"promoted in generation {deployment.generation}", now)

    def _require_rights(self, waiting: WaitingPromotion, now: datetime) -> None:
        """Raise Conflict if the key that asked is revoked, has expired, or may no longer deploy."""
        if not waiting.by.startswith(KEY_PREFIX):
            return
        keys = self._transactions.read(lambda store: store.api_keys())
        own = [key for key in keys if key.principal.id == waiting.by and key.principal.may(Scope.DEPLOY)]
        if all(key.refusal(now) is not None for key in own):
            raise Conflict(f"The key {waiting.by} that asked for the promotion may no longer deploy.")

    def _ended(self, waiting: WaitingPromotion, state: WaitingState, why: str, now: datetime) -> WaitingPromotion:
        def work(tx: Transaction) -> WaitingPromotion:
            standing = tx.store(PlannedChanges).promotion(waiting.ref.model)
            if standing is None or standing.id != waiting.id or standing.state is not WaitingState.WAITING:
                return standing or waiting  # cancelled, or ended by the call before a crash
            return self._end(tx, replace(standing, state=state, why=why), now, "registry")

        return self._transactions.write(work)

    def _end(self, tx: Transaction, promotion: WaitingPromotion, now: datetime, by: str) -> WaitingPromotion:
        ended = replace(promotion, until=None, ended_at=now)
        tx.store(PlannedChanges).put_promotion(ended)
        self._say(tx, "promotion.ended", ended, by, now)
        return ended

    def _say(self, tx: Transaction, kind: str, promotion: WaitingPromotion, by: str, now: datetime) -> None:
        record = require_version(tx.store(RegistryStore), promotion.ref)
        tx.append(self._transactions.version_event(kind, record, by, now, promotion=promotion))


def _with_prospect(store: RegistryStore, promotion: WaitingPromotion, now: datetime) -> WaitingPromotion:
    """Tell until when *promotion* waits, and why, as things stand."""
    if promotion.state is not WaitingState.WAITING:
        return promotion
    policy = current_policy(store, promotion.ref.model).promotion
    opening = next_opening(policy, max(now, promotion.at))
    asked = "" if promotion.at <= now else f"planned for {promotion.at:%Y-%m-%dT%H:%M:%SZ}"
    why = "; ".join(filter(None, (asked, opening.why)))
    return replace(promotion, until=opening.at, why=why or "its time has come; a hub carries it out")


def _override(promotion: WaitingPromotion) -> Override | None:
    return None if promotion.override is None else Override(reason=promotion.override, by=promotion.by)


def _told(error: MendelError) -> str:
    return f"{type(error).__name__}: {error}"
