"""The interface of a model flavour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mendel.errors import MendelError, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.model_faults import not_loadable
from mendel.serving.model_program import NotLoadable
from mendel.serving.predictor import Predictor
from mendel.values import Signature

Sections = Mapping[str, Mapping[str, Any]]
"""The content of ``flavors`` in an ``MLmodel`` file: one section per flavour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactDescription:
    """
    The facts about a model that its artefact states without loading the model.

    Attributes:
        flavour: The name of the flavour that loads the artefact.
        signature: The model signature; None when the artefact has none.
        classes: The classes in the order of the probabilities; None when the artefact does not state them.
    """

    flavour: str
    signature: Signature | None = None
    classes: tuple[Any, ...] | None = None


class Flavour(Protocol):
    """
    Writes one kind of model to the directory of an artefact, and loads the model from there.

    To add a flavour, add a file beside this file and a line in
    :data:`mendel.serving.flavours.flavour_table.FLAVOURS`; the flavour must pass ``tests/contracts/test_flavours.py``.
    Import third-party packages only inside the methods that need them; if such a package is missing, raise a
    ModelNotLoadable that names the package.
    """

    @property
    def name(self) -> str:
        """The name of the flavour: its key in ``flavors`` of an ``MLmodel``, and ``flavor`` of registered versions."""

    def recognises(self, model: object) -> bool:
        """Tell whether :meth:`write` takes *model*; no two flavours may recognise the same object."""

    def accepts(self, model: object) -> bool:
        """Tell whether :meth:`write` takes *model* when the caller names this flavour; true for recognised models."""

    def answering(self, model: Any) -> Any:
        """
        Give an object whose ``predict`` accepts a data frame or an array and gives the same answers as *model*.

        The object is *model* itself, unless *model* needs input of a type of its own library, such as a Booster.
        """

    def write(self, model: Any, directory: Path) -> Sections:
        """
        Write the files of *model* into the existing *directory*, and give the ``MLmodel`` sections that describe them.

        The directory may already contain the packed modules in ``code/``. The same model gives the same bytes.

        Raises:
            InvalidValue: The directory holds a file that does not belong to the model.
        """

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the facts that *mlmodel* states; read no other file and unpickle nothing."""

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        """
        Load the model in *directory*, whose digest the caller has checked.

        Args:
            project: The project whose code the model may need; None when the server hosts no project.

        Raises:
            ModelNotLoadable: The files cannot be read, hold no predictor, or need a package that is not installed.
        """


@contextmanager
def translated_load_errors(doing: str) -> Iterator[None]:
    """
    Convert any exception of unpickling, or of a model's own code, to ModelNotLoadable.

    Args:
        doing: The subject of the error message, for example ``Unpickling the model``.
    """
    try:
        yield
    except MendelError:
        raise
    except NotLoadable as error:
        message, remedy = error.args
        raise ModelNotLoadable(message, remedy=remedy) from None
    except ModuleNotFoundError as error:
        raise ModelNotLoadable(
            f"{doing} needs the module {error.name!r}, which is not installed here.",
            remedy="Install the package that provides it in the environment of this server.",
        ) from error
    except (Exception, SystemExit) as error:
        raise not_loadable(doing, error) from error
