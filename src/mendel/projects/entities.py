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
    Who may call from a browser; without origins, nobody.

    Attributes:
        allow_origins: Origins that may call; `*` is any.
        allow_methods: Methods they may use; `*` is any.
        allow_headers: Headers they may send; `*` is any.
        allow_credentials: Whether cookies and authorization may come along.
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
        timestamp: Whether lines begin with the time.
        structured: Whether lines are JSON.
        show_tasks: Whether lines name the task they come from.
        format: A format of Python's logging in place of the above.
    """

    timestamp: bool = False
    structured: bool = True
    show_tasks: bool = False
    format: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSection:
    """
    Where the inference server listens; a flag overrides it, a flag's default does not.

    Attributes:
        host: The address it listens on.
        port: The REST port; 0 takes a free one.
        workers: Worker processes.
        log_level: The least level that is logged.
        title: What the API calls itself; the classifier's name by default.
        cors: Who may call from a browser.
        logger: How the log is written.
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
            raise InvalidValue(f"{self.port} is not a port.")
        if self.workers < 1:
            raise InvalidValue(f"{self.workers} workers cannot serve.", remedy="At least 1 is needed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """
    The class that answers, built once per worker as ``Class(**init_kwargs)``.

    Attributes:
        module: Its module, from the project's directory: ``pkg.module``, ``module`` or ``module.py``.
        class_name: The class in it.
        init_kwargs: What its constructor is given; relative values that name something of the project become absolute.

    >>> Predictor(module="model.py", class_name="Digits").import_name
    'model'
    """

    module: str
    class_name: str
    init_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not all(part.isidentifier() for part in self.import_name.split(".")):
            remedy = "Write pkg.module, module or module.py."
            raise InvalidValue(f"{self.module!r} is not a module of the project.", remedy=remedy)
        if not self.class_name.isidentifier():
            raise InvalidValue(f"{self.class_name!r} is not the name of a class.")

    @property
    def import_name(self) -> str:
        """The module as Python imports it from the project directory."""
        return self.module.removesuffix(".py").removeprefix("./").replace("/", ".")

    def source(self, directory: Path) -> Path | None:
        """The file of the module below *directory*, a package before a module as in Python; None if there is none."""
        stem = directory.joinpath(*self.import_name.split("."))
        return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()), None)

    def kwargs_in(self, directory: Path) -> dict[str, Any]:
        """``init_kwargs`` with every relative value that names something of the project made absolute."""
        return {name: _absolute(value, directory) for name, value in self.init_kwargs.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """
    Which routes exist.

    Attributes:
        predict: Whether there is ``/predict``.
        predict_proba: Whether there is ``/predict_proba``.
    """

    predict: bool = True
    predict_proba: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """
    How requests become rows and answers JSON; ``feature_order`` is read from its file when it names one.

    Attributes:
        adapter: The form of requests.
        feature_order: The order of the features.
        endpoints: Which routes exist.
        response_format: The form of answers: ours, what the predictor returns in our frame, or what it returns alone.
        response_validation: Whether answers are checked before they leave.
        extract_values: Whether single values are taken out of lists of one.
        thread_safe_predict: Whether ``predict`` may run in several threads at once.
        max_concurrent_predictions: How many run at once; what comes above queues.
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
            raise InvalidValue("max_concurrent_predictions is at least 1.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observability:
    """
    What the server tells of itself.

    Attributes:
        metrics: Whether metrics are kept and shown.
        metrics_endpoint: The path that shows them.
        structured_logging: Whether requests are logged as JSON.
        log_payloads: Whether their bodies are logged, too.
        correlation_ids: Whether requests without an id are given one.
    """

    metrics: bool = True
    metrics_endpoint: str = "/metrics"
    structured_logging: bool = True
    log_payloads: bool = False
    correlation_ids: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """
    How an image is made.

    Attributes:
        base_image: The image below: a reference, ``oci:DIR`` or ``oci-archive:FILE``.
        registry: The registry that stands before the image's name.
        tag_prefix: What stands between registry and repository in the image's name.
        include_files: Files, directories and patterns that go into the image besides what is found.
        exclude_patterns: What never goes in.
        requirements: The file of the project's requirements.
    """

    base_image: str = "python:3.11-slim"
    registry: str | None = None
    tag_prefix: str | None = None
    include_files: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    requirements: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecr:
    """
    Amazon's registry.

    Attributes:
        aws_region: Where it is.
        registry_id: The account, 12 digits.
        repository_prefix: What stands before the repository's name.
    """

    aws_region: str | None = None
    registry_id: str | None = None
    repository_prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRegistry:
    """
    Where images are pushed to.

    Attributes:
        type: Whose registry it is.
        url: Its address, where its type does not say it.
        namespace: Below whom it keeps the images.
        ecr: What Amazon's needs.
    """

    type: Literal["ghcr", "ecr", "dockerhub", "gitlab", "custom"] = "ghcr"
    url: str | None = None
    namespace: str | None = None
    ecr: Ecr = Ecr()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSection:
    """
    Read by the CI generator and ``push``.

    Attributes:
        registry: Where images are pushed to.
    """

    registry: ImageRegistry = ImageRegistry()


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySection:
    """
    What the repository is called; without ``name``, as the origin's URL or the directory says.

    Attributes:
        name: Its name, as images carry it.
        description: What it is for.
        maintainer: Who answers for it.
    """

    name: str | None = None
    description: str = ""
    maintainer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classifier:
    """
    One named predictor of a project; its name is the name of its registered model.

    The policy sections are kept as they were written: the rooms that act on them read them into their own nouns.
    ``feature_order_file`` is the project file that ``api.feature_order`` names, where it names one.
    """

    name: ModelName
    predictor: Predictor
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

    @property
    def policy(self) -> dict[str, Any]:
        """The policy sections that are not empty, as the registry keeps them."""
        sections = {name: getattr(self, name) for name in POLICY_SECTIONS}
        return {name: body for name, body in sections.items() if body}


POLICY_SECTIONS = ("monitoring", "gates", "retraining", "healing", "rollback", "governance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """
    A directory with a ``mlserver.yaml``: one or more classifiers, in the file's order.

    ``hints`` are sentences for the reader: what was accepted though it should change.
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
        """The classifiers' names, in the file's order."""
        return tuple(classifier.name for classifier in self.classifiers)

    def classifier(self, name: str | None = None) -> Classifier:
        """
        The classifier *name*; without a name the only one.

        Raises:
            ProjectNotFound: There is none of that name, or several and no name; the message lists them.
        """
        if name is None and len(self.classifiers) == 1:
            return self.classifiers[0]
        found = next((classifier for classifier in self.classifiers if classifier.name == name), None)
        if found is None:
            what = "has several classifiers" if name is None else f"has no classifier {name!r}"
            raise ProjectNotFound(f"{self.file} {what}.", remedy=f"Name one of: {', '.join(self.names)}.")
        return found


def chosen_classifier(project: Project, name: str | None, *, default: bool = False) -> Classifier:
    """
    The classifier a command is about: the named one, else the only one, else the default one where that may be meant.

    Args:
        default: Whether ``default_classifier`` counts: for what serves or runs, not for what makes or removes.

    Raises:
        ProjectNotFound: There is none of that name, or several and none is meant; the message lists them.
    """
    if name is not None:
        return project.classifier(name)
    if len(project.classifiers) == 1:
        return project.classifiers[0]
    if default and project.default_classifier is not None:
        return project.classifier(project.default_classifier)
    raise ProjectNotFound(
        f"The project has {len(project.names)} classifiers: {', '.join(project.names)}.",
        remedy="Choose one with --classifier.",
    )


def shown_classifiers(project: Project, name: str | None) -> tuple[Classifier, ...]:
    """What a command that only shows is about: the named classifier, else all of them."""
    return project.classifiers if name is None else (project.classifier(name),)


def _absolute(value: Any, directory: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, directory) for item in value]
    if not isinstance(value, str) or not (relative := project_path(value)):
        return value
    found = directory / relative
    return str(found.resolve()) if found.exists() else value


def project_path(text: str) -> str | None:
    """*text* as a path inside the project, or None when it is absolute, leaves the project, or names nothing."""
    path = PurePosixPath(text)
    outside = path.is_absolute() or ".." in path.parts or not path.parts or "\0" in text
    return None if outside or _too_long(text) else path.as_posix()


def _too_long(text: str) -> bool:
    """Whether it can only be prose: no file system holds such a name, and asking for it is an error."""
    named = text.encode("utf-8", "surrogatepass")
    return len(named) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in named.split(b"/"))
