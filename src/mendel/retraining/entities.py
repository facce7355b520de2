"""The input of a training run, and the results that its steps store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mendel.durable import Payload
from mendel.gates import GateReport, RunCause, Verdict
from mendel.values import Digest, ModelName, VersionRef
from mendel.values.parity import ParityReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    The input of a training run.

    Attributes:
        cause: The reason for the run; a cause that the gates do not know counts as drift.
        since: When the drift or other change that caused the run began. Rows from then on are divided between training
            and evaluation, and are the candidate's drift reference. None uses the policy's window.
    """

    model: ModelName
    cause: RunCause
    since: datetime | None = None

    @classmethod
    def of(cls, payload: Payload) -> Asked:
        """Read the input of the workflow; unknown keys are ignored."""
        said = payload.get("cause", RunCause.MANUAL.value)
        since = payload.get("since")
        return cls(
            model=ModelName(payload["model"]),
            cause=next((cause for cause in RunCause if cause.value == said), RunCause.DRIFT),
            since=None if since is None else datetime.fromisoformat(since),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """
    The rows of a run, as counts, times and a fingerprint.

    Attributes:
        production: The production version that the candidate would replace.
        started: When the run started.
        cut: The event time that separates older training rows from evaluation rows.
        answered: The number of predictions since the cut, labelled or not.
        fingerprint: The fingerprint of the training rows; ``missing`` and ``duplicates`` count cells and rows of them.
    """

    production: int
    started: datetime
    cut: datetime
    answered: int
    base_rows: int
    recent_rows: int
    evaluation_rows: int
    fingerprint: Digest
    missing: int
    duplicates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A trained artefact that is not registered yet; ``metrics`` are computed on the evaluation rows."""

    artifact: str
    metrics: dict[str, float]
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """
    One version's answers to the evaluation rows, in a Parquet file.

    ``latencies_ms`` are the p95 per timing round, as in :class:`mendel.retraining.ports.Replay`; empty in old runs that
    did not time versions side by side. ``parity`` is the result for the version's own probe rows; None in old runs.
    """

    predictions: str
    artifact_bytes: int
    latencies_ms: tuple[float, ...] = ()
    parity: ParityReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """The answers of candidate and production version to the same rows."""

    candidate: Replayed
    production: Replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    A candidate version and the gates' verdict; the deployment has not changed.

    ``report`` is the digest of the gate report, which the registry stores with the version.
    """

    candidate: VersionRef
    production: VersionRef
    verdict: Verdict
    report: Digest
    text: str

    @classmethod
    def judged(cls, candidate: VersionRef, production: VersionRef, report: GateReport) -> Candidate:
        """Make the result from the gate report, with the verdict as a sentence."""
        told = {
            Verdict.PASS: f"{candidate} passed every gate against {production}",
            Verdict.FAIL: f"{candidate} failed: {'; '.join(report.reasons)}",
            Verdict.UNDECIDED: f"{candidate} could not be judged: {'; '.join(report.needs)}",
        }
        verdict = report.verdict
        return cls(
            candidate=candidate, production=production, verdict=verdict, report=report.digest, text=told[verdict]
        )

    def as_payload(self) -> Payload:
        """Convert to the workflow's result; versions are written ``credit@3``."""
        return {
            "candidate": str(self.candidate),
            "production": str(self.production),
            "verdict": self.verdict.value,
            "report": str(self.report),
            "text": self.text,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """The paths of the files of one run, below ``root``."""

    root: Path

    @property
    def data(self) -> Path:
        """The directory that the registry stores with the candidate."""
        return self.root / "data"

    @property
    def training(self) -> Path:
        """The file of the training rows."""
        return self.data / "training.parquet"

    @property
    def evaluation(self) -> Path:
        """The file of the evaluation rows for the gates."""
        return self.root / "evaluation.parquet"

    @property
    def expected(self) -> Path:
        """The file of the rows for the candidate's drift reference."""
        return self.root / "expected.parquet"
