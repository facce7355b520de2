"""The arithmetic of the serving benchmarks: counts and percentiles, which runs count, and the bounds."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from support.imported_modules import forget_modules_below

SERVING = Path(__file__).parents[3] / "benchmarks" / "serving"
H2LOAD = """
finished in 1.00s, 4.00 req/s, 1.00KB/s
requests: {total} total, {total} started, {done} done, {good} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, {failed} 5xx
"""
WRK = """
Requests/sec:  10.00
REPORT {"requests": 30, "micros": 3000000, "p50": 1500.0, "p95": 2500.0, "p99": 9000.0, "failed": 0, "timed_out": 2}
"""


@pytest.fixture(scope="module", autouse=True)
def harness():
    """The modules of the benchmarks, which import each other by their bare names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SERVING))
        yield
    forget_modules_below(SERVING)


def module(name):
    return importlib.import_module(name)


def printed(total, *, good=None):
    good = total if good is None else good
    return H2LOAD.format(total=total, done=total, good=good, failed=total - good)


def test_percentiles_are_latencies_that_occurred():
    """P95 of 100 latencies is the 95th smallest, whatever their order."""
    numpy = module("numpy")
    assert module("load_generators").percentiles_ms(numpy.arange(100, 0, -1) * 1000) == (50.0, 95.0, 99.0)


def test_figures_of_several_h2load_are_put_together():
    """The latencies of all logs make the percentiles; the time goes from the first request to the last answer."""
    logs = ["1000000\t200\t500000\n1500000\t200\t500000\n", "2000000\t200\t1000000\n2000000\t200\t2000000\n"]
    load = module("load_generators").read_h2load([printed(2), printed(2)], logs)
    assert (load.requests, load.seconds, load.rate) == (4, 3.0, 4 / 3)
    assert (load.p50_ms, load.p95_ms, load.complaints) == (500.0, 2000.0, ())


@pytest.mark.parametrize(
    ("text", "log", "complaint"),
    [
        (printed(2, good=1), "0 200 1\n0 500 1\n", "2 requests: 1 2xx, 1 failed"),
        (printed(2), "0 200 1\n", "1 lines for 2 requests"),
        ("not finished after 30 s", "", "printed no result"),
    ],
)
def test_h2load_without_all_answers_is_a_complaint(text, log, complaint):
    """A failed request, a missing line of the log and a missing result are each told."""
    (told, *_) = module("load_generators").read_h2load([text], [log]).complaints
    assert complaint in told


def test_figures_of_wrk():
    """Requests that timed out are counted apart; without a report there is a complaint."""
    read = module("load_generators").read_wrk
    load = read(WRK)
    assert (load.requests, load.rate, load.p95_ms, load.timed_out, load.complaints) == (30, 10.0, 2.5, 2, ())
    assert read("unable to connect").complaints


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"answered": 110, "beside": 10}, ""),
        ({"answered": 112, "beside": 10, "open_ended": 2}, ""),
        ({"answered": 109, "beside": 10}, "the server counts 109 right answers"),
        ({"answered": 111, "beside": 10}, "the server counts 111 right answers"),
        ({"answered": 113, "beside": 10, "open_ended": 2}, "the server counts 113 right answers"),
        ({"answered": 100, "beside": 0}, "the client beside got no answer"),
        ({"answered": 100, "beside": None}, ""),
        ({"answered": 110, "beside": 10, "wrong": ["got [1] instead of [0]"]}, "got [1] instead of [0]"),
        ({"answered": 110, "beside": 10, "unlogged": 3}, "3 rows were not logged"),
    ],
)
def test_which_runs_count(counts, reason):
    """A run counts only if the server counts exactly what was sent, every answer is right and every row is logged."""
    load = figures(requests=100)
    told = module("measuring").invalid_because(load, **counts)
    assert told.startswith(reason)
    assert bool(told) == bool(reason)


def test_a_run_with_complaints_or_without_answers_does_not_count():
    """What the load generator complains about, and a load of nothing, make a run invalid."""
    rule = module("measuring").invalid_because
    assert "3 failed" in rule(figures(requests=100, complaints=("3 failed",)), answered=100, beside=None)
    assert "no request was answered" in rule(figures(requests=0), answered=0, beside=None)


def test_the_worst_shape_and_the_best_settings_are_compared():
    """500 in flight are as fast as their slower shape; a product is as fast as its best settings."""
    results = [
        result("a", 100, connections=500),
        result("a", 80, p95_ms=9.0, connections=10, streams=50),
        result("b", 200, connections=500),
        result("b", 50, connections=10, streams=50),
        result("c", 900, connections=500, invalid="wrong answers"),
    ]
    best = module("report").best(results, "mendel", "gRPC", 500)
    assert (best.server, best.rate, best.p95_ms) == ("a, 1", 80.0, 9.0)


def test_bounds_say_by_how_much_they_are_missed():
    """A rate of 30 against MLServer's 10 misses 10x by a factor of 3.33; what was not measured is neither."""
    report = module("report")
    results = [result("mendel", 30, p95_ms=60.0, connections=500), result("m", 10, product="mlserver", connections=500)]
    told = {verdict.bound: verdict for verdict in report.verdicts(report.Report(results=results))}
    missed = told["gRPC, 500 in flight: at least 10x mlserver"]
    assert not missed.met
    assert missed.measured.endswith("missed by a factor of 3.33")
    late = told["gRPC, 500 in flight: P95 below 50 ms"]
    assert (late.met, late.measured) == (False, "60.00 ms, missed by 10.00 ms")
    assert told["REST, 500 in flight: P95 below 30 ms"].met is None


def figures(*, requests, p95_ms=1.0, complaints=()):
    kind = module("load_generators").Load
    return kind(requests=requests, seconds=1.0, p50_ms=1.0, p95_ms=p95_ms, p99_ms=9.0, complaints=complaints)


def result(server, rate, *, connections, streams=1, product="mendel", p95_ms=1.0, invalid=""):
    case = module("measuring").Case(what="logistic, 1 row", connections=connections, streams=streams)
    return module("measuring").Result(
        server=server,
        product=product,
        workers=1,
        door="gRPC",
        form="v2",
        tool="h2load",
        case=case,
        load=figures(requests=rate, p95_ms=p95_ms),
        invalid=invalid,
    )
