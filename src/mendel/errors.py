"""
Every error Mendel raises, drawn as a tree.

    MendelError
    ├── InvalidInput              the caller's input is invalid; nothing was changed
    │   ├── InvalidValue          a value breaks the rules of its type, such as a model name or a window
    │   ├── InvalidSettings       mendel.yaml, a MENDEL_* variable or a flag is invalid
    │   ├── InvalidProject        mlserver.yaml or mlserver.lock is invalid; carries file and line
    │   ├── InvalidPolicy         a policy document is invalid
    │   ├── InvalidRequest        a prediction request does not fit the signature; carries the first wrong feature
    │   ├── TooLarge              more rows or bytes than the limit allows
    │   ├── UnsupportedContent    the request body has a format or compression that the server cannot read
    │   ├── ShapeMismatch         arrays that must have equal shapes differ
    │   ├── EmptyWindow           a statistic is undefined because its window holds no observation
    │   └── ReferenceMismatch     profiles made against different references cannot be merged or compared
    ├── NotFound
    │   ├── ModelNotFound
    │   ├── VersionNotFound
    │   ├── PredictionNotFound
    │   ├── IncidentNotFound
    │   ├── RunNotFound
    │   ├── KeyNotFound
    │   ├── ArtifactNotFound
    │   ├── ReleaseNotFound
    │   ├── ProjectNotFound
    │   ├── DataDirectoryNotFound the data directory was never used, and no hub runs on it
    │   ├── ImageNotFound         no image, manifest or blob has this name or digest
    │   └── WheelNotFound         the wheel with the pinned digest is in no index and no directory
    ├── Conflict                  the current state does not allow the change
    │   ├── AlreadyExists
    │   ├── GenerationConflict    the deployment changed after the caller read it
    │   ├── IllegalTransition     the stage-transition table does not list this move
    │   ├── PromotionRefused      governance, gates or the signature forbid the promotion; carries every reason
    │   ├── NeedsNewImage         the version needs other code or other dependencies than the servers run
    │   ├── NothingToReturnTo     a rollback finds no former production version
    │   ├── NotSwappable          the servers cannot load this version beside the running one
    │   ├── DirectoryInUse        another Mendel process owns this directory
    │   ├── PortInUse
    │   ├── SchemaTooNew          a newer Mendel wrote the data
    │   ├── HealingPaused
    │   ├── StaleLock             mlserver.lock does not match the project's current requirements
    │   ├── ReleaseRefused        the repository's state forbids a release tag; carries every reason
    │   ├── BuildRefused          the project's state forbids building an image; carries every reason
    │   └── Fenced                another process has taken over the lease, so this process must change nothing
    ├── Denied
    │   ├── Unauthenticated       the API key is missing, unknown, expired or revoked
    │   └── Forbidden             the API key lacks the scope
    ├── Unavailable               a part of the system cannot answer now; the input may be valid
    │   ├── StoreUnavailable
    │   ├── HubUnavailable
    │   ├── RegistryUnavailable   an image registry does not answer, or keeps answering "too many requests"
    │   ├── NotReady              no version serves this model yet
    │   ├── Overloaded            a bulkhead is full; carries retry_after
    │   ├── BreakerOpen           the version fails too often; carries retry_after
    │   └── DeadlineExceeded
    ├── Unsupported               the model or object does not support the operation, such as predict_proba
    ├── ModelError                the model caused the error, not the caller and not the server
    │   ├── ModelFailed           the model raised an exception or returned an invalid answer
    │   │   └── ModelStopped      the call was ended, or ended its process, so the whole batch has no answer
    │   └── ModelNotLoadable      the artefact cannot be read or imported, or answers differently than the fitted model
    ├── BuildError
    │   ├── ImageNotVerified      the predictor cannot be loaded in the image; carries the end of the log
    │   └── ProgramFailed         docker, podman, pip or another program ended with an error; carries the end of its log
    ├── StepFailed                a workflow step raised an exception that is not a MendelError; carries its type
    ├── RunnerError
    │   ├── RunnerFailed          the job ended with an error; carries the end of its log
    │   └── RunnerLimit           the job used more memory or time than its limits allow
    └── Corrupt                   stored or received bytes are damaged
        ├── DigestMismatch
        ├── SegmentCorrupt
        ├── SignatureInvalid      a signature does not match; carries every reason
        └── LedgerBroken          the hash chain is broken; carries the first wrong sequence number

An error states what happened, to which thing, and what to do. Each protocol has its own table of status codes.
"""

from __future__ import annotations

from datetime import timedelta


class MendelError(Exception):
    """
    Base class of every error that Mendel raises.

    Args:
        message: What happened, to which thing.
        remedy: What the reader can do; empty when nothing can be done.
    """

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}" if self.remedy else self.message


class InvalidInput(MendelError):
    """The caller's input is invalid; nothing was changed."""


class InvalidValue(InvalidInput):
    """A value breaks the rules of its type, such as a model name or a window."""


class InvalidSettings(InvalidInput):
    """A setting is unknown, has the wrong type or is out of range."""


class InvalidProject(InvalidInput):
    """
    A project file (mlserver.yaml, mlserver.lock) is invalid.

    Args:
        path: The invalid file.
        line: The line of the fault in the file, counted from 1; None when unknown.
    """

    def __init__(self, message: str, *, path: str, line: int | None = None, remedy: str = "") -> None:
        where = path if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {message}", remedy=remedy)
        self.path = path
        self.line = line


class InvalidPolicy(InvalidInput):
    """A policy document is not YAML, has an unknown key, or has a value out of range."""


class InvalidRequest(InvalidInput):
    """
    A prediction request does not fit the model's signature.

    Args:
        feature: The first wrong feature; None when the fault is not in a feature.
    """

    def __init__(self, message: str, *, feature: str | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.feature = feature


class TooLarge(InvalidInput):
    """The input has more rows or bytes than the limit allows."""


class UnsupportedContent(InvalidInput):
    """The request body has a format or compression that the server cannot read."""


class ShapeMismatch(InvalidInput):
    """Arrays or columns that must have equal shapes differ."""


class EmptyWindow(InvalidInput):
    """A statistic is undefined because its window holds no observation."""


class ReferenceMismatch(InvalidInput):
    """Profiles made against different references cannot be merged or compared."""


class NotFound(MendelError):
    """The named thing does not exist."""


class ModelNotFound(NotFound):
    """The registry has no model of this name."""


class VersionNotFound(NotFound):
    """The registry or server has no version with this number or uuid."""


class KeyNotFound(NotFound):
    """The registry has no API key with this id."""


class PredictionNotFound(NotFound):
    """The prediction log has no prediction with this id."""


class IncidentNotFound(NotFound):
    """No incident has this id."""


class RunNotFound(NotFound):
    """No playbook run or workflow has this id."""


class ArtifactNotFound(NotFound):
    """No artefact has this digest."""


class StateUnknown(NotFound):
    """The ledger does not tell the registry's state at this time."""


class ReleaseNotFound(NotFound):
    """The repository has no release with this tag."""


class ProjectNotFound(NotFound):
    """The given path holds no mlserver.yaml, or the project has no such classifier."""


class DataDirectoryNotFound(NotFound):
    """The data directory holds no database, and no hub runs on it; reading creates neither."""


class ImageNotFound(NotFound):
    """No image, manifest or blob has this name or digest."""


class WheelNotFound(NotFound):
    """The wheel with the pinned digest is in no index and no directory that was searched."""


class Conflict(MendelError):
    """The current state does not allow the change."""


class AlreadyExists(Conflict):
    """Another object with the same name or key exists already."""


class GenerationConflict(Conflict):
    """
    The deployment changed after the caller read it.

    Args:
        expected: The generation that the caller read.
        actual: The current generation.
    """

    def __init__(self, message: str, *, expected: int, actual: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.expected = expected
        self.actual = actual


class IllegalTransition(Conflict):
    """The stage-transition table does not list this move."""


class PromotionRefused(Conflict):
    """
    Governance, gates or the signature forbid the promotion.

    Args:
        reasons: Every reason found, in the order of the checks.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class NeedsNewImage(Conflict):
    """
    The version needs other code or other dependencies than the servers run.

    Args:
        release: The tag of the release to build and deploy; None when the version has no release.
    """

    def __init__(self, message: str, *, release: str | None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.release = release


class NothingToReturnTo(Conflict):
    """A rollback finds no former production version."""


class NotSwappable(Conflict):
    """The servers cannot load this version beside the running one."""


class DirectoryInUse(Conflict):
    """Another Mendel process owns this directory."""


class PortInUse(Conflict):
    """Another process listens on this port."""


class SchemaTooNew(Conflict):
    """A newer Mendel wrote the data."""


class HealingPaused(Conflict):
    """An operator has paused healing, for one model or for all."""


class StaleLock(Conflict):
    """mlserver.lock does not match the project's current requirements."""


class ReleaseRefused(Conflict):
    """
    The state of the project or its repository forbids a release tag.

    Args:
        reasons: Every reason found, in the order of the checks.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class BuildRefused(Conflict):
    """
    The state of the project forbids building an image.

    Args:
        reasons: Every reason found, in the order of the checks.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class Fenced(Conflict):
    """Another process has taken over the lease, so this process must change nothing."""


class Denied(MendelError):
    """The caller lacks the right to do this."""


class Unauthenticated(Denied):
    """The API key is missing or unknown."""


class Forbidden(Denied):
    """The API key lacks the scope."""


class Unavailable(MendelError):
    """
    A part of the system cannot answer now; the input may be valid.

    Args:
        retry_after: How long to wait before the next attempt; None when unknown.
    """

    def __init__(self, message: str, *, retry_after: timedelta | None = None, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class StoreUnavailable(Unavailable):
    """A database, artefact store or lake does not answer."""


class HubUnavailable(Unavailable):
    """The hub does not answer."""


class RegistryUnavailable(Unavailable):
    """An image registry does not answer, or keeps answering "too many requests"."""


class NotReady(Unavailable):
    """No version serves this model yet."""


class Overloaded(Unavailable):
    """A bulkhead is full, so the server accepts no further call for this model now."""


class BreakerOpen(Unavailable):
    """The version fails too often, so its circuit breaker refuses calls."""


class DeadlineExceeded(Unavailable):
    """No answer came before the deadline."""


class Unsupported(MendelError):
    """The model or object does not support the operation, such as ``predict_proba``."""


class ModelError(MendelError):
    """
    The model caused the error, not the caller and not the server.

    Args:
        detail: The message of an exception of the model's code, or values of training rows; empty without either. It
            must not be logged, and only callers with the scope ``deploy`` may receive it.
    """

    def __init__(self, message: str, *, detail: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.detail = detail


class ModelFailed(ModelError):
    """
    The model raised an exception or returned an invalid answer.

    Args:
        kind: The type of the exception, for logs, if it was raised in another process; ``at`` is the code location.
    """

    def __init__(self, message: str, *, kind: str = "", at: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind
        self.at = at


class ModelStopped(ModelFailed):
    """The call was ended after ``serving.predict_timeout``, or its process ended; the whole batch has no answer."""


class ModelNotLoadable(ModelError):
    """
    The artefact cannot be read, its code cannot be imported, or its answers differ from the fitted model's.

    Args:
        difference_id: The id of the differences from the fitted model's answers; empty without a difference.
    """

    def __init__(self, message: str, *, detail: str = "", difference_id: str = "", remedy: str = "") -> None:
        super().__init__(message, detail=detail, remedy=remedy)
        self.difference_id = difference_id


class BuildError(MendelError):
    """
    An image could not be built or tried.

    Args:
        log_tail: The last lines of the output.
    """

    def __init__(self, message: str, *, log_tail: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.log_tail = log_tail


class ImageNotVerified(BuildError):
    """The predictor cannot be loaded in the image."""


class ProgramFailed(BuildError):
    """An external program (docker, podman, buildah, pip, mmdebstrap) ended with an error."""


class StepFailed(MendelError):
    """
    A workflow step raised an exception that is not a MendelError.

    Args:
        kind: The name of the exception's type.
    """

    def __init__(self, message: str, *, kind: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.kind = kind


class RunnerError(MendelError):
    """
    A job that ran outside the control plane failed.

    Args:
        log_tail: The last lines of the output.
    """

    def __init__(self, message: str, *, log_tail: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.log_tail = log_tail


class RunnerFailed(RunnerError):
    """The job ended with an error."""


class RunnerLimit(RunnerError):
    """The job used more memory or time than its limits allow."""


class Corrupt(MendelError):
    """Stored or received bytes are damaged: they do not match their digest, checksum or format."""


class DigestMismatch(Corrupt):
    """The content does not have the expected digest."""


class SegmentCorrupt(Corrupt):
    """A segment of the prediction log does not match its checksum or cannot be read."""


class SignatureInvalid(Corrupt):
    """
    A signature is missing, was made with another key, or was made over other content.

    Args:
        reasons: Each difference from the signed content.
    """

    def __init__(self, message: str, *, reasons: tuple[str, ...] = (), remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.reasons = reasons


class LedgerBroken(Corrupt):
    """
    The ledger's hash chain is broken.

    Args:
        sequence: The first wrong sequence number.
    """

    def __init__(self, message: str, *, sequence: int, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.sequence = sequence
