"""Commands that repair: the rollback, runs of playbooks, and healing's switch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, DryRun, Model, OneModel, Reason, check_point, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import RUNS

if TYPE_CHECKING:
    from mendel.healing import PlaybookRun

RunId = Annotated[str, argument("RUN", "The id of a run, for example INC-2026-1-1.")]


def rollback(
    model: Model,
    *,
    reason: Reason,
    to: Annotated[
        str | None,
        option(
            metavar="N|TIME",
            help="The version to put into production; or a point at which it was in production: a time with its zone, "
            "a duration before now (2h), or a ledger entry (seq:120).",
            show_default="the previous production version",
        ),
    ] = None,
    dry_run: DryRun = False,
    directory: Directory = None,
) -> Result:
    """
    Put the previous production version back into production.

    The current version leaves production; servers load the previous one without a restart.
    """
    number = int(to) if to is not None and to.isascii() and to.isdigit() else None
    point = to if number is None else None
    check_point(point)
    with hub(directory) as client:
        done = client.rollback(model, to=number, to_time=point, reason=reason, dry_run=dry_run)
    said = "would return" if dry_run else "returned"
    change = f"from {done.from_version} to {done.to_version} (generation {done.deployment.generation})"
    return Result(done, [f"{model} {said} {change}"])


def list_runs(
    *,
    model: OneModel = None,
    waiting: Annotated[
        bool, option("--waiting", help="List only runs that wait for approval or for healing to resume.")
    ] = False,
    directory: Directory = None,
) -> Result:
    """List runs of playbooks, oldest first."""
    with hub(directory) as client:
        return RUNS.result(client.runs(model, waiting=waiting))


def show_run(run_id: RunId, *, directory: Directory = None) -> Result:
    """Show a run of a playbook with its steps."""
    with hub(directory) as client:
        found = client.run(run_id)
    return Result(found, _run_lines(found))


def approve_run(run_id: RunId, *, directory: Directory = None) -> Result:
    """Approve a waiting run, so that it continues."""
    with hub(directory) as client:
        found = client.approve_run(run_id)
    return Result(found, [f"{found.id} is {found.state}"])


def decline_run(run_id: RunId, *, reason: Reason, directory: Directory = None) -> Result:
    """Decline a waiting run, so that it ends."""
    with hub(directory) as client:
        found = client.decline_run(run_id, reason=reason)
    return Result(found, [f"{found.id} is {found.state}"])


def start_playbook(
    model: Model,
    playbook: Annotated[str, argument("PLAYBOOK", "The playbook: retrain, model_rollback or notify.")],
    *,
    reason: Reason = "started from the command line",
    directory: Directory = None,
) -> Result:
    """Run a playbook on the production version of a model."""
    with hub(directory) as client:
        found = client.start_playbook(model, playbook, reason=reason)
        waits = "; the run starts when a hub runs (mendel up)" if client.embedded else ""
    return Result(found, [f"{found.id} is {found.state}{waits}"])


def pause_healing(*, model: OneModel = None, reason: Reason, directory: Directory = None) -> Result:
    """Pause automatic repairs of one model or of all models."""
    with hub(directory) as client:
        client.pause_healing(model, reason=reason)
    return Result({"paused": True, "model": model}, [f"Healing is paused for {model or 'every model'}."])


def resume_healing(*, model: OneModel = None, directory: Directory = None) -> Result:
    """Resume automatic repairs of one model or of all models."""
    with hub(directory) as client:
        client.resume_healing(model)
    return Result({"paused": False, "model": model}, [f"Healing is resumed for {model or 'every model'}."])


def _run_lines(run: PlaybookRun) -> Iterator[str]:
    yield f"{run.id}  {run.playbook} on {run.ref}: {run.state}"
    for step in run.steps:
        yield f"  {step.at:%H:%M:%S}  {step.name:<20} {step.state:<8} {step.text}"
