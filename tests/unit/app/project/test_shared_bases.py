"""Base images that a clean clone lacks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mendel.adapters.memory.git import MemoryGit
from mendel.app.project.shared_bases import require_shared_bases, unshared_bases
from mendel.errors import InvalidProject
from mendel.projects import load_project

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def make(tmp_path):
    """Makes a project whose classifiers have the given base images, in a repository that tracks *tracked*."""
    git = MemoryGit(lambda: NOW)

    def made(*bases, tracked=()):
        sections = "".join(
            f"  c{n}: {{predictor: {{module: a, class_name: A}}, build: {{base_image: '{base}'}}}}\n"
            for n, base in enumerate(bases)
        )
        (tmp_path / "mlserver.yaml").write_text(f"classifiers:\n{sections}")
        repository = git.init(tmp_path)
        for name in tracked:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        repository.add(*tracked)
        repository.commit(at=NOW)
        return load_project(tmp_path), git

    return made


def test_only_files_of_the_repository_are_shared(make):
    """Images of registries are; layouts and archives are if git tracks them, with or without the name of an image."""
    tracked = ("base.tar", "layout/index.json")
    shared = ("python:3.11-slim", "oci-archive:base.tar", "oci-archive:base.tar:base", "oci:layout", "oci:layout:base")
    project, git = make(*shared, tracked=tracked)
    assert unshared_bases(project, git) == ()
    require_shared_bases(project, git)


def test_what_stands_on_one_machine_is_refused_with_the_missing_step(make):
    """Untracked and absolute paths are named, each once; the error says how to export the base image."""
    project, git = make("oci:.mendel/base", "oci:.mendel/base", "oci-archive:/srv/base.tar", "python:3.11-slim")
    assert unshared_bases(project, git) == ("oci-archive:/srv/base.tar", "oci:.mendel/base")
    assert unshared_bases(project, git, ["c3"]) == ()
    with pytest.raises(InvalidProject, match=r"oci:.mendel/base exists on this machine only") as refused:
        require_shared_bases(project, git)
    assert "mendel base export --output base.tar" in refused.value.remedy
