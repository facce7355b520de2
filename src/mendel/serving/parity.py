"""Compare the answers of a loaded version to its probe rows with the answers of the fitted model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from mendel.errors import InvalidInput, ModelError
from mendel.serving.artifact_values import write_value
from mendel.serving.entities import Records
from mendel.serving.input_codec import InputCodec
from mendel.serving.predictor import Outputs
from mendel.serving.probe_rows import Probe
from mendel.serving.row_batches import Frame, assemble
from mendel.values.parity import PARITY_FILE, ParityReport, ParityStatus

SINGLES_FOR_S: Final = 0.1
LEAST_SINGLES: Final = 8
_DIGEST_DIGITS: Final = 16
_SMALLEST: Final = 1e-9
"""Probabilities nearer to each other than this are equal; predictions, than this times the largest of them."""


def check_parity(
    probe: Probe | None,
    codec: InputCodec,
    predict: Callable[[Frame], Outputs],
    *,
    steady: Callable[[], float],
    singles_for_s: float = SINGLES_FOR_S,
) -> ParityReport:
    """
    Decode and predict the probe rows like requests, first all rows together and then one by one; compare the answers.

    Nulls are sent as null in the request with all rows, and left out of the requests with one row. The rows that are
    most likely to differ come first.

    Args:
        predict: Predicts a batch in the same way as for requests.
        steady: A monotonic clock in seconds.
        singles_for_s: How long rows are sent one by one, in seconds; at least 8 rows are sent.
    """
    if probe is None:
        return ParityReport.not_measured("the version has no probe rows")
    if probe.unmeasured or not probe.rows:
        return ParityReport.not_measured(probe.unmeasured or "the version has no probe rows")
    comparison = _Comparison(probe)
    records = probe.records
    rows, singles = len(records), 0
    differences = comparison.ask(codec, predict, records, range(rows))
    began = steady()
    for place in range(rows):
        if singles >= LEAST_SINGLES and steady() - began > singles_for_s:
            break
        alone = {name: value for name, value in records[place].items() if value is not None}
        if not any(found.place == place for found in differences):
            differences += [replace(found, alone=True) for found in comparison.ask(codec, predict, [alone], [place])]
        singles += 1
    if not differences:
        return ParityReport(status=ParityStatus.PASSED, rows=rows, singles=singles)
    return ParityReport(
        status=ParityStatus.DIFFERS,
        reason=f"{differences[0].place_and_rule} ({len(differences)} of {rows} rows differ)",
        detail=str(differences[0]),
        rows=rows,
        singles=singles,
        difference_id=" ".join(dict.fromkeys(difference.digest for difference in differences)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """
    A probe row for which the version and the fitted model answer differently.

    Attributes:
        rule: How the answers differ, without values of the row or of the answers.
        values: Both answers, with six digits; empty if the rule alone describes the difference.
    """

    place: int
    rule: str
    values: str = ""
    alone: bool = False

    @property
    def place_and_rule(self) -> str:
        return f"{'sent alone, ' if self.alone else ''}row {self.place} {self.rule}"

    def __str__(self) -> str:
        return f"{self.place_and_rule}{self.values}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(str(self).encode()).hexdigest()[:_DIGEST_DIGITS]


def first_difference(expected: Probe, outputs: Outputs) -> str | None:
    """Say without values how the first row of *outputs* differs from *expected*; None if no row differs."""
    comparison = _Comparison(expected)
    found = (comparison.difference(outputs, place, place) for place in range(len(expected.predictions)))
    return next((difference.rule for difference in found if difference is not None), None)


def write_parity(directory: Path, report: ParityReport) -> None:
    """
    Write the result of the check at registration into the artefact in *directory*.

    The written ``singles`` is at most 8: the check sends at least 8 rows alone if the probe has as many, and the number
    of further rows depends on the speed of the machine.
    """
    report = replace(report, singles=min(report.singles, LEAST_SINGLES))
    write_value(directory, PARITY_FILE, report)


class _Comparison:
    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._smallest = _SMALLEST * max((abs(n) for n in _numbers(probe.predictions)), default=1.0)

    def ask(
        self, codec: InputCodec, predict: Callable[[Frame], Outputs], records: list[Any], places: Sequence[int]
    ) -> list[_Difference]:
        """Predict *records*, and give the rows whose answers differ; *places* are their positions in the probe."""
        try:
            outputs = predict(assemble([codec.decode(Records(rows=records))]))
        except InvalidInput as error:
            feature = getattr(error, "feature", None)
            return [_Difference(place=places[0], rule=f"is refused because of feature {feature!r}")]
        except ModelError as error:
            if isinstance(error.__cause__, MemoryError | OSError):
                raise  # the fault of the machine, not a difference
            return [_Difference(place=places[0], rule=f"fails with {type(error.__cause__ or error).__name__}")]
        found = (self.difference(outputs, at, place) for at, place in enumerate(places))
        return [difference for difference in found if difference is not None]

    def difference(self, outputs: Outputs, at: int, place: int) -> _Difference | None:
        expected, found = self._probe.predictions[place], outputs.predictions[at]
        if not self._same(expected, found, self._smallest) and not self._tied(place):
            return self._told(place, "prediction", expected, found)
        if self._probe.probabilities is None:
            return None
        own, given = self._probe.probabilities[place], outputs.probabilities and outputs.probabilities[at]
        if self._same(own, given, _SMALLEST):
            return None
        return self._told(place, "probabilities", own, given)

    @staticmethod
    def _told(place: int, what: str, expected: Any, found: Any) -> _Difference:
        return _Difference(
            place=place,
            rule=f"has another {what} than the fitted model gave",
            values=f": the fitted model answered {_shown(expected)}, the version answers {_shown(found)}",
        )

    def _same(self, expected: Any, found: Any, smallest: float) -> bool:
        if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
            return len(expected) == len(found) and all(
                self._same(*pair, smallest) for pair in zip(expected, found, strict=True)
            )
        if isinstance(expected, dict) and isinstance(found, dict):
            return expected.keys() == found.keys() and all(
                self._same(expected[key], found[key], smallest) for key in expected
            )
        numbers = (int, float)
        if isinstance(expected, bool) or isinstance(found, bool):
            return expected is found
        if isinstance(expected, numbers) and isinstance(found, numbers):
            if isinstance(expected, int) and isinstance(found, int):
                return expected == found
            return math.isclose(expected, found, rel_tol=self._probe.tolerance, abs_tol=smallest)
        return bool(expected == found)

    def _tied(self, place: int) -> bool:
        """Tell whether the two best scores of a row are nearly equal."""
        rows = self._probe.probabilities
        scores = sorted((score for score in (rows[place] if rows else ()) if isinstance(score, float)), reverse=True)
        return len(scores) > 1 and scores[0] - scores[1] < self._probe.tolerance


def _shown(value: Any) -> str:
    text = json.dumps(_rounded(value), default=str)
    return text if len(text) <= 200 else f"{text[:197]}..."  # noqa: PLR2004 - enough to recognise it by


def _rounded(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _numbers(values: Sequence[Any]) -> Iterator[float]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield float(value)
