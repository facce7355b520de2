"""What a flavour is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mendel.errors import MendelError, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor
from mendel.values import Signature

Sections = Mapping[str, Mapping[str, Any]]
"""What stands below ``flavors`` in an ``MLmodel``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactDescription:
    """
    What an artefact says of its model without being loaded.

    Attributes:
        flavour: The name of the flavour that loads it.
        signature: None where the artefact has none.
        classes: In the order of the probabilities; None where the artefact does not say.
        versions: Of the distributions that it was written with, by name.
    """

    flavour: str
    signature: Signature | None = None
    classes: tuple[Any, ...] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


class Flavour(Protocol):
    """
    One kind of model, from the live object to the artefact's directory and back.

    To add one: a file beside this one and one line in :data:`mendel.serving.flavours.flavour_table.FLAVOURS`. It must
    pass ``tests/contracts/test_flavours.py``. Nothing of a vendor is imported before a method needs it, and a missing
    package is a ModelNotLoadable that names it.
    """

    @property
    def name(self) -> str:
        """Its key below ``flavors`` in the ``MLmodel``, and the ``flavor`` of registered versions."""

    def recognises(self, model: object) -> bool:
        """Whether :meth:`write` takes *model*. No two flavours recognise the same object."""

    def write(self, model: Any, directory: Path) -> Sections:
        """
        Write the files of *model* into *directory*, which exists, and give the sections that :meth:`load` reads.

        The same model gives the same bytes.

        Raises:
            InvalidValue: The directory holds something that does not belong to the model.
        """

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """What the ``MLmodel`` says; reads no other file and unpickles nothing."""

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        """
        Load the model in *directory*, whose content was checked by the caller.

        Args:
            project: Its code is used where the flavour needs code; None where the server hosts no project.

        Raises:
            ModelNotLoadable: The files cannot be read, hold no predictor, or need a package that is not installed.
        """


@contextmanager
def translated_load_errors(doing: str) -> Iterator[None]:
    """
    Turn whatever unpickling or a model's own code raises into ModelNotLoadable.

    Args:
        doing: ``Unpickling the model``: the subject of the message.
    """
    try:
        yield
    except MendelError:
        raise
    except ModuleNotFoundError as error:
        raise ModelNotLoadable(
            f"{doing} needs the module {error.name!r}, which is not installed here.",
            remedy="Install the package that provides it in the environment of this server.",
        ) from error
    except (Exception, SystemExit) as error:
        raise ModelNotLoadable(f"{doing} failed with {type(error).__name__}: {error}") from error
