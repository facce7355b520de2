"""The result of a judgement, gate by gate."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mendel.gates.evidence import RunCause
from mendel.gates.policy import Profile
from mendel.values import Digest, from_json, to_builtins, to_json


class Verdict(StrEnum):
    """The verdict of a gate; undecided means that evidence is missing, and never promotes."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    UNDECIDED = "undecided"
    FAIL = "fail"


class Family(StrEnum):
    """The kind of harm that a gate prevents."""

    DATA_QUALITY = "data quality"
    STATISTICAL = "statistical"
    STABILITY = "stability"
    CONSISTENCY = "consistency"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """
    The result of one gate.

    A gate with ``binding`` false is for information only. ``value`` was compared with ``bound``; both are None for a
    gate without numbers. ``interval`` is the confidence interval of the value, if the gate compared an end of the
    interval with the bound. ``text`` explains the result; ``needs`` names the evidence that an undecided gate lacks.
    """

    gate: str
    family: Family
    verdict: Verdict
    binding: bool = True
    value: float | None = None
    bound: float | None = None
    interval: tuple[float, float] | None = None
    text: str
    needs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """
    The results of all gates; every gate is evaluated.

    ``look`` is the number of this judgement of the candidate, from 1; ``alpha`` is the significance level that it used.
    """

    metric: str
    cause: RunCause
    profile: Profile
    first_deployment: bool
    samples: int
    candidate_score: float | None
    production_score: float | None
    look: int
    alpha: float
    gates: tuple[GateResult, ...]

    def __getitem__(self, gate: str) -> GateResult:
        return next(result for result in self.gates if result.gate == gate)

    @property
    def verdict(self) -> Verdict:
        """Fail if a binding gate fails, else undecided if a binding gate is undecided, else pass."""
        said = {result.verdict for result in self.gates if result.binding}
        return next((v for v in (Verdict.FAIL, Verdict.UNDECIDED) if v in said), Verdict.PASS)

    @property
    def promotes(self) -> bool:
        """Whether every binding gate passes."""
        return self.verdict is Verdict.PASS

    @property
    def needs(self) -> tuple[str, ...]:
        """The evidence that the undecided binding gates need."""
        undecided = (r for r in self.gates if r.binding and r.verdict is Verdict.UNDECIDED)
        return tuple(result.needs or result.text for result in undecided)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The explanations of all binding gates that did not pass."""
        against = (r for r in self.gates if r.binding and r.verdict is not Verdict.PASS)
        return tuple(f"{result.gate}: {result.text}" for result in against)

    @property
    def digest(self) -> Digest:
        """The SHA-256 of the report's canonical JSON."""
        return Digest(f"sha256:{hashlib.sha256(self.to_json()).hexdigest()}")

    def to_json(self) -> bytes:
        """Encode as canonical JSON; equal reports give equal bytes."""
        return to_json(self._tree())

    @classmethod
    def from_json(cls, text: bytes | str) -> GateReport:
        """
        Decode the JSON of :meth:`to_json`.

        Raises:
            InvalidValue: The text is not a gate report.
        """
        return from_json(text, cls)

    def as_dict(self) -> dict[str, Any]:
        """Convert the report to dicts, lists and scalars, with verdict and digest added."""
        return {**self._tree(), "verdict": str(self.verdict), "needs": list(self.needs), "digest": str(self.digest)}

    def _tree(self) -> dict[str, Any]:
        """
        Convert to builtins; a missing interval has no key, so that digests of reports from before intervals stay valid.
        """
        tree: dict[str, Any] = to_builtins(self)
        gates = [{k: v for k, v in gate.items() if k != "interval" or v is not None} for gate in tree["gates"]]
        return {**tree, "gates": gates}

    def as_markdown(self) -> str:
        """Render the report as Markdown."""
        what = "first deployment" if self.first_deployment else f"{self.metric}, after {self.cause}"
        rows = [
            f"| {r.family} | {r.gate}{'' if r.binding else ' (informational)'} | **{r.verdict}** | {_cell(r)} |"
            for r in self.gates
        ]
        head = [
            f"# Gates: {self.verdict}",
            "",
            f"{what}; {self.samples} labelled rows, look {self.look}, profile {self.profile}.",
            "",
            "| Family | Gate | Verdict | Evidence |",
            "|---|---|---|---|",
        ]
        return "\n".join([*head, *rows, "", f"Digest {self.digest}", ""])


def _cell(result: GateResult) -> str:
    text = f"{result.text}; {result.needs}" if result.needs else result.text
    return text.replace("|", "\\|").replace("\n", " ")
