"""Commands on what is served beside production, or later: canaries, shadow, fallback, planned promotions, adoption."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import click

from mendel.app.cli.options import Directory, Model, Reason, Version, as_usage, hub
from mendel.app.cli.output import Result, warn
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import CANARIES, FOREIGN, PROMOTIONS

OfModel = Annotated[str | None, argument("MODEL", "The name of a model; without a name, all models.")]
SideVersion = Annotated[str, argument("NAME@N|NAME", "The version; the name of the model alone together with --off.")]
Off = Annotated[bool, option("--off", help="End the role.")]


def canary(
    version: Version,
    share: Annotated[
        float | None,
        argument("SHARE", "The version's share of the traffic, a fraction in (0, 1); without it, the policy's steps."),
    ] = None,
    *,
    directory: Directory = None,
) -> Result:
    """
    Give a version a share of the traffic beside production.

    Without SHARE, the share grows in the steps of the policy.
    Each step compares both routes over the same time, and then moves on, waits, or moves the version back to sandbox.
    """
    with hub(directory) as client:
        deployment = client.canary(version, share)
        if share is None and client.embedded:
            warn("No hub runs; only a running hub takes the steps of a canary.")
    got = deployment.routes[1].share
    return Result(deployment, [f"{version} gets {got:.0%} of the traffic (generation {deployment.generation})"])


def list_canaries(model: OfModel = None, *, directory: Directory = None) -> Result:
    """List canaries in steps, and what each waits for."""
    with hub(directory) as client:
        return CANARIES.result(client.canaries(model))


def shadow(version: SideVersion, *, off: Off = False, reason: Reason = "", directory: Directory = None) -> Result:
    """
    Send copies of a model's requests to a version.

    The answers of the version are logged; no caller gets them.
    """
    return _side_version("shadow", version, off=off, reason=reason, directory=directory)


def fallback(version: SideVersion, *, off: Off = False, reason: Reason = "", directory: Directory = None) -> Result:
    """Let a version answer while the production version cannot."""
    return _side_version("fallback", version, off=off, reason=reason, directory=directory)


def list_promotions(model: OfModel = None, *, directory: Directory = None) -> Result:
    """List planned promotions, until when each waits, and why."""
    with hub(directory) as client:
        return PROMOTIONS.result(client.planned_promotions(model))


def cancel_promotion(model: Model, *, reason: Reason = "", directory: Directory = None) -> Result:
    """Cancel the planned promotion of a model."""
    with hub(directory) as client:
        ended = client.cancel_promotion(model, reason=reason)
    return Result(ended, [f"The promotion of {ended.ref} is cancelled."])


def list_foreign(model: Model, *, directory: Directory = None) -> Result:
    """List versions that were registered in MLflow without Mendel."""
    with hub(directory) as client:
        return FOREIGN.result(client.foreign_versions(model), title=f"Foreign versions of {model}")


def adopt(
    version: Version,
    *,
    flavor: Annotated[
        str | None, option(help="MLflow flavour to load.", show_default="the only one beside python_function")
    ] = None,
    task: Annotated[str | None, option(help="classification or regression.", show_default="the files' task")] = None,
    directory: Directory = None,
) -> Result:
    """Register a foreign version of MLflow under its own number."""
    with hub(directory) as client:
        record = client.adopt(version, flavor=flavor, task=task)
    return Result(record, [f"{record.ref} ({record.uuid}) is in {record.stage}"])


def promote_later(
    version: str, at: str, *, reason: str, override: str | None, generation: int | None, directory: str | None
) -> Result:
    """Plan the promotion of a version for the time *at*."""
    when = _moment(at)
    with hub(directory) as client:
        planned = client.plan_promotion(version, when, reason=reason, override=override, generation=generation)
        if client.embedded:
            warn("No hub runs; the promotion waits until a hub runs.")
    until = f"until {planned.until:%Y-%m-%d %H:%M:%S} UTC" if planned.until else "for a change of the policy"
    return Result(planned, [f"{planned.ref} waits {until}: {planned.why}"])


def _side_version(role: str, version: str, *, off: bool, reason: str, directory: str | None) -> Result:
    from mendel.values import ModelName, VersionRef  # noqa: PLC0415 - help must be quick

    with as_usage():
        ref = None if off else VersionRef.parse(version)
        model = ModelName(version) if ref is None else ref.model
    with hub(directory) as client:
        deployment = client.set_side_version(model, role, None if ref is None else ref.number, reason=reason)
    told = f"{model} has no {role}" if ref is None else f"{ref} is the {role} of {model}"
    return Result(deployment, [f"{told} (generation {deployment.generation})"])


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a time; write it like 2026-12-24T09:00Z") from error
    if found.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; add Z for UTC, or an offset such as +01:00")
    return found
