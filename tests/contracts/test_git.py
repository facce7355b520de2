"""The contract of Git, over memory and the program git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mendel.adapters.git import GitPrograms
from mendel.adapters.memory.git import MemoryGit, MemoryRepository
from mendel.errors import AlreadyExists, InvalidProject, ReleaseNotFound
from mendel.projects import Git, GitTag

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ABSENT = "f" * 40


class RealRepository:
    """The same acts as :class:`MemoryRepository` has, by the program git."""

    def __init__(self, top: Path, *, origin: str | None = None) -> None:
        self.top = top.resolve()
        self._git("init", "-q", "-b", "main")
        for name, value in (("user.name", "t"), ("user.email", "t@example.org"), ("commit.gpgSign", "false")):
            self._git("config", name, value)
        if origin:
            self._git("remote", "add", "origin", origin)

    def add(self, *paths: str) -> None:
        self._git("add", "-A", "--", *paths)

    def commit(self, *, at: datetime, merge: tuple[str, ...] = ()) -> str:
        if merge:
            self._git("merge", "-q", "-s", "ours", "--no-commit", *merge)
        self._git("commit", "-q", "--allow-empty", "-m", "x", at=at)
        return self._git("rev-parse", "HEAD")

    def checkout(self, revision: str) -> None:
        self._git("checkout", "-q", revision)

    def start_branch(self, name: str) -> None:
        self._git("checkout", "-q", "-b", name)

    def unwatch(self, path: str) -> None:
        self._git("update-index", "--skip-worktree", "--", path)

    def tag(self, name: str, *, commit: str, at: datetime, message: str | None = None) -> None:
        self._git("tag", *(("-a", "-m", message) if message else ()), name, commit, at=at)

    def _git(self, *arguments: str, at: datetime | None = None) -> str:
        dates = {f"GIT_{who}_DATE": at.isoformat() for who in ("AUTHOR", "COMMITTER")} if at else {}
        command = ["git", "-C", str(self.top), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **dates})
        return done.stdout.strip()


Init = Callable[..., "MemoryRepository | RealRepository"]


@pytest.fixture(params=["memory", "git"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Git, Init]:
    """A Git, and what begins repositories that it sees; the configuration of this machine does not count."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    if request.param == "memory":
        memory = MemoryGit(lambda: datetime.now(UTC))
        return memory, memory.init
    return GitPrograms(), RealRepository


@pytest.fixture
def git(world: tuple[Git, Init]) -> Git:
    return world[0]


@pytest.fixture
def repository(world: tuple[Git, Init], tmp_path: Path) -> MemoryRepository | RealRepository:
    """A repository of two files and one commit."""
    top = tmp_path / "shop ä"
    top.mkdir()
    made = world[1](top, origin="https://u:s3cret@example.org/team/shop.git")
    write(made.top, "b.py", "B = 1\n")
    write(made.top, "models/größe 1/a.py", "A = 1\n")
    made.add("b.py", "models/größe 1/a.py")
    made.commit(at=START)
    return made


def write(top: Path, name: str, content: str) -> Path:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


class TestWorkTree:
    def test_it_is_told_as_it_stands(self, git, repository):
        """Root, place below it, branch, head and origin without credentials, from any directory of the checkout."""
        seen = git.work_tree(repository.top / "models" / "größe 1")
        assert (seen.top, seen.prefix, seen.branch) == (repository.top, "models/größe 1", "main")
        assert seen.head == git.resolve(repository.top, "HEAD")
        assert seen.origin == "https://example.org/team/shop.git"
        assert (seen.changed, seen.shallow) == ((), False)
        assert git.work_tree(repository.top).prefix == ""

    def test_changes_are_told_sorted(self, git, repository):
        """Tracked files that changed, went or were staged are told; files git does not know are not."""
        write(repository.top, "b.py", "B = 2\n")
        (repository.top / "models/größe 1/a.py").unlink()
        write(repository.top, "a_new.py", "N = 1\n")
        repository.add("a_new.py")
        write(repository.top, "unknown.py", "U = 1\n")
        assert git.work_tree(repository.top).changed == ("a_new.py", "b.py", "models/größe 1/a.py")

    def test_nothing_is_cached(self, git, repository):
        """A change that is undone, or committed, is none at the next question."""
        write(repository.top, "b.py", "B = 2\n")
        assert git.work_tree(repository.top).changed == ("b.py",)
        write(repository.top, "b.py", "B = 1\n")
        assert git.work_tree(repository.top).changed == ()

    def test_before_the_first_commit(self, git, world, tmp_path):
        """A new repository has a branch and no head; without a remote there is no origin."""
        (tmp_path / "new").mkdir()
        made = world[1](tmp_path / "new")
        seen = git.work_tree(made.top)
        assert (seen.head, seen.branch, seen.origin) == (None, "main", None)
        assert git.ancestry(made.top) == ()
        assert git.tag_names(made.top) == ()

    def test_a_detached_head_has_no_branch(self, git, repository):
        """On a commit of its own the branch is None."""
        repository.checkout(git.resolve(repository.top, "HEAD"))
        assert git.work_tree(repository.top).branch is None

    def test_outside_of_a_checkout(self, git, tmp_path):
        """A directory in no repository has no work tree and tracks nothing; one that is not there is refused."""
        assert git.work_tree(tmp_path) is None
        assert git.tracked(tmp_path) == ()
        with pytest.raises(InvalidProject, match="git reports"):
            git.work_tree(tmp_path / "absent")


class TestHeadOfFile:
    def test_a_committed_file_tells_its_checkout(self, git, repository):
        """From any directory: HEAD's commit and the origin without credentials."""
        found = git.head_of(repository.top / "models" / "größe 1" / "a.py")
        assert found.commit == git.resolve(repository.top, "HEAD")
        assert found.origin == "https://example.org/team/shop.git"

    def test_other_files_tell_none(self, git, world, repository, tmp_path):
        """A file that is absent or staged, in a new repository, or in none, is in no commit."""
        write(repository.top, "new.py", "N = 1\n")
        repository.add("new.py")
        (tmp_path / "empty").mkdir()
        world[1](tmp_path / "empty")
        for place in (repository.top / "new.py", repository.top / "absent.py", tmp_path / "empty" / "a.py"):
            assert git.head_of(place) is None
        assert git.head_of(tmp_path / "a.py") is None


class TestHistory:
    def test_children_come_before_their_parents(self, git, repository):
        """Every commit that HEAD reaches is there once, and after all of its children; merges name every parent."""
        first = git.resolve(repository.top, "HEAD")
        repository.start_branch("side")
        side = repository.commit(at=START + timedelta(hours=3))
        repository.checkout("main")
        main = repository.commit(at=START + timedelta(hours=1))
        merged = repository.commit(at=START + timedelta(hours=4), merge=(side,))
        found = git.ancestry(repository.top)
        assert (found[0].id, found[0].parents) == (merged, (main, side))
        assert (found[-1].id, found[-1].parents) == (first, ())
        assert sorted(commit.id for commit in found) == sorted({merged, main, side, first})

    def test_what_a_commit_touched(self, git, repository):
        """Added, changed, removed and renamed files by their paths; nothing for an empty commit or a plain merge."""
        first = git.resolve(repository.top, "HEAD")
        write(repository.top, "b.py", "B = 2\n")
        write(repository.top, "models/größe 1/neu é.py", "N = 1\n")
        repository.add("b.py", "models/größe 1/neu é.py")
        second = repository.commit(at=START + timedelta(hours=1))
        (repository.top / "models/größe 1/neu é.py").rename(repository.top / "c.py")
        repository.add("c.py", "models/größe 1/neu é.py")
        third = repository.commit(at=START + timedelta(hours=2))
        repository.start_branch("side")
        side = repository.commit(at=START + timedelta(hours=3))
        repository.checkout("main")
        merged = repository.commit(at=START + timedelta(hours=4), merge=(side,))
        told = git.touched(repository.top, [second, third, side, merged, first])
        assert {commit: told[commit] for commit in (second, third, side, merged)} == {
            second: ("b.py", "models/größe 1/neu é.py"),
            third: ("c.py", "models/größe 1/neu é.py"),
            side: (),
            merged: (),
        }
        assert "b.py" in told[first]
        assert git.touched(repository.top, []) == {}

    def test_the_time_of_a_commit(self, git, repository):
        """Committed at noon in Tokyo is told in UTC; a commit that is not there is refused."""
        tokyo = datetime.fromisoformat("2026-04-01T12:00:00+09:00")
        commit = repository.commit(at=tokyo)
        assert git.commit_time(repository.top, commit) == datetime(2026, 4, 1, 3, tzinfo=UTC)
        with pytest.raises(ReleaseNotFound):
            git.commit_time(repository.top, ABSENT)

    def test_what_a_revision_names(self, git, repository):
        """Full and shortened commits, branches and HEAD lead to the commit; a tag wins over a branch; others none."""
        first = git.resolve(repository.top, "HEAD")
        repository.start_branch("v1")
        second = repository.commit(at=START + timedelta(hours=1))
        assert git.resolve(repository.top, "v1") == second
        repository.tag("v1", commit=first, at=START, message="first")
        assert git.resolve(repository.top, "v1") == first
        assert {git.resolve(repository.top, name) for name in (second, second[:10], "HEAD")} == {second}
        for absent in ("v2", ABSENT, ABSENT[:10], "--all", ""):
            with pytest.raises(ReleaseNotFound):
                git.resolve(repository.top, absent)

    def test_tracked_files_are_sorted_and_relative(self, git, repository):
        """Below a directory only its own files are told: those that git knows, staged ones among them."""
        write(repository.top, "models/größe 1/A.py", "A = 1\n")
        repository.add("models/größe 1/A.py")
        write(repository.top, "models/größe 1/unknown.py", "U = 1\n")
        assert git.tracked(repository.top / "models" / "größe 1") == ("A.py", "a.py")
        assert git.tracked(repository.top) == ("b.py", "models/größe 1/A.py", "models/größe 1/a.py")

    def test_files_that_git_is_told_to_ignore(self, git, repository):
        """They are no changes, but are told as long as they exist; all others are watched."""
        assert git.unwatched(repository.top) == ()
        for path in ("b.py", "models/größe 1/a.py"):
            repository.unwatch(path)
        write(repository.top, "b.py", "B = 2\n")
        assert git.work_tree(repository.top).changed == ()
        assert git.unwatched(repository.top) == ("b.py", "models/größe 1/a.py")
        assert git.unwatched(repository.top / "models") == ("größe 1/a.py",)
        (repository.top / "b.py").unlink()
        assert git.unwatched(repository.top) == ("models/größe 1/a.py",)


class TestTags:
    def test_all_are_told_by_name(self, git, repository):
        """Annotated tags carry the time of tagging, lightweight ones that of their commit."""
        commit = git.resolve(repository.top, "HEAD")
        repository.tag("b-v2.0.0", commit=commit, at=START + timedelta(days=1), message="second")
        repository.tag("B", commit=commit, at=START + timedelta(days=2))
        repository.tag("a/v1", commit=commit, at=START + timedelta(days=3), message="first")
        names = git.tag_names(repository.top)
        assert names == ("B", "a/v1", "b-v2.0.0")
        assert git.tags(repository.top, names) == (
            GitTag(name="B", commit=commit, made=START, annotated=False),
            GitTag(name="a/v1", commit=commit, made=START + timedelta(days=3), annotated=True),
            GitTag(name="b-v2.0.0", commit=commit, made=START + timedelta(days=1), annotated=True),
        )

    def test_only_the_named_ones_are_told(self, git, repository):
        """In the order of the names; a name of no tag, a pattern or part of a name is left out."""
        commit = git.resolve(repository.top, "HEAD")
        for name in ("a/v1", "b", "c"):
            repository.tag(name, commit=commit, at=START, message="x\n\ntagger y> 1 +0000")
        told = git.tags(repository.top, ["c", "a", "*", "absent", "a/v1"])
        assert [(tag.name, tag.made) for tag in told] == [("c", START), ("a/v1", START)]
        assert git.tags(repository.top, []) == ()

    def test_a_message_is_kept_as_it_stands(self, git, repository):
        """Blank lines, comment signs and trailers come back; a lightweight tag has neither message nor trailers."""
        commit = git.resolve(repository.top, "HEAD")
        message = "Frühling\n\n\n# kept\n\nTool-Version: 1.2\nRepository-Name: shop\n"
        before = datetime.now(UTC).replace(microsecond=0)
        git.create_tag(repository.top, "v1", commit=commit, message=message)
        repository.tag("light", commit=commit, at=START)
        made = git.tag(repository.top, "v1")
        assert (made.commit, made.annotated, made.message) == (commit, True, message)
        assert made.trailers == {"Tool-Version": ("1.2",), "Repository-Name": ("shop",)}
        assert before <= made.made <= datetime.now(UTC)
        light = git.tag(repository.top, "light")
        assert (light.annotated, light.message, light.trailers) == (False, "", {})
        for absent in ("v", "v*", "*", "", "v1/", "--all"):
            assert git.tag(repository.top, absent) is None

    def test_a_name_is_given_once(self, git, repository):
        """A second tag of one name is refused and the first one stays, also when eight come at once."""
        commit = git.resolve(repository.top, "HEAD")

        def make(number: int) -> bool:
            try:
                git.create_tag(repository.top, "v1", commit=commit, message=f"{number}\n")
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(make, range(8)))
        assert made.count(True) == 1
        assert git.tag(repository.top, "v1").message == f"{made.index(True)}\n"

    def test_a_lightweight_tag_is_annotated_where_it_stands(self, git, repository):
        """It keeps its commit and gets the message; an annotated tag is kept, a tag that is not there is refused."""
        commit = git.resolve(repository.top, "HEAD")
        repository.tag("light", commit=commit, at=START)
        repository.commit(at=START + timedelta(hours=1))
        git.annotate_tag(repository.top, "light", message="Release\n\nTool-Version: 1\n")
        made = git.tag(repository.top, "light")
        assert (made.commit, made.annotated, made.trailers) == (commit, True, {"Tool-Version": ("1",)})
        with pytest.raises(AlreadyExists):
            git.annotate_tag(repository.top, "light", message="again\n")
        assert git.tag(repository.top, "light") == made
        with pytest.raises(ReleaseNotFound):
            git.annotate_tag(repository.top, "absent", message="x\n")

    def test_names_that_git_does_not_take(self, git, repository):
        """They are refused, and no tag is there."""
        commit = git.resolve(repository.top, "HEAD")
        for name in ("a..b", "-v1", "a b", "v1.lock", "a/", "/a", "", "a~1", "x@{1}", "ü\x7f"):
            with pytest.raises(InvalidProject):
                git.create_tag(repository.top, name, commit=commit, message="x\n")
        assert git.tag_names(repository.top) == ()

    def test_a_tag_needs_a_commit(self, git, repository):
        """A commit that is not there cannot be tagged."""
        with pytest.raises(InvalidProject):
            git.create_tag(repository.top, "v1", commit=ABSENT, message="x\n")
        assert git.tag_names(repository.top) == ()


class TestExport:
    def test_files_are_those_of_the_commit(self, git, repository, tmp_path):
        """Content, executable bits and links are the commit's; what changed since is not there."""
        write(repository.top, "run.sh", "#!/bin/sh\n").chmod(0o755)
        (repository.top / "link").symlink_to("b.py")
        repository.add("run.sh", "link")
        commit = repository.commit(at=START)
        write(repository.top, "b.py", "B = 2\n")
        write(repository.top, "staged.py", "S = 1\n")
        repository.add("staged.py")
        before = git.work_tree(repository.top)
        into = tmp_path / "out" / "dir"
        git.export(repository.top, commit, into)
        found = sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if not path.is_dir())
        assert found == ["b.py", "link", "models/größe 1/a.py", "run.sh"]
        assert (into / "b.py").read_text() == "B = 1\n"
        assert (into / "link").readlink() == Path("b.py")
        assert [os.access(into / name, os.X_OK) for name in ("run.sh", "b.py")] == [True, False]
        assert git.work_tree(repository.top) == before

    def test_twice_is_once(self, git, repository, tmp_path):
        """Exporting again puts files right that were changed, and leaves other files."""
        commit = git.resolve(repository.top, "HEAD")
        for _ in range(2):
            git.export(repository.top, commit, tmp_path / "out")
            assert (tmp_path / "out" / "b.py").read_text() == "B = 1\n"
            write(tmp_path / "out", "b.py", "changed\n")
            write(tmp_path / "out", "other.py", "other\n")
        git.export(repository.top, commit, tmp_path / "out")
        assert (tmp_path / "out" / "b.py").read_text() == "B = 1\n"
        assert (tmp_path / "out" / "other.py").read_text() == "other\n"

    def test_a_commit_that_is_not_there(self, git, repository, tmp_path):
        """It is refused by name."""
        with pytest.raises(ReleaseNotFound, match=ABSENT):
            git.export(repository.top, ABSENT, tmp_path / "out")
