"""Commands that show the registry's past: what was in production, the registry at a point, and what changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import click

from mendel.app.cli.options import Directory, check_point, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import CHANGES, HISTORY, MODELS_AT, VERSIONS_AT, principal

if TYPE_CHECKING:
    from mendel.client.client import Client

_POINT = "a time with its zone (2026-03-01T12:00Z), a duration before now (2h), or the number of a ledger entry"


def show_history(
    model: Annotated[str | None, argument("MODEL", "The name of a model; with --at, all models by default.")] = None,
    *,
    at: Annotated[
        str | None, option(metavar="TIME", help=f"Show the stages, deployment and policy at this point: {_POINT}.")
    ] = None,
    directory: Directory = None,
) -> Result:
    """
    List the versions that were in production, and why.

    With --at, show the registry as it was at a point in the past, rebuilt from the ledger.
    """
    if model is None and at is None:
        raise click.BadParameter("give the name of a MODEL, or a point in the past with --at")
    check_point(at)
    with hub(directory) as client:
        if at is not None:
            return _state_at(client, at, model)
        found, labels = client.history(model or ""), client.principals()
    named = [replace(one, actor=principal(one.actor, labels)) for one in found]
    return Result(found, [HISTORY.grid(named, title=f"{model} in production")])


def diff(
    *,
    since: Annotated[str, option("--from", metavar="TIME", help=f"The earlier point: {_POINT}.")],
    until: Annotated[str | None, option("--to", metavar="TIME", help="The later point.", show_default="now")] = None,
    directory: Directory = None,
) -> Result:
    """List what changed in the registry between two points."""
    check_point(since)
    check_point(until)
    with hub(directory) as client:
        found = client.diff(since, until)
    title = f"Changes from entry {found.since_sequence} to entry {found.until_sequence}"
    return Result(found, [CHANGES.grid(found.rows, title=title)])


def _state_at(client: Client, at: str, model: str | None) -> Result:
    found = client.state_at(at, model)
    point = f"after entry {found.sequence} ({found.time:%Y-%m-%d %H:%M:%S} UTC)"
    grids = [MODELS_AT.grid(found.models, title=f"Models {point}")]
    if model is not None:
        grids += [VERSIONS_AT.grid(one.versions, title=f"Versions of {one.model} {point}") for one in found.models]
    return Result(found, grids)
