"""The command line, assembled."""

from __future__ import annotations

from collections.abc import Iterator

import typer

import mendel.app.cli.demo as demo_commands
import mendel.app.cli.images as image_commands
import mendel.app.cli.incidents as care_commands
import mendel.app.cli.init as starting_commands
import mendel.app.cli.ledger as proof_commands
import mendel.app.cli.lock as lock_commands
import mendel.app.cli.models as model_commands
import mendel.app.cli.servers as process_commands
import mendel.app.cli.signing as signing_commands
import mendel.app.cli.system as machine_commands
import mendel.app.cli.tag as release_commands
import mendel.app.cli.train as project_commands
from mendel.app.cli.output import told_plainly

app = typer.Typer(
    name="mendel",
    help="Keeps machine-learning models alive in production: release, serve, watch, repair, prove.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for group in (
    process_commands,
    starting_commands,
    release_commands,
    project_commands,
    machine_commands,
    lock_commands,
    image_commands,
    model_commands,
    care_commands,
    proof_commands,
    signing_commands,
    demo_commands,
):
    group.add_to(app)


def main() -> None:
    """Run the command line."""
    with told_plainly():
        app()


def command_names() -> Iterator[tuple[str, ...]]:
    """Every command as words, groups included: what the documentation may show."""
    for command in app.registered_commands:
        yield (_name(command),)
    for group in app.registered_groups:
        yield (group.name or "",)
        if group.typer_instance is not None:
            for command in group.typer_instance.registered_commands:
                yield (group.name or "", _name(command))


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or (command.callback.__name__.replace("_", "-") if command.callback else "")
