"""Commands that explain recorded decisions, and that decide them again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, OneModel, as_usage, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import LOOKS
from mendel.app.cli.watch import IncidentId
from mendel.errors import InvalidValue

if TYPE_CHECKING:
    from mendel.healing import Backtest, BacktestAction, Comparison, Explanation


def explain_incident(incident_id: IncidentId, *, directory: Directory = None) -> Result:
    """
    Explain each decision about an incident.

    Prints the measured values and their bounds, the guards, which of them held, the rule that decided, and the hash of
    the policy.
    """
    with hub(directory) as client:
        found = client.explain_incident(incident_id)
    lines = [line for one in found for line in _explained(one)]
    return Result(found, lines or [f"{incident_id} has no stored look: it was decided before looks were stored."])


def backtest(
    model: Annotated[str | None, argument("MODEL", "The name of a model; without it, all models.")] = None,
    *,
    policy: Annotated[
        Path | None, option("--policy", metavar="FILE", help="A YAML file with another policy.", existing=True)
    ] = None,
    playbooks: Annotated[
        Path | None,
        option(
            "--playbooks", metavar="DIR", help="A directory of playbooks to use instead of the hub's.", existing=True
        ),
    ] = None,
    since: Annotated[str, option("--since", metavar="TIME", help="How far back to go, such as 12h or 30d.")] = "30d",
    directory: Directory = None,
) -> Result:
    """
    Decide every recorded look again; change nothing.

    Without other options, prints whether every decision is reproduced. With another policy or other playbooks, prints
    what healing would have done, when, and which errors and quality were recorded afterwards.
    """
    from mendel.app.project.policy_files import read_policy_file  # noqa: PLC0415 - help must be quick
    from mendel.values import parse_duration  # noqa: PLC0415

    with as_usage():
        period = parse_duration(since)
        texts = None if playbooks is None else _texts(playbooks)
    body = None if policy is None else read_policy_file(policy)
    with hub(directory) as client:
        found = client.backtest(model, period=period, policy=body, playbooks=texts)
    return Result(found, _backtest_lines(found), exit_code=1 if found.differences else 0)


def _texts(directory: Path) -> dict[str, str]:
    if not directory.is_dir():
        raise InvalidValue(f"{directory} is not a directory.")
    return {path.name: path.read_text("utf-8") for path in sorted(directory.glob("*.yaml"))}


def list_looks(*, model: OneModel = None, directory: Directory = None) -> Result:
    """Count the stored looks and their bytes, by model and day."""
    with hub(directory) as client:
        return LOOKS.result(client.looks(model))


def _explained(found: Explanation) -> Iterator[str]:
    chosen = f" {found.playbook}" if found.playbook else ""
    until = "" if found.until == found.at else f", the same until {found.until:%H:%M:%S}"
    yield f"{found.incident} at {found.at:%Y-%m-%d %H:%M:%S} UTC: {found.verdict}{chosen} by rule {found.rule}{until}"
    version = "" if found.policy_version is None else f" version {found.policy_version}"
    yield f"  policy{version} {found.policy_hash}"
    if found.playbook_hash is not None:
        yield f"  playbook {found.playbook_hash}"
    yield from (f"  because {reason}" for reason in found.reasons)
    yield from (f"  measured  {_compared(one)}" for one in found.readings)
    yield from (f"  guard     {_compared(one)}" for one in found.guards)


def _compared(one: Comparison) -> str:
    rule = "" if one.rule is None else f" ({one.rule})"
    if one.holds is None:
        return f"{one.name}{rule}: {one.value}"
    return f"{one.name}{rule}: {one.value} {one.relation} {one.bound}: {'holds' if one.holds else 'does not hold'}"


def _backtest_lines(found: Backtest) -> Iterator[str]:
    yield f"{found.looks} looks decided again since {found.since:%Y-%m-%d %H:%M} UTC; {found.equal} as stored."
    for one in found.differences:
        yield f"! look {one.look} of {one.model} ({one.kind}) differs"
        yield f"    stored: {one.stored}"
        yield f"    again:  {one.again}"
    if found.unreadable:
        yield f"! {found.unreadable} looks of another version of Mendel cannot be decided again."
    if found.unknown_policies:
        yield f"! {found.unknown_policies} looks name a policy that is not stored."
    yield f"Recorded actions: {len(found.recorded)}"
    for action in found.recorded:
        yield from _action_lines(action, "under the other policy" if found.simulated is not None else "")
    if found.simulated is None:
        return
    yield f"Actions under the other policy: {len(found.simulated)}"
    for action in found.simulated:
        yield from _action_lines(action, "in the recording")
    for key in found.not_applied:
        yield f"  {key} differs, but was not applied: the recorded measurements and trainings were used."


def _action_lines(one: BacktestAction, otherwise: str) -> Iterator[str]:
    done = f"{one.verdict} {one.playbook}" if one.playbook else "escalate to a person"
    yield f"  {one.at:%Y-%m-%d %H:%M:%S} {one.ref} {one.cause}: {done}: {'; '.join(one.reasons)}"
    after = one.afterwards
    serving = "" if after.version is None else f" of {after.version}"
    name = after.metric or "quality"
    yield f"    afterwards{serving}: error rate {_measured(after.error_rate)}, {name} {_measured(after.quality)}"
    if otherwise:
        yield f"    {otherwise}: {one.otherwise}"


def _measured(measurement: object) -> str:
    value = getattr(measurement, "value", None)
    return f"not measured ({measurement})" if value is None else f"{value:.4g}"
