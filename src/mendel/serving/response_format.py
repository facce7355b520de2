"""What a project makes of its predictor's answers: ``api.response_format`` and its neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mendel.errors import ModelFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """
    Attributes:
        format: ``standard`` answers one value per row in our own envelope; ``custom`` lets the predictor's dict be the
            body of the plain routes, ``passthrough`` whatever it returns.
        validated: An answer that does not fit is the model's fault: another number of rows, probabilities that are not
            one per class, in ``custom`` no dict. Otherwise it is passed on as it came.
        values_only: Answers that are records become their plain values, without names.
    """

    format: Literal["standard", "custom", "passthrough"] = "standard"
    validated: bool = True
    values_only: bool = False

    @property
    def one_request_per_call(self) -> bool:
        """Whether each request is predicted by itself, because the model's return need not be one answer per row."""
        return self.format != "standard" or not self.validated

    def body(self, returned: Any, *, proba: bool) -> Body | None:
        """
        The body that *returned*, as JSON knows it, is; None where it goes into our own envelope.

        Raises:
            ModelFailed: ``custom`` promises a dict, and it is none.
        """
        if self.format == "standard":
            return None
        if self.format == "passthrough":
            return Body(returned)
        if isinstance(returned, dict):
            return Body(_with_values(returned) if self.values_only else returned)
        if self.validated and not proba:
            raise ModelFailed(
                f"The model answered a {type(returned).__name__}; api.response_format custom needs a dict."
            )
        return None

    def shown(self, values: list[Any]) -> list[Any]:
        """*values*, one per row, as answers carry them."""
        return [plain_values(value) for value in values] if self.values_only else values


@dataclass(frozen=True, slots=True)
class Body:
    """A whole body, null included."""

    content: Any


def plain_values(value: Any) -> Any:
    """
    A record as its values, the only one alone; anything else as it is.

    >>> plain_values({"label": "yes"}), plain_values({"label": "yes", "score": 0.5}), plain_values(3)
    ('yes', ['yes', 0.5], 3)
    """
    if not isinstance(value, Mapping):
        return value
    values = list(value.values())
    return values[0] if len(values) == 1 else values


def _with_values(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "predictions": list(record.values())} if "predictions" not in record else record
