"""Commands about API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from mendel.app.cli.options import Directory, as_usage, hub
from mendel.app.cli.output import Result
from mendel.app.cli.parameters import argument, option
from mendel.app.cli.tables import KEYS

if TYPE_CHECKING:
    from mendel.registry import NewKey

KeyId = Annotated[str, argument("KEY", "The id of the key, from: mendel keys list.")]
Expires = Annotated[
    str | None,
    option(
        "--expires",
        metavar="WHEN",
        help="Refuse the key after this duration, such as 90d, or from this UTC time on, such as 2027-01-31.",
    ),
]


def list_keys(*, directory: Directory = None) -> Result:
    """List the API keys, without their secrets."""
    with hub(directory) as client:
        return KEYS.result(client.list_keys())


def add_key(
    *,
    scope: Annotated[
        list[str],
        option(
            "--scope",
            metavar="SCOPE",
            help=(
                "A right of the key: predict, read, label, serve, register, approve, deploy or admin; may be repeated. "
                "A server needs serve."
            ),
        ),
    ],
    label: Annotated[
        str,
        option(
            "--label", metavar="NAME", help="A name of the key, such as its owner; it is shown beside the key's id."
        ),
    ],
    expires: Expires = None,
    directory: Directory = None,
) -> Result:
    """Make an API key and print its secret, only this once."""
    end = _end(expires)
    with hub(directory, create=True) as client:
        return _shown(client.add_key(scope, label=label, expires_at=end))


def rotate_key(
    key: KeyId,
    *,
    overlap: Annotated[
        str, option("--overlap", metavar="DURATION", help="How long the former secret is accepted too, such as 1h.")
    ] = "0s",
    expires: Expires = None,
    directory: Directory = None,
) -> Result:
    """Print a new secret of an API key, only this once."""
    from mendel.values import parse_duration  # noqa: PLC0415 - help must be quick

    with as_usage():
        span = parse_duration(overlap)
    end = _end(expires)
    with hub(directory) as client:
        return _shown(client.rotate_key(key, overlap=span, expires_at=end))


def revoke_key(key: KeyId, *, directory: Directory = None) -> Result:
    """Refuse an API key from now on."""
    with hub(directory) as client:
        revoked = client.revoke_key(key)
    return Result(revoked, [f"The key {revoked.id} ({revoked.label}) is revoked."])


def _shown(key: NewKey) -> Result:
    return Result(key, [key.secret])


def _end(text: str | None) -> datetime | None:
    """Parse ``--expires``: a duration from now, or a date or time in UTC unless it names a zone."""
    if text is None:
        return None
    from mendel.app.clock import utc_now  # noqa: PLC0415 - help must be quick
    from mendel.errors import InvalidValue  # noqa: PLC0415
    from mendel.values import parse_duration  # noqa: PLC0415

    with as_usage():
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            try:
                return utc_now() + parse_duration(text)
            except InvalidValue as error:
                raise InvalidValue(
                    f"{text!r} is neither a duration nor a time.", remedy="Write 90d, or 2027-01-31T12:00:00Z."
                ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
