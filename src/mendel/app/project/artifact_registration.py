"""Register an artefact or a remote model as a version, and record the image that contains a version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mendel.adapters.git import GitPrograms
from mendel.app.images.image_resolution import Delivery, find_image
from mendel.app.project.repository_address import repository_address
from mendel.app.project.training import release_at_head
from mendel.client.client import Client
from mendel.client.remote_models import located
from mendel.errors import InvalidInput, NotFound
from mendel.projects import chosen_classifier, code_digest, load_project
from mendel.registry import ProjectSource, Registration, VersionRecord
from mendel.serving import FLAVOURS, RemoteModel
from mendel.values import ModelName, VersionRef
from mendel.values.directory_trees import tree_digest
from mendel.values.mlmodel_file import Mlmodel, read_mlmodel_file


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRequest:
    """
    The arguments of ``mendel register``.

    Attributes:
        tree: The directory of the artefact, with a file ``MLmodel``.
        name: The name of the model; None uses the classifier that the artefact names.
        image: The reference of the image that contains the version; None without an image.
        data: A directory of files to store with the version; None without such files.
        task: The task of the model; None uses the task in the artefact.
        flavor: The flavour that loads the artefact; None uses the first known flavour of the artefact.
        release: The release tag of the version; None uses the release at HEAD for a classifier, else no release.
        idempotency_key: Registering the same content twice with one key makes one version.
        path: The directory of the project; None uses the project that contains the working directory.
    """

    tree: Path
    name: str | None = None
    image: str | None = None
    data: Path | None = None
    task: str | None = None
    flavor: str | None = None
    release: str | None = None
    description: str = ""
    idempotency_key: str | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRequest:
    """
    The arguments of ``mendel register NAME --remote``; see :class:`mendel.RemoteModel`.

    Attributes:
        name: The name of the registered model.
        task: ``classification`` or ``regression``; None takes the task that the announced outputs show.
    """

    name: str
    servers: tuple[str, ...]
    model: str = ""
    version: str = ""
    key_variable: str = ""
    task: str | None = None
    description: str = ""
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredArtifact:
    """
    The registered version.

    ``image_seen`` is True when the contents of the image were checked, False when only its digest was known, and None
    without an image.
    """

    version: VersionRecord
    image_seen: bool | None = None


def register_artifact(request: ArtifactRequest, client: Client) -> RegisteredArtifact:
    """
    Register a directory as one new version.

    The artefact of a project's classifier gets the release at HEAD of the project, because servers load the artefact
    with the code of that release.

    Raises:
        NotFound: The directory does not exist.
        InvalidInput: The directory is not an artefact, or the artefact does not state its task or flavour.
        ImageNotFound: The image does not exist.
        Conflict: The image has another release or contains another artefact; or HEAD is not a release.
    """
    if not request.tree.is_dir():
        raise NotFound(
            f"The directory {request.tree} does not exist.",
            remedy="Give a directory with a file MLmodel, or a version as NAME@N.",
        )
    told = read_mlmodel_file(request.tree)
    delivery = None if request.image is None else find_image(request.image, path=request.path)
    if delivery is not None:
        delivery.require_artifact(tree_digest(request.tree, exclude=("data",)))
    registration = Registration(
        model=_name(request, told),
        flavor=request.flavor or _flavor(told),
        task=request.task or told.task or _missing("task", "--task"),
        release_tag=request.release,
        image=None if delivery is None else delivery.image,
        idempotency_key=request.idempotency_key,
        description=request.description,
    )
    if told.classifier is not None:
        registration = _of_project(registration, request, told.classifier, client)
    registered = client.register(registration, request.tree, data=request.data)
    return RegisteredArtifact(version=client.version(registered.model_id), image_seen=_seen(delivery))


def register_remote(request: RemoteRequest, client: Client) -> RegisteredArtifact:
    """
    Register a model that other servers run as one new version.

    Raises:
        InvalidValue: An address or a name is invalid.
        NotReady: No server answers.
    """
    model = RemoteModel(
        servers=request.servers, model=request.model, version=request.version, key_variable=request.key_variable
    )
    told = located(model, ModelName(request.name), task=request.task)
    registered = client.register_baseline(
        model=told.model,
        model_type=told.task,
        name=request.name,
        signature=told.signature,
        version_info={"description": request.description},
        idempotency_key=request.idempotency_key,
    )
    return RegisteredArtifact(version=client.version(registered.model_id))


def record_image(ref: VersionRef, image: str, client: Client, *, path: Path | None = None) -> RegisteredArtifact:
    """
    Record the image that contains a registered version.

    Raises:
        VersionNotFound, ImageNotFound: The version or the image does not exist.
        Conflict: The image has another release or contains another artefact.
    """
    record = client.version(ref)
    delivery = find_image(image, path=path)
    delivery.require_artifact(record.artifact_digest, ref)
    return RegisteredArtifact(version=client.record_image(ref, delivery.image), image_seen=delivery.seen)


def _of_project(registration: Registration, request: ArtifactRequest, name: str, client: Client) -> Registration:
    project = load_project(request.path or Path.cwd())
    classifier = chosen_classifier(project, name)
    tag, commit = release_at_head(project, classifier.name)
    if registration.release_tag not in {None, tag}:
        raise InvalidInput(
            f"HEAD of the project is release {tag}, not {registration.release_tag}.", remedy="Leave --release out."
        )
    tracked = GitPrograms().tracked(project.root)
    return replace(
        registration,
        code_digest=code_digest(project.root, tracked),
        release_tag=tag,
        project=ProjectSource(repository=repository_address(project, client), classifier=classifier.name, tag=tag),
        provenance=replace(registration.provenance, git_commit_hash=commit),
    )


def _name(request: ArtifactRequest, told: Mlmodel) -> ModelName:
    return ModelName(request.name or told.classifier or _missing("model", "--name"))


def _flavor(told: Mlmodel) -> str:
    known = [flavour.name for flavour in FLAVOURS]
    for flavor in known:
        if flavor in told.flavors:
            return flavor
    raise InvalidInput(
        f"The artefact has the flavours {', '.join(told.names)}, and servers can load none of them.",
        remedy=f"Give an artefact with the flavour {' or '.join(known)}.",
    )


def _missing(what: str, option: str) -> str:
    raise InvalidInput(f"The artefact does not state its {what}.", remedy=f"Give {option}.")


def _seen(delivery: Delivery | None) -> bool | None:
    return None if delivery is None else delivery.seen
