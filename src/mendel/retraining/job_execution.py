"""
Execute a training job: load rows, train and measure a model, replay versions, or check the parity of a version.

The runner normally calls this in a separate process, because it loads models and runs a project's code.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mendel.drift import LabelledOutcomes, evaluate_quality
from mendel.errors import BuildRefused, InvalidInput, MendelError
from mendel.images import LOCK_FILE, WHEELS_DIRECTORY, Lock, select_files
from mendel.projects import Project, load_project
from mendel.retraining.job_orders import JobOrder, JobOutcome, artifact_directory, predictions_file, table_file
from mendel.retraining.ports import OnProgress, Progress
from mendel.retraining.replay_timing import timed_rounds
from mendel.serving import (
    Predictor,
    Probe,
    TrainedClassifier,
    check_predictor,
    frame_of,
    infer_signature,
    load_predictor,
    outputs_of,
    read_mlmodel,
    read_probe,
    take_probe_of_artifact,
    write_artifact,
)
from mendel.values import Digest, Measured, Table
from mendel.values.data_frames import as_table
from mendel.values.parity import ParityReport

if TYPE_CHECKING:
    import pandas as pd

_UNREAD: Final = Digest(f"sha256:{0:064}")
"""The digest of files of which only the names matter."""

FindFunction = Callable[[str], Callable[..., Any]]
"""Finds the project's function by ``module:name``; raises InvalidInput if it does not exist."""


def execute(order: JobOrder, *, find_function: FindFunction, on_progress: OnProgress) -> JobOutcome:
    """
    Execute *order* and write the files to its output directory; exceptions of the project's code are passed on.

    Raises:
        InvalidInput: The function does not exist, or did not return a model.
    """
    match order.kind:
        case "load":
            return _load(order, find_function, on_progress)
        case "train":
            return _train(order, find_function, on_progress)
        case "parity":
            return _check_parity(order, on_progress)
        case _:
            return _replay(order, on_progress)


def require_function(name: str, found: object) -> Callable[..., Any]:
    """
    Give *found* if it is callable.

    Raises:
        InvalidInput: *found* is not callable; the message says where *name* is set.
    """
    if not callable(found):
        module, _, attribute = name.partition(":")
        raise InvalidInput(
            f"The module {module} has no function {attribute!r}.",
            remedy="Set retraining.module and retraining.function (or retraining.load) in mlserver.yaml.",
        )
    return found


def _load(order: JobOrder, find_function: FindFunction, on_progress: OnProgress) -> JobOutcome:
    on_progress(Progress(doing="loading the base training rows"))
    frame = find_function(order.function)(datetime.fromisoformat(order.until))
    frame.to_parquet(table_file(Path(order.output)), index=False)
    return JobOutcome(rows=len(frame), metrics={})


def _train(order: JobOrder, find_function: FindFunction, on_progress: OnProgress) -> JobOutcome:
    on_progress(Progress(doing="reading"))
    frame = _training_frame(order.table, order)
    on_progress(Progress(doing="training"))
    began = time.perf_counter()
    model = _trained(order, frame, find_function, on_progress)
    seconds = time.perf_counter() - began
    on_progress(Progress(doing="measuring"))
    metrics = {} if order.holdout is None else _metrics(model, _training_frame(order.holdout, order), order)
    on_progress(Progress(doing="writing"))
    _write(model, frame, order, on_progress)
    return JobOutcome(rows=len(frame), metrics=metrics, seconds=seconds)


def _training_frame(path: str, order: JobOrder) -> pd.DataFrame:
    """Read the rows; whole numbers as classes become integers, because tables store numbers as floats."""
    frame = _read(path)
    target = frame[order.target]
    if order.task == "classification" and target.dtype.kind == "f" and (target == np.floor(target)).all():
        return frame.assign(**{order.target: target.astype("int64")})
    return frame


def _trained(order: JobOrder, frame: pd.DataFrame, find_function: FindFunction, on_progress: OnProgress) -> Any:
    function = find_function(order.function)
    extra = {"progress": lambda share: on_progress(Progress(doing="training", share=share))}
    wanted = {name: value for name, value in extra.items() if name in inspect.signature(function).parameters}
    model = function(frame, target=order.target, seed=order.seed, **wanted)
    if not callable(getattr(model, "predict", None)):
        raise InvalidInput(
            f"The train function {order.function} returned a {type(model).__name__}, which has no method predict."
        )
    return model


def _metrics(model: Any, holdout: pd.DataFrame, order: JobOrder) -> dict[str, float]:
    """Compute every metric of the task that is defined on *holdout*, with the monitor's names and formulas."""
    truth, features = holdout[order.target].to_numpy(), holdout.drop(columns=order.target)
    answers = np.asarray(model.predict(features))
    if order.task == "regression":
        outcomes = LabelledOutcomes.regression(truth, answers)
    else:
        scores = None
        if callable(getattr(model, "predict_proba", None)):
            scores = dict(zip(model.classes_.tolist(), np.asarray(model.predict_proba(features)).T, strict=True))
        outcomes = LabelledOutcomes.classification(truth, answers, scores, positive=order.positive)
    quality = evaluate_quality(outcomes, np.random.default_rng(order.seed), min_rows=1)
    return {name: found.value for name, found in quality.metrics.items() if isinstance(found, Measured)}


def _write(model: Any, frame: pd.DataFrame, order: JobOrder, on_progress: OnProgress) -> None:
    import joblib  # noqa: PLC0415 - only where a model is written

    directory = artifact_directory(Path(order.output))
    directory.mkdir()
    joblib.dump(model, directory / "model.joblib")
    expected = frame if order.reference is None else _read(order.reference)
    features = frame.drop(columns=order.target)
    classes = getattr(model, "classes_", None)
    project = load_project(Path(order.project or "."))
    files = _served_files(project, order.classifier, on_progress)
    trained = TrainedClassifier(
        name=order.classifier,
        task=order.task,
        classes=None if classes is None else tuple(classes.tolist()),
        files=files,
        locked=order.locked and bool(files),
    )
    write_artifact(
        trained,
        directory,
        project=project,
        signature=infer_signature(features, model.predict(features.head(1))),
        task=order.task,
        training=expected[list(features.columns)],
    )


def _served_files(project: Project, classifier: str, on_progress: OnProgress) -> dict[str, Path]:
    """
    Give the files that a server needs: those of the classifier's image, and the locked wheels that the project holds.

    Empty when no image can be built; the reasons are told as progress.
    """
    try:
        selection = select_files(project, project.classifier(classifier), project.root, hash_file=lambda _: _UNREAD)
    except BuildRefused as error:
        on_progress(Progress(doing=f"leaving the code out of the version: {' '.join(error.reasons)}"))
        return {}
    files = {file.path: file.source for file in (*selection.code, *selection.artifacts)}
    return {**files, **_held_wheels(project, classifier)}


def _held_wheels(project: Project, classifier: str) -> dict[str, Path]:
    file = project.root / LOCK_FILE
    locked = Lock.parse(file.read_bytes(), path=str(file)).environments if file.is_file() else ()
    pins = (pin for env in locked if classifier in env.classifiers for pin in env.parts[-1][1])
    names = {f"{WHEELS_DIRECTORY}/{pin.filename}" for pin in pins}
    return {name: project.root / name for name in names if (project.root / name).is_file()}


@dataclass(frozen=True, slots=True)
class _Version:
    """A loaded version, and the evaluation rows in the version's columns."""

    predictor: Predictor
    rows: Table

    def answers(self) -> dict[str, np.ndarray[Any, Any]]:
        """Give the version's answers to all rows in one call."""
        return outputs_of(self.predictor, frame_of(self.rows, self.predictor.descriptor.contract))

    def ready(self, row: int) -> Callable[[], object]:
        """Prepare a call of the version with one row, without timing the preparation."""
        single = frame_of(self.rows.take(np.array([row])), self.predictor.descriptor.contract)
        return lambda: self.predictor.predict(single)


def _replay(order: JobOrder, on_progress: OnProgress) -> JobOutcome:
    import pandas as pd  # noqa: PLC0415 - heavy

    on_progress(Progress(doing="loading"))
    project = None if order.project is None else load_project(Path(order.project))
    rows = as_table(_read(order.table))
    versions = [_version(Path(artifact), project, rows) for artifact in order.artifacts]
    if order.failures:
        on_progress(Progress(doing="replaying"))
        return JobOutcome(rows=len(rows), metrics={}, failed_rows=tuple(_failed_rows(one) for one in versions))
    on_progress(Progress(doing="checking parity"))
    candidate = _parity_of(versions[0].predictor, read_probe(Path(order.artifacts[0])))
    parity = (candidate, *[ParityReport.not_measured("only the candidate is checked")] * (len(versions) - 1))
    on_progress(Progress(doing="replaying"))
    for place, version in enumerate(versions):
        pd.DataFrame(version.answers()).to_parquet(predictions_file(Path(order.output), place), index=False)
    latencies = timed_rounds(
        [version.ready for version in versions],
        rows=len(rows),
        tell=lambda doing, share: on_progress(Progress(doing=doing, share=share)),
    )
    return JobOutcome(rows=len(rows), metrics={}, latencies_ms=latencies, parity=parity)


def _failed_rows(version: _Version) -> int:
    return sum(not _answers(version, row) for row in range(len(version.rows)))


def _answers(version: _Version, row: int) -> bool:
    try:
        version.ready(row)()
    except Exception:  # noqa: BLE001 - the supervisor of a replay that counts what a version fails to answer
        return False
    return True


def _check_parity(order: JobOrder, on_progress: OnProgress) -> JobOutcome:
    on_progress(Progress(doing="checking parity"))
    (artifact,) = map(Path, order.artifacts)
    try:
        project = None if order.project is None else load_project(Path(order.project))
        predictor = load_predictor(artifact, digest=None, project=project)
        rows = _read(order.table) if order.table else None
        probe = read_probe(artifact) if rows is None else take_probe_of_artifact(artifact, rows, project)
        report = _parity_of(predictor, probe)
    except MendelError as error:
        report = ParityReport.not_measured(error.message, detail=getattr(error, "detail", ""))
    return JobOutcome(rows=report.rows, metrics={}, parity=(report,))


def _parity_of(predictor: Predictor, probe: Probe | None) -> ParityReport:
    return check_predictor(predictor, probe, singles_for_s=math.inf)


def _version(directory: Path, project: Project | None, rows: Table) -> _Version:
    signature = read_mlmodel(directory).signature
    names = signature.names if signature is not None and signature.inputs else rows.names
    return _Version(load_predictor(directory, digest=None, project=project), rows.select(names))


def _read(path: str) -> pd.DataFrame:
    import pandas as pd  # noqa: PLC0415 - heavy

    return pd.read_csv(path) if path.endswith((".csv", ".csv.gz")) else pd.read_parquet(path)
