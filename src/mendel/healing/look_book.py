"""Store looks: a new one when facts or decision change, else the time until which the last one holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from mendel.durable import NewId, Transaction, UnitOfWork
from mendel.healing.decision_facts import Facts
from mendel.healing.decision_records import DecisionRecord, Verdict
from mendel.healing.entities import Incident
from mendel.healing.healing_facts import read_healing_facts
from mendel.healing.incident_journal import pause_of
from mendel.healing.looks import DecidedIncident, Look, LookKind, LookVolume, Standing
from mendel.healing.monitor import Observation
from mendel.healing.ports import HealingStore
from mendel.registry import Registry
from mendel.values import ModelName

_EXTEND_EVERY: Final = timedelta(minutes=1)
"""How far ``until`` of a stored look may lag behind; looks of models where nothing happens cost one write a minute."""
_LONGEST: Final = timedelta(days=1)
_PAGE = 500


class LookBook:
    """Stores and reads looks; threads may share it."""

    def __init__(self, unit: UnitOfWork, registry: Registry, new_id: NewId) -> None:
        self._unit = unit
        self._registry = registry
        self._new_id = new_id
        self._last: dict[tuple[ModelName, LookKind], Look] = {}
        self._stored_until: dict[str, datetime] = {}

    def note(self, seen: Observation) -> None:
        """Store the check *seen*, or extend the last one if it gave the same; nothing without a production version."""
        if seen.document is None:
            return
        kind = LookKind.LOG if seen.log is not None else LookKind.COUNTERS
        key, now = (seen.found.model, kind), seen.found.at
        last = self._last.get(key) or self._unit.read(lambda tx: tx.store(HealingStore).last_look(*key))
        look = Look(
            id=self._new_id(),
            model=seen.found.model,
            kind=kind,
            at=now,
            until=now,
            policy_hash=seen.document.hash,
            counters=seen.counters,
            log=seen.log,
            found=seen.found,
        )
        if last is not None and _continues(last, look):
            self._last[key] = last = replace(last, until=now)
            if now - self._stored_until.get(last.id, last.at) >= _EXTEND_EVERY:
                self._unit.write(lambda tx: tx.store(HealingStore).extend_look(last.id, now))
                self._stored_until[last.id] = now
            return
        about = read_healing_facts(self._registry, look.model, now)
        self._last[key] = self._unit.write(partial(self._add, look=look, last=last, standing=Standing.of(about, None)))
        if last is not None:
            self._stored_until.pop(last.id, None)

    def _add(self, tx: Transaction, *, look: Look, last: Look | None, standing: Standing) -> Look:
        store = tx.store(HealingStore)
        if last is not None:
            store.extend_look(last.id, last.until)
        look = replace(look, standing=replace(standing, pause=pause_of(store, look.model)))
        store.add_look(look)
        return look

    def decided(self, tx: Transaction, incident: Incident, facts: Facts, record: DecisionRecord) -> None:
        """Store the decision *record* with its inputs, or extend the last look if it decided the same."""
        store = tx.store(HealingStore)
        look = Look(
            id=self._new_id(),
            model=incident.ref.model,
            kind=LookKind.DECISION,
            at=record.at,
            until=record.at,
            policy_hash=record.policy_hash,
            decided=DecidedIncident.of(incident, facts, record),
        )
        last = store.last_look(look.model, LookKind.DECISION, incident=incident.id)
        if last is None or record.verdict in {Verdict.ACT, Verdict.PROPOSE} or not _continues(last, look):
            store.add_look(look)
        elif look.at - last.until >= _EXTEND_EVERY:
            store.extend_look(last.id, look.at)

    def volumes(self, model: ModelName | None = None) -> tuple[LookVolume, ...]:
        """Count the stored looks and their bytes, by model and day."""
        return self._unit.read(lambda tx: tx.store(HealingStore).look_volumes(model))

    def since(self, start: datetime, *, model: ModelName | None = None, incident: str | None = None) -> Iterator[Look]:
        """Give the looks that held at or after *start*, oldest first, in transactions of their own."""
        last: str | None = None
        while True:
            page = self._unit.read(partial(_page, start=start, model=model, incident=incident, after=last))
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].id

    def last(self, model: ModelName, kind: LookKind, *, by: datetime) -> Look | None:
        """Give the last check of this kind that began by *by*; None without one."""
        return self._unit.read(lambda tx: tx.store(HealingStore).last_look(model, kind, by=by))

    def checks_at(self, model: ModelName, at: datetime) -> tuple[Look, ...]:
        """Give the last check of the counters and the last study of the prediction log that began by *at*."""
        found = (self.last(model, kind, by=at) for kind in (LookKind.COUNTERS, LookKind.LOG))
        return tuple(look for look in found if look is not None)

    def prune(self, before: datetime) -> int:
        """Delete the looks that ended before *before*; gives their number."""
        return self._unit.write(lambda tx: tx.store(HealingStore).prune_looks(before))


def _continues(last: Look, look: Look) -> bool:
    return timedelta(0) <= look.at - last.at < _LONGEST and last.same_as(look)


def _page(
    tx: Transaction, *, start: datetime, model: ModelName | None, incident: str | None, after: str | None
) -> tuple[Look, ...]:
    return tx.store(HealingStore).looks(model, incident=incident, since=start, after=after, limit=_PAGE)
