"""Commands of a project: its releases, and training one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mendel.app.cli.options import AsJson, ClassifierName, Directory, ProjectPath, hub, settings_of
from mendel.app.cli.output import print_json, print_table, progress, say, warn
from mendel.errors import Conflict

if TYPE_CHECKING:
    from mendel.projects import Observation, TagPlan, ToolBuild
    from mendel.values import Bump


def add_to(app: typer.Typer) -> None:
    """Add them."""
    app.command()(tag)
    app.command()(train)


def tag(
    bump: Annotated[str | None, typer.Argument(metavar="[major|minor|patch]", help="Make the next release.")] = None,
    *,
    classifier: ClassifierName = None,
    every: Annotated[bool, typer.Option("--all", help="Tag all that are not Ready.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="The tag's message.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be tagged.")] = False,
    allow_untracked: Annotated[bool, typer.Option(help="Record the digests of untracked artefacts.")] = False,
    allow_missing_mlserver: Annotated[bool, typer.Option(help="Tag as not reproducible.")] = False,
    path: ProjectPath = None,
    json: AsJson = False,
) -> None:
    """Show the release status of every classifier, or make the next release of one."""
    from mendel.adapters.git import GitPrograms  # noqa: PLC0415 - help must be quick
    from mendel.app.tools import this_tool  # noqa: PLC0415
    from mendel.projects import load_project, observe  # noqa: PLC0415

    project, tool = load_project(path or Path.cwd()), this_tool()
    seen = observe(project, GitPrograms())
    if bump is None:
        _show_status(seen, tool, json=json)
        return
    plans = _plans(
        seen,
        _chosen(seen, tool, classifier, every=every),
        _bump(bump),
        tool,
        message=message,
        allow_untracked=allow_untracked,
        allow_missing_tool=allow_missing_mlserver,
    )
    if not dry_run:
        for plan in plans:
            GitPrograms().create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
    if json:
        print_json(
            [
                {"tag": str(p.tag), "previous": str(p.previous or ""), "commit": p.commit, "made": not dry_run}
                for p in plans
            ]
        )
        return
    for plan in plans:
        _show_plan(plan, tool, made=not dry_run)


def train(
    *,
    data: Annotated[
        Path, typer.Option("--data", help="The training rows, CSV or Parquet.", exists=True, dir_okay=False)
    ],
    target: Annotated[str | None, typer.Option(help="The label's column.", show_default="monitoring.target")] = None,
    holdout: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of rows kept out to judge it.")] = 0.25,
    seed: Annotated[int, typer.Option(help="Of split and training.")] = 0,
    classifier: ClassifierName = None,
    path: ProjectPath = None,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Train the release at HEAD in a process of its own, judge it, and register it as a new version."""
    from mendel.app.training import TrainingWish, train_release  # noqa: PLC0415 - help must be quick

    wish = TrainingWish(data=data, target=target, holdout=holdout, seed=seed, classifier=classifier, path=path)
    with hub(directory) as client, progress("Training ..."):
        trained = train_release(wish, client, settings_of(directory))
    if json:
        print_json(trained)
        return
    say(f"Registered {trained.ref} ({trained.uuid}) from {trained.release_tag}, trained on {trained.rows} rows.")
    for name, value in sorted(trained.metrics.items()):
        say(f"  {name:<20} {value:.4f}")
    say(f"  {'gates':<20} {trained.verdict}")
    if trained.verdict != "pass":
        for line in trained.reasons:
            say(f"    {line}")


def _show_status(seen: Observation, tool: ToolBuild, *, json: bool) -> None:
    from mendel.projects import release_status  # noqa: PLC0415 - help must be quick

    rows = release_status(seen, tool)
    if json:
        print_json({"tool": tool.short, "classifiers": rows})
        return
    print_table(
        "Classifier Version Status",
        ("Classifier", "Version", "MLServer", "Status", "Action Required"),
        ((row.classifier, row.version, f"{row.tool} {row.mark}".strip(), row.status, row.action) for row in rows),
        empty="The project has no classifiers.",
    )
    say(f"Current MLServer commit: {tool.short}")


def _show_plan(plan: TagPlan, tool: ToolBuild, *, made: bool) -> None:
    name = plan.tag.classifier
    say(f"{'✓ Created' if made else 'Would create'} tag: {plan.tag}")
    say()
    say(f"  Version: {plan.previous or 'none'} → {plan.tag.version} ({plan.bump} bump)")
    say(f"  MLServer commit: {tool.short}")
    say(f"  Classifier commit: {plan.commit[:8]}")
    if made:
        say()
        say("Next steps:")
        say("  1. Push tags to remote: git push --tags")
        say(f"  2. Train and register it: mlserver train --classifier {name} --data <file>")


def _bump(text: str) -> Bump:
    from mendel.values import Bump  # noqa: PLC0415 - help must be quick

    if text not in list(Bump):
        raise typer.BadParameter(f"{text!r} is not major, minor or patch")
    return Bump(text)


def _chosen(seen: Observation, tool: ToolBuild, classifier: str | None, *, every: bool) -> list[str]:
    from mendel.projects import ReleaseState, chosen_classifier, release_status  # noqa: PLC0415 - help must be quick

    if classifier is not None:
        return [classifier]
    if every:
        stale = [row.classifier for row in release_status(seen, tool) if row.state is not ReleaseState.READY]
        if not stale:
            warn("Every classifier is Ready; there is nothing to tag.")
        return stale
    return [chosen_classifier(seen.project, None).name]


def _plans(
    seen: Observation,
    names: list[str],
    bump: Bump,
    tool: ToolBuild,
    *,
    message: str | None,
    allow_untracked: bool,
    allow_missing_tool: bool,
) -> list[TagPlan]:
    from mendel.projects import TagRefused, plan_tag  # noqa: PLC0415 - help must be quick

    decided = [
        plan_tag(
            seen,
            name,
            bump,
            tool,
            message=message,
            allow_untracked=allow_untracked,
            allow_missing_tool=allow_missing_tool,
        )
        for name in names
    ]
    refused = [one for one in decided if isinstance(one, TagRefused)]
    if refused:
        said = "; ".join(f"{one.classifier}: {', '.join(one.reasons)}" for one in refused)
        raise Conflict(f"No tag was made. {said}.")
    return [one for one in decided if not isinstance(one, TagRefused)]
