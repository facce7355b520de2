"""Commands that work on a project with a hub: training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mendel.app.cli.options import AsJson, ClassifierName, Directory, ProjectPath, hub, settings_of
from mendel.app.cli.output import print_json, progress, say


def add_to(app: typer.Typer) -> None:
    """Add them."""
    app.command()(train)


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
    from mendel.app.project.training import TrainingRequest, train_release  # noqa: PLC0415 - help must be quick

    wish = TrainingRequest(data=data, target=target, holdout=holdout, seed=seed, classifier=classifier, path=path)
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
