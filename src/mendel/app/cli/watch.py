"""Commands that watch models: findings, the prediction log, labels, incidents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, Model, OneModel, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import INCIDENTS

if TYPE_CHECKING:
    from mendel.healing import LookResult
    from mendel.predictions import LabelRow
    from mendel.views import IncidentView

IncidentId = Annotated[str, argument("INCIDENT", "The id of an incident, INC-<year>-<n>.")]


def monitor(model: Model, *, directory: Directory = None) -> Result:
    """
    Check a model now and print every finding.

    Healing acts on the findings as it does after its own checks.
    """
    with hub(directory) as client:
        outlook = client.observe(model)
        hub_runs = not client.embedded
    return Result(outlook, outlook_lines(outlook, hub_runs=hub_runs))


def stats(model: Model, *, directory: Directory = None) -> Result:
    """Count the predictions and labels of a model."""
    from mendel.values import to_builtins  # noqa: PLC0415 - help must be quick

    with hub(directory) as client:
        counted = client.stats(model)
    return Result(counted, (f"{key:<20} {value}" for key, value in to_builtins(counted).items()))


def import_labels(
    file: Annotated[
        Path, argument("FILE", "A CSV or Parquet file with prediction ids and true outcomes.", existing=True)
    ],
    *,
    id_column: Annotated[str, option(metavar="COLUMN", help="The column of prediction ids.")] = "prediction_id",
    label_column: Annotated[str, option(metavar="COLUMN", help="The column of true outcomes.")] = "true_label",
    source: Annotated[str, option(metavar="NAME", help="The source of the labels; stored with them.")] = "import",
    directory: Directory = None,
) -> Result:
    """Import the true outcomes of predictions from a file."""
    rows = labels_of_file(file, id_column=id_column, label_column=label_column, source=source)
    with hub(directory) as client:
        client.label(rows)
    return Result(
        {"accepted": len(rows)},
        [f"{len(rows)} labels accepted; labels of unknown predictions are kept until the predictions arrive."],
    )


def list_incidents(*, model: OneModel = None, directory: Directory = None) -> Result:
    """List incidents, newest first."""
    with hub(directory) as client:
        return INCIDENTS.result(client.incidents(model))


def show_incident(incident_id: IncidentId, *, directory: Directory = None) -> Result:
    """Show an incident with its timeline and decisions."""
    with hub(directory) as client:
        found = client.incident_details(incident_id)
    return Result(found, incident_lines(found))


def acknowledge_incident(incident_id: IncidentId, *, directory: Directory = None) -> Result:
    """Record that you are looking into an incident."""
    with hub(directory) as client:
        found = client.acknowledge(incident_id)
    return Result(found, [f"{found.id} is {found.status}"])


def resolve_incident(
    incident_id: IncidentId,
    *,
    reason: Annotated[str, option("--reason", metavar="WHY", help="Why the incident is over; recorded in the ledger.")],
    directory: Directory = None,
) -> Result:
    """Close an incident."""
    with hub(directory) as client:
        found = client.resolve(incident_id, reason=reason)
    return Result(found, [f"{found.id} is {found.status}"])


def labels_of_file(path: Path, *, id_column: str, label_column: str, source: str) -> tuple[LabelRow, ...]:
    """
    Read the labels of a CSV or Parquet file, in the order of the file.

    Raises:
        InvalidInput: A column or a prediction id is missing.
    """
    from mendel.adapters.arrow import read_table  # noqa: PLC0415 - help must be quick
    from mendel.app.clock import utc_now  # noqa: PLC0415
    from mendel.predictions import labels_from  # noqa: PLC0415

    return labels_from(
        read_table(path), id_column=id_column, label_column=label_column, source=source, received_at=utc_now()
    )


def outlook_lines(outlook: LookResult, *, hub_runs: bool) -> Iterator[str]:
    """Give the lines about a check: each finding, each signal, and when drift and quality are studied next."""
    for looked in outlook.looked:
        yield f"  {looked.kind:<15} {looked.text.removeprefix(f'{looked.kind} ')}"
    for signal in outlook.signals:
        yield f"! {signal.kind} ({signal.severity}): {'; '.join(signal.reasons)}"
    if outlook.nothing_to_do:
        yield "Nothing to do."
    if not hub_runs:
        yield "No hub runs, so nothing is studied until you start one: mendel up"
    elif outlook.next_study is not None:
        yield f"Next study of drift and quality: {outlook.next_study:%Y-%m-%d %H:%M:%S} UTC"


def incident_lines(view: IncidentView) -> Iterator[str]:
    """Give the lines about an incident: its summary, and its timeline by time."""
    found = view.incident
    yield f"{found.id}  {found.title}  [{found.severity}, {found.status}]"
    yield found.description
    for entry in sorted(found.timeline, key=lambda one: one.at):  # each decision is an entry, too
        yield f"  {entry.at:%H:%M:%S}  {entry.kind:<12} {entry.text}"
