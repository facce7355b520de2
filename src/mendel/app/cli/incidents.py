"""Commands of healing: incidents, runs, the kill switch, looking on demand."""

from __future__ import annotations

from typing import Annotated

import typer

from mendel.app.cli.options import AsJson, Directory, Model, Why, hub
from mendel.app.cli.output import print_json, print_table, say

IncidentId = Annotated[str, typer.Argument(metavar="INCIDENT", help="An incident, INC-<year>-<n>.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run of a playbook.")]
OneModel = Annotated[str | None, typer.Option("--model", metavar="MODEL", help="Only this model.")]


def add_to(app: typer.Typer) -> None:
    """Add them."""
    for command in (monitor, incidents, incident, resolve, runs, playbook):
        app.command()(command)
    app.command("approve-run")(approve_run)
    app.command("decline-run")(decline_run)
    healing = typer.Typer(help="The kill switch: healing acts on its own unless it is paused.")
    healing.command()(pause)
    healing.command()(resume)
    app.add_typer(healing, name="healing")


def monitor(model: Model, *, directory: Directory = None, json: AsJson = False) -> None:
    """Look at a model now and say what was found, nothing included."""
    with hub(directory) as client:
        outlook = client.observe(model)
    if json:
        print_json(outlook)
        return
    for looked in outlook.looked:
        say(f"  {looked.kind:<15} {looked.text}")
    for signal in outlook.signals:
        say(f"! {signal.kind} ({signal.severity}): {'; '.join(signal.reasons)}")
    if outlook.nothing_to_do:
        say("Nothing to do.")


def incidents(*, model: OneModel = None, directory: Directory = None, json: AsJson = False) -> None:
    """List incidents, newest first."""
    with hub(directory) as client:
        found = client.incidents(model)
    if json:
        print_json(found)
        return
    print_table(
        "Incidents",
        ("Incident", "Version", "Cause", "Severity", "Status", "Opened", "Title"),
        ((i.id, i.ref, i.cause, i.severity, i.status, f"{i.opened_at:%Y-%m-%d %H:%M:%S}", i.title) for i in found),
        empty="No incident was ever opened.",
    )


def incident(incident_id: IncidentId, *, directory: Directory = None, json: AsJson = False) -> None:
    """Show an incident with its timeline and decisions."""
    with hub(directory) as client:
        found, decisions = client.incident(incident_id), client.decisions(incident_id)
    if json:
        print_json({"incident": found, "decisions": decisions})
        return
    say(f"{found.id}  {found.title}  [{found.severity}, {found.status}]")
    say(found.description)
    for entry in found.timeline:
        say(f"  {entry.at:%H:%M:%S}  {entry.kind:<12} {entry.text}")
    for decision in decisions:
        playbook_name = f" {decision.playbook}" if decision.playbook else ""
        say(f"  {decision.at:%H:%M:%S}  decision     {decision.verdict}{playbook_name}: {'; '.join(decision.reasons)}")


def resolve(
    incident_id: IncidentId,
    *,
    reason: Annotated[str, typer.Option("--reason", help="How it was answered.")],
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Say that an incident is over."""
    with hub(directory) as client:
        found = client.resolve(incident_id, reason=reason)
    if json:
        print_json(found)
        return
    say(f"{found.id} is {found.status}")


def runs(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Show the steps of this run.")] = None,
    *,
    model: OneModel = None,
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """List runs of playbooks, oldest first, or show the steps of one."""
    if run_id is not None:
        _show_run(run_id, directory, json=json)
        return
    with hub(directory) as client:
        found = client.runs(model)
    if json:
        print_json(found)
        return
    print_table(
        "Runs",
        ("Run", "Playbook", "Version", "State", "Steps", "Reason"),
        (
            (r.id, r.playbook, r.ref, r.state + (f" for {r.held_for}" if r.held_for else ""), len(r.steps), r.reason)
            for r in found
        ),
        empty="No playbook was ever run.",
    )


def _show_run(run_id: str, directory: str | None, *, json: bool) -> None:
    with hub(directory) as client:
        found = client.run(run_id)
    if json:
        print_json(found)
        return
    say(f"{found.id}  {found.playbook} on {found.ref}: {found.state}")
    for step in found.steps:
        say(f"  {step.at:%H:%M:%S}  {step.name:<20} {step.state:<8} {step.text}")


def approve_run(run_id: RunId, *, directory: Directory = None, json: AsJson = False) -> None:
    """Let a proposed or held run go on."""
    with hub(directory) as client:
        found = client.approve_run(run_id)
    if json:
        print_json(found)
        return
    say(f"{found.id} is {found.state}")


def decline_run(
    run_id: RunId,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why not.")],
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Refuse a proposed or held run."""
    with hub(directory) as client:
        found = client.decline_run(run_id, reason=reason)
    if json:
        print_json(found)
        return
    say(f"{found.id} is {found.state}")


def playbook(
    model: Model,
    name: Annotated[str, typer.Argument(metavar="PLAYBOOK", help="retrain, model_rollback or notify.")],
    *,
    reason: Why = "asked for on the command line",
    directory: Directory = None,
    json: AsJson = False,
) -> None:
    """Run a playbook on the production version of a model because you say so."""
    with hub(directory) as client:
        found = client.start_playbook(model, name, reason=reason)
        waits = client.embedded
    if json:
        print_json(found)
        return
    say(f"{found.id} is {found.state}" + ("; it starts with the next hub (mendel up)" if waits else ""))


def pause(
    *,
    model: OneModel = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; stands in the ledger.")],
    directory: Directory = None,
) -> None:
    """Let healing start nothing, for one model or for all."""
    with hub(directory) as client:
        client.pause_healing(model, reason=reason)
    say(f"Healing is paused for {model or 'every model'}.")


def resume(*, model: OneModel = None, directory: Directory = None) -> None:
    """Let healing act again."""
    with hub(directory) as client:
        client.resume_healing(model)
    say(f"Healing acts for {model or 'every model'}.")
