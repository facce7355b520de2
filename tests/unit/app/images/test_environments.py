"""Environments made from a lock."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mendel.app.images.cache_directories import this_platform
from mendel.app.images.environments import LockEnvironments
from mendel.errors import MendelError, ModelNotLoadable, NeedsNewImage, StoreUnavailable
from mendel.images import LOCK_FILE
from mendel.serving import TrainedClassifier, write_artifact
from support.locks import lock_of
from support.wheels import wheel

PROJECT = "classifiers:\n  p: {predictor: {module: model.py, class_name: P}}\n"
CODE = "class P:\n    def predict(self, X): return X\n"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def artifact(tmp_path, cache):
    """Makes the artefact of a classifier whose lock pins the given wheels."""
    names = iter("abcdefgh")

    def make(*wheels, locked=True, **how):
        root = tmp_path / next(names)
        root.mkdir()
        for name, text in (("mlserver.yaml", PROJECT), ("model.py", CODE)):
            (root / name).write_text(text)
        (root / LOCK_FILE).write_text(lock_of(cache, wheels, classifier="p", **how).as_text())
        directory = root / "artefact"
        files = {path.name: path for path in root.iterdir() if path.is_file()}
        write_artifact(TrainedClassifier(name="p", files=files, locked=locked), directory, project=None)
        return directory

    return make


def ran(python, code):
    """What *code* prints in the environment."""
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_an_environment_holds_its_wheels_and_nothing_else(cache, artifact):
    """Its modules are found and compiled; packages of this machine are not, and no script of a wheel is installed."""
    directory = artifact(
        wheel("tiny", "1.0", files={"tiny.py": b"WORD = 'one'", "tiny-1.0.data/scripts/go": b"#!python"})
    )
    environments = LockEnvironments(lambda: cache, builds=True)
    with pytest.raises(NeedsNewImage, match="not on this server"):
        environments.python_of(directory)
    environments.make(directory)
    python = environments.python_of(directory)
    assert ran(python, "import tiny; print(tiny.WORD)") == "one"
    assert ran(python, "import importlib.util as u; print(u.find_spec('numpy'), u.find_spec('mendel'))") == "None None"
    root = Path(python).parents[1]
    assert [path.name for path in (root / "bin").iterdir()] == ["python"]
    assert list(root.rglob("__pycache__/tiny.*.pyc"))


def test_equal_locks_share_one_environment_and_others_have_their_own(cache, artifact):
    """The wheels decide; making again changes nothing."""
    one, two = (
        wheel("tiny", "1.0", files={"tiny.py": b"WORD = 1"}),
        wheel("tiny", "2.0", files={"tiny.py": b"WORD = 2"}),
    )
    environments = LockEnvironments(lambda: cache, builds=True)
    pythons = []
    for directory in (artifact(one), artifact(one), artifact(two)):
        environments.make(directory)
        pythons.append(environments.python_of(directory))
    assert pythons[0] == pythons[1] != pythons[2]
    assert [ran(python, "import tiny; print(tiny.WORD)") for python in pythons] == ["1", "1", "2"]
    made = Path(pythons[0]).stat(follow_symlinks=False).st_ino
    environments.make(artifact(one))
    assert Path(pythons[0]).stat(follow_symlinks=False).st_ino == made
    assert not [path for path in (cache / "environments").iterdir() if path.name.startswith(".")]


def test_a_model_that_was_trained_elsewhere_runs_in_the_servers_python(cache, artifact):
    """So does every model of a server whose environments are fixed."""
    unlocked = artifact(wheel("tiny", "1.0"), locked=False)
    environments = LockEnvironments(lambda: cache, builds=True)
    environments.make(unlocked)
    assert environments.python_of(unlocked) is None
    assert LockEnvironments(lambda: cache, builds=False).python_of(artifact(wheel("tiny", "1.0"))) is None
    assert not (cache / "environments").exists()


def test_a_lock_without_this_platform_is_refused(cache, artifact):
    """The error says how to add it."""
    other = "linux/arm64" if this_platform().machine == "x86_64" else "linux/amd64"
    with pytest.raises(NeedsNewImage, match=str(this_platform())):
        LockEnvironments(lambda: cache, builds=True).python_of(artifact(wheel("tiny", "1.0"), platform=other))


@pytest.mark.parametrize(
    ("wheels", "how", "says"),
    [
        ([("tiny-1.0-py3-none-any.whl", b"no zip")], {}, "damaged"),
        ([wheel("tiny", "1.0")], {"python": "3.98"}, r"Python 3\.98"),
        ([wheel("tiny", "1.0", tag="cp311-cp311-manylinux_2_99_x86_64")], {}, r"glibc 2\.99"),
    ],
    ids=["damaged wheel", "no such Python", "newer C library"],
)
def test_what_cannot_be_made_says_why_and_leaves_nothing(cache, artifact, wheels, how, says):
    """The version is not blamed: the environment is simply not there, and may be tried again."""
    directory = artifact(*wheels, **how)
    environments = LockEnvironments(lambda: cache, builds=True)
    with pytest.raises(MendelError, match=says):
        environments.make(directory)
    with pytest.raises(NeedsNewImage):
        environments.python_of(directory)
    made = cache / "environments"
    assert not made.exists() or [path.suffix for path in made.iterdir()] in ([], [".lock"])


def test_a_lock_that_cannot_be_read_is_the_versions_fault(cache, artifact):
    """It is in the artefact, so no server can run it."""
    directory = artifact(wheel("tiny", "1.0"))
    (directory / "project" / LOCK_FILE).write_text("{}")
    with pytest.raises(ModelNotLoadable, match="lock in the artefact"):
        LockEnvironments(lambda: cache, builds=True).make(directory)


def test_jobs_run_in_the_environment_of_the_lock(cache, artifact):
    """It is made at once; a lock of another version of Python, and no lock, leave jobs in Mendel's environment."""
    environments = LockEnvironments(lambda: cache, builds=True)
    project = artifact(wheel("tiny", "1.0")) / "project"
    python = environments.of_project(project, "p", locked=None)
    assert ran(python, "import tiny") == ""
    assert environments.of_project(project, "", locked=True) == python
    assert environments.of_project(project, "p", locked=False) is None
    others = [artifact(wheel("tiny", "1.0"), python="3.99"), artifact(wheel("numpy", "1.0"))]
    for other in others:
        assert environments.of_project(other / "project", "p", locked=None) is None
        with pytest.raises(NeedsNewImage, match="cannot run jobs"):
            environments.of_project(other / "project", "p", locked=True)
    (project / "mlserver.yaml").write_text(PROJECT.replace("class_name: P", "class_name: P, backend: thread"))
    assert environments.of_project(project, "p", locked=None) is None
    (project / LOCK_FILE).unlink()
    assert environments.of_project(project, "p", locked=None) is None


def test_versions_are_compared_with_their_own_packages(cache, artifact):
    """Jobs over versions run in the versions' environment; two different ones cannot be compared in one process."""
    environments = LockEnvironments(lambda: cache, builds=True)
    one, other = artifact(wheel("tiny", "1.0")), artifact(wheel("tiny", "2.0"))
    unlocked = artifact(wheel("tiny", "1.0"), locked=False)
    python = environments.of_artifacts([one, one])
    assert python == environments.python_of(one)
    assert environments.of_artifacts([unlocked]) is None
    for pair in ([one, other], [one, unlocked]):
        with pytest.raises(NeedsNewImage, match="different packages"):
            environments.of_artifacts(pair)
    with pytest.raises(NeedsNewImage, match=r"3\.99"):
        environments.of_artifacts([artifact(wheel("tiny", "1.0"), python="3.99")])


def test_a_cache_that_others_can_write_to_is_not_trusted(cache, artifact):
    """Another user could put a Python there that then runs as this user."""
    directory = artifact(wheel("tiny", "1.0"))
    environments = LockEnvironments(lambda: cache, builds=True)
    environments.make(directory)
    Path(environments.python_of(directory)).parents[1].chmod(0o777)
    with pytest.raises(StoreUnavailable, match="Other users"):
        environments.python_of(directory)


def test_what_a_killed_process_left_is_removed_and_an_unfinished_environment_is_made_again(cache, artifact):
    """Only the marker, which is written last, makes an environment count."""
    directory = artifact(wheel("tiny", "1.0"))
    environments = LockEnvironments(lambda: cache, builds=True)
    environments.make(directory)
    place = Path(environments.python_of(directory)).parents[1]
    (place / ".complete").unlink()
    (place.parent / f".{place.name}-left").mkdir()
    with pytest.raises(NeedsNewImage):
        environments.python_of(directory)
    environments.make(directory)
    assert ran(environments.python_of(directory), "import tiny") == ""
    assert sorted(path.name for path in place.parent.iterdir()) == [place.name, f"{place.name}.lock"]


def test_no_code_of_a_wheel_runs_while_its_environment_is_made(cache, artifact, tmp_path):
    """A .pth file would run in every process that starts with the environment's packages."""
    trace = tmp_path / "trace"
    line = f"import pathlib; pathlib.Path({str(trace)!r}).touch()\n".encode()
    directory = artifact(wheel("tiny", "1.0", files={"tiny.py": b"", "tiny.pth": line}))
    environments = LockEnvironments(lambda: cache, builds=True)
    environments.make(directory)
    assert not trace.exists()
    ran(environments.python_of(directory), "import tiny")
    assert trace.exists()


def test_a_job_says_why_the_packages_of_a_lock_cannot_be_had(cache, artifact):
    """The reason is the true one; jobs over versions of such a lock are refused with the same words."""
    for directory, says in (
        (artifact(wheel("tiny", "1.0"), python="3.99"), "pins Python 3.99"),
        (artifact(wheel("numpy", "1.0")), r"Mendel needs numpy.*\(1.0 is locked\)"),
    ):
        environments = LockEnvironments(lambda: cache, builds=True)
        with pytest.raises(NeedsNewImage, match=says):
            environments.of_project(directory / "project", "p", locked=True)
        with pytest.raises(NeedsNewImage, match=says):
            environments.of_artifacts([directory])
    fixed, directory = LockEnvironments(lambda: cache, builds=False), artifact(wheel("tiny", "1.0"))
    with pytest.raises(NeedsNewImage, match="is fixed"):
        fixed.of_project(directory / "project", "p", locked=True)
    assert fixed.of_project(directory / "project", "p", locked=None) is None
    assert fixed.of_artifacts([directory]) is None


def test_an_environment_whose_python_is_gone_is_made_again(cache, artifact):
    """An upgrade of the machine's Python removes the one that the environment names."""
    directory = artifact(wheel("tiny", "1.0"))
    environments = LockEnvironments(lambda: cache, builds=True)
    environments.make(directory)
    python = Path(environments.python_of(directory))
    python.unlink()
    python.symlink_to("/absent/python")
    with pytest.raises(NeedsNewImage):
        environments.python_of(directory)
    environments.make(directory)
    assert ran(environments.python_of(directory), "import tiny") == ""


def test_the_umask_of_the_user_does_not_matter(cache, artifact):
    """Where files are writable for the group by default, the environment is not."""
    directory = artifact(wheel("tiny", "1.0"))
    environments = LockEnvironments(lambda: cache, builds=True)
    former = os.umask(0o002)
    try:
        environments.make(directory)
        assert ran(environments.python_of(directory), "import tiny") == ""
    finally:
        os.umask(former)
