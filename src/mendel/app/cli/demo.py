"""`mendel demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    """Add it."""
    app.command()(demo)


def demo(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Play with this table instead of the digits.", exists=True, dir_okay=False),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="The label's column of --data.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up at the end.")] = False,
) -> None:
    """Play the whole loop on real data: release, serve, watch, repair, roll back, survive, prove."""
    if (data is None) != (target is None):
        raise typer.BadParameter("give --data and --target together, or neither")
    from mendel.app.demo.narrator import Narrator  # noqa: PLC0415 - help must be quick
    from mendel.app.demo.story import DemoOptions, play  # noqa: PLC0415

    play(DemoOptions(data=data, target=target, keep=keep), Narrator())
