"""The metrics of a server: counters per model version for the hub, and Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mendel.serving.ports import CounterSlots, Series
from mendel.serving.unregistered_version import UNREGISTERED
from mendel.values import LATENCY_BOUNDS_MS, ModelName, VersionCounters

Totals = Mapping[Series, tuple[int, ...]]
Labels = tuple[tuple[str, str], ...]
BATCH_BOUNDS: tuple[float, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LOAD_BOUNDS_MS: tuple[float, ...] = (10, 50, 100, 500, 1000, 5000, 10000, 60000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """
    A metric with its Prometheus name, kind and help text.

    ``bounds`` are the upper bounds of a histogram's buckets; empty for counters and gauges. ``scale`` converts bounds
    and sum to the unit in the name, for example 0.001 from milliseconds to seconds. A histogram's cells are one count
    per bucket, the count above the last bound, and the sum of the values times 1000.
    """

    name: str
    kind: str
    text: str
    bounds: tuple[float, ...] = ()
    scale: float = 1.0

    @property
    def width(self) -> int:
        """The number of cells of each series."""
        return len(self.bounds) + 2 if self.bounds else 1


def _seconds(name: str, text: str, bounds: tuple[float, ...] = LATENCY_BOUNDS_MS) -> Family:
    return Family(name=name, kind="histogram", text=text, bounds=bounds, scale=0.001)


REQUESTS = Family(name="mlserver_requests_total", kind="counter", text="Requests answered over REST, gRPC and ZMQ.")
REQUEST_TIME = _seconds("mlserver_request_duration_seconds", "Time from a request's arrival to its answer.")
LATENCY = _seconds("mendel_version_latency_seconds", "Time from a request's arrival to its prediction, per version.")
OUTCOMES = Family(name="mendel_version_requests_total", kind="counter", text="Requests that reached a version.")
ROWS = Family(name="mendel_version_rows_total", kind="counter", text="Rows predicted.")
OOD_ROWS = Family(name="mendel_version_ood_rows_total", kind="counter", text="Rows outside the training data.")
ACTIVE = Family(name="mlserver_active_requests", kind="gauge", text="Requests in flight.")
QUEUED = Family(name="modelops_bulkhead_queue_size", kind="gauge", text="Requests waiting for a batch.")
LOADED = Family(name="modelops_models_loaded_total", kind="counter", text="Model versions loaded.")
LOAD_TIME = _seconds("modelops_model_load_duration_seconds", "Time to load a model version.", LOAD_BOUNDS_MS)
BATCHES = Family(name="mendel_batch_rows", kind="histogram", text="Rows per predict call.", bounds=BATCH_BOUNDS)
WAITS = _seconds("mendel_queue_wait_seconds", "Time from a request's arrival to the start of its batch.")
SWAPS = Family(name="mendel_swaps_total", kind="counter", text="Changes of a model's production version on the server.")
UNLOGGED = Family(name="mendel_unlogged_rows_total", kind="counter", text="Rows predicted but not logged.")
SHED = Family(name="mendel_shadow_shed_total", kind="counter", text="Requests not copied to a busy shadow version.")
MEMORY = Family(
    name="mendel_version_memory_bytes", kind="gauge", text="Growth of resident memory while the version was loaded."
)
CALLS = Family(name="mendel_model_calls", kind="gauge", text="Calls of the model that run now.")
INFO = Family(name="mlserver_model_info", kind="gauge", text="Production versions of the served models.")
BREAKER = Family(
    name="modelops_circuit_breaker_state", kind="gauge", text="Circuit breaker: 0 closed, 1 open, 2 half-open."
)
SPOOL = Family(name="mendel_spool_bytes", kind="gauge", text="Bytes of logged predictions waiting for the hub.")
PREDICTION_TIME = _seconds("mlserver_prediction_duration_seconds", "Time from a request's arrival to its prediction.")
PREDICTIONS = Family(name="mlserver_predictions_total", kind="counter", text="Rows predicted.")
INFERENCES = Family(name="modelops_inference_requests_total", kind="counter", text="Inference requests by status.")
INFERENCE_TIME = _seconds("modelops_inference_duration_seconds", "Time from a request's arrival to its prediction.")
REJECTIONS = Family(
    name="modelops_bulkhead_rejections_total",
    kind="counter",
    text="Requests rejected because the model was overloaded.",
)

COUNTED = (
    REQUESTS, REQUEST_TIME, LATENCY, OUTCOMES, ROWS, OOD_ROWS, ACTIVE, QUEUED, LOADED, LOAD_TIME, BATCHES, WAITS, SWAPS,
    UNLOGGED, SHED, MEMORY, CALLS,
)  # fmt: skip
OK, MODEL_ERROR, TIMEOUT, REJECTED, BREAKER_OPEN = "ok", "model_error", "timeout", "rejected", "breaker_open"
STATUSES = (OK, MODEL_ERROR, TIMEOUT, REJECTED, BREAKER_OPEN)


def series(family: Family, **labels: str) -> Series:
    """Give the series of *family* with *labels*."""
    return Series(family.name, tuple(sorted(labels.items())), gauge=family.kind == "gauge")


def count_swap(counters: CounterSlots, model: ModelName) -> None:
    """Count one change of the production version of *model* on this server, once for all its processes."""
    counters.add(counters.reserve(series(SWAPS, model=str.__str__(model))))


class Histogram:
    """Counts values into the buckets of one histogram series."""

    __slots__ = ("_bounds", "_cell", "_counters", "_sum")

    def __init__(self, counters: CounterSlots, family: Family, **labels: str) -> None:
        self._counters = counters
        self._bounds = family.bounds
        self._cell = counters.reserve(series(family, **labels), family.width)
        self._sum = self._cell + family.width - 1 if self._cell >= 0 else -1

    def observe(self, value: float) -> None:
        """Count *value*, given in the unit of the bounds (milliseconds for times)."""
        if self._cell >= 0:
            self._counters.add(self._cell + bisect_left(self._bounds, value))
            self._counters.add(self._sum, int(value * 1000))

    def observe_all(self, values: Sequence[float]) -> None:
        """Count *values* as :meth:`observe` counts one."""
        if self._cell < 0 or not values:
            return
        if len(values) == 1:
            self.observe(values[0])
            return
        bounds = self._bounds
        counts: dict[int, int] = {}
        for value in values:
            bucket = bisect_left(bounds, value)
            counts[bucket] = counts.get(bucket, 0) + 1
        for bucket, count in counts.items():
            self._counters.add(self._cell + bucket, count)
        self._counters.add(self._sum, sum(int(value * 1000) for value in values))


def version_counters(totals: Totals) -> tuple[VersionCounters, ...]:
    """Give the counters of each registered version, which a server reports to the hub, by model and version."""
    found: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0]))
    for line, cells in totals.items():
        labels = dict(line.labels)
        if line.name in {OUTCOMES.name, LATENCY.name, ROWS.name, OOD_ROWS.name} and _is_registered(labels):
            kind = labels.get("status", line.name) if line.name == OUTCOMES.name else line.name
            mine = found[labels["model"], labels["version"]]
            mine[kind] = _added(mine[kind], cells)
    return tuple(_version_counters(model, int(number), counts) for (model, number), counts in sorted(found.items()))


def _is_registered(labels: Mapping[str, str]) -> bool:
    return labels.get("version", str(UNREGISTERED)) != str(UNREGISTERED)


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
    Render *totals*, and the metrics derived from them, in Prometheus' text format.

    Args:
        gauges: Further values that are measured at the time of the call: loaded versions, breaker states, spool size.
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
