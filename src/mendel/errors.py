"""
Every error Mendel raises, drawn as a tree.

    MendelError
    ├── InvalidInput              the caller said something that cannot be meant; nothing was changed
    │   ├── InvalidValue          a value refused at birth
    │   ├── InvalidSettings       mendel.yaml, MENDEL_* or a flag
    │   ├── InvalidProject        mlserver.yaml: file, line and nearest key
    │   ├── InvalidPolicy         a policy document
    │   ├── InvalidRequest        a request to a model: names the first offending feature
    │   ├── TooLarge              more rows or bytes than the bound
    │   ├── ShapeMismatch         two things that must have one shape have two
    │   ├── EmptyWindow           a statistic over no observation
    │   └── ReferenceMismatch     profiles against different references cannot be merged
    ├── NotFound
    │   ├── ModelNotFound
    │   ├── VersionNotFound
    │   ├── PredictionNotFound
    │   ├── IncidentNotFound
    │   ├── RunNotFound
    │   ├── ArtifactNotFound
    │   ├── ReleaseNotFound
    │   ├── ProjectNotFound
    │   ├── ImageNotFound         no image or blob of that name or digest
    │   └── WheelNotFound         no wheel with the pinned digest can be had
    ├── Conflict                  the state does not allow it now
    │   ├── AlreadyExists
    │   ├── GenerationConflict    somebody else changed it first
    │   ├── IllegalTransition     not a row of the transition table
    │   ├── PromotionRefused      governance, gates or signature stand against it
    │   ├── NeedsNewImage         the version belongs to other code than the servers host
    │   ├── NothingToReturnTo     a rollback without a former version
    │   ├── NotSwappable          the servers cannot host this version beside the running one
    │   ├── DirectoryInUse        another Mendel owns this .mendel directory
    │   ├── PortInUse
    │   ├── SchemaTooNew          written by a newer Mendel
    │   ├── HealingPaused
    │   ├── StaleLock             mlserver.lock does not belong to what the project asks for now
    │   ├── ReleaseRefused        no tag can be made as the repository stands; carries every reason
    │   ├── BuildRefused          the project cannot be put into an image as it stands; carries every reason
    │   └── Fenced                the lease was lost: a newer executor acts now
    ├── Denied
    │   ├── Unauthenticated       no key, or an unknown one
    │   └── Forbidden             the key lacks the scope
    ├── Unavailable               try again later; nothing is known to be wrong with the input
    │   ├── StoreUnavailable
    │   ├── HubUnavailable
    │   ├── RegistryUnavailable   an image registry does not answer, or too often says: later
    │   ├── NotReady              no version serves this model yet
    │   ├── Overloaded            a bulkhead is full; carries retry_after
    │   ├── BreakerOpen           the version faults too often; carries retry_after
    │   └── DeadlineExceeded
    ├── Unsupported               asked of something that cannot do it (no predict_proba)
    ├── ModelError                the model's own fault
    │   ├── ModelFailed           it raised, or answered something that is not an answer
    │   └── ModelNotLoadable      its artefact cannot be read, or its code cannot be imported
    ├── BuildError
    │   ├── ImageNotVerified      the predictor cannot be imported in the image; carries the end of its log
    │   └── ProgramFailed         docker, podman, pip or another program ended with an error; carries its log
    ├── StepFailed                a step of a workflow raised what nobody foresaw; carries its type
    ├── RunnerError
    │   ├── RunnerFailed          the job ended with an error; carries the end of its log
    │   └── RunnerLimit           it used more memory or time than its limits
    └── Corrupt                   bytes that do not match their checksum
        ├── DigestMismatch
        ├── SegmentCorrupt
        ├── SignatureInvalid      a signature that does not hold; carries every reason
        └── LedgerBroken          the hash chain does not hold; carries the first bad sequence

Errors carry what happened, to which thing, and what to do. They know no status codes: each door has its own table.
"""

from __future__ import annotations

from datetime import timedelta


class MendelError(Exception):
    """
    Root of the tree.

    Args:
        message: What happened, to which thing.
        remedy: What the reader can do about it; may be empty where nothing can be done.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidInput(MendelError):
    """The caller said something that cannot be meant."""


class InvalidValue(InvalidInput):
    """A value refused at birth."""


class InvalidSettings(InvalidInput):
    """A setting that is unknown, mistyped or out of range."""


class InvalidProject(InvalidInput):
    """
    A project file that cannot be read as one.

    Args:
        path: The file at fault.
        line: Its line, 1-based, where one is known.
    """

    def __init__(self, message: str, *, path: str, line: int | None = None, remedy: str = "") -> None:
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {message}", remedy=remedy)
        self.path = path
        self.line = line


class InvalidPolicy(InvalidInput):
    """A policy document that cannot be read as one."""


class InvalidRequest(InvalidInput):
    """
    A request that the model's signature refuses.

    Args:
        feature: The first offending feature, where there is one.
    """

    def __init__(self, message: str, *, feature: str | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.feature = feature


class TooLarge(InvalidInput):
    """More rows or bytes than the bound allows."""


class ShapeMismatch(InvalidInput):
    """Two things that must have one shape have two."""


class EmptyWindow(InvalidInput):
    """A statistic over a window without observations, where it is undefined."""


class ReferenceMismatch(InvalidInput):
    """Profiles against different references cannot be merged or compared."""


class NotFound(MendelError):
    """The named thing does not exist."""


class ModelNotFound(NotFound):
    """No model of that name."""


class VersionNotFound(NotFound):
    """No version of that number or uuid."""


class PredictionNotFound(NotFound):
    """No prediction of that id."""


class IncidentNotFound(NotFound):
    """No incident of that id."""


class RunNotFound(NotFound):
    """No playbook run or workflow of that id."""


class ArtifactNotFound(NotFound):
    """No artefact of that digest."""


class ReleaseNotFound(NotFound):
    """No release of that tag."""


class ProjectNotFound(NotFound):
    """No mlserver.yaml where one was looked for."""


class ImageNotFound(NotFound):
    """No image, manifest or blob of that name or digest."""


class WheelNotFound(NotFound):
    """No wheel with the pinned digest can be had."""


class Conflict(MendelError):
    """The state does not allow it now."""


class AlreadyExists(Conflict):
    """A thing of that name exists and differs."""


class GenerationConflict(Conflict):
    """
    Somebody else changed the deployment first.

    Args:
        expected: The generation the caller had seen.
        actual: The generation there is.
    """

    def __init__(self, message: str, *, expected: int, actual: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.expected = expected
        self.actual = actual


class IllegalTransition(Conflict):
    """A stage change that is no row of the transition table."""


class PromotionRefused(Conflict):
    """
    Governance, gates or signature stand against a promotion.

    Args:
        reasons: Every reason that holds, in the order they were checked.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class NeedsNewImage(Conflict):
    """
    The version belongs to other code or other dependencies than the servers host.

    Args:
        release: The release to build and deploy.
    """

    def __init__(self, message: str, *, release: str | None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.release = release


class NothingToReturnTo(Conflict):
    """A rollback without a former version to return to."""


class NotSwappable(Conflict):
    """The servers cannot host this version beside the running one."""


class DirectoryInUse(Conflict):
    """Another Mendel owns this .mendel directory."""


class PortInUse(Conflict):
    """Another process listens there."""


class SchemaTooNew(Conflict):
    """The data was written by a newer Mendel."""


class HealingPaused(Conflict):
    """The kill switch of healing is on."""


class StaleLock(Conflict):
    """mlserver.lock does not belong to what the project asks for now."""


class ReleaseRefused(Conflict):
    """
    No release can be made as the project and its repository stand.

    Args:
        reasons: Every reason that holds, in the order they were checked.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class BuildRefused(Conflict):
    """
    The project cannot be put into an image as it stands.

    Args:
        reasons: Every reason that holds, in the order they were checked.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class Fenced(Conflict):
    """The lease was lost; a newer executor acts now, and this one must change nothing."""


class Denied(MendelError):
    """The caller may not do this."""


class Unauthenticated(Denied):
    """No key, or an unknown one."""


class Forbidden(Denied):
    """The key lacks the scope."""


class Unavailable(MendelError):
    """
    It cannot be done now, through no fault of the input.

    Args:
        retry_after: When trying again makes sense, where that can be computed.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class StoreUnavailable(Unavailable):
    """A database, artefact store or lake does not answer."""


class HubUnavailable(Unavailable):
    """The hub does not answer."""


class RegistryUnavailable(Unavailable):
    """An image registry does not answer, or says too often: later."""


class NotReady(Unavailable):
    """No version serves this model yet."""


class Overloaded(Unavailable):
    """A bulkhead is full."""


class BreakerOpen(Unavailable):
    """The version faults too often; its breaker is open."""


class DeadlineExceeded(Unavailable):
    """The deadline passed before an answer was there."""


class Unsupported(MendelError):
    """Asked of something that cannot do it."""


class ModelError(MendelError):
    """The model's own fault."""


class ModelFailed(ModelError):
    """The model raised, or answered something that is not an answer."""


class ModelNotLoadable(ModelError):
    """The artefact cannot be read, or its code cannot be imported."""


class BuildError(MendelError):
    """
    What builds or runs images did not do its work.

    Args:
        log_tail: The end of what it printed.
    """

    def __init__(self, message: str, *, log_tail: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.log_tail = log_tail


class ImageNotVerified(BuildError):
    """The predictor cannot be imported in the image."""


class ProgramFailed(BuildError):
    """A program of another vendor (docker, podman, buildah, pip, mmdebstrap) ended with an error."""


class StepFailed(MendelError):
    """
    A step of a workflow raised what nobody foresaw: an error that is not Mendel's.

    Args:
        kind: The name of the type it raised.
    """

    def __init__(self, message: str, *, kind: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind


class RunnerError(MendelError):
    """
    A job outside the control plane did not end well.

    Args:
        log_tail: The end of what it printed.
    """

    def __init__(self, message: str, *, log_tail: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.log_tail = log_tail


class RunnerFailed(RunnerError):
    """The job ended with an error."""


class RunnerLimit(RunnerError):
    """The job used more memory or time than its limits."""


class Corrupt(MendelError):
    """Bytes that do not match their checksum."""


class DigestMismatch(Corrupt):
    """Content that does not have the digest it was fetched by."""


class SegmentCorrupt(Corrupt):
    """A segment whose checksum does not hold."""


class SignatureInvalid(Corrupt):
    """
    A signature that does not hold: another key, other content, or no signature at all.

    Args:
        reasons: What differs from what was signed, one by one.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class LedgerBroken(Corrupt):
    """
    The hash chain does not hold.

    Args:
        sequence: The first sequence number at which it breaks.
    """

    def __init__(self, message: str, *, sequence: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.sequence = sequence
