"""
The other side of the subprocess runner: ``python -m mendel.adapters.processes.runner_child ORDER LIFELINE PROGRESS``.

Two processes: the first only watches. When its lifeline closes, because whoever ordered the job is gone, it kills the
whole group; the second does the work, under its memory limit, and dies with the first.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

OUT_OF_MEMORY = 77
"""The exit status that says: the memory limit was in the way."""

Tell = Callable[..., None]
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A job as the working process gets it; paths are absolute.

    ``kind`` is ``load``, ``train`` or ``replay`` and says which of the other fields mean something.
    """

    kind: str
    output: str
    memory_bytes: int
    classifier: str = ""
    function: str = ""
    task: str = ""
    table: str = ""
    holdout: str | None = None
    reference: str | None = None
    target: str = ""
    positive: str | int | bool | None = None
    seed: int = 0
    until: str = ""
    artifacts: tuple[str, ...] = ()
    project: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    What the working process leaves behind when it succeeded; its absence is failure.

    ``latencies_ms`` are of a replay: for each version its p95 in each round.
    """

    rows: int
    metrics: dict[str, float]
    seconds: float = 0.0
    latencies_ms: tuple[tuple[float, ...], ...] = ()


def predictions_file(place: int) -> str:
    """The name of the file that holds the answers of a replay's n-th version, from 0."""
    return f"predictions-{place}.parquet"


def main() -> None:
    """Watch over the working process, or be it."""
    order, lifeline, progress = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    worker = os.fork()
    if worker:
        os.close(progress)
        os._exit(_watch(worker, lifeline))
    os.close(lifeline)
    _die_with_parent()
    try:
        _work(order, progress)
    except MemoryError:
        sys.excepthook(*sys.exc_info())
        sys.exit(OUT_OF_MEMORY)


def _watch(worker: int, lifeline: int) -> int:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake)
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code  # as shells tell a signal
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready:
            os.killpg(0, signal.SIGKILL)
        os.read(woken, 512)


def _die_with_parent() -> None:
    watcher = os.getppid()
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only the working process needs it

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        sys.exit(1)


def _work(order_file: Path, progress: int) -> None:
    import resource  # noqa: PLC0415 - only the working process needs it

    from mendel.values import from_json, to_json  # noqa: PLC0415 - the watcher stays small

    order = from_json(order_file.read_bytes(), Order)
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))

    def tell(doing: str, share: float | None = None) -> None:
        os.write(progress, to_json({"doing": doing, "share": share}) + b"\n")

    works: dict[str, Callable[[Order, Tell], Outcome]] = {"load": _load, "train": _train, "replay": _replay}
    outcome = works[order.kind](order, tell)
    unfinished = Path(order.output) / "outcome.tmp"
    unfinished.write_bytes(to_json(outcome))
    unfinished.rename(Path(order.output) / "outcome.json")


def _load(order: Order, tell: Tell) -> Outcome:
    from datetime import datetime  # noqa: PLC0415 - the watcher stays small

    tell("loading the base rows")
    frame = _function(order.function)(datetime.fromisoformat(order.until))
    frame.to_parquet(Path(order.output) / "table.parquet", index=False)
    return Outcome(rows=len(frame), metrics={})


def _train(order: Order, tell: Tell) -> Outcome:
    import time  # noqa: PLC0415 - the watcher stays small

    tell("reading")
    frame = _training_frame(order.table, order)
    tell("training")
    began = time.perf_counter()
    model = _trained(order, frame, tell)
    seconds = time.perf_counter() - began
    tell("measuring")
    metrics = {} if order.holdout is None else _metrics(model, _training_frame(order.holdout, order), order)
    tell("writing")
    _write(model, frame, order)
    return Outcome(rows=len(frame), metrics=metrics, seconds=seconds)


def _training_frame(path: str, order: Order) -> pd.DataFrame:
    """The rows, with classes that are whole numbers as such: tables hold numbers as floats, and 1.0 is class 1."""
    import numpy as np  # noqa: PLC0415 - the watcher stays small
    import pandas as pd  # noqa: PLC0415 - the watcher stays small

    frame = pd.read_parquet(path)
    target = frame[order.target]
    if order.task == "classification" and target.dtype.kind == "f" and (target == np.floor(target)).all():
        return frame.assign(**{order.target: target.astype("int64")})
    return frame


def _function(name: str) -> Callable[..., Any]:
    import importlib  # noqa: PLC0415 - the watcher stays small

    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute, None)
    if not callable(found):
        sys.exit(f"{module} has no function {attribute!r}; name it in the retraining section of mlserver.yaml.")
    return found  # type: ignore[no-any-return]


def _trained(order: Order, frame: pd.DataFrame, tell: Tell) -> Any:
    import inspect  # noqa: PLC0415 - the watcher stays small

    function = _function(order.function)
    extra = {"progress": lambda share: tell("training", share)}
    wanted = {name: value for name, value in extra.items() if name in inspect.signature(function).parameters}
    model = function(frame, target=order.target, seed=order.seed, **wanted)
    if not callable(getattr(model, "predict", None)):
        sys.exit(f"{order.function} gave a {type(model).__name__}, which has no predict.")
    return model


def _metrics(model: Any, holdout: pd.DataFrame, order: Order) -> dict[str, float]:
    """Every metric of the task that is defined on these rows, by the names and formulas the monitor uses."""
    import numpy as np  # noqa: PLC0415 - the watcher stays small

    from mendel.drift import Outcomes, evaluate  # noqa: PLC0415 - the watcher stays small
    from mendel.values import Measured  # noqa: PLC0415 - the watcher stays small

    truth, features = holdout[order.target].to_numpy(), holdout.drop(columns=order.target)
    answers = np.asarray(model.predict(features))
    if order.task == "regression":
        outcomes = Outcomes.regression(truth, answers)
    else:
        scores = None
        if callable(getattr(model, "predict_proba", None)):
            scores = dict(zip(model.classes_.tolist(), np.asarray(model.predict_proba(features)).T, strict=True))
        outcomes = Outcomes.classification(truth, answers, scores, positive=order.positive)
    quality = evaluate(outcomes, np.random.default_rng(order.seed), min_rows=1)
    return {name: found.value for name, found in quality.metrics.items() if isinstance(found, Measured)}


def _write(model: Any, frame: pd.DataFrame, order: Order) -> None:
    import joblib  # noqa: PLC0415 - the watcher stays small
    import pandas as pd  # noqa: PLC0415 - the watcher stays small

    from mendel.projects import load_project  # noqa: PLC0415 - the watcher stays small
    from mendel.serving import artifact_writer  # noqa: PLC0415 - the watcher stays small

    directory = Path(order.output) / "artifact"
    directory.mkdir()
    joblib.dump(model, directory / "model.joblib")
    expected = frame if order.reference is None else pd.read_parquet(order.reference)
    features = artifact_writer.as_table(frame.drop(columns=order.target))
    classes = getattr(model, "classes_", None)
    artifact_writer.write_project_artifact(
        directory,
        classifier=order.classifier,
        project=load_project(Path.cwd()),
        signature=artifact_writer.infer_signature(features, model.predict(frame.drop(columns=order.target).head(1))),
        task=order.task,
        classes=None if classes is None else tuple(classes.tolist()),
        training=artifact_writer.as_table(expected[list(features.names)]),
    )


@dataclass(frozen=True, slots=True)
class _Version:
    """A version in the working process, and the rows in its own columns."""

    predictor: Any
    signature: Any
    rows: Any

    def answers(self) -> dict[str, Any]:
        """What it answers to all rows together."""
        from mendel.serving import artifact_writer  # noqa: PLC0415 - the watcher stays small

        return artifact_writer.outputs_of(self.predictor, _frame(self.rows, self.signature))

    def ready(self, row: int) -> Callable[[], object]:
        """What asks it for one row alone."""
        import numpy as np  # noqa: PLC0415 - the watcher stays small

        single = _frame(self.rows.take(np.array([row])), self.signature)
        return lambda: self.predictor.predict(single)


def _replay(order: Order, tell: Tell) -> Outcome:
    import pandas as pd  # noqa: PLC0415 - the watcher stays small

    from mendel.adapters.processes.replay_timing import timed_rounds  # noqa: PLC0415 - the watcher stays small
    from mendel.projects import load_project  # noqa: PLC0415 - the watcher stays small
    from mendel.serving import artifact_writer  # noqa: PLC0415 - the watcher stays small

    tell("loading")
    project = None if order.project is None else load_project(Path(order.project))
    rows = artifact_writer.as_table(pd.read_parquet(order.table))
    versions = [_version(Path(artifact), project, rows) for artifact in order.artifacts]
    tell("replaying")
    for place, version in enumerate(versions):
        file = Path(order.output) / predictions_file(place)
        pd.DataFrame(version.answers()).to_parquet(file, index=False)
    latencies = timed_rounds([version.ready for version in versions], rows=len(rows), tell=tell)
    return Outcome(rows=len(rows), metrics={}, latencies_ms=latencies)


def _version(directory: Path, project: Any, rows: Any) -> _Version:
    from mendel.serving import artifact_loading  # noqa: PLC0415 - the watcher stays small
    from mendel.values import Signature  # noqa: PLC0415 - the watcher stays small

    document = artifact_loading.read_mlmodel(directory)
    signature = Signature.from_mlflow(document["signature"]) if document.get("signature") else None
    names = signature.names if signature is not None and signature.inputs else rows.names
    predictor = artifact_loading.load(directory, digest=None, project=project)
    return _Version(predictor, signature, rows.select(names))


def _frame(rows: Any, signature: Any) -> Any:
    """The rows as the inference path hands them to a predictor."""
    from mendel.serving.entities import Matrix  # noqa: PLC0415 - the watcher stays small
    from mendel.serving.input_codec import InputCodec  # noqa: PLC0415 - the watcher stays small
    from mendel.serving.row_batches import assemble  # noqa: PLC0415 - the watcher stays small

    columns = [[None if value != value else value for value in rows[name].tolist()] for name in rows.names]  # noqa: PLR0124 - NaN is null
    codec = InputCodec(signature, order=rows.names, max_rows=len(rows))
    return assemble([codec.decode(Matrix(rows=list(zip(*columns, strict=True)), columns=rows.names))])


if __name__ == "__main__":
    main()
