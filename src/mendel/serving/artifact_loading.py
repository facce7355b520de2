"""Load a predictor from the directory of an artefact. Loading may unpickle, so the digest is checked first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mendel.errors import DigestMismatch, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.carried_project import project_of
from mendel.serving.flavours.flavour_table import flavour_of
from mendel.serving.input_contract import Container, InputContract, read_contract
from mendel.serving.mlmodel import Mlmodel, read_mlmodel
from mendel.serving.model_program import answers_arrays_alike, fitted_names
from mendel.serving.packed_code import packed_code_opened
from mendel.serving.predictor import Predictor
from mendel.values import Digest
from mendel.values.directory_trees import tree_digest
from mendel.values.library_versions import differing_libraries


def load_predictor(directory: Path, *, digest: Digest | None, project: Project | None) -> Predictor:
    """
    Load the predictor of the artefact in *directory*.

    Args:
        digest: The expected digest of the directory; checked before any file is loaded. None skips the check.
        project: The project whose code a ``mendel`` artefact needs; None when this server hosts no project.

    Raises:
        DigestMismatch: The directory does not have the expected digest.
        ModelNotLoadable: The artefact cannot be read, its code cannot be imported, or a package that the artefact needs
            is not installed.
    """
    require_digest(directory, digest)
    return load_described(directory, read_mlmodel(directory), project)


def require_digest(directory: Path, digest: Digest | None) -> None:
    """
    Check that the artefact in *directory* has the expected *digest*; None skips the check.

    Raises:
        DigestMismatch: It has another digest.
    """
    if digest is not None and (found := tree_digest(directory, exclude=("data",))) != digest:
        raise DigestMismatch(f"The artefact has digest {found}, not {digest}.", remedy="Fetch the artefact again.")


def load_described(directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
    """
    Load the predictor of the artefact in *directory* without checking its digest.

    Raises:
        ModelNotLoadable: As for :func:`load_predictor`.
    """
    predictor = load_without_contract(directory, mlmodel, project)
    given = () if mlmodel.signature is None else mlmodel.signature.names
    contract = contract_of(
        directory,
        mlmodel,
        names=lambda: fitted_names(predictor.model, given),
        arrays_alike=lambda: answers_arrays_alike(predictor.model),
    )
    return predictor.with_contract(contract)


def load_without_contract(directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
    """
    Load the predictor as its flavour loads it, with the names that the model was fitted on and no input contract.

    Raises:
        ModelNotLoadable: As for :func:`load_predictor`.
    """
    flavour, project = flavour_of(mlmodel), project_of(directory, mlmodel, project)
    differing = differing_libraries(mlmodel.libraries)
    try:
        with packed_code_opened(directory, mlmodel):
            predictor = flavour.load(directory, mlmodel, project)
    except ModelNotLoadable as error:
        if error.remedy or not differing:
            raise
        raise ModelNotLoadable(
            error.message,
            detail=error.detail,
            remedy=f"Install the package versions that wrote the artefact: {', '.join(map(str, differing))}.",
        ) from error
    predictor.descriptor = replace(predictor.descriptor, other_libraries=differing)
    return predictor


def loaded_alone(directory: str) -> Predictor:
    """
    Load the predictor of an artefact that needs no project, as :func:`load_without_contract` does.

    Raises:
        ModelNotLoadable: As for :func:`load_predictor`.
    """
    return load_without_contract(Path(directory), read_mlmodel(Path(directory)), None)


def contract_of(
    directory: Path,
    mlmodel: Mlmodel,
    *,
    names: Callable[[], Sequence[str] | None],
    arrays_alike: Callable[[], bool],
) -> InputContract | None:
    """
    Give the artefact's input contract; an older artefact's contract is made from its signature and model names.

    Args:
        names: Gives the names that the model was fitted on, as :func:`~mendel.serving.model_program.fitted_names`.
        arrays_alike: Tells whether the model may receive an array instead of a numeric data frame.
    """
    contract = read_contract(directory)
    if contract is not None or mlmodel.signature is None or not mlmodel.signature.inputs:
        return contract
    fitted, numeric = names(), all(column.type.numeric for column in mlmodel.signature.inputs)
    by_place = fitted is None or (numeric and arrays_alike())
    contract = InputContract.of_signature(mlmodel.signature, Container.ARRAY if by_place else Container.FRAME)
    if fitted is None or set(fitted) != set(contract.names):
        return contract
    return replace(contract, columns=tuple(contract.columns[contract.names.index(name)] for name in fitted))
