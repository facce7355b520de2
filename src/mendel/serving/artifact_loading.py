"""Load a predictor from the directory of an artefact. Loading may unpickle, so the digest is checked first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mendel.errors import DigestMismatch, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.estimator_parts import answers_arrays_alike, fitted_names
from mendel.serving.flavours.flavour_table import flavour_of
from mendel.serving.input_contract import Container, InputContract, read_contract
from mendel.serving.mlmodel import Mlmodel, read_mlmodel
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
    if digest is not None and (found := tree_digest(directory, exclude=("data",))) != digest:
        raise DigestMismatch(f"The artefact has digest {found}, not {digest}.", remedy="Fetch the artefact again.")
    return load_described(directory, read_mlmodel(directory), project)


def load_described(directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
    """
    Load the predictor of the artefact in *directory* without checking its digest.

    Raises:
        ModelNotLoadable: As for :func:`load_predictor`.
    """
    predictor = load_without_contract(directory, mlmodel, project)
    return predictor.with_contract(_contract(directory, mlmodel, predictor))


def load_without_contract(directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
    """
    Load the predictor as its flavour loads it, with the names that the model was fitted on and no input contract.

    Raises:
        ModelNotLoadable: As for :func:`load_predictor`.
    """
    flavour = flavour_of(mlmodel)
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


def _contract(directory: Path, mlmodel: Mlmodel, predictor: Predictor) -> InputContract | None:
    """Give the artefact's input contract; an older artefact's contract is made from its signature and model names."""
    contract = read_contract(directory)
    if contract is not None or mlmodel.signature is None or not mlmodel.signature.inputs:
        return contract
    names, numeric = (
        fitted_names(predictor.model, mlmodel.signature.names),
        all(column.type.numeric for column in mlmodel.signature.inputs),
    )
    by_place = names is None or (numeric and answers_arrays_alike(predictor.model))
    contract = InputContract.of_signature(mlmodel.signature, Container.ARRAY if by_place else Container.FRAME)
    if names is None or set(names) != set(contract.names):
        return contract
    return replace(contract, columns=tuple(contract.columns[contract.names.index(name)] for name in names))
