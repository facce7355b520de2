"""Compare what a loaded version answers to its probe rows with what the fitted model answered."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mendel.errors import InvalidInput, ModelError
from mendel.serving.entities import Records
from mendel.serving.input_codec import InputCodec
from mendel.serving.predictor import Outputs
from mendel.serving.probe_rows import Probe
from mendel.serving.row_batches import Frame, assemble
from mendel.values import to_json
from mendel.values.parity import ParityReport, ParityStatus

PARITY_FILE: Final = "mendel/parity.json"
SINGLES_FOR_S: Final = 0.1
LEAST_SINGLES: Final = 8
_SMALLEST: Final = 1e-9
"""Floats nearer to each other than this are equal."""


def check_parity(
    probe: Probe | None,
    codec: InputCodec,
    predict: Callable[[Frame], Outputs],
    *,
    steady: Callable[[], float],
    every_row: bool = False,
) -> ParityReport:
    """
    Send the probe rows through decoding and predicting, all together and one by one, and compare the answers.

    Args:
        predict: Answers a batch as requests are answered.
        steady: Counts seconds; single rows are asked for 0.1 s, at least 8 of them.
        every_row: Ask every row alone, however long that takes.
    """
    if probe is None:
        return ParityReport.not_measured("the version has no probe rows")
    if probe.unmeasured or not probe.rows:
        return ParityReport.not_measured(probe.unmeasured or "the version has no probe rows")
    comparison = _Comparison(probe)
    # what a caller sends is JSON text
    records = json.loads(json.dumps([dict(zip(probe.columns, row, strict=True)) for row in probe.rows]))
    rows = len(records)
    if difference := comparison.ask(codec, predict, records, range(rows)):
        return ParityReport(status=ParityStatus.DIFFERS, reason=difference, rows=rows)
    began, singles = steady(), 0
    for place in range(rows):
        if not every_row and singles >= LEAST_SINGLES and steady() - began > SINGLES_FOR_S:
            break
        if difference := comparison.ask(codec, predict, [records[place]], [place]):
            return ParityReport(
                status=ParityStatus.DIFFERS, reason=f"asked alone, {difference}", rows=rows, singles=singles
            )
        singles += 1
    return ParityReport(status=ParityStatus.PASSED, rows=rows, singles=singles)


def write_parity(directory: Path, report: ParityReport) -> None:
    """
    Write the result of the check at registration into the artefact in *directory*.

    Of the rows asked alone the file counts those that are always asked: the others depend on the time they take.
    """
    report = replace(report, singles=min(report.singles, LEAST_SINGLES))
    path = directory / PARITY_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(to_json(report))


class _Comparison:
    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def ask(
        self, codec: InputCodec, predict: Callable[[Frame], Outputs], records: list[Any], places: Sequence[int]
    ) -> str | None:
        """Give the first difference in the rows at *places*; None where there is none."""
        try:
            outputs = predict(assemble([codec.decode(Records(rows=records))]))
        except (ModelError, InvalidInput) as error:
            return f"row {places[0]} is refused: {error}"
        for at, place in enumerate(places):
            expected, found = self._probe.predictions[place], outputs.predictions[at]
            if not self._same(expected, found) and not self._tied(place):
                return f"row {place}, prediction: the model answered {_shown(expected)}, served is {_shown(found)}"
            if self._probe.probabilities is None:
                continue
            given = None if outputs.probabilities is None else outputs.probabilities[at]
            if not self._same(self._probe.probabilities[place], given):
                return (
                    f"row {place}, probabilities: the model answered {_shown(self._probe.probabilities[place])}, "
                    f"served is {_shown(given)}"
                )
        return None

    def _same(self, expected: Any, found: Any) -> bool:
        if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
            return len(expected) == len(found) and all(map(self._same, expected, found))
        if isinstance(expected, dict) and isinstance(found, dict):
            return expected.keys() == found.keys() and all(self._same(expected[key], found[key]) for key in expected)
        numbers = (int, float)
        if isinstance(expected, bool) or isinstance(found, bool):
            return expected is found
        if isinstance(expected, numbers) and isinstance(found, numbers):
            if isinstance(expected, int) and isinstance(found, int):
                return expected == found
            return math.isclose(expected, found, rel_tol=self._probe.tolerance, abs_tol=_SMALLEST)
        return bool(expected == found)

    def _tied(self, place: int) -> bool:
        """Tell whether the two best scores of a row are nearly equal."""
        rows = self._probe.probabilities
        scores = sorted((score for score in (rows[place] if rows else ()) if isinstance(score, float)), reverse=True)
        return len(scores) > 1 and scores[0] - scores[1] < self._probe.tolerance


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 200 else f"{text[:197]}..."  # noqa: PLR2004 - enough to recognise it by
