"""Real temporary repositories."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

YAML = """\
classifiers:
  sentiment: {predictor: {module: a, class_name: A}}
  sentiment-vip: {predictor: {module: a, class_name: A}}
"""


@dataclass(frozen=True)
class Checkout:
    """A repository at ``path`` and the ways to change it."""

    path: Path

    def git(self, *arguments: str) -> str:
        """Run git here and give what it says."""
        done = subprocess.run(["git", "-C", str(self.path), *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        """Write a file, folders included."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")

    def commit(self, message: str = "a change") -> str:
        """Commit everything, changed or not, and give the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def tag(self, name: str, *where: str) -> None:
        """Make an annotated tag."""
        self.git("tag", "-a", "-m", name, name, *where)


@pytest.fixture
def make_checkout(tmp_path, monkeypatch):
    """Gives empty repositories with an author, untouched by the machine's configuration."""
    configuration = tmp_path / "gitconfig"
    configuration.write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.org\n"
        '[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def make(name: str = "repository") -> Checkout:
        path = tmp_path / name
        path.mkdir()
        checkout = Checkout(path)
        checkout.git("init", "-q")
        return checkout

    return make


@pytest.fixture
def checkout(make_checkout):
    """A repository with two classifiers whose names share a prefix, and one commit."""
    repository = make_checkout()
    repository.write("mlserver.yaml", YAML)
    repository.write("a.py", "class A: ...\n")
    repository.commit("first")
    return repository
