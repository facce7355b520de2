"""The table of a run, and which bounds it met."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from load_generators import Load
from measuring import Result

PEERS = ("mlserver", "triton")
MANY = 500
BASE = "logistic, 1 row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """How long a server took to start, and its memory before and under load (the largest of the run)."""

    server: str
    workers: int
    start_s: float
    idle_mb: float
    loaded_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two figures that belong together: *of* is compared with *to*, both medians or single runs."""

    what: str
    of: Result
    to: Result


@dataclass(slots=True, kw_only=True)
class Report:
    """Everything that a run measured; ``failures`` tells which peers did not start, and why."""

    results: list[Result] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    floor: list[Pair] = field(default_factory=list)
    logging: list[Pair] = field(default_factory=list)
    bodies: list[Pair] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A bound and what was measured; ``met`` is None when the run did not measure it."""

    bound: str
    measured: str
    met: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A server at one number of requests in flight: the worst rate and the worst P95 of all shapes of the load."""

    server: str
    rate: float
    p95_ms: float
    timed_out: int


def best(results: Sequence[Result], product: str, door: str, in_flight: int) -> Standing | None:
    """
    The settings of *product* with the highest rate for one row of logistic regression; None without a measurement.

    Mendel's settings with a run that does not count are left out; a peer's runs are used in any case, in its favour.
    """
    groups: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for one in results:
        case = (one.product, one.door, one.form, one.case.in_flight, one.case.what)
        if case == (product, door, "v2", in_flight, BASE):
            groups[one.server, one.workers].append(one)
    standings = [
        Standing(
            server=f"{server}, {workers}",
            rate=min(one.load.rate for one in group),
            p95_ms=max(one.load.p95_ms for one in group),
            timed_out=sum(one.load.timed_out for one in group),
        )
        for (server, workers), group in groups.items()
        if product in PEERS or not any(one.invalid for one in group)
    ]
    return max(standings, key=lambda one: one.rate, default=None)


def verdicts(report: Report) -> Iterator[Verdict]:
    """Compare what was measured with every bound."""
    yield from _at_many(report.results, "gRPC", 50.0, {"mlserver": 10.0, "triton": 5.0})
    yield from _at_many(report.results, "REST", 30.0, {"triton": 5.0, "mlserver": 10.0})
    for door in ("REST", "gRPC"):
        own = best(report.results, "mendel", door, 1)
        peers = [one for peer in PEERS if (one := best(report.results, peer, door, 1)) is not None]
        other = max(peers, key=lambda one: one.rate, default=None)
        yield _ratio(f"{door}, concurrency 1: above 1.5x the best peer", own, other, 1.5)
    for pair in report.floor:
        valid = not (pair.of.invalid or pair.to.invalid)
        ratio = pair.of.load.p95_ms / pair.to.load.p95_ms if valid else None
        yield _below(f"{pair.what}: P95 at most 1.3x the client's own floor", ratio, 1.3, "x")
    for pair in report.logging:
        cost = 100 * (1 - pair.of.rate / pair.to.rate) if pair.of.rate and pair.to.rate else None
        yield _below(f"{pair.what}: logging costs less than 15 % of throughput", cost, 15.0, "%")
    for pair in report.bodies:
        off = 100 * abs(1 - pair.of.rate / pair.to.rate) if pair.of.rate and pair.to.rate else None
        yield _below(f"{pair.what}: eight bodies within 10 % of one", off, 10.0, "%")


def _at_many(results: Sequence[Result], door: str, p95_ms: float, times: Mapping[str, float]) -> Iterator[Verdict]:
    own = best(results, "mendel", door, MANY)
    yield _below(f"{door}, {MANY} in flight: P95 below {p95_ms:g} ms", own and own.p95_ms, p95_ms, "ms")
    for peer, wanted in times.items():
        goal = " (goal)" if (door, peer) == ("gRPC", "triton") else ""
        bound = f"{door}, {MANY} in flight: at least {wanted:g}x {peer}{goal}"
        yield _ratio(bound, own, best(results, peer, door, MANY), wanted)
    if own is not None:
        told = f"{own.timed_out} requests timed out"
        yield Verdict(bound=f"{door}, {MANY} in flight: no time-outs", measured=told, met=own.timed_out == 0)


def _below(bound: str, found: float | None, limit: float, unit: str) -> Verdict:
    if found is None:
        return Verdict(bound=bound, measured="not measured", met=None)
    told = f"{found:.2f} {unit}" if found <= limit else f"{found:.2f} {unit}, missed by {found - limit:.2f} {unit}"
    return Verdict(bound=bound, measured=told, met=found <= limit)


def _ratio(bound: str, own: Standing | None, other: Standing | None, wanted: float) -> Verdict:
    if own is None or other is None or not other.rate:
        return Verdict(bound=bound, measured="not measured", met=None)
    found = own.rate / other.rate
    told = f"{found:.2f}x ({own.server}: {own.rate:,.0f}/s; {other.server}: {other.rate:,.0f}/s)"
    missed = "" if found >= wanted else f", missed by a factor of {wanted / found:.2f}"
    return Verdict(bound=bound, measured=f"{told}{missed}", met=found >= wanted)


def rendered(report: Report) -> Iterator[str]:
    """The lines of the table."""
    head = f"{'door':5}{'body':7}{'model and rows':29}{'tool':9}{'load':>8}  {'server':30}{'workers':>8}"
    yield f"{head}{'requests/s':>12}{'P50 ms':>9}{'P95 ms':>9}{'P99 ms':>9}{'MB':>7}{'x best peer':>13}"
    order = sorted(report.results, key=lambda one: (_case(one), -one.rate))
    former = None
    for one in order:
        if former is not None and _case(one) != former:
            yield ""
        former = _case(one)
        yield _line(one, report.results)
    yield ""
    yield f"{'server':34}{'workers':>8}{'start to ready s':>18}{'idle MB':>10}{'under load MB':>15}"
    for process in report.processes:
        figures = f"{process.start_s:18.1f}{process.idle_mb:10.0f}{process.loaded_mb:15.0f}"
        yield f"{process.server:34}{process.workers:8}{figures}"
    for title, pairs in (("floor", report.floor), ("logging", report.logging), ("bodies", report.bodies)):
        for pair in pairs:
            yield ""
            yield f"{title}: {pair.what}"
            for side in (pair.of, pair.to):
                yield f"  {side.server:40}{_figures(side.load)}  {side.invalid and f'INVALID: {side.invalid}'}"
    yield from (f"\nNOT MEASURED: {failure}" for failure in report.failures)
    yield ""
    for verdict in verdicts(report):
        mark = {True: "met", False: "MISSED", None: "-"}[verdict.met]
        yield f"{mark:7}{verdict.bound}: {verdict.measured}"


def _case(one: Result) -> tuple[Any, ...]:
    case = one.case
    return (case.what, one.door, one.form, one.tool, case.in_flight, case.streams)


def _line(one: Result, results: Sequence[Result]) -> str:
    case, load = one.case, one.load
    head = f"{one.door:5}{one.form:7}{case.what:29}{one.tool:9}{f'{case.connections}x{case.streams}':>8}"
    who = f"  {one.server:30}{one.workers:8}"
    if one.invalid:
        return f"{head}{who}{load.rate:12,.0f}  INVALID: {one.invalid}"
    rivals = [other.load.rate for other in results if other.product in PEERS and _case(other) == _case(one)]
    ratio = f"{one.rate / max(rivals):.2f}" if max(rivals, default=0.0) else "-"
    timed_out = f"  {load.timed_out} timed out" if load.timed_out else ""
    return f"{head}{who}{_figures(load)}{one.memory_mb:7.0f}{ratio:>13}{timed_out}"


def _figures(load: Load) -> str:
    return f"{load.rate:12,.0f}{load.p50_ms:9.2f}{load.p95_ms:9.2f}{load.p99_ms:9.2f}"


def as_json(report: Report) -> dict[str, Any]:
    """The report in JSON's types."""
    return {**asdict(report), "bounds": [asdict(one) for one in verdicts(report)]}
