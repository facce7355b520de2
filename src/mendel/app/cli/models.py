"""Commands of the registry: models, versions, promotion, rollback, policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mendel.app.cli.options import AsJson, Directory, Model, ProjectPath, Version, Why, hub
from mendel.app.cli.output import print_json, print_table, say, warn


def add_to(app: typer.Typer) -> None:
    """Add them."""
    for command in (register, models, versions, approve, stage, promote, rollback, canary, history, card):
        app.command()(command)
    policies = typer.Typer(help="The policy of a model: what is watched, what gates ask, what healing may do.")
    policies.command("show")(show_policy)
    policies.command("set")(set_policy)
    app.add_typer(policies, name="policy")


def register(
    source: Annotated[
        str,
        typer.Argument(metavar="DIR|NAME@N", help="An artefact with its MLmodel; or a version, to add its --image."),
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="The model.", show_default="the artefact's classifier", metavar="NAME")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(metavar="REF", help="The image that delivers it: name:tag or name@sha256:..., local or remote."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Kept beside it, not served: training.parquet, holdout.parquet.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="What it does.", show_default="as the artefact says")] = None,
    flavor: Annotated[str | None, typer.Option(help="mendel or sklearn.", show_default="as the artefact has")] = None,
    release: Annotated[str | None, typer.Option(metavar="TAG", help="Its release.", show_default="the image's")] = None,
    description: Annotated[str, typer.Option(help="For the card.")] = "",
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same content twice under it is one version.")
    ] = None,
    path: ProjectPath = None,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Register an artefact directory as a new version, or record the image that delivers a version."""
    from mendel.app.project import artifact_registration as registering  # noqa: PLC0415 - help must be quick
    from mendel.values import VersionRef  # noqa: PLC0415

    tree = Path(source)
    if "@" in source and not tree.exists():
        if image is None:
            raise typer.BadParameter("to a version that is registered only --image can be added")
        with hub(directory) as client:
            done = registering.record_image(VersionRef.parse(source), image, client, path=path)
    else:
        wish = registering.ArtifactRequest(
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
        with hub(directory) as client:
            done = registering.register_artifact(wish, client)
    if done.image_seen is False:
        warn("The registry does not answer: the image is recorded by its digest, and its release is not known.")
    if json:
        print_json(done.version)
        return
    record = done.version
    say(f"{record.ref} ({record.uuid})")
    say(f"  {'release':<10} {record.release_tag or '-'}")
    say(f"  {'image':<10} {'-' if record.image is None else f'{record.image.reference} {record.image.digest}'}")


def models(*, directory: Directory = None, json: AsJson = False) -> None:
    """List the models: what serves, and how it is."""
    with hub(directory) as client:
        reports = [client.health(name) for name in client.models()]
    if json:
        print_json(reports)
        return
    print_table(
        "Models",
        ("Model", "Version", "Stage", "Health", "Errors", "p95 ms", "Why"),
        (
            (
                report.model,
                report.version or "-",
                report.stage or "-",
                report.health_status,
                _share(report.metrics.avg_error_rate),
                _number(report.metrics.avg_latency_p95_ms),
                "; ".join(report.reasons),
            )
            for report in reports
        ),
        empty="No model is registered. Train one with: mendel train",
    )


def versions(model: Model, *, directory: Directory = None, json: AsJson = False) -> None:
    """List the versions of a model."""
    with hub(directory) as client:
        found = client.versions(model)
    if json:
        print_json(found)
        return
    print_table(
        f"Versions of {model}",
        ("Version", "Stage", "Registered", "Release", "Image", "Parent", "Uuid"),
        (
            (
                v.number,
                v.stage,
                f"{v.registered_at:%Y-%m-%d %H:%M:%S}",
                v.release_tag or "-",
                "-" if v.image is None else v.image.digest.removeprefix("sha256:")[:12],
                v.parent or "-",
                v.uuid,
            )
            for v in found
        ),
        empty=f"{model} has no versions.",
    )


def approve(
    version: Version,
    *,
    policy: Annotated[bool, typer.Option("--policy", help="It complies with policy.")] = False,
    bias: Annotated[bool, typer.Option("--bias", help="It passed its bias check.")] = False,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Set the governance flags of a version."""
    if not (policy or bias):
        raise typer.BadParameter("give --policy, --bias or both")
    with hub(directory) as client:
        record = client.approve(version, policy=policy, bias=bias)
    if json:
        print_json(record)
        return
    say(f"{record.ref}: approved{' policy' if policy else ''}{' bias' if bias else ''}")


def stage(
    version: Version,
    to: Annotated[str, typer.Argument(metavar="STAGE", help="development, sandbox, canary or deprecated.")],
    *,
    reason: Why = "",
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Move a version along the transition table."""
    with hub(directory) as client:
        record = client.change_stage(version, to, reason=reason)
    if json:
        print_json(record)
        return
    say(f"{record.ref} is in {record.stage}")


def promote(
    version: Version,
    *,
    reason: Why = "",
    override: Annotated[
        str | None, typer.Option("--override", metavar="WHY", help="Promote without a passing gate report; recorded.")
    ] = None,
    generation: Annotated[int | None, typer.Option(help="Refuse when somebody changed it since.")] = None,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Put a version into production; servers follow by themselves."""
    with hub(directory) as client:
        deployment = client.promote(version, reason=reason, override=override, generation=generation)
    if json:
        print_json(deployment)
        return
    say(f"{version} is in production (generation {deployment.generation})")


def rollback(
    model: Model,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the ledger.")],
    to: Annotated[int | None, typer.Option(help="Return to this version instead of the newest former one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which version would come back.")] = False,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Take the serving version out of production and bring the former one back."""
    with hub(directory) as client:
        done = client.rollback(model, to=to, reason=reason, dry_run=dry_run)
    if json:
        print_json(done)
        return
    said = "would return" if dry_run else "returned"
    say(f"{model} {said} from {done.from_version} to {done.to_version} (generation {done.deployment.generation})")


def canary(
    version: Version,
    share: Annotated[float, typer.Argument(help="Its share of the traffic, a fraction in (0, 1).")],
    *,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Give a version a share of the traffic beside production."""
    with hub(directory) as client:
        deployment = client.canary(version, share)
    if json:
        print_json(deployment)
        return
    say(f"{version} gets {share:.0%} of the traffic (generation {deployment.generation})")


def history(model: Model, *, directory: Directory = None, json: AsJson = False) -> None:
    """Which version was in production when, and who or what decided so."""
    with hub(directory) as client:
        tenures = client.history(model)
    if json:
        print_json(tenures)
        return
    print_table(
        f"{model} in production",
        ("Version", "From", "Until", "By", "Reason"),
        (
            (
                t.version,
                f"{t.start:%Y-%m-%d %H:%M:%S}",
                f"{t.end:%Y-%m-%d %H:%M:%S}" if t.end else "now",
                t.actor,
                t.reason,
            )
            for t in tenures
        ),
        empty=f"{model} was never in production.",
    )


def card(
    version: Version,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there.")] = None,
    directory: Directory = None,
) -> None:
    """Print the model card of a version, Markdown."""
    with hub(directory) as client:
        text = client.card(version)
    if output is None:
        say(text)
        return
    output.write_text(text, encoding="utf-8")
    say(str(output))


def show_policy(model: Model, *, directory: Directory = None, json: AsJson = False) -> None:
    """Print the policy of a model as it stands."""
    import yaml  # noqa: PLC0415 - help must be quick

    with hub(directory) as client:
        document = client.policy(model)
    if json:
        print_json(document)
        return
    say(f"# {model}: version {document.version}, {document.hash}")
    say(yaml.safe_dump(document.body, sort_keys=False).rstrip())


def set_policy(
    model: Model,
    file: Annotated[
        Path, typer.Argument(help="A YAML file with the sections it shall have.", exists=True, dir_okay=False)
    ],
    *,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Replace the policy of a model; every decision names the version it rested on."""
    from mendel.app.project.policy_files import read_policy_file  # noqa: PLC0415 - help must be quick

    body = read_policy_file(file)
    with hub(directory) as client:
        document = client.set_policy(model, body)
    if json:
        print_json(document)
        return
    say(f"{model}: policy version {document.version}, {document.hash}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
