"""The registry at points in its past, and the whole state that the first upgrade writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.registry import STORES
from mendel.durable import Ledger
from mendel.errors import InvalidValue, ModelNotFound, NothingToReturnTo, StateUnknown
from mendel.registry import AfterEntry, RegistryStore, RowChange, RowKind, state_faults
from mendel.values import ModelName, Stage


def head(house):
    return house.unit.read(lambda tx: tx.store(Ledger).head())


def as_a_former_mendel_left_it(house):
    """A registry with the same rows and events, but whose events carry no rows."""
    former = MemoryUnitOfWork(STORES)
    rows, entries = house.unit.read(
        lambda tx: (list(tx.store(RegistryStore).scan()), tx.store(Ledger).entries(limit=10_000))
    )

    def write(tx):
        store = tx.store(RegistryStore)
        for row in rows:
            match row.kind:
                case RowKind.VERSION:
                    store.add_version(row.content)
                case RowKind.DEPLOYMENT:
                    for generation in range(1, row.content.generation + 1):
                        store.put_deployment(replace(row.content, generation=generation))
                case RowKind.POLICY:
                    store.add_policy(row.content)
                case RowKind.PERIOD:
                    period = row.content.period
                    store.open_tenure(replace(period, end=None, end_event=None))
                    if period.end is not None:
                        store.close_tenure(period.model, end=period.end, event=period.end_event)
        for entry in entries:
            data = {name: value for name, value in entry.event.data.items() if name != "state"}
            tx.append(replace(entry.event, data=data))

    former.write(write)
    return former


class TestStates:
    def test_every_point_tells_its_own_production_version(self, house, registry):
        """Between two promotions the state is that after the earlier one, stages and routes alike."""
        house.promoted(3)
        for number, period in enumerate(registry.lifecycle.history(house.model), 1):
            past = registry.timeline.at(period.start + timedelta(seconds=30), model=house.model)
            assert past.state.deployments[house.model].production == number
            assert past.state.versions[house.ref(number)].stage is Stage.PRODUCTION
            assert len(past.state.versions) == 3

    def test_an_entry_tells_the_state_after_it(self, house, registry):
        """After the entry of a registration the version is there; after the entry before, it is not."""
        house.promoted()
        house.register()
        entries = house.unit.read(lambda tx: tx.store(Ledger).entries(types=["model.registered"]))
        born = entries[-1].sequence
        assert house.ref(2) in registry.timeline.at(AfterEntry(born)).state.versions
        assert house.ref(2) not in registry.timeline.at(AfterEntry(born - 1)).state.versions

    def test_one_model_is_the_part_of_the_whole(self, house, registry):
        """The state of one model is what the whole state holds of it."""
        house.promoted(2)
        house.register(model=ModelName("fraud"))
        registry.policies.set(house.model, {"rollback": {"error_rate": 0.1}})
        now = AfterEntry(head(house).sequence)
        whole = registry.timeline.at(now).state
        assert whole.models == (house.model, "fraud")
        assert registry.timeline.at(now, model=house.model).state == whole.of_model(house.model)
        assert registry.timeline.at(now, model=ModelName("fraud")).state == whole.of_model(ModelName("fraud"))

    def test_a_clock_that_was_set_back_hides_nothing(self, house, registry):
        """An entry written after the clock was corrected belongs to the state of its time."""
        house.promoted()
        house.clock.forward(days=365)
        house.register(sandbox=False)
        house.clock.forward(days=-364)
        late = house.register(sandbox=False)
        assert late.ref in registry.timeline.at(house.clock()).state.versions

    def test_points_outside_the_ledger_are_refused(self, house, registry):
        """Before the first entry, beyond the newest one, an empty ledger, an unknown model: each says what is there."""
        with pytest.raises(StateUnknown, match="empty"):
            registry.timeline.at(AfterEntry(1))
        house.promoted()
        first = registry.lifecycle.history(house.model)[0].start
        with pytest.raises(StateUnknown, match="begins later, with entry 1"):
            registry.timeline.at(first - timedelta(days=1))
        with pytest.raises(StateUnknown, match="begins later"):
            registry.timeline.at(AfterEntry(0))
        newest = head(house).sequence
        with pytest.raises(InvalidValue, match=f"newest entry has the number {newest}"):
            registry.timeline.at(AfterEntry(newest + 1))
        with pytest.raises(ModelNotFound):
            registry.timeline.at(house.clock(), model=ModelName("nobody"))


class TestDiff:
    def test_it_names_rows_and_fields(self, house, registry):
        """A promotion is a changed stage, a changed deployment and a new production period; nothing else is told."""
        house.promoted()
        second = house.register()
        before = AfterEntry(head(house).sequence)
        registry.lifecycle.promote(second.ref, by="ann")
        registry.policies.set(house.model, {"rollback": {"error_rate": 0.1}})
        rows = registry.timeline.diff(before, AfterEntry(head(house).sequence)).rows
        assert [(one.kind, one.row, one.change) for one in rows] == [
            (RowKind.VERSION, "credit@1", RowChange.CHANGED),
            (RowKind.VERSION, "credit@2", RowChange.CHANGED),
            (RowKind.DEPLOYMENT, "credit", RowChange.CHANGED),
            (RowKind.POLICY, "credit 1", RowChange.ADDED),
            (RowKind.PERIOD, "credit 1", RowChange.CHANGED),
            (RowKind.PERIOD, "credit 2", RowChange.ADDED),
        ]
        stage = next(one for one in rows[1].fields if one.field == "stage")
        assert (stage.before, stage.after) == ("sandbox", "production")

    def test_a_point_does_not_differ_from_itself(self, house, registry):
        """Between a point and the same point nothing changed."""
        house.promoted(2)
        assert registry.timeline.diff(AfterEntry(3), AfterEntry(3)).rows == ()


class TestProductionAt:
    def test_the_version_of_a_moment(self, house, registry):
        """A time and an entry tell the version that was in production; before the first there is none."""
        house.promoted(3)
        periods = registry.lifecycle.history(house.model)
        assert registry.timeline.production_at(house.model, periods[1].start) == 2
        assert registry.timeline.production_at(house.model, AfterEntry(head(house).sequence)) == 3
        with pytest.raises(NothingToReturnTo, match="No version of credit was in production at"):
            registry.timeline.production_at(house.model, periods[0].start - timedelta(seconds=1))
        with pytest.raises(NothingToReturnTo, match="after entry 2"):
            registry.timeline.production_at(house.model, AfterEntry(2))
        with pytest.raises(ModelNotFound):
            registry.timeline.production_at(ModelName("nobody"), periods[0].start)


class TestUpgrade:
    def test_the_whole_state_is_written_once(self, house, registry):
        """Of a registry whose events carry no rows, the upgrade writes the state, once, and the state agrees."""
        house.promoted(2)
        registry.policies.set(house.model, {"rollback": {"error_rate": 0.1}})
        former = as_a_former_mendel_left_it(house)
        upgraded = house.over(unit=former)
        with pytest.raises(StateUnknown, match="a former version of Mendel"):
            upgraded.timeline.at(AfterEntry(3))
        assert upgraded.timeline.record_whole_state()
        assert not upgraded.timeline.record_whole_state()
        assert former.read(lambda tx: list(state_faults(tx))) == []

    def test_what_came_before_is_told_as_unknown(self, house, registry):
        """A point before the state that the upgrade wrote is refused, and the error says from where on it is known."""
        house.promoted(2)
        upgraded = house.over(unit=as_a_former_mendel_left_it(house))
        upgraded.timeline.record_whole_state()
        with pytest.raises(StateUnknown, match=rf"known from entry {head(house).sequence + 1} "):
            upgraded.timeline.at(AfterEntry(3))

    def test_production_periods_before_it_are_known(self, house, registry):
        """The version of a time before the upgrade is found in the periods of the written state."""
        house.promoted(2)
        first = registry.lifecycle.history(house.model)[0].start
        upgraded = house.over(unit=as_a_former_mendel_left_it(house))
        upgraded.timeline.record_whole_state()
        house.clock.forward(minutes=1)
        upgraded.lifecycle.roll_back(house.model, by="ann", reason="r")
        assert upgraded.timeline.production_at(house.model, first) == 1

    def test_a_new_registry_needs_none(self, house, registry):
        """Where every event carries its rows, no state is written."""
        assert not registry.timeline.record_whole_state()
        house.promoted()
        assert not registry.timeline.record_whole_state()
