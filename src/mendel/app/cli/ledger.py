"""Commands that show and prove what happened: ledger, events, keys, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mendel.app.cli.options import AsJson, Config, Directory, hub
from mendel.app.cli.output import print_json, print_table, say


def add_to(app: typer.Typer) -> None:
    """Add them."""
    ledger = typer.Typer(help="The hash-chained record of everything that happened.")
    ledger.command()(verify)
    ledger.command("show")(show_ledger)
    app.add_typer(ledger, name="ledger")
    keys = typer.Typer(help="API keys; a key's secret is shown once.")
    keys.command("add")(add_key)
    app.add_typer(keys, name="keys")
    labels = typer.Typer(help="The true outcomes of predictions.")
    labels.command("import")(import_labels)
    app.add_typer(labels, name="labels")
    config = typer.Typer(help="The settings of this installation.")
    config.command("show")(show_config)
    app.add_typer(config, name="config")
    app.command()(stats)


def verify(*, directory: Directory = None, json: AsJson = False) -> None:
    """Check the whole hash chain and every signed anchor."""
    with hub(directory) as client:
        proof = client.verify_ledger()
    if json:
        print_json(proof)
        return
    say(f"The ledger holds: entries {proof.first} to {proof.last}, head {proof.head_hash[:16]}.")
    say(
        f"Anchored by signature up to {proof.anchored} ({proof.anchors} anchors); beyond, it is merely consistent."
        if proof.anchors
        else "No anchor was signed yet: it is merely consistent."
    )


def show_ledger(
    *,
    after: Annotated[int, typer.Option(help="Begin after this sequence number.")] = 0,
    subject: Annotated[str | None, typer.Option(help="Only what happened to this model, version or incident.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=2000, help="At most so many.")] = 1000,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Print what happened, in order."""
    with hub(directory) as client:
        page = client.events(after=after, limit=limit, subject=subject)
    if json:
        print_json(page)
        return
    print_table(
        "Ledger",
        ("#", "Time", "Event", "Subject", "By"),
        (
            (e.sequence, f"{e.event.time:%Y-%m-%d %H:%M:%S}", e.event.type, e.event.subject, e.event.actor)
            for e in page.entries
        ),
        empty="Nothing happened yet.",
    )


def add_key(
    *,
    scope: Annotated[list[str], typer.Option("--scope", help="predict, read, label, register, deploy or admin.")],
    label: Annotated[str, typer.Option("--label", help="Whose it is.")],
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Make a key and show it, this once."""
    with hub(directory) as client:
        secret = client.add_key(scope, label=label)
    if json:
        print_json({"secret": secret})
        return
    say(secret)


def import_labels(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file.", exists=True, dir_okay=False)],
    *,
    id_column: Annotated[str, typer.Option("--id-column", help="Prediction ids.")] = "prediction_id",
    label_column: Annotated[str, typer.Option("--label-column", help="True outcomes.")] = "true_label",
    source: Annotated[str, typer.Option("--source", help="Who says so.")] = "import",
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Join true outcomes from a file with the predictions they belong to."""
    from mendel.app.cli.label_files import labels_of_file  # noqa: PLC0415 - help must be quick

    rows = labels_of_file(file, id_column=id_column, label_column=label_column, source=source)
    with hub(directory) as client:
        client.label(rows)
    if json:
        print_json({"accepted": len(rows)})
        return
    say(f"{len(rows)} labels taken; those of unknown predictions wait for them.")


def stats(
    model: Annotated[str, typer.Argument(metavar="MODEL")], *, directory: Directory = None, json: AsJson = False
) -> None:
    """Say what the prediction log holds: totals, the last hundred, label coverage."""
    with hub(directory) as client:
        told = client.stats(model)
    if json:
        print_json(told)
        return
    from mendel.values import to_builtins  # noqa: PLC0415 - help must be quick

    for key, value in to_builtins(told).items():
        say(f"{key:<20} {value}")


def show_config(*, directory: Directory = None, config: Config = None, json: AsJson = False) -> None:
    """Print every effective setting and where it came from; secrets are masked."""
    from mendel.app.environment import system_environment  # noqa: PLC0415
    from mendel.app.settings import explain_settings  # noqa: PLC0415 - help must be quick

    origins = explain_settings(environment=system_environment(), file=config, flags={"directory": directory})
    if json:
        print_json(origins)
        return
    print_table("Settings", ("Key", "Value", "From"), ((o.key, o.value, o.source) for o in origins), empty="")
