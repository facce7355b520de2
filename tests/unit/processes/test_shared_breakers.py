"""Breakers over several workers."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.adapters.processes.shared_breakers import Arbiter, SharedBreakers
from mendel.resilience import Admitted, BreakerPhase, BreakerPolicy, CallRefused
from mendel.values import ModelName, VersionRef

VERSION = VersionRef(ModelName("credit"), 3)
POLICY = BreakerPolicy(minimum_calls=4, open_for=timedelta(seconds=20), probes=3)


class Lab:
    """An arbiter and workers on one run directory."""

    def __init__(self, run, steady, workers=2):
        self.run, self.steady = run, steady
        self.arbiter = Arbiter(run, POLICY, micros=steady)
        self.workers = []
        for slot in range(workers):
            self.arbiter.welcome(slot)
            self.workers.append(SharedBreakers(run, slot, micros=steady))
        for worker in self.workers:
            self.end(worker, succeeded=0)
        self.arbiter.fold()

    def end(self, worker, **ends):
        admission = worker.admit(VERSION)
        assert isinstance(admission, Admitted)
        worker.record(VERSION, epoch=admission.epoch, **ends)
        return admission

    def open(self):
        for worker in self.workers:
            self.end(worker, failed=1)
            self.end(worker, failed=1)
        self.arbiter.fold()

    def close(self):
        for worker in self.workers:
            worker.__exit__(None, None, None)
        self.arbiter.__exit__(None, None, None)


@pytest.fixture
def lab(tmp_path, steady):
    lab = Lab(tmp_path, steady)
    yield lab
    lab.close()


def test_opens_on_the_aggregate(lab):
    """Two faults on each of two workers are the four that open, and both workers refuse then."""
    assert all(worker.phase(VERSION) is BreakerPhase.CLOSED for worker in lab.workers)
    lab.open()
    for worker in lab.workers:
        refused = worker.admit(VERSION)
        assert isinstance(refused, CallRefused)
        assert refused.retry_after == timedelta(seconds=20)
        assert worker.phase(VERSION) is BreakerPhase.OPEN


def test_faults_of_one_worker_below_the_minimum_do_not_open(lab):
    """Three faults of four needed leave it closed."""
    one, two = lab.workers
    lab.end(one, failed=2)
    lab.end(two, failed=1)
    lab.arbiter.fold()
    assert one.phase(VERSION) is BreakerPhase.CLOSED


def test_admits_no_more_probes_than_allowed_over_all_workers(lab):
    """After 20 s exactly three calls pass, whoever asks how often, and three successes close it."""
    lab.open()
    lab.steady.pass_seconds(20)
    lab.arbiter.fold()
    admitted = [(w, a) for _ in range(9) for w in lab.workers if isinstance(a := w.admit(VERSION), Admitted)]
    assert len(admitted) == 3
    assert all(admission.probe for _, admission in admitted)
    for worker, admission in admitted:
        worker.record(VERSION, epoch=admission.epoch, succeeded=1)
    lab.arbiter.fold()
    assert [worker.phase(VERSION) for worker in lab.workers] == [BreakerPhase.CLOSED] * 2


def test_a_half_open_breaker_asks_to_come_back_when_the_probes_have_ended(lab, steady):
    """While all probes run, the time to wait is that of a probe, not that of the whole open phase."""
    lab.open()
    steady.pass_seconds(20)
    lab.arbiter.fold()
    answers = [worker.admit(VERSION) for worker in lab.workers for _ in range(3)]
    assert {answer.retry_after for answer in answers if isinstance(answer, CallRefused)} == {timedelta(seconds=1)}


def test_a_failed_probe_opens_again(lab):
    """One fault among the probes opens it for another 20 s."""
    lab.open()
    lab.steady.pass_seconds(20)
    lab.arbiter.fold()
    worker, admission = next((w, a) for w in lab.workers if isinstance(a := w.admit(VERSION), Admitted))
    worker.record(VERSION, epoch=admission.epoch, failed=1)
    lab.arbiter.fold()
    assert lab.arbiter.phase(VERSION) is BreakerPhase.OPEN
    assert all(isinstance(w.admit(VERSION), CallRefused) for w in lab.workers)


def test_tickets_that_nobody_uses_go_to_who_has_callers(lab):
    """A worker without callers holds no probe back: its tickets lapse and are given to the one that refuses calls."""
    lab.open()
    lab.steady.pass_seconds(20)
    lab.arbiter.fold()
    busy = lab.workers[0]
    admitted = 0
    for _ in range(30):
        admission = busy.admit(VERSION)
        if isinstance(admission, Admitted):
            admitted += 1
            busy.record(VERSION, epoch=admission.epoch, succeeded=1)
        lab.steady.pass_seconds(0.1)
        lab.arbiter.fold()
    assert lab.arbiter.phase(VERSION) is BreakerPhase.CLOSED
    assert admitted >= 3


def test_late_ends_of_a_former_epoch_do_not_count(lab):
    """A call admitted before it opened and failing afterwards says nothing about the probes."""
    late = lab.workers[0].admit(VERSION)
    lab.open()
    lab.steady.pass_seconds(20)
    lab.arbiter.fold()
    lab.workers[0].record(VERSION, epoch=late.epoch, failed=1)
    lab.arbiter.fold()
    assert lab.arbiter.phase(VERSION) is BreakerPhase.HALF_OPEN


def test_a_worker_that_dies_in_a_probe_fails_it(lab):
    """A version that kills its worker does not look recovered."""
    lab.open()
    lab.steady.pass_seconds(20)
    lab.arbiter.fold()
    slot = next(slot for slot, w in enumerate(lab.workers) if isinstance(w.admit(VERSION), Admitted))
    lab.arbiter.bury(slot)
    assert lab.arbiter.phase(VERSION) is BreakerPhase.OPEN


def test_a_new_worker_finds_an_open_breaker_open(lab):
    """It does not begin with a closed one of its own."""
    lab.open()
    lab.arbiter.welcome(2)
    with SharedBreakers(lab.run, 2, micros=lab.steady) as late:
        assert isinstance(late.admit(VERSION), CallRefused)


def test_a_breaker_stays_while_a_worker_without_calls_has_the_version(lab):
    """A worker that only loaded the version keeps its open breaker after the end of the others."""
    lab.open()
    lab.arbiter.welcome(2)
    with SharedBreakers(lab.run, 2, micros=lab.steady) as late:
        late.keep(VERSION)
        for worker in lab.workers:
            worker.forget(VERSION)
        lab.arbiter.fold()
        assert isinstance(late.admit(VERSION), CallRefused)


def test_unloaded_everywhere_starts_anew(lab):
    """A version that no worker holds any more comes back with a closed breaker."""
    lab.open()
    for worker in lab.workers:
        worker.forget(VERSION)
    lab.arbiter.fold()
    assert isinstance(lab.workers[0].admit(VERSION), Admitted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("call"), st.integers(0, 2)),
            st.tuples(st.just("end"), st.booleans()),
            st.tuples(st.just("fold"), st.just(0)),
            st.tuples(st.just("wait"), st.sampled_from([0.3, 1.5, 21.0])),
        ),
        max_size=120,
    )
)
def test_probes_under_way_never_exceed_the_bound(tmp_path_factory, steady, steps):
    """Whatever three workers do, at no time are more than three probes of one epoch admitted and unanswered or good."""
    lab = Lab(tmp_path_factory.mktemp("run"), steady, workers=3)
    under_way, good = [], {}
    for kind, value in steps:
        if kind == "call":
            admission = lab.workers[value].admit(VERSION)
            if isinstance(admission, Admitted):
                under_way.append((lab.workers[value], admission))
        elif kind == "end" and under_way:
            worker, admission = under_way.pop(0)
            worker.record(VERSION, epoch=admission.epoch, **({"succeeded": 1} if value else {"failed": 1}))
            good[admission.epoch] = good.get(admission.epoch, 0) + (1 if value and admission.probe else 0)
        elif kind == "fold":
            lab.arbiter.fold()
        elif kind == "wait":
            steady.pass_seconds(value)
        for epoch in {admission.epoch for _, admission in under_way if admission.probe}:
            probing = sum(admission.epoch == epoch for _, admission in under_way)
            assert probing + good.get(epoch, 0) <= POLICY.probes
    lab.close()
