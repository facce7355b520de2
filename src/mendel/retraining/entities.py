"""What a run is asked, and what its steps remember."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mendel.durable import Payload
from mendel.gates import GateReport, RunCause, Verdict
from mendel.values import Digest, ModelName, VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What a run is about.

    Attributes:
        cause: Why; causes that the gates do not know count as drift.
        since: When the change began that caused the run. Rows from then on are divided between training and gates, and
            are what the candidate shall expect to see; None takes the policy's window.
    """

    model: ModelName
    cause: RunCause
    since: datetime | None = None

    @classmethod
    def of(cls, payload: Payload) -> Asked:
        """Read a workflow's input; keys for others are left alone."""
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
    The rows of a run.

    Attributes:
        production: The version that is to be replaced.
        started: When the run did.
        cut: Every training row is older, no evaluation row is.
        answered: Rows answered since the cut, labelled or not.
        fingerprint: Of the training rows; ``missing`` and ``duplicates`` count in them.
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
    """An artefact that is not registered yet; ``metrics`` are those on the evaluation rows."""

    artifact: str
    metrics: dict[str, float]
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """
    One version's answers to the evaluation rows, as a Parquet file.

    ``latencies_ms`` are its p95s by round, as in :class:`mendel.retraining.ports.Replay`; empty in a run that was
    replayed before versions were timed side by side.
    """

    predictions: str
    artifact_bytes: int
    latencies_ms: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """Both versions' answers to the same rows."""

    candidate: Replayed
    production: Replayed


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """
    A version retrained to replace production, and what the gates say of it; nothing live has changed.

    ``report`` is the digest of the gate report, which the registry keeps with the version.
    """

    candidate: VersionRef
    production: VersionRef
    verdict: Verdict
    report: Digest
    text: str

    @classmethod
    def judged(cls, candidate: VersionRef, production: VersionRef, report: GateReport) -> Candidate:
        """The candidate with its verdict told in a sentence."""
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
        """As a workflow returns it; versions read ``credit@3``."""
        return {
            "candidate": str(self.candidate),
            "production": str(self.production),
            "verdict": self.verdict.value,
            "report": str(self.report),
            "text": self.text,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """Where the files of one run are, below ``root``."""

    root: Path

    @property
    def data(self) -> Path:
        """What the registry keeps beside the candidate."""
        return self.root / "data"

    @property
    def training(self) -> Path:
        """The rows it is trained on."""
        return self.data / "training.parquet"

    @property
    def evaluation(self) -> Path:
        """The rows for the gates."""
        return self.root / "evaluation.parquet"

    @property
    def expected(self) -> Path:
        """The rows it shall expect to see."""
        return self.root / "expected.parquet"
