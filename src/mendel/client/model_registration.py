"""One call from a fitted model to a registered version: the artefact is written here, where the model lives."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
    What both calls take beside the model, all of it by keyword, none of it required.

    metadata: The maker's own keys.
    signature: Ours, MLflow's own ``ModelSignature`` (or anything with its ``to_dict``), or MLflow's mapping; otherwise
        it is inferred from the training data or the input example, and null where there is neither.
    input_example: Some rows of features: a frame, a Table or an array. Servers try them before a version serves.
    code_paths: Files and directories with the model's own modules. They are packed with the artefact, and importable
        where the model is loaded. Modules that are not installed and not packed are pickled with the model.
    name: Of the model; ``hokusai_<type>_baseline`` or ``hokusai_<type>_improved`` otherwise.
    flavor: Forces a flavour: ``sklearn``, ``xgboost``, ``lightgbm``, ``catboost``, ``onnx``, ``pytorch``, ``pyfunc``.
        None takes the flavour of the model's type.
    version_info: ``framework``, ``owner``, ``team``, ``description``, ``tags``.
    training_data: A frame, a Table, or the path of a Parquet or CSV file. It is kept as ``data/training.parquet``, and
        gives the drift reference and the fingerprint.
    target: The column of *training_data* that is the label, and no feature.
    metrics: What the maker measured.
    expectations: ``latency_p50_ms``, ``latency_p95_ms``, ``throughput_rps``; the latency trigger measures against them.
    governance: ``policy_compliant``, ``bias_check_passed``; what is true is approved by the caller after registering.
    release: The release tag it belongs to.
    idempotency_key: The same content registered twice with one key is one version.
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
    framework: str = "sklearn"
    owner: str = ""
    team: str = ""
    description: str = ""
    tags: dict[str, str] | None = None


class ModelRegistering(ABC):
    """The part of a client that takes a fitted model itself, and not a directory."""

    @abstractmethod
    def register(self, registration: Registration, tree: Path, *, data: Path | None = None) -> Registered:
        """Register the artefact directory *tree* as one new version."""

    @abstractmethod
    def version(self, ref: str | VersionRef) -> VersionRecord:
        """One version."""

    @abstractmethod
    def approve(self, ref: str | VersionRef, *, policy: bool = False, bias: bool = False) -> VersionRecord:
        """Set the governance flags of a version."""

    def register_baseline(self, *, model: Any, model_type: str, **details: Unpack[Details]) -> Registered:
        """
        Register a fitted model as the baseline that others improve on.

        Args:
            model: A fitted scikit-learn-compatible estimator, or a model of another flavour.
            model_type: ``classification``, ``regression``, ``ranking``, ``lead_scoring``, or any other slug.
            details: See :class:`Details`.

        Raises:
            Unsupported: The model or the flavour is none that can be registered, or only this process can load the
                model.
            InvalidInput: The model is not fitted or cannot be pickled, the training data lack a column, or a code path
                cannot be packed.
            AlreadyExists: The idempotency key stands for other content.
        """
        request = Registration(
            model=_name(details, model_type, baseline=True),
            flavor=_flavor(model, details.get("flavor")),
            task=_task(model, model_type),
            metadata=_metadata(details, model_type, baseline=True),
        )
        return self._register_model(model, request, details)

    def register_improved_model(
        self,
        *,
        model: Any,
        baseline_id: str,
        delta_metrics: Mapping[str, float],
        contributor: str,
        **details: Unpack[Details],
    ) -> Registered:
        """
        Register a fitted model that improves on a baseline.

        Args:
            baseline_id: ``name/version`` or ``name@version`` of a registered baseline.
            delta_metrics: By how much it improves; kept as claimed.
            contributor: ``0x`` and 40 hex digits.
            details: See :class:`Details`.

        Raises:
            VersionNotFound: There is no such baseline.
            Unsupported, InvalidInput, AlreadyExists: As :meth:`register_baseline`.
        """
        baseline = self.version(baseline_id)
        model_type = str(baseline.metadata.get("model_type", baseline.task))
        request = Registration(
            model=_name(details, model_type, baseline=False),
            flavor=_flavor(model, details.get("flavor")),
            task=_task(model, model_type),
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
        training = _training(details.get("training_data"))
        request = _completed(request, details, training)
        with tempfile.TemporaryDirectory(prefix="mendel-register-") as scratch:
            tree = Path(scratch) / "artifact"
            write_artifact(
                model,
                tree,
                signature=_signature(details.get("signature")),
                input_example=details.get("input_example"),
                task=request.task,
                training=_features(training, details),
                code_paths=details.get("code_paths") or (),
                flavor=request.flavor,
            )
            _require_loadable(tree)
            registered = self.register(request, tree, data=_kept(training, Path(scratch) / "data"))
        if any(flags.values()):
            self.approve(registered.model_id, policy=flags["policy_compliant"], bias=flags["bias_check_passed"])
        return registered


def _name(details: Details, model_type: str, *, baseline: bool) -> ModelName:
    given = details.get("name")
    return default_name(model_type, baseline=baseline) if given is None else ModelName(given)


def _metadata(details: Details, model_type: str, *, baseline: bool) -> dict[str, Any]:
    metadata = RegistrationMetadata(model_type=model_type, is_baseline=baseline, registration_time=datetime.now(UTC))
    return metadata.beside(details.get("metadata"))


def _flavor(model: Any, forced: str | None) -> str:
    from mendel.serving import flavour_for  # noqa: PLC0415 - clients that register nothing need no joblib

    return flavour_for(model, forced).name


def _task(model: Any, model_type: str) -> str:
    from sklearn.base import is_regressor  # noqa: PLC0415 - heavy

    if model_type in list(Task):
        return model_type
    classifies = hasattr(model, "classes_") or (hasattr(model, "get_params") and not is_regressor(model))
    return (Task.CLASSIFICATION if classifies else Task.REGRESSION).value


def _require_fitted(model: Any) -> None:
    from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - heavy
    from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

    if not hasattr(model, "get_params"):
        return
    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise InvalidInput(f"The {type(model).__name__} is not fitted.", remedy="Fit it, then register it.") from error


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
            f"An object of type {type(given).__name__} is not a signature.",
            remedy="Give what mlflow.models.infer_signature returns.",
        )
    return Signature.from_mlflow(document)


def _training(given: Any) -> Table | None:
    from mendel.serving import as_table  # noqa: PLC0415 - heavy

    if given is None:
        return None
    if isinstance(given, str | Path):
        from mendel.adapters.arrow import read_table  # noqa: PLC0415 - needs mendel[hub]

        return read_table(Path(given))
    return as_table(given)


def _features(training: Table | None, details: Details) -> Table | None:
    """What of the training data the model sees."""
    target = details.get("target")
    if training is None:
        if target is not None:
            raise InvalidInput("A target was given, but no training data.", remedy="Give training_data, too.")
        return None
    signature = _signature(details.get("signature"))
    needed = (*(() if target is None else (target,)), *(() if signature is None else signature.names))
    if lacking := [name for name in needed if name not in training]:
        raise InvalidInput(
            f"The training data lack {', '.join(map(repr, lacking))}.", remedy=f"They have {', '.join(training.names)}."
        )
    return training if target is None else training.without(target)


def _kept(training: Table | None, directory: Path) -> Path | None:
    if training is None:
        return None
    from mendel.adapters.arrow import write_table  # noqa: PLC0415 - needs mendel[hub]

    write_table(training, directory / "training.parquet")
    return directory


def _completed(request: Registration, details: Details, training: Table | None) -> Registration:
    from mendel.retraining import fingerprint  # noqa: PLC0415 - heavy

    info = from_mapping(_VersionInfo, details.get("version_info") or {}, at="version_info", error=InvalidInput)
    return replace(
        request,
        idempotency_key=details.get("idempotency_key"),
        release_tag=details.get("release"),
        training_fingerprint=None if training is None else fingerprint(training).digest,
        metrics=_metrics(details.get("metrics")),
        tags=info.tags or {},
        description=info.description,
        owner=info.owner,
        team=info.team,
        framework=info.framework,
        provenance=_provenance(None if training is None else len(training)),
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
            f"governance: unknown key {min(unknown)!r}.", remedy=f"Known keys are {' and '.join(_FLAGS)}."
        )
    return {flag: bool((given or {}).get(flag)) for flag in _FLAGS}
