"""What a build takes from a repository."""

from __future__ import annotations

import subprocess

import pytest

from mendel.adapters.git import GitPrograms
from mendel.app.images.build_source import exported, working_tree
from mendel.projects import load_project
from mendel.values import ReleaseTag


@pytest.fixture
def repository(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    (tmp_path / "mlserver.yaml").write_text("classifier: {name: m}\npredictor: {module: a, class_name: A}\n")
    (tmp_path / "a.py").write_text("class A: ...\n")
    git("init", "-q", "-b", "main")
    for version in ("1.9.0", "1.10.0"):
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", version)
        git("tag", "-a", "-m", "x", f"m-v{version}-mlserver-762e7f2")
    git("tag", "m-v3.0.0-mlserver-762e7f2")
    return load_project(tmp_path)


def test_an_older_release_is_not_the_newest(repository):
    """Versions are compared as numbers; a lightweight tag cannot be built, so it is newer than nothing."""
    git = GitPrograms()
    assert working_tree(repository, repository.classifier("m"), git).release.newest
    for version, newest in (("1.9.0", False), ("1.10.0", True)):
        with exported(ReleaseTag.parse(f"m-v{version}-mlserver-762e7f2"), repository, git) as source:
            assert source.release.newest is newest


def test_files_that_git_is_told_to_ignore_make_no_release(repository):
    """Their changes are no changes for git, but would stand in the image: it is untagged, and the reason names them."""
    update = ["git", "-C", str(repository.root), "update-index", "--assume-unchanged", "a.py"]
    subprocess.run(update, check=True, capture_output=True)
    (repository.root / "a.py").write_text("class A: changed = 1\n")
    source = working_tree(repository, repository.classifier("m"), GitPrograms())
    assert (source.release, source.changed) == (None, True)
    assert "a.py" in source.why_untagged
    assert "--no-assume-unchanged" in source.why_untagged
