"""How far all workers together are."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mendel.adapters.processes.convergence import fold_convergence, fold_external, settle
from mendel.adapters.processes.desired_state_feed import Delivery, servable
from mendel.adapters.processes.server_settings import share_of, worker_count
from mendel.adapters.processes.worker_messages import BeginProxy, Desire, Status, from_line, to_line
from mendel.resilience import BulkheadPolicy
from mendel.serving import ServingPolicy
from mendel.values import DesiredState, Digest, ExternalServer, ModelConvergence, ModelName, Route

ONE, TWO = Digest(f"sha256:{'1' * 64}"), Digest(f"sha256:{'2' * 64}")
NOTHING = DesiredState(revision=-1, key_hashes={})


def status(generation, version=None, error=None, desired=2):
    """A worker that serves *generation*."""
    line = ModelConvergence(
        model=ModelName("credit"),
        generation_desired=desired,
        generation_serving=generation,
        version_serving=version,
        failed_version=None if error is None else 2,
        error=error,
    )
    return Status(accepting=True, ready=True, revision=generation, convergence=(line,))


def delivery(newest, missing=None):
    """Everything is here, unless said otherwise."""
    return Delivery(newest=newest, servable=newest, missing=missing or {})


def test_the_server_is_as_far_as_its_slowest_worker(desire):
    """One worker on the old generation means that the server has not converged."""
    state = desire(ONE, TWO, revision=2, generation=2)
    (line,) = fold_convergence(delivery(state), [status(2, 2), status(1, 1)])
    assert (line.generation_desired, line.generation_serving, line.version_serving) == (2, 1, 1)
    (line,) = fold_convergence(delivery(state), [status(2, 2), status(2, 2)])
    assert (line.generation_serving, line.version_serving, line.error) == (2, 2, None)


def test_an_error_of_one_worker_is_told(desire):
    """A version that one worker could not load is reported with its reason."""
    state = desire(ONE, TWO, revision=2, generation=2)
    (line,) = fold_convergence(delivery(state), [status(2, 2), status(1, 1, "it raised")])
    assert (line.failed_version, line.error) == (2, "it raised")


def test_a_version_is_at_fault_only_where_no_worker_serves_it(desire):
    """A version that another worker of the server has loaded is not to blame, nor one whose files are missing."""
    state = desire(ONE, TWO, revision=2, generation=2)
    broken = status(1, 1, "bad pickle")
    failed = replace(broken, convergence=(replace(broken.convergence[0], version_at_fault=True),))
    assert fold_convergence(delivery(state), [failed, failed])[0].version_at_fault
    assert not fold_convergence(delivery(state), [failed, status(2, 2)])[0].version_at_fault
    assert not fold_convergence(delivery(state, {TWO: "no route to host"}), [failed])[0].version_at_fault


def test_failed_loads_are_those_of_the_worker_that_tried_most(desire):
    """A failure that one worker saw twice is seen twice by the server; one that not all call a fault is none."""
    state = desire(ONE, TWO, revision=2, generation=2)
    broken = status(1, 1, "bad pickle")

    def failed(loads, at_fault=True):
        line = replace(broken.convergence[0], version_at_fault=at_fault, failed_loads=loads)
        return replace(broken, convergence=(line,))

    (line,) = fold_convergence(delivery(state), [failed(1), failed(3)])
    assert (line.failed_loads, line.version_at_fault) == (3, True)
    assert not fold_convergence(delivery(state), [failed(1), failed(3, at_fault=False)])[0].version_at_fault


def unloaded(desired=2):
    """A worker that unloaded the model to make room, or at a caller's request."""
    one = status(0, desired=desired)
    return replace(one, convergence=(replace(one.convergence[0], unloaded=True),))


def test_a_model_is_unloaded_when_every_worker_has_unloaded_it(desire):
    """While another worker serves the model or fails to load it, the server reports what that worker does."""
    state = delivery(desire(ONE, TWO, revision=2, generation=2))
    (line,) = fold_convergence(state, [unloaded(), unloaded()])
    assert (line.unloaded, line.generation_serving) == (True, 0)
    (line,) = fold_convergence(state, [status(2, 2), unloaded()])
    assert (line.unloaded, line.generation_serving, line.version_serving) == (False, 2, 2)
    (line,) = fold_convergence(state, [status(1, 1, "it raised"), unloaded()])
    assert (line.unloaded, line.generation_serving, line.error) == (False, 1, "it raised")
    (line,) = fold_convergence(state, [status(0, None, "it raised"), unloaded()])
    assert (line.unloaded, line.version_serving, line.error) == (False, None, "it raised")


def test_a_canary_whose_artefact_is_missing_is_told_and_production_serves(desire):
    """A server that serves production alone is not yet at the generation of the canary."""
    canary = (Route(version=1, share=0.9), Route(version=2, share=0.1))
    newest = desire(ONE, TWO, revision=2, generation=2, routes=canary)
    alone = servable(newest, NOTHING, {ONE})
    (served,) = alone.models
    assert (served.deployment.routes, served.deployment.generation) == ((Route(version=1, share=1.0),), 2)
    offered = Delivery(newest=newest, servable=alone, missing={TWO: "no route to host"})
    (line,) = fold_convergence(offered, [status(2, 1)])
    assert (line.generation_serving, line.version_serving, line.failed_version) == (1, 1, 2)


def test_a_missing_artefact_is_an_error_of_its_version(desire):
    """Workers have not even been told of the version; the server reports why."""
    state = desire(ONE, TWO, revision=2, generation=2)
    (line,) = fold_convergence(delivery(state, {TWO: "wrong digest"}), [status(1, 1, desired=1)])
    assert (line.generation_desired, line.generation_serving, line.failed_version) == (2, 1, 2)
    assert line.error == "wrong digest"


def test_no_worker_serves_nothing(desire):
    """Before the first worker answers, the serving generation is 0."""
    (line,) = fold_convergence(delivery(desire(ONE, revision=1)), [])
    assert (line.generation_serving, line.version_serving) == (0, None)


def test_a_server_of_a_remote_model_is_as_bad_as_any_worker_sees_it():
    """Each address is told once, with the worst status among the workers."""
    seen = [{"b": "healthy", "a": "unhealthy"}, {"b": "degraded", "a": "healthy"}]
    workers = [
        replace(
            status(1),
            external_api=tuple(ExternalServer(address=name, status=state) for name, state in view.items()),
        )
        for view in seen
    ]
    assert [(one.address, one.status) for one in fold_external(workers)] == [("a", "unhealthy"), ("b", "degraded")]


def test_settled_is_what_every_worker_serves(desire):
    """The newest state settles only when all workers serve it; until then the former stays settled."""
    old, new = desire(ONE, revision=1, generation=1), desire(ONE, TWO, revision=2, generation=2)
    settled = settle(NOTHING, old, [status(1, 1), status(1, 1)])
    assert settled.models == old.models
    assert settle(settled, new, [status(2, 2), status(1, 1)]).models == old.models
    assert settle(settled, new, [status(2, 2), status(2, 2)]).models == new.models
    assert settle(settled, new, []).models == old.models


def test_a_model_that_was_unloaded_settles_on_its_newest_deployment(desire):
    """A new worker must not load the version of before, which may have been rolled back."""
    old, new = desire(ONE, revision=1, generation=1), desire(ONE, TWO, revision=2, generation=2)
    assert settle(old, new, [unloaded(), unloaded()]).models == new.models
    assert settle(old, new, [unloaded(), status(2, 2)]).models == new.models
    assert settle(old, new, [unloaded(desired=1), status(2, 2)]).models == old.models
    assert settle(old, new, [unloaded(), status(1, 1)]).models == old.models


def test_messages_survive_the_wire(desire):
    """What is written to a line is read from it."""
    for message in (
        Desire(state=desire(ONE, TWO, revision=3, keep=(1,)), base=desire(ONE, revision=2)),
        status(2, 2, "why\nnot"),
        BeginProxy(door="zmq", listener=5, worker_address="ipc:///tmp/x", max_message_bytes=9, max_connections=7),
    ):
        line = to_line(message)
        assert line.count(b"\n") == 1
        assert from_line(line) == message


@given(
    workers=st.integers(1, 16),
    width=st.integers(1, 500),
    queue=st.integers(1, 5000),
    budget=st.one_of(st.none(), st.integers(1_000_000, 1 << 34)),
)
def test_shares_cover_the_server_and_no_budget_is_exceeded(workers, width, queue, budget):
    """All workers together have at least the server's widths, less than one more each, and never more memory."""
    policy = ServingPolicy(memory_budget_bytes=budget, bulkhead=BulkheadPolicy(max_concurrent=width, max_queue=queue))
    share = share_of(policy, workers)
    assert width <= share.bulkhead.max_concurrent * workers < width + workers
    assert queue <= share.bulkhead.max_queue * workers < queue + workers
    assert budget is None or share.memory_budget_bytes * workers <= budget
    assert share.workers == workers
    assert share.max_connections == max(1024, -(-4096 // workers))
    assert share_of(replace(policy, max_connections=6), workers).max_connections == 6
    whole = replace(share, bulkhead=policy.bulkhead, max_shadow_queue=64, memory_budget_bytes=budget)
    assert replace(whole, workers=policy.workers, max_connections=policy.max_connections) == policy


def test_workers_are_as_many_as_asked_for_within_the_bound():
    """0 is one per core; the bound holds for both."""
    assert worker_count(ServingPolicy(workers=3), cores=2) == 3
    assert worker_count(ServingPolicy(workers=0), cores=8) == 8
    assert worker_count(ServingPolicy(workers=0, max_workers=4), cores=8) == 4
