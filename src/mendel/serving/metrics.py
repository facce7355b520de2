"""What is counted, and how it reads: for the hub as counters per version, for Prometheus as text."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mendel.serving.ports import CounterSlots, Series
from mendel.values import LATENCY_BOUNDS_MS, ModelName, VersionCounters

Totals = Mapping[Series, tuple[int, ...]]
Labels = tuple[tuple[str, str], ...]
BATCH_BOUNDS: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LOAD_BOUNDS_MS: tuple[float, ...] = (10, 50, 100, 500, 1000, 5000, 10000, 60000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """
    One metric; ``bounds`` make it a histogram, whose cells are a count per bucket, one above, and the sum.

    ``scale`` turns the bounds and the sum into the unit of the name; sums are kept in thousandths of the bounds' unit.
    """

    name: str
    kind: str
    text: str
    bounds: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def width(self) -> int:
        """How many cells a series of it has."""
        return len(self.bounds) + 2 if self.bounds else 1


def _seconds(name: str, text: str, bounds: tuple[float, ...] = LATENCY_BOUNDS_MS) -> Family:
    return Family(name=name, kind="histogram", text=text, bounds=bounds, scale=0.001)


REQUESTS = Family(name="mlserver_requests_total", kind="counter", text="Requests at the doors.")
REQUEST_TIME = _seconds("mlserver_request_duration_seconds", "From a request's arrival to its answer.")
LATENCY = _seconds("mendel_version_latency_seconds", "From admission to answer, per version and door.")
OUTCOMES = Family(name="mendel_version_requests_total", kind="counter", text="Requests that reached a version.")
ROWS = Family(name="mendel_version_rows_total", kind="counter", text="Rows predicted.")
OOD_ROWS = Family(name="mendel_version_ood_rows_total", kind="counter", text="Rows outside the reference's ranges.")
ACTIVE = Family(name="mlserver_active_requests", kind="gauge", text="Requests in flight.")
QUEUED = Family(name="modelops_bulkhead_queue_size", kind="gauge", text="Requests that wait for a batch.")
LOADED = Family(name="modelops_models_loaded_total", kind="counter", text="Versions loaded.")
LOAD_TIME = _seconds("modelops_model_load_duration_seconds", "From fetching to the golden answer.", LOAD_BOUNDS_MS)
BATCHES = Family(name="mendel_batch_rows", kind="histogram", text="Rows per predict call.", bounds=BATCH_BOUNDS)
WAITS = _seconds("mendel_queue_wait_seconds", "From admission to the start of a batch.")
SWAPS = Family(name="mendel_swaps_total", kind="counter", text="Changes of the serving version.")
UNLOGGED = Family(name="mendel_unlogged_rows_total", kind="counter", text="Rows answered and not logged.")
SHED = Family(name="mendel_shadow_shed_total", kind="counter", text="Copies that a busy shadow did not see.")
INFO = Family(name="mlserver_model_info", kind="gauge", text="Versions that serve.")
BREAKER = Family(name="modelops_circuit_breaker_state", kind="gauge", text="0 closed, 1 open, 2 half-open.")
SPOOL = Family(name="mendel_spool_bytes", kind="gauge", text="Bytes of predictions that wait for the hub.")
PREDICTION_TIME = _seconds("mlserver_prediction_duration_seconds", "From admission to answer.")
PREDICTIONS = Family(name="mlserver_predictions_total", kind="counter", text="Rows predicted.")
INFERENCES = Family(name="modelops_inference_requests_total", kind="counter", text="Inference requests by outcome.")
INFERENCE_TIME = _seconds("modelops_inference_duration_seconds", "From admission to answer.")
REJECTIONS = Family(name="modelops_bulkhead_rejections_total", kind="counter", text="Requests a bulkhead turned away.")

COUNTED = (
    REQUESTS, REQUEST_TIME, LATENCY, OUTCOMES, ROWS, OOD_ROWS, ACTIVE, QUEUED, LOADED, LOAD_TIME, BATCHES, WAITS, SWAPS,
    UNLOGGED, SHED,
)  # fmt: skip
OK, MODEL_ERROR, TIMEOUT, REJECTED, BREAKER_OPEN = "ok", "model_error", "timeout", "rejected", "breaker_open"
STATUSES = (OK, MODEL_ERROR, TIMEOUT, REJECTED, BREAKER_OPEN)


def series(family: Family, **labels: str) -> Series:
    """The series of *family* with these labels."""
    return Series(family.name, tuple(sorted(labels.items())), gauge=family.kind == "gauge")


class Histogram:
    """One histogram's cells."""

    __slots__ = ("_bounds", "_cell", "_counters", "_sum")

    def __init__(self, counters: CounterSlots, family: Family, **labels: str) -> None:
        self._counters = counters
        self._bounds = family.bounds
        self._cell = counters.reserve(series(family, **labels), family.width)
        self._sum = self._cell + family.width - 1 if self._cell >= 0 else -1

    def observe(self, value: float) -> None:
        """Count *value*, which is in the unit of the bounds."""
        if self._cell >= 0:
            self._counters.add(self._cell + bisect_left(self._bounds, value))
            self._counters.add(self._sum, int(value * 1000))


def version_counters(totals: Totals) -> tuple[VersionCounters, ...]:
    """What the hub wants to know of each version, sorted by model and version."""
    found: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0]))
    for line, cells in totals.items():
        labels = dict(line.labels)
        if line.name in {OUTCOMES.name, LATENCY.name, ROWS.name, OOD_ROWS.name} and "version" in labels:
            kind = labels.get("status", line.name) if line.name == OUTCOMES.name else line.name
            mine = found[labels["model"], labels["version"]]
            mine[kind] = _added(mine[kind], cells)
    return tuple(_version_counters(model, int(number), counts) for (model, number), counts in sorted(found.items()))


def _version_counters(model: str, number: int, counts: Mapping[str, list[int]]) -> VersionCounters:
    latency = counts[LATENCY.name]
    return VersionCounters(
        model=ModelName(model),
        version=number,
        requests=sum(counts[status][0] for status in STATUSES),
        model_errors=counts[MODEL_ERROR][0] + counts[BREAKER_OPEN][0],
        timeouts=counts[TIMEOUT][0],
        rejected=counts[REJECTED][0],
        rows=counts[ROWS.name][0],
        ood_rows=counts[OOD_ROWS.name][0],
        latency=tuple(latency[:-1]) if len(latency) > 1 else (0,) * (len(LATENCY_BOUNDS_MS) + 1),
    )


def render(totals: Totals, gauges: Iterable[tuple[Family, Labels, float]] = ()) -> str:
    """
    Prometheus' text format of all that was counted, and of what is derived from it.

    Args:
        gauges: What is read now and not counted: loaded versions, breakers, the spool.
    """
    lines: list[str] = []
    for family in COUNTED:
        _render_family(
            lines, family, {line.labels: cells for line, cells in totals.items() if line.name == family.name}
        )
    _render_family(lines, PREDICTION_TIME, _regrouped(totals, LATENCY, {"model": "model", "door": "endpoint"}))
    _render_family(lines, INFERENCE_TIME, _regrouped(totals, LATENCY, {"model": "model_name"}))
    _render_family(lines, PREDICTIONS, _regrouped(totals, ROWS, {"model": "model", "door": "endpoint"}))
    _render_family(lines, INFERENCES, _regrouped(totals, OUTCOMES, {"model": "model_name", "status": "status"}))
    rejected = {line: cells for line, cells in totals.items() if ("status", REJECTED) in line.labels}
    _render_family(lines, REJECTIONS, _regrouped(rejected, OUTCOMES, {"model": "model_name"}))
    by_family: dict[Family, dict[Labels, float]] = defaultdict(dict)
    for family, labels, value in gauges:
        by_family[family][labels] = value
    for family, values in by_family.items():
        _header(lines, family)
        lines.extend(f"{family.name}{_labels(labels)} {value:g}" for labels, value in sorted(values.items()))
    return "\n".join(lines) + "\n"


def _regrouped(totals: Totals, family: Family, names: Mapping[str, str]) -> dict[Labels, tuple[int, ...]]:
    grouped: dict[Labels, list[int]] = defaultdict(lambda: [0])
    for line, cells in totals.items():
        if line.name == family.name:
            labels = tuple(sorted((names[key], value) for key, value in line.labels if key in names))
            grouped[labels] = _added(grouped[labels], cells)
    return {labels: tuple(cells) for labels, cells in grouped.items()}


def _added(one: list[int], other: Iterable[int]) -> list[int]:
    cells = list(other)
    return [a + b for a, b in zip(one + [0] * (len(cells) - len(one)), cells, strict=True)]


def _render_family(lines: list[str], family: Family, values: Mapping[Labels, tuple[int, ...]]) -> None:
    if not values:
        return
    _header(lines, family)
    for labels, cells in sorted(values.items()):
        if not family.bounds:
            lines.append(f"{family.name}{_labels(labels)} {cells[0]}")
            continue
        running = 0
        for bound, count in zip((*family.bounds, None), cells[:-1], strict=True):
            running += count
            edge = "+Inf" if bound is None else f"{bound * family.scale:g}"
            lines.append(f"{family.name}_bucket{_labels((*labels, ('le', edge)))} {running}")
        lines.append(f"{family.name}_sum{_labels(labels)} {cells[-1] / 1000 * family.scale:.9g}")
        lines.append(f"{family.name}_count{_labels(labels)} {running}")


def _header(lines: list[str], family: Family) -> None:
    lines.extend((f"# HELP {family.name} {family.text}", f"# TYPE {family.name} {family.kind}"))


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels)
    return f"{{{inside}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
