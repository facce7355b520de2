"""Compare what a loaded version answers to its probe rows with what the fitted model answered."""

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
_SMALLEST: Final = 1e-9
"""Probabilities nearer to each other than this are equal; predictions, than this times the largest of them."""


def check_parity(
    probe: Probe | None,
    codec: InputCodec,
    predict: Callable[[Frame], Outputs],
    *,
    steady: Callable[[], float],
) -> ParityReport:
    """
    Send the probe rows through decoding and predicting, all together and one by one, and compare the answers.

    A null is sent as null in company, and left out of a row that is sent alone; rows that are likely to go wrong come
    first.

    Args:
        predict: Answers a batch as requests are answered.
        steady: Counts seconds; single rows are asked for 0.1 s, at least 8 of them.
    """
    if probe is None:
        return ParityReport.not_measured("the version has no probe rows")
    if probe.unmeasured or not probe.rows:
        return ParityReport.not_measured(probe.unmeasured or "the version has no probe rows")
    comparison = _Comparison(probe)
    # what a caller sends is JSON text
    records = json.loads(json.dumps([dict(zip(probe.columns, row, strict=True)) for row in probe.rows]))
    rows, singles = len(records), 0
    differences = comparison.ask(codec, predict, records, range(rows))
    began = steady()
    for place in range(rows):
        if singles >= LEAST_SINGLES and steady() - began > SINGLES_FOR_S:
            break
        alone = {name: value for name, value in records[place].items() if value is not None}
        if not any(found.place == place for found in differences):
            differences += [replace(found, alone=True) for found in comparison.ask(codec, predict, [alone], [place])]
        singles += 1
    if not differences:
        return ParityReport(status=ParityStatus.PASSED, rows=rows, singles=singles)
    return ParityReport(
        status=ParityStatus.DIFFERS,
        reason=f"{differences[0]} ({len(differences)} of {rows} rows differ)",
        rows=rows,
        singles=singles,
        difference_id=hashlib.sha256("\n".join(map(str, differences)).encode()).hexdigest(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """A probe row whose served answer is not the model's own; numbers are shown to six digits."""

    place: int
    what: str
    alone: bool = False

    def __str__(self) -> str:
        return f"{'asked alone, ' if self.alone else ''}row {self.place}{self.what}"


def first_difference(expected: Probe, outputs: Outputs) -> str | None:
    """Give the first row in which *outputs* differ from the answers of *expected*; None if no row differs."""
    comparison = _Comparison(expected)
    found = (comparison.difference(outputs, place, place) for place in range(len(expected.predictions)))
    return next((str(difference) for difference in found if difference is not None), None)


def write_parity(directory: Path, report: ParityReport) -> None:
    """
    Write the result of the check at registration into the artefact in *directory*.

    Of the rows asked alone the file counts those that are always asked: the others depend on the time they take.
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
        """Give the differences in the rows at *places*."""
        try:
            outputs = predict(assemble([codec.decode(Records(rows=records))]))
        except InvalidInput as error:
            return [_Difference(place=places[0], what=f" is refused: feature {getattr(error, 'feature', None)!r}")]
        except ModelError as error:
            if isinstance(error.__cause__, MemoryError | OSError):
                raise  # the fault of the machine, not a difference
            return [_Difference(place=places[0], what=f" fails with {type(error.__cause__ or error).__name__}")]
        found = (self.difference(outputs, at, place) for at, place in enumerate(places))
        return [difference for difference in found if difference is not None]

    def difference(self, outputs: Outputs, at: int, place: int) -> _Difference | None:
        expected, found = self._probe.predictions[place], outputs.predictions[at]
        if not self._same(expected, found, self._smallest) and not self._tied(place):
            return _Difference(place=place, what=_told("prediction", expected, found))
        if self._probe.probabilities is None:
            return None
        own, given = self._probe.probabilities[place], outputs.probabilities and outputs.probabilities[at]
        if self._same(own, given, _SMALLEST):
            return None
        return _Difference(place=place, what=_told("probabilities", own, given))

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


def _told(what: str, expected: Any, found: Any) -> str:
    return f", {what}: the model answered {_shown(expected)}, served is {_shown(found)}"


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
