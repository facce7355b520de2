"""A version of the registry is found by its URI, and fetched once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import mendel
from mendel.app.server.registered_version import fetch_version, find_version
from mendel.errors import InvalidValue, VersionNotFound
from mendel.serving import read_version_directory

ROWS = np.array([[0.0, 1.0], [1.0, 0.0]])


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Two versions of the model ``credit`` in the stage development."""
    with mendel.connect(directory=str(tmp_path_factory.mktemp("registry"))) as client:
        for target in ([0, 1], [1, 0]):
            client.register_baseline(
                model=LogisticRegression().fit(ROWS, target),
                model_type="classification",
                name="credit",
                input_example=ROWS,
            )
        yield client


@pytest.mark.parametrize(
    ("uri", "number"),
    [
        ("models:/credit@development", 2),
        ("models:/credit/development", 2),
        ("models:/credit@2", 2),
        ("models:/credit/1", 1),
    ],
)
def test_stage_and_number_find_a_version(registry, uri: str, number: int):
    """After the name stands a stage or a number, with an @ or a slash."""
    assert find_version(registry, uri).number == number


def test_a_uuid_finds_a_version(registry):
    """A URI as model cards print it, with the uuid alone, finds the version."""
    record = registry.version("credit@2")
    assert find_version(registry, f"models:/{record.uuid}") == record


@pytest.mark.parametrize(
    ("uri", "error", "told"),
    [
        ("credit@production", InvalidValue, "does not name a model"),
        ("models:/credit@champion", InvalidValue, "not a stage"),
        ("models:/credit", InvalidValue, "not a version uuid"),
        ("models:/credit@production", VersionNotFound, "no version in the stage 'production'"),
        ("models:/credit@7", VersionNotFound, "7"),
        ("models:/nobody@1", VersionNotFound, "nobody"),
    ],
)
def test_what_is_not_there_is_told(registry, uri: str, error: type[Exception], told: str):
    """A URI of another form, an unknown model, version or stage is refused with its name."""
    with pytest.raises(error, match=told):
        find_version(registry, uri)


def test_a_version_is_fetched_once(registry, tmp_path):
    """The directory holds the version, and a second call gives the same directory untouched."""
    place = fetch_version(registry, "models:/credit@1", tmp_path)
    assert (place.parent, read_version_directory(place).version.number) == (tmp_path, 1)
    before = (place / "version.json").stat().st_ino
    assert fetch_version(registry, "models:/credit@1", tmp_path) == place
    assert (place / "version.json").stat().st_ino == before
