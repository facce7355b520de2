"""Convert a model's return value to the body of an answer, as ``api.response_format`` in mlserver.yaml says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mendel.errors import ModelFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """
    The settings ``api.response_format``, ``api.response_validation`` and ``api.extract_values`` of a classifier.

    Attributes:
        format: ``standard`` sends ``{"predictions": [...], ...}`` with one value per row. ``custom`` sends the dict
            that the model returns as the whole body; ``passthrough`` sends any value that the model returns.
        validated: When True, a request fails with ModelFailed if the model returns another number of answers than rows,
            another number of probabilities than classes, or with ``custom`` no dict. When False, the value is sent
            unchecked.
        values_only: When True, an answer that is a dict is replaced by its values, without the keys.
    """

    format: Literal["standard", "custom", "passthrough"] = "standard"
    validated: bool = True
    values_only: bool = False

    @property
    def one_request_per_call(self) -> bool:
        """True when each request needs its own model call, because the model need not return one answer per row."""
        return self.format != "standard" or not self.validated

    def body(self, returned: Any, *, proba: bool) -> Body | None:
        """
        Give the body for the return value *returned*, which holds JSON values only.

        None means that the standard body ``{"predictions": [...], ...}`` is used.

        Raises:
            ModelFailed: The format is ``custom``, and ``predict`` did not return a dict.
        """
        if self.format == "standard":
            return None
        if self.format == "passthrough":
            return Body(returned)
        if isinstance(returned, dict):
            return Body(_with_values(returned) if self.values_only else returned)
        if self.validated and not proba:
            raise ModelFailed(
                f"The model returned a {type(returned).__name__}, but api.response_format 'custom' needs a dict."
            )
        return None

    def shown(self, values: list[Any]) -> list[Any]:
        """Give the predictions *values* as they appear in answers: dicts without keys if ``values_only``."""
        return [plain_values(value) for value in values] if self.values_only else values


@dataclass(frozen=True, slots=True)
class Body:
    """The whole body of an answer; ``content`` may be None, which is sent as null."""

    content: Any


def plain_values(value: Any) -> Any:
    """
    Replace a mapping by the list of its values, or by its only value; give any other value unchanged.

    >>> plain_values({"label": "yes"}), plain_values({"label": "yes", "score": 0.5}), plain_values(3)
    ('yes', ['yes', 0.5], 3)
    """
    if not isinstance(value, Mapping):
        return value
    values = list(value.values())
    return values[0] if len(values) == 1 else values


def _with_values(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "predictions": list(record.values())} if "predictions" not in record else record
