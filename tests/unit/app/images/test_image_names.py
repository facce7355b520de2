"""What images and containers of a project are called on their way out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mendel.app.images.push import _references
from mendel.app.images.run import _container_name
from mendel.errors import InvalidInput
from mendel.images import ImageRecord
from mendel.projects import Classifier, PredictorSection, Project, RepositorySection
from mendel.values import EPOCH, Digest, ModelName

IMAGE = ImageRecord(
    digest=Digest(f"sha256:{'1' * 64}"),
    references=("risk/credit:latest", "risk/credit:v1.0.0"),
    created=EPOCH,
    size_bytes=1,
)


def project(directory: str, classifier: str, *, multi: bool) -> tuple[Project, Classifier]:
    """A project with one classifier, in *directory*."""
    root = Path("/") / directory
    one = Classifier(name=ModelName(classifier), predictor=PredictorSection(module="model", class_name="Model"))
    whole = Project(
        root=root, file=root / "mlserver.yaml", repository=RepositorySection(), classifiers=(one,), multi=multi
    )
    return whole, one


@pytest.mark.parametrize(
    ("names", "pushed"),
    [
        (("risk/credit:v1",), ("reg.example.com/acme/risk/credit:v1",)),
        (("reg.example.com/acme/risk/credit:v1",), ("reg.example.com/acme/risk/credit:v1",)),
        (("localhost:5000/risk/credit:v1", "risk/credit:v1"), ("reg.example.com/acme/risk/credit:v1",)),
    ],
)
def test_an_image_is_pushed_under_one_registry(names, pushed):
    """The registry that is given stands instead of the one that an image was built for, never before it."""
    assert _references(replace(IMAGE, references=names), "https://reg.example.com/acme/") == pushed


def test_without_a_registry_names_must_have_one():
    """An image that names no host goes nowhere by itself."""
    with pytest.raises(InvalidInput, match="names no registry"):
        _references(IMAGE, None)


@pytest.mark.parametrize(
    ("directory", "classifier", "multi", "name"),
    [
        ("my models", "credit", True, "my-models-credit"),
        ("größe", "credit", True, "gr-e-credit"),
        ("...", "credit", True, "project-credit"),
        ("risk", "a", False, "risk-a"),
        ("risk", "credit", False, "credit"),
    ],
)
def test_every_project_can_name_a_container(directory, classifier, multi, name):
    """Engines take few letters, and at least two of them."""
    assert _container_name(*project(directory, classifier, multi=multi)) == name
