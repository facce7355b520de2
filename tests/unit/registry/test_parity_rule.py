"""What a version's parity allows, on every kind of check."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mendel.errors import Conflict
from mendel.registry import RegistryStore
from mendel.registry.parity_rule import needs_clean_check, parity_lines
from mendel.values import Digest, Stage
from mendel.values.parity import PARITY_FILE, ParityReport, ParityStatus

PASSED = ParityReport(status=ParityStatus.PASSED, rows=9, singles=9)
OTHER = ParityReport(status=ParityStatus.DIFFERS, reason="row 0, prediction: 1 and 2", rows=9, difference_id="a b")
RANDOM = ParityReport.not_measured("not reproducible")
FILE = Digest("sha256:" + "a" * 64)


@pytest.fixture
def registered(house, registry):
    """Registers a version in development whose registration had the given result."""

    def register(parity):
        tree = house.tree()
        if parity is not None:
            (tree / PARITY_FILE).parent.mkdir()
            (tree / PARITY_FILE).write_text(
                json.dumps({name: getattr(parity, name) for name in ("status", "reason", "rows", "difference_id")})
            )
        return registry.versions.register(house.request(), tree).ref

    return register


def moved(registry, ref, **more):
    return registry.lifecycle.transition(ref, Stage.SANDBOX, by="ann", **more)


@pytest.mark.parametrize("parity", [None, RANDOM, PASSED], ids=["no rows", "random", "registered"])
def test_what_no_new_process_measured_stays_in_development(registry, registered, parity):
    """Without a check in a new process a version stays, however it was registered; the refusal names both ways out."""
    with pytest.raises(Conflict, match="its parity is not measured") as refused:
        moved(registry, registered(parity))
    assert "mendel probe" in refused.value.remedy
    assert "--without-parity" in refused.value.remedy


def test_a_reason_lets_an_unmeasured_version_leave(house, registry, registered):
    """The reason stands on the version with the cause, who and when, and in one event."""
    ref = registered(RANDOM)
    waived = moved(registry, ref, without_parity="it draws lots").without_parity
    assert (waived.reason, waived.unmeasured, waived.by, waived.at) == (
        "it draws lots",
        "not reproducible",
        "ann",
        house.clock(),
    )
    (event,) = house.events("model.parity_waived")
    assert (event.subject, event.data["reason"], event.data["unmeasured"]) == (
        str(ref),
        "it draws lots",
        "not reproducible",
    )
    assert "Left development without parity (not reproducible) by ann: it draws lots" in list(
        parity_lines(registry.versions.get(ref))
    )


@pytest.mark.parametrize("kind", ["parity", "clean", "probed"])
def test_no_reason_but_acceptance_lets_a_difference_leave(house, registry, registered, kind):
    """A difference that any check found is not excused by a reason to go without parity; a refusal records nothing."""
    ref = registered(OTHER if kind == "parity" else PASSED)
    registry.parity.record_clean(ref, OTHER if kind == "clean" else PASSED, by="ann")
    if kind == "probed":
        registry.parity.record_probed(ref, OTHER, file="rows.csv", digest=FILE, by="ann")
    with pytest.raises(Conflict, match="row 0, prediction: 1 and 2"):
        moved(registry, ref, without_parity="never mind")
    assert house.events("model.parity_waived") == []
    assert registry.parity.accept_difference(ref, by="ann", reason="known").accepted.id == "a b"
    assert moved(registry, ref).without_parity is None


def test_a_measured_version_needs_no_reason(house, registry, registered):
    """A reason that is not needed is not recorded."""
    ref = registered(PASSED)
    registry.parity.record_clean(ref, PASSED, by="ann")
    assert moved(registry, ref, without_parity="in case").without_parity is None
    assert house.events("model.parity_waived") == []


def test_rows_of_a_file_are_a_measurement(registry, registered):
    """A version without probe rows leaves after a file was probed, and says that the file's rows were no trainer's."""
    ref = registered(None)
    registry.parity.record_probed(ref, PASSED, file="rows.csv", digest=FILE, by="bob")
    assert moved(registry, ref).stage is Stage.SANDBOX
    told = " ".join(parity_lines(registry.versions.get(ref)))
    assert f"probed from file rows.csv ({FILE}) by bob: passed" in told
    assert "not the trainer's own object" in told


def test_repeated_checks_record_once(house, registry, registered):
    """The same result again makes no second event."""
    ref = registered(PASSED)
    for _ in range(2):
        registry.parity.record_clean(ref, PASSED, by="ann")
        registry.parity.record_probed(ref, PASSED, file="rows.csv", digest=FILE, by="ann")
    assert len(house.events("model.parity_checked", "model.parity_probed")) == 2


def test_a_version_from_before_parity_moves_and_returns_freely(house, registry):
    """A version without parity is returned to and moves between later stages: only leaving development asks for it."""
    house.promoted(2)
    for number in (1, 2):
        store_without_parity(house, house.ref(number))
    assert registry.lifecycle.roll_back(house.model, by="ann", reason="slow").to_version == house.ref(1)
    assert moved(registry, house.ref(2)).stage is Stage.SANDBOX
    assert registry.lifecycle.promote(house.ref(2), by="ann").production == 2


def store_without_parity(house, ref):
    def forget(tx):
        store = tx.store(RegistryStore)
        store.replace_version(replace(store.version(ref), without_parity=None))

    house.unit.write(forget)


@pytest.mark.parametrize(
    ("parity", "clean", "asks"),
    [
        (None, None, False),
        (RANDOM, None, False),
        (OTHER, None, False),
        (PASSED, None, True),
        (PASSED, PASSED, False),
        (PASSED, RANDOM, True),
        (PASSED, OTHER, True),
    ],
)
def test_a_process_starts_only_where_it_can_tell_something_new(registry, registered, parity, clean, asks):
    """Passed checks are kept; failed ones are repeated, since packages may have been corrected; no rows, no process."""
    ref = registered(parity)
    if clean is not None:
        registry.parity.record_clean(ref, clean, by="ann")
    assert needs_clean_check(registry.versions.get(ref)) is asks


def test_a_version_beyond_development_is_not_checked(registry, registered):
    """Moving a version between later stages starts no process."""
    ref = registered(PASSED)
    assert not needs_clean_check(moved(registry, ref, without_parity="the machine has no packages"))


@pytest.mark.parametrize(
    ("found", "accepted", "admitted"), [("a", "a b", True), ("a c", "a b", False), ("a", None, False), ("", "a", False)]
)
def test_only_accepted_differences_are_admitted(found, accepted, admitted):
    """A check that finds some of the accepted differences is admitted; one further difference is not."""
    assert replace(OTHER, difference_id=found).admits(accepted) is admitted


def test_no_later_check_hides_a_difference(registry, registered):
    """A check that could not measure, and easy rows of another file, leave a found difference where it is."""
    ref = registered(RANDOM)
    registry.parity.record_clean(ref, OTHER, by="ann")
    assert registry.parity.record_clean(ref, RANDOM, by="ann").clean_parity == OTHER
    hard, easy = (("hard.csv", Digest("sha256:" + "a" * 64)), ("easy.csv", Digest("sha256:" + "b" * 64)))
    for (file, digest), report in ((hard, OTHER), (easy, PASSED), (easy, PASSED)):
        record = registry.parity.record_probed(ref, report, file=file, digest=digest, by="ann")
    assert record.probed.report.difference_id == OTHER.difference_id
    with pytest.raises(Conflict, match="differ"):
        moved(registry, ref, without_parity="it is good enough")
    corrected = registry.parity.record_probed(ref, PASSED, file=hard[0], digest=hard[1], by="ann")
    assert corrected.probed.report == PASSED
