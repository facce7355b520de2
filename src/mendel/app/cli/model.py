"""Commands on models and their versions: train, register, approve, stage, promote, policy, list and show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.options import ClassifierName, Directory, Model, ProjectPath, Reason, Version, hub, settings_of
from mendel.app.cli.output import Result, progress, warn
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import MODELS, VERSIONS
from mendel.errors import Forbidden

if TYPE_CHECKING:
    from mendel.app.project.artifact_registration import RegisteredArtifact
    from mendel.app.project.training import Trained
    from mendel.registry import PolicyDocument, VersionFault, VersionRecord
    from mendel.views import ModelView


def train(
    *,
    data: Annotated[Path, option(metavar="FILE", existing=True, help="The file of training rows, CSV or Parquet.")],
    target: Annotated[
        str | None, option(metavar="COLUMN", help="The column that holds the label.", show_default="monitoring.target")
    ] = None,
    holdout: Annotated[
        float, option(bounds=(0.0, 0.9), help="The share of rows kept out of training, to evaluate the version.")
    ] = 0.25,
    seed: Annotated[int, option(help="The random seed of the split and of the training.")] = 0,
    classifier: ClassifierName = None,
    path: ProjectPath = None,
    directory: Directory = None,
) -> Result:
    """
    Train the release at HEAD and register a new version.

    A separate process trains with the files of the release tag. Then the gates judge the new version.
    """
    with progress("Reading the release at HEAD") as shown:
        from mendel.app.project.training import TrainingRequest, train_release  # noqa: PLC0415 - help must be quick

        request = TrainingRequest(
            data=data, target=target, holdout=holdout, seed=seed, classifier=classifier, path=path
        )
        with hub(directory, create=True, quiet=True) as client:
            trained = train_release(request, client, settings_of(directory), phase=shown.phase)
    return Result(trained, _trained_lines(trained))


def register(
    source: Annotated[
        str,
        argument(
            "DIR|NAME@N|NAME",
            "An artefact directory with an MLmodel file; a registered version, to record its --image; or the name of a "
            "model on other servers, with --remote.",
        ),
    ],
    *,
    remote: Annotated[
        str | None,
        option(
            metavar="ADDRESS[,...]",
            help="The servers of the model: http://HOST:PORT (v2 over REST), grpc://HOST:PORT or zmq://HOST:PORT.",
        ),
    ] = None,
    remote_model: Annotated[
        str | None, option(metavar="NAME", help="The name of the model on those servers.", show_default="NAME")
    ] = None,
    remote_version: Annotated[
        str | None, option(metavar="N", help="The version on those servers.", show_default="the servers choose")
    ] = None,
    remote_key: Annotated[
        str | None,
        option(
            metavar="VARIABLE",
            help="The environment variable with the key for those servers: REMOTE_MODEL_KEY or REMOTE_MODEL_KEY_*.",
        ),
    ] = None,
    name: Annotated[
        str | None, option(metavar="NAME", help="The name of the model.", show_default="the artefact's classifier")
    ] = None,
    image: Annotated[
        str | None,
        option(
            metavar="REF", help="The image that holds the version: name:tag or name@sha256:..., local or in a registry."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        option(metavar="DIR", help="A directory with training.parquet and holdout.parquet, to store with the version."),
    ] = None,
    task: Annotated[
        str | None, option(help="classification or regression.", show_default="the artefact's task")
    ] = None,
    flavor: Annotated[
        str | None, option(help="MLflow flavour to load: mendel or sklearn.", show_default="the artefact's flavour")
    ] = None,
    release: Annotated[
        str | None, option(metavar="TAG", help="The release tag of the version.", show_default="the image's release")
    ] = None,
    description: Annotated[str, option(help="A description, shown on the model card.")] = "",
    idempotency_key: Annotated[
        str | None,
        option(metavar="KEY", help="Return the existing version if this key was used before with the same content."),
    ] = None,
    path: ProjectPath = None,
    directory: Directory = None,
) -> Result:
    """
    Register an artefact, a remote model or a version's image.

    With DIR, register the artefact as a new version. With NAME and --remote, register the model that other servers run;
    they are asked for its signature. With NAME@N and --image, record the image of that version.
    """
    from mendel.app.project import artifact_registration as registration  # noqa: PLC0415 - help must be quick
    from mendel.values import VersionRef  # noqa: PLC0415

    if remote is not None:
        _refuse(
            {"--image": image, "--data": data, "--flavor": flavor, "--release": release, "--path": path},
            "has no meaning for a model on other servers",
        )
        asked = registration.RemoteRequest(
            name=name or source,
            servers=tuple(remote.split(",")),
            model=remote_model or "",
            version=remote_version or "",
            key_variable=remote_key or "",
            task=task,
            description=description,
            idempotency_key=idempotency_key,
        )
        with progress(f"Registering {source}"), hub(directory, create=True, quiet=True) as client:
            return _registered(registration.register_remote(asked, client))
    of_remote = {"--remote-model": remote_model, "--remote-version": remote_version, "--remote-key": remote_key}
    _refuse(of_remote, "needs --remote with the addresses of the servers")
    tree = Path(source)
    if not tree.exists() and (image is not None or "@" in source):
        if image is None:
            raise click.BadParameter(
                "version NAME@N is already registered; to record the image of the version, give --image REF"
            )
        with hub(directory) as client:
            return _registered(registration.record_image(VersionRef.parse(source), image, client, path=path))
    request = registration.ArtifactRequest(
        tree=tree,
        name=name,
        image=image,
        data=data,
        task=task,
        flavor=flavor,
        release=release,
        description=description,
        idempotency_key=idempotency_key,
        path=path,
    )
    with progress(f"Registering {source}"), hub(directory, create=True, quiet=True) as client:
        return _registered(registration.register_artifact(request, client))


def list_models(*, directory: Directory = None) -> Result:
    """
    List models with their production version and health.

    Models that need attention come first.
    The column Servers counts the reporting servers that serve the latest deployment.
    """
    with hub(directory) as client:
        empty = f"No model is registered in {client.where}. Train one with: mendel train"
        return replace(MODELS, empty=empty).result(client.fleet().models)


def show_model(model: Model, *, directory: Directory = None) -> Result:
    """Show a model: health, routes, versions and policy."""
    with hub(directory) as client:
        found = client.model(model)
    return Result(found, _model_lines(found))


def list_versions(model: Model, *, directory: Directory = None) -> Result:
    """List the versions of a model."""
    with hub(directory) as client:
        return VERSIONS.result(client.versions(model), title=f"Versions of {model}")


def show_card(
    version: Version,
    *,
    output: Annotated[
        Path | None, option("--output", "-o", metavar="FILE", help="Write the card to FILE instead of printing it.")
    ] = None,
    directory: Directory = None,
) -> Result:
    """Print the model card of a version, as Markdown."""
    with hub(directory) as client:
        text = client.card(version)
    if output is None:
        return Result({"card": text}, [text])
    output.write_text(text, encoding="utf-8")
    return Result({"written": str(output)}, [str(output)])


def approve(
    version: Version,
    *,
    policy: Annotated[
        bool, option("--policy", help="Set the flag policy_compliant: the version complies with your rules.")
    ] = False,
    bias: Annotated[
        bool, option("--bias", help="Set the flag bias_check_passed: the version passed a bias check.")
    ] = False,
    directory: Directory = None,
) -> Result:
    """Record a version's policy approval, bias check or both."""
    if not (policy or bias):
        raise click.BadParameter("give --policy, --bias, or both")
    with hub(directory) as client:
        record = client.approve(version, policy=policy, bias=bias)
    return Result(record, [f"{record.ref}: approved{' policy' if policy else ''}{' bias' if bias else ''}"])


def show_parity(version: Version, *, directory: Directory = None) -> Result:
    """Show whether a version answers like the fitted model."""
    with hub(directory) as client:
        record = client.version(version)
        faults: tuple[VersionFault, ...] = ()
        with suppress(Forbidden):
            faults = client.version_faults(version)
    return _parity_result(record, faults)


def accept_parity(
    version: Version,
    *,
    reason: Annotated[
        str, option("--reason", metavar="WHY", help="Why the difference is acceptable; recorded in the ledger.")
    ],
    directory: Directory = None,
) -> Result:
    """Accept that a version answers unlike the fitted model."""
    with hub(directory) as client:
        record = client.accept_difference(version, reason=reason)
    return Result(record, [f"{record.ref}: the difference is accepted"])


def probe(
    version: Version,
    *,
    data: Annotated[Path, option(metavar="FILE", existing=True, help="Rows of the training data, CSV or Parquet.")],
    directory: Directory = None,
) -> Result:
    """
    Measure a version's parity with rows of a file.

    A new Python process loads the version. Its model answers rows of the file directly, and through the served path;
    both answers are compared. What the trainer's own object answered is not known.
    """
    with progress("Answering rows in a new process"), hub(directory, quiet=True) as client:
        record = client.probe(version, data)
    return _parity_result(record)


def stage(
    version: Version,
    to: Annotated[str, argument("STAGE", "The new stage: development, sandbox, canary or deprecated.")],
    *,
    reason: Reason = "",
    without_parity: Annotated[
        str | None,
        option(
            "--without-parity",
            metavar="WHY",
            help="Let a version leave development without measured parity; the ledger records this reason.",
        ),
    ] = None,
    directory: Directory = None,
) -> Result:
    """
    Move a version to another stage.

    Before a version leaves development, a new Python process answers the version's probe rows.
    """
    with progress("Comparing the version's answers in a new Python process"), hub(directory, quiet=True) as client:
        record = client.change_stage(version, to, reason=reason, without_parity=without_parity)
    return Result(record, [f"{record.ref} is in {record.stage}"])


def promote(
    version: Version,
    *,
    reason: Reason = "",
    override: Annotated[
        str | None, option(metavar="WHY", help="Promote without a passing gate report; the ledger records this reason.")
    ] = None,
    generation: Annotated[
        int | None, option(metavar="N", help="Fail if the deployment is no longer at this generation.")
    ] = None,
    at: Annotated[
        str | None,
        option(metavar="TIME", help="Let the promotion wait until this time, such as 2026-12-24T09:00Z."),
    ] = None,
    directory: Directory = None,
) -> Result:
    """
    Put a version into production; servers load it.

    With --at, the promotion waits until that time, or until the first later time that the policy allows.
    """
    if at is not None:
        from mendel.app.cli.deployment import promote_later  # noqa: PLC0415 - the other half of the commands on stages

        return promote_later(version, at, reason=reason, override=override, generation=generation, directory=directory)
    with hub(directory) as client:
        deployment = client.promote(version, reason=reason, override=override, generation=generation)
    return Result(deployment, [f"{version} is in production (generation {deployment.generation})"])


def undeploy(
    model: Model,
    *,
    reason: Reason = "",
    deprecate: Annotated[
        bool, option("--deprecate", help="Deprecate the version, so that it never serves again.")
    ] = False,
    generation: Annotated[
        int | None, option(metavar="N", help="Fail if the deployment is no longer at this generation.")
    ] = None,
    directory: Directory = None,
) -> Result:
    """
    Take a model out of production.

    The model then serves nothing. Its production version moves to sandbox, whether or not a server could ever load it.
    """
    with hub(directory) as client:
        deployment = client.undeploy(model, reason=reason, deprecate=deprecate, generation=generation)
    return Result(deployment, [f"{model} serves nothing (generation {deployment.generation})"])


def show_policy(model: Model, *, directory: Directory = None) -> Result:
    """Print the policy of a model."""
    with hub(directory) as client:
        document = client.policy(model)
    return Result(document, _policy_lines(model, document))


def set_policy(
    model: Model,
    file: Annotated[Path, argument("FILE", "A YAML file with the policy.", existing=True)],
    *,
    directory: Directory = None,
) -> Result:
    """
    Replace the policy of a model.

    Each replacement is a new version of the policy; every decision names the version that caused it.
    """
    from mendel.app.project.policy_files import read_policy_file  # noqa: PLC0415 - help must be quick

    body = read_policy_file(file)
    with hub(directory, create=True) as client:
        document = client.set_policy(model, body)
    return Result(document, [f"{model}: policy version {document.version}, {document.hash}"])


def _parity_result(record: VersionRecord, faults: tuple[VersionFault, ...] = ()) -> Result:
    from mendel.registry.parity_rule import parity_lines  # noqa: PLC0415 - help must be quick

    value = {
        "parity": record.parity,
        "clean_parity": record.clean_parity,
        "probed": record.probed,
        "served_parity": record.served_parity,
        "accepted": record.accepted,
        "without_parity": record.without_parity,
        "faults": faults,
    }
    told = (f"{fault.where}: {fault.detail or fault.fault}" for fault in faults)
    return Result(value, [f"{record.ref}", *(f"  {line}" for line in (*parity_lines(record), *told))])


def _trained_lines(trained: Trained) -> Iterator[str]:
    yield f"Registered {trained.ref} ({trained.uuid}) from {trained.release_tag}, trained on {trained.rows} rows."
    for name, value in sorted(trained.metrics.items()):
        yield f"  {name:<20} {value:.4f}"
    yield f"  {'gates':<20} {trained.verdict}"
    if trained.verdict != "pass":
        for reason in trained.reasons:
            yield f"    {reason}"


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Raise a usage error about the first of the flags that was *given*, because it would have no effect."""
    if flag := next((flag for flag, value in given.items() if value), None):
        raise click.BadParameter(f"{flag} {why}")


def _registered(done: RegisteredArtifact) -> Result:
    if done.image_seen is False:
        warn("The image registry did not answer: the image was recorded by its digest only, without its release.")
    return Result(done.version, _version_lines(done.version))


def _version_lines(record: VersionRecord) -> Iterator[str]:
    yield f"{record.ref} ({record.uuid})"
    yield f"  {'release':<10} {record.release_tag or '-'}"
    yield f"  {'image':<10} {'-' if record.image is None else f'{record.image.reference} {record.image.digest}'}"


def _model_lines(found: ModelView) -> Iterator[str]:
    health = found.row.health
    yield f"{health.model}  {health.health_status}, generation {found.deployment.generation}"
    for route in found.deployment.routes:
        yield f"  {'serves':<10} version {route.version} for {route.share:.0%} of the traffic"
    for reason in health.reasons:
        yield f"  {'reason':<10} {reason}"
    yield f"  {'servers':<10} {found.row.convergence}"
    yield f"  {'versions':<10} {len(found.versions)}"
    yield f"  {'policy':<10} version {found.policy.version}, {found.policy.hash[:12]}"
    for incident in found.incidents:
        if incident.status.unresolved:
            yield f"  {'incident':<10} {incident.id} {incident.title} [{incident.severity}, {incident.status}]"


def _policy_lines(model: str, document: PolicyDocument) -> Iterator[str]:
    import yaml  # noqa: PLC0415 - help must be quick

    yield f"# {model}: version {document.version}, {document.hash}"
    yield yaml.safe_dump(document.body, sort_keys=False).rstrip()
