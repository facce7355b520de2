"""Desired states, artefacts and a steady clock for the tests of a server's processes."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    Digest,
    ModelName,
    Route,
    ServedVersion,
    VersionUuid,
)
from mendel.values.directory_trees import tree_digest


class SteadyClock:
    """A clock in microseconds that a test sets."""

    def __init__(self) -> None:
        self.micros = 1_000_000_000

    def __call__(self) -> int:
        return self.micros

    def pass_seconds(self, seconds: float) -> None:
        self.micros += round(seconds * 1_000_000)


@pytest.fixture
def steady():
    """A clock that stands until it is moved."""
    return SteadyClock()


@pytest.fixture
def rng():
    """Chance, seeded."""
    return random.Random(7)


@pytest.fixture
def artifact(tmp_path) -> Callable[[str], Digest]:
    """Makes an artefact in ``<tmp>/source`` with the given content and gives its digest."""

    def make(content: str) -> Digest:
        draft = tmp_path / "source" / "draft"
        draft.mkdir(parents=True)
        (draft / "model.txt").write_text(content)
        digest = tree_digest(draft)
        draft.rename(tmp_path / "source" / digest.hex)
        return digest

    return make


@pytest.fixture
def source_directory(tmp_path) -> Path:
    """Where ``artifact`` puts them."""
    return tmp_path / "source"


@pytest.fixture
def desire() -> Callable[..., DesiredState]:
    """Makes a state of one model: its versions are given as digests, in the order of their numbers."""

    def make(*digests: Digest, revision: int, generation: int = 1, model: str = "credit", **deployment):
        numbers = {number: digest for number, digest in enumerate(digests, start=1) if digest is not None}
        routed = deployment.pop("production", max(numbers))
        routes = deployment.pop("routes", (Route(version=routed, share=1.0),))
        wanted = Deployment(model=ModelName(model), generation=generation, routes=routes, **deployment)
        versions = tuple(
            ServedVersion(
                number=number,
                uuid=VersionUuid(f"m-{number:032x}"),
                artifact_digest=digest,
                flavor="sklearn",
                signature=None,
                task="classification",
                registered_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
            for number, digest in numbers.items()
            if number in wanted.versions
        )
        return DesiredState(
            revision=revision, models=(DesiredModel(deployment=wanted, versions=versions),), key_hashes={}
        )

    return make
