"""A project and its classifiers, as ``mlserver.yaml`` describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mendel.errors import InvalidValue, ProjectNotFound
from mendel.values import ModelName

_LONGEST_NAME, _LONGEST_PATH = 255, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """
    Which browser origins may call the server (CORS); without origins, none may.

    Attributes:
        allow_origins: Origins that may call the server; `*` allows every origin.
        allow_methods: HTTP methods that these origins may use; `*` allows every method.
        allow_headers: Request headers that these origins may send; `*` allows every header.
        allow_credentials: Whether browsers may send cookies and the Authorization header.
    """

    allow_origins: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ("*",)
    allow_headers: tuple[str, ...] = ("*",)
    allow_credentials: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLogger:
    """
    How the server writes its log.

    Attributes:
        timestamp: Whether log lines begin with the time.
        structured: Whether log lines are JSON; None follows the setting ``log_format``.
        show_tasks: Whether log lines name the asyncio task that wrote them.
        format: A format string of Python's logging, which replaces the three settings above.
    """

    timestamp: bool = False
    structured: bool | None = None
    show_tasks: bool = False
    format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSection:
    """
    Where the inference server listens; a flag given on the command line overrides the setting.

    Attributes:
        host: The address that the server listens on.
        port: The REST port; 0 takes a free port.
        workers: The number of worker processes.
        log_level: The lowest level that is logged.
        title: The title of the API in its OpenAPI document; the classifier's name by default.
        cors: Which browser origins may call the server.
        logger: How the server writes its log.
    """

    host: str = "0.0.0.0"  # noqa: S104 - the contract's default: a server in an image listens on every interface
    port: int = 8000
    workers: int = 1
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    title: str | None = None
    cors: Cors = Cors()
    logger: ServerLogger = ServerLogger()

    def __post_init__(self) -> None:
        if not 0 <= self.port < 1 << 16:
            raise InvalidValue(f"server.port is {self.port}, but must be between 0 and 65535.")
        if self.workers < 1:
            raise InvalidValue(
                f"server.workers is {self.workers}, but must be at least 1.", remedy="Set server.workers to 1 or more."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictorSection:
    """
    The class that answers requests; each worker creates one instance as ``Class(**init_kwargs)``.

    Attributes:
        module: The class's module, relative to the project's directory: ``pkg.module``, ``module`` or ``module.py``.
        class_name: The name of the class in the module.
        init_kwargs: Keyword arguments of the constructor; relative paths of existing project files become absolute.
        backend: ``process`` runs the predictor in a process of its own, ``thread`` in the server's worker processes;
            without the key, the server's setting ``serving.backend`` holds.

    >>> PredictorSection(module="model.py", class_name="Digits").import_name
    'model'
    """

    module: str
    class_name: str
    init_kwargs: dict[str, Any] = field(default_factory=dict)
    backend: Literal["thread", "process"] | None = None

    def __post_init__(self) -> None:
        if not all(part.isidentifier() for part in self.import_name.split(".")):
            remedy = "Write pkg.module, module or module.py, relative to the project's directory."
            raise InvalidValue(f"predictor.module is {self.module!r}, which is not a module name.", remedy=remedy)
        if not self.class_name.isidentifier():
            raise InvalidValue(
                f"predictor.class_name is {self.class_name!r}, which is not a class name.",
                remedy="Write the class name without the module.",
            )

    @property
    def import_name(self) -> str:
        """The module's dotted name for ``import``, with the project's directory on the path."""
        return self.module.removesuffix(".py").removeprefix("./").replace("/", ".")

    def source(self, directory: Path) -> Path | None:
        """
        Find the module's file below *directory*; None if the file does not exist.

        A package ``name/__init__.py`` is preferred to a module ``name.py``, as in Python.
        """
        stem = directory.joinpath(*self.import_name.split("."))
        return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()), None)

    def kwargs_in(self, directory: Path) -> dict[str, Any]:
        """Give ``init_kwargs`` with every relative path that exists below *directory* made absolute."""
        return {name: _absolute(value, directory) for name, value in self.init_kwargs.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """
    Which prediction routes the server offers.

    Attributes:
        predict: Whether the server offers ``/predict``.
        predict_proba: Whether the server offers ``/predict_proba``.
    """

    predict: bool = True
    predict_proba: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """
    How requests are read and answers are written; ``feature_order`` may name a JSON file.

    Attributes:
        adapter: The form of requests: ``records`` (objects), ``ndarray`` (lists of numbers), or ``auto`` (either).
        feature_order: The order of the features in a row.
        endpoints: Which prediction routes the server offers.
        response_format: The body of an answer: ``standard``, one value per row in Mendel's format; ``custom``, the dict
            that the predictor returns; or ``passthrough``, whatever the predictor returns.
        response_validation: Whether answers are checked before they are sent; an invalid answer is a model error.
        extract_values: Whether an object in an answer is replaced by its values, without their names.
        thread_safe_predict: Whether ``predict`` may run in several threads at once.
        max_concurrent_predictions: How many calls run at once when ``thread_safe_predict`` is set; further calls wait.
    """

    adapter: Literal["records", "ndarray", "auto"] = "records"
    feature_order: tuple[str, ...] | None = None
    endpoints: Endpoints = Endpoints()
    response_format: Literal["standard", "custom", "passthrough"] = "standard"
    response_validation: bool = True
    extract_values: bool = False
    thread_safe_predict: bool = False
    max_concurrent_predictions: int = 1

    def __post_init__(self) -> None:
        if self.max_concurrent_predictions < 1:
            raise InvalidValue(
                f"api.max_concurrent_predictions is {self.max_concurrent_predictions}, but must be at least 1.",
                remedy="Set api.max_concurrent_predictions to 1 or more.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observability:
    """
    Metrics and request logs of the server.

    Attributes:
        metrics: Whether the server collects metrics and offers them.
        metrics_endpoint: The path of the metrics.
        structured_logging: Whether log lines are JSON; None follows the setting ``log_format``.
        log_payloads: Whether request bodies are logged too.
        correlation_ids: Whether the server assigns a correlation id to a request that has no correlation id.
    """

    metrics: bool = True
    metrics_endpoint: str = "/metrics"
    structured_logging: bool | None = None
    log_payloads: bool = False
    correlation_ids: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """
    How the classifier's image is built.

    Attributes:
        base_image: The base image: a reference, ``oci:DIR`` or ``oci-archive:FILE``.
        registry: The registry at the beginning of the image's name.
        tag_prefix: The part of the image's name between registry and repository.
        include_files: Files, directories and patterns to add to the files that the build finds by itself.
        exclude_patterns: Patterns of files that the build leaves out.
        requirements: The path of the project's requirements file.
        isolation: ``process`` gives the project's requirements an environment of their own in the image, apart from
            Mendel's; ``shared`` installs both into one environment. Without the key: ``shared`` for a project without
            requirements and for a predictor with ``backend: thread``, else ``process``.
    """

    base_image: str = "python:3.11-slim"
    registry: str | None = None
    tag_prefix: str | None = None
    include_files: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    requirements: str | None = None
    isolation: Literal["process", "shared"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecr:
    """
    Settings of Amazon's image registry (ECR).

    Attributes:
        aws_region: The AWS region, such as `eu-central-1`.
        registry_id: The AWS account, 12 digits.
        repository_prefix: The path in front of the repository's name.
    """

    aws_region: str | None = None
    registry_id: str | None = None
    repository_prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRegistry:
    """
    The registry that images are pushed to.

    Attributes:
        type: The kind of registry.
        url: The address of the registry; needed when `type` is `custom`.
        namespace: The user, organisation or group that owns the images.
        ecr: The settings of Amazon's registry.
    """

    type: Literal["ghcr", "ecr", "dockerhub", "gitlab", "custom"] = "ghcr"
    url: str | None = None
    namespace: str | None = None
    ecr: Ecr = Ecr()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSection:
    """
    Where ``mendel push`` and the generated CI workflows push images.

    Attributes:
        registry: The registry that images are pushed to.
    """

    registry: ImageRegistry = ImageRegistry()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySection:
    """
    The repository's name; by default the last part of the origin's URL, or the directory's name.

    Attributes:
        name: The repository's name, which becomes part of image names.
        description: What the repository is for, in a sentence.
        maintainer: The person or team responsible for the repository.
    """

    name: str | None = None
    description: str = ""
    maintainer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """
    A named predictor of a project; its registered model has the same name.

    The policy sections (``monitoring`` to ``canary``) stay unparsed mappings; the rooms that use them parse them.
    ``feature_order_file`` is the path in ``api.feature_order``; None when ``api.feature_order`` is a list or missing.
    """

    name: ModelName
    predictor: PredictorSection
    description: str = ""
    repository: str | None = None
    server: ServerSection = ServerSection()
    api: Api = Api()
    observability: Observability = Observability()
    build: Build = Build()
    feature_order_file: str | None = None
    monitoring: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    retraining: dict[str, Any] = field(default_factory=dict)
    healing: dict[str, Any] = field(default_factory=dict)
    rollback: dict[str, Any] = field(default_factory=dict)
    governance: dict[str, Any] = field(default_factory=dict)
    promotion: dict[str, Any] = field(default_factory=dict)
    canary: dict[str, Any] = field(default_factory=dict)

    @property
    def policy(self) -> dict[str, Any]:
        """The policy sections that are not empty, by name; the registry stores this mapping."""
        sections = {name: getattr(self, name) for name in POLICY_SECTIONS}
        return {name: body for name, body in sections.items() if body}


POLICY_SECTIONS = ("monitoring", "gates", "retraining", "healing", "rollback", "governance", "promotion", "canary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """
    A directory with an ``mlserver.yaml``: one or more classifiers, in the file's order.

    ``hints`` are sentences about outdated parts of the file, which were accepted but should be changed.
    """

    root: Path
    file: Path
    repository: RepositorySection
    classifiers: tuple[Classifier, ...]
    multi: bool = False
    default_classifier: ModelName | None = None
    deployment: DeploymentSection = DeploymentSection()
    hints: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(classifier.name for classifier in self.classifiers)

    def classifier(self, name: str | None = None) -> Classifier:
        """
        Give the classifier *name*; without a name, the only classifier.

        Raises:
            ProjectNotFound: No classifier has this name, or no name was given for several; the message lists the names.
        """
        if name is None and len(self.classifiers) == 1:
            return self.classifiers[0]
        found = next((classifier for classifier in self.classifiers if classifier.name == name), None)
        if found is None:
            what = "has several classifiers, and none was named" if name is None else f"has no classifier {name!r}"
            raise ProjectNotFound(f"{self.file} {what}.", remedy=f"Choose one of: {', '.join(self.names)}.")
        return found


def chosen_classifier(project: Project, name: str | None, *, default: bool = False) -> Classifier:
    """
    Choose the classifier for a command: the named one, else the only one, else ``default_classifier``.

    Args:
        default: Whether to fall back to ``default_classifier``. Commands that serve or run pass True; commands that
            build, push or remove pass False.

    Raises:
        ProjectNotFound: No classifier has this name, or the project has several and none was chosen; the message lists
            the names.
    """
    if name is not None:
        return project.classifier(name)
    if len(project.classifiers) == 1:
        return project.classifiers[0]
    if default and project.default_classifier is not None:
        return project.classifier(project.default_classifier)
    raise ProjectNotFound(
        f"The project has {len(project.names)} classifiers, and none was named: {', '.join(project.names)}.",
        remedy="Name a classifier with --classifier.",
    )


def shown_classifiers(project: Project, name: str | None) -> tuple[Classifier, ...]:
    """Choose the classifiers for a command that only displays: the named one, else all."""
    return project.classifiers if name is None else (project.classifier(name),)


def _absolute(value: Any, directory: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, directory) for item in value]
    if not isinstance(value, str) or not (relative := project_path(value)):
        return value
    found = directory / relative
    return str(found.resolve()) if found.exists() else value


def project_path(text: str) -> str | None:
    """Normalise *text* to a relative POSIX path; None when it is absolute, leaves the project or is empty."""
    path = PurePosixPath(text)
    outside = path.is_absolute() or ".." in path.parts or not path.parts or "\0" in text
    return None if outside or _too_long(text) else path.as_posix()


def _too_long(text: str) -> bool:
    """Tell whether *text* is too long for a path; opening it would be an OSError."""
    named = text.encode("utf-8", "surrogatepass")
    return len(named) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in named.split(b"/"))
