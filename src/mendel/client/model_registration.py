"""Register a fitted model in one call: write its artefact in this process and upload the artefact to the hub."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack

from mendel.drift import Task
from mendel.errors import InvalidInput, MendelError
from mendel.registry import (
    Expectations,
    Improvement,
    Provenance,
    Registered,
    Registration,
    RegistrationMetadata,
    VersionRecord,
    default_name,
)
from mendel.values import ModelName, Signature, Table, VersionRef, from_mapping

_FLAGS = ("policy_compliant", "bias_check_passed")


class Details(TypedDict, total=False):
    """
    The optional keyword arguments of ``register_baseline`` and ``register_improved_model``.

    metadata: Any further facts, as a mapping.
    signature: A Mendel signature, an MLflow ``ModelSignature``, or MLflow's mapping; by default, the signature is
        inferred from the training data, else from the input example, else the version has none.
    input_example: Some rows of features as a DataFrame, a Table or an array; servers test with these rows whether
        the loaded version can predict.
    code_paths: Files and directories with the model's own modules. They are stored in the artefact and can be imported
        where the model is loaded. Modules that are neither installed nor listed here are pickled with the model.
    name: The name of the model; by default ``hokusai_<type>_baseline`` or ``hokusai_<type>_improved``.
    flavor: The flavour of the model: ``sklearn``, ``xgboost``, ``lightgbm``, ``catboost``, ``onnx``, ``pytorch`` or
        ``pyfunc``. None chooses the flavour by the type of the model.
    version_info: A mapping with the keys ``framework``, ``owner``, ``team``, ``description``, ``tags``.
    training_data: A DataFrame, a Table, or the path of a Parquet or CSV file. The rows are stored as
        ``data/training.parquet``; the drift reference and the training fingerprint are computed from them.
    target: The column of *training_data* that the model predicts; the other columns are features.
    metrics: Measured metrics by name.
    expectations: The keys ``latency_p50_ms``, ``latency_p95_ms``, ``throughput_rps``; the latency trigger of the
        rollback policy compares measured latencies with them.
    governance: The keys ``policy_compliant``, ``bias_check_passed``; flags that are true are approved with the caller's
        key after registering. Without the scope ``approve``, nothing is registered.
    release: The release tag of the version.
    idempotency_key: If the same content was registered before with this key, that version is returned.
    """

    metadata: Mapping[str, Any] | None
    signature: Any
    input_example: Any
    code_paths: Sequence[str] | None
    name: str | None
    flavor: str | None
    version_info: Mapping[str, Any] | None
    training_data: Any
    target: str | None
    metrics: Mapping[str, float] | None
    expectations: Mapping[str, float] | None
    governance: Mapping[str, bool] | None
    release: str | None
    idempotency_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _VersionInfo:
    framework: str = ""
    owner: str = ""
    team: str = ""
    description: str = ""
    tags: dict[str, str] | None = None


class ModelRegistering(ABC):
    """The methods of the client that register a fitted model object instead of a directory."""

    working: Callable[[str], AbstractContextManager[object]]

    @abstractmethod
    def register(
        self, registration: Registration, tree: Path, *, data: Path | None = None, will_approve: bool = False
    ) -> Registered:
        """Register the artefact in the directory *tree* as a new version."""

    @abstractmethod
    def version(self, ref: str | VersionRef) -> VersionRecord:
        """Get the version *ref*."""

    @abstractmethod
    def approve(self, ref: str | VersionRef, *, policy: bool = False, bias: bool = False) -> VersionRecord:
        """Set governance flags of a version; False leaves a flag unchanged."""

    def register_baseline(self, *, model: Any, model_type: str, **details: Unpack[Details]) -> Registered:
        """
        Register a fitted model as a baseline, to which improved models refer.

        Args:
            model: A fitted scikit-learn-compatible estimator, a model of another flavour, or a ``mendel.RemoteModel``,
                whose servers are asked for its signature unless a signature or rows are given.
            model_type: ``classification``, ``regression``, ``ranking``, ``lead_scoring``, or another lower-case name.
            details: See :class:`Details`.

        Raises:
            Unsupported: The type of the model is not supported, the model does not have the requested flavour, or the
                model cannot be loaded in another process.
            InvalidInput: The model is not fitted or cannot be pickled, the training data lack a column, or a code path
                cannot be packed.
            AlreadyExists: The idempotency key was used for other content.
            NotReady: No server of a remote model answers.
        """
        name = _name(details, model_type, baseline=True)
        model, details, task = _completed_model(model, name, model_type, details)
        request = Registration(
            model=name,
            flavor=_flavor(model, details.get("flavor")),
            task=task,
            metadata=_metadata(details, model_type, baseline=True),
        )
        return self._register_model(model, request, details)

    def register_improved_model(
        self,
        *,
        model: Any,
        baseline_id: str | VersionRef,
        delta_metrics: Mapping[str, float],
        contributor: str,
        **details: Unpack[Details],
    ) -> Registered:
        """
        Register a fitted model as an improvement of a registered baseline.

        Args:
            baseline_id: The baseline as ``name/version`` or ``name@version``.
            delta_metrics: The claimed improvement of each metric over the baseline; stored unchecked.
            contributor: The address of the contributor: ``0x`` and 40 hex digits.
            details: See :class:`Details`.

        Raises:
            VersionNotFound: The baseline does not exist.
            Unsupported, InvalidInput, AlreadyExists: As for :meth:`register_baseline`.
        """
        baseline = self.version(baseline_id)
        model_type = str(baseline.metadata.get("model_type", baseline.task))
        name = _name(details, model_type, baseline=False)
        model, details, task = _completed_model(model, name, model_type, details)
        request = Registration(
            model=name,
            flavor=_flavor(model, details.get("flavor")),
            task=task,
            metadata=_metadata(details, model_type, baseline=False),
            improvement=Improvement(
                baseline=baseline.ref, contributor=contributor, delta_metrics=_metrics(delta_metrics), claimed=True
            ),
        )
        return self._register_model(model, request, details)

    def _register_model(self, model: Any, request: Registration, details: Details) -> Registered:
        from mendel.serving import write_artifact  # noqa: PLC0415 - clients that register nothing need no joblib

        _require_fitted(model)
        flags = _flags(details.get("governance"))
        training = _training(details)
        request = _completed(request, details, training)
        with tempfile.TemporaryDirectory(prefix="mendel-register-") as scratch:
            tree = Path(scratch) / "artifact"
            with self.working(f"Writing the files of {request.model}"):
                write_artifact(
                    model,
                    tree,
                    signature=_signature(details.get("signature")),
                    input_example=details.get("input_example"),
                    task=request.task,
                    training=None if training is None else _features(training, details),
                    code_paths=details.get("code_paths") or (),
                    flavor=request.flavor,
                )
                _require_loadable(tree)
            registered = self.register(
                request, tree, data=_kept(training, Path(scratch) / "data"), will_approve=any(flags.values())
            )
        if any(flags.values()):
            self.approve(registered.model_id, policy=flags["policy_compliant"], bias=flags["bias_check_passed"])
        return registered


def _name(details: Details, model_type: str, *, baseline: bool) -> ModelName:
    given = details.get("name")
    return default_name(model_type, baseline=baseline) if given is None else ModelName(given)


def _completed_model(model: Any, name: ModelName, model_type: str, details: Details) -> tuple[Any, Details, str]:
    """Give the model, the details and the task; a remote model gets what its servers tell about it."""
    from mendel.client.remote_models import located  # noqa: PLC0415 - clients that register nothing need no numpy
    from mendel.serving import RemoteModel  # noqa: PLC0415

    if not isinstance(model, RemoteModel):
        return model, details, task_of(model, model_type)
    given = any(details.get(key) is not None for key in ("signature", "training_data", "input_example"))
    told = located(model, name, task=model_type if model_type in list(Task) else None, alone=given)
    return told.model, details if given else {**details, "signature": told.signature}, told.task


def _metadata(details: Details, model_type: str, *, baseline: bool) -> dict[str, Any]:
    metadata = RegistrationMetadata(model_type=model_type, is_baseline=baseline, registration_time=datetime.now(UTC))
    return metadata.beside(details.get("metadata"))


def _flavor(model: Any, forced: str | None) -> str:
    from mendel.serving import flavour_for  # noqa: PLC0415 - clients that register nothing need no joblib

    return flavour_for(model, forced).name


def task_of(model: Any, model_type: str) -> str:
    """Give *model_type* if it is the name of a task, else the task that the answers of *model* show."""
    from sklearn.base import is_regressor  # noqa: PLC0415 - heavy

    if model_type in list(Task):
        return model_type
    classes = getattr(model, "classes_", None)  # empty for CatBoost models without classes
    scores = not hasattr(model, "__sklearn_tags__") or is_regressor(model) or _ranks(model)
    return (Task.REGRESSION if scores and (classes is None or not len(classes)) else Task.CLASSIFICATION).value


def _ranks(model: Any) -> bool:
    """Tell whether *model*, or the last step of a pipeline, is a ranker; scikit-learn has no type for rankers."""
    while steps := getattr(model, "steps", None):
        model = steps[-1][1]
    return any(base.__name__.endswith("Ranker") for base in type(model).__mro__)


def _require_fitted(model: Any) -> None:
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - heavy
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

    if not hasattr(model, "__sklearn_tags__"):
        return
    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise InvalidInput(
            f"The model ({type(model).__name__}) is not fitted.", remedy="Fit the model, then register it."
        ) from error


def _require_loadable(tree: Path) -> None:
    from mendel.serving import carries_code, read_mlmodel  # noqa: PLC0415 - heavy

    if carries_code(read_mlmodel(tree)):
        from mendel.adapters.processes.trial_load import require_loadable_elsewhere  # noqa: PLC0415 - rarely needed

        require_loadable_elsewhere(tree)


def _signature(given: Any) -> Signature | None:
    if given is None or isinstance(given, Signature):
        return given
    document = given if isinstance(given, Mapping) else getattr(given, "to_dict", lambda: None)()
    if not isinstance(document, Mapping):
        raise InvalidInput(
            f"An object of type {type(given).__name__} is not a model signature.",
            remedy="Give the result of mlflow.models.infer_signature.",
        )
    return Signature.from_mlflow(document)


@dataclass(frozen=True, slots=True)
class _Training:
    """
    The training data.

    Attributes:
        own: The rows as the caller gave them: a data frame, a Table, or an array.
        table: The same rows as a Table.
    """

    own: Any
    table: Table


def _training(details: Details) -> _Training | None:
    from mendel.values.data_frames import as_table, is_frame  # noqa: PLC0415 - numpy is heavy

    given = details.get("training_data")
    if given is None:
        if details.get("target") is not None:
            raise InvalidInput(
                "The argument target was given without training_data.",
                remedy="Give training_data, or leave target out.",
            )
        return None
    if isinstance(given, str | Path):
        from mendel.adapters.arrow import read_frame  # noqa: PLC0415 - needs mendel[hub]

        given = read_frame(Path(given))
    table = as_table(given)
    return _Training(table if isinstance(given, Mapping) and not is_frame(given) else given, table)


def _features(training: _Training, details: Details) -> Any:
    """Give the features of the training data in the type that the caller gave: a data frame, a Table or an array."""
    from mendel.values.data_frames import without_column  # noqa: PLC0415 - numpy is heavy

    target, signature, names = details.get("target"), _signature(details.get("signature")), training.table.names
    needed = (*(() if target is None else (target,)), *(() if signature is None else signature.names))
    if lacking := [name for name in needed if name not in names]:
        raise InvalidInput(
            f"The training data lack the columns {', '.join(map(repr, lacking))}.",
            remedy=f"Choose from their columns: {', '.join(names)}.",
        )
    return training.own if target is None else without_column(training.own, target)


def _kept(training: _Training | None, directory: Path) -> Path | None:
    if training is None:
        return None
    from mendel.adapters.arrow import write_table  # noqa: PLC0415 - needs mendel[hub]

    write_table(training.table, directory / "training.parquet")
    return directory


def _completed(request: Registration, details: Details, training: _Training | None) -> Registration:
    from mendel.retraining import fingerprint  # noqa: PLC0415 - heavy

    info = from_mapping(_VersionInfo, details.get("version_info") or {}, at="version_info", error=InvalidInput)
    return replace(
        request,
        idempotency_key=details.get("idempotency_key"),
        release_tag=details.get("release"),
        training_fingerprint=None if training is None else fingerprint(training.table).digest,
        metrics=_metrics(details.get("metrics")),
        tags=info.tags or {},
        description=info.description,
        owner=info.owner,
        team=info.team,
        framework=info.framework or request.flavor,
        provenance=_provenance(None if training is None else len(training.table)),
        expectations=from_mapping(
            Expectations, details.get("expectations") or {}, at="expectations", error=InvalidInput
        ),
    )


def _metrics(given: Mapping[str, float] | None) -> dict[str, float]:
    metrics = {}
    for name, value in (given or {}).items():
        try:
            metrics[str(name)] = float(value)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"The metric {name!r} is {value!r}, not a number.", remedy="Give a number.") from error
    return metrics


def _provenance(rows: int | None) -> Provenance:
    """Give the origin of a model that this process registers: commit, state and remote of the current git checkout."""
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - only where a model is registered

    try:
        checkout = GitPrograms().work_tree(Path.cwd())
    except MendelError:
        checkout = None
    if checkout is None:
        return Provenance(training_dataset_size=rows)
    return Provenance(
        training_dataset_size=rows,
        git_commit_hash=checkout.head,
        git_dirty=None if checkout.head is None else bool(checkout.changed),
        git_origin=checkout.origin,
    )


def _flags(given: Mapping[str, bool] | None) -> dict[str, bool]:
    if unknown := set(given or {}) - set(_FLAGS):
        raise InvalidInput(
            f"The argument governance has the unknown key {min(unknown)!r}.",
            remedy=f"Use the keys {' and '.join(_FLAGS)}.",
        )
    return {flag: bool((given or {}).get(flag)) for flag in _FLAGS}
