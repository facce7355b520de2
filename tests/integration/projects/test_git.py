"""What git is asked, over real repositories of every shape."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from mendel.adapters.git import GitPrograms
from mendel.errors import InvalidProject, ReleaseNotFound, Unsupported
from mendel.projects import (
    ToolBuild,
    load_project,
    plan_tag,
    read_repository_state,
    release_status,
    tool_build,
    untracked_digests,
)
from mendel.values import Bump

GIT = GitPrograms()
TOOL = ToolBuild(version="1.2.3", commit="762e7f2" + "0" * 33, url="https://example.org/tool.git", how="embedded")
SHALLOW = "the clone is shallow and may lack earlier releases (run: git fetch --unshallow --tags)"
SINGLE = "classifier: {name: m}\npredictor: {module: a, class_name: A}\n"
NAME = "sentiment-v1.0.0-mlserver-762e7f2"


class TestTagDetails:
    def test_what_we_wrote_is_read_back(self, checkout):
        """Repository, branch, origin, tool and untracked artefacts, whatever their names, stand in the tag."""
        odd = ["w.bin", "two  spaces.bin", "three   spaces.bin", ' "quoted".bin', "größe\n.bin", "a.csv"]
        checkout.git("remote", "add", "origin", "https://u:s3cret@example.org/team/shop.git")
        checkout.write(".gitignore", "data/\n")
        checkout.write(
            "mlserver.yaml", "classifier: {name: m}\npredictor: {module: a, class_name: A, init_kwargs: {w: [data]}}\n"
        )
        for name in odd:
            checkout.write(f"data/{name}", name)
        head = checkout.commit()
        seen = read_repository_state(load_project(checkout.path), GIT)
        recorded = untracked_digests(seen, ["m"])
        plan = plan_tag(seen, "m", Bump.MAJOR, TOOL, recorded=recorded, message="Hello\n\nTool-Version: 9")
        GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
        details = GIT.tag(plan.top, str(plan.tag))
        assert (details.name, details.commit, details.annotated) == (str(plan.tag), head, True)
        assert details.message.startswith("Hello\n\nTool-Version: 9\n")
        assert details.repository_name == "shop"
        assert details.repository_branch == "main"
        assert details.repository_url == "https://example.org/team/shop.git"
        assert (details.tool_version, details.tool_url) == ("1.2.3", "https://example.org/tool.git")
        assert dict(details.untracked) == recorded
        assert {f"data/{name}" for name in odd} == recorded.keys()
        assert abs((details.made - datetime.now(UTC)).total_seconds()) < 60

    def test_made_by_hand(self, checkout):
        """A lightweight tag has no message; an annotated one of few words no trailers; another name is no tag."""
        checkout.git("tag", "light")
        checkout.git("tag", "-a", "-m", "Tool-Version: 1 of the only paragraph", "short")
        checkout.git("tag", "-a", "-m", 'x\n\nUntracked-Artifact: sha256:00 "open', "broken")
        checkout.git("tag", "-a", "-m", "a tree", "tree", "HEAD^{tree}")
        light, short, broken = (GIT.tag(checkout.path, name) for name in ("light", "short", "broken"))
        assert (light.annotated, light.message, light.trailers) == (False, "", {})
        assert (short.annotated, short.trailers, short.tool_version) == (True, {}, None)
        assert broken.untracked == (('"open', "sha256:00"),)
        for name in ("tree", "none", "li*", "*", "", "light/", "--all"):
            assert GIT.tag(checkout.path, name) is None

    def test_the_latest_move_counts(self, checkout):
        """A tag that was moved by force is told as it is now."""
        checkout.tag(NAME)
        moved = checkout.commit()
        checkout.git("tag", "-f", "-a", "-m", "moved", NAME)
        assert GIT.tag(checkout.path, NAME).commit == moved

    def test_a_signature_is_no_part_of_the_message(self, checkout, tmp_path):
        """Trailers are read of signed tags as of others."""
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        checkout.git("config", "gpg.format", "ssh")
        checkout.git("config", "user.signingKey", str(key))
        checkout.git("config", "tag.gpgSign", "true")
        plan = plan_tag(read_repository_state(load_project(checkout.path), GIT), "sentiment", Bump.MAJOR, TOOL)
        GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
        assert "BEGIN SSH SIGNATURE" in checkout.git("cat-file", "-p", str(plan.tag))
        details = GIT.tag(checkout.path, str(plan.tag))
        assert details.tool_version == "1.2.3"
        assert "SIGNATURE" not in details.message


def test_commit_time_is_the_committers_in_utc(checkout, monkeypatch):
    """Not the author's, not in the committer's zone; what there is not is said."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2024-05-01T12:00:00+0200")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2020-01-01T00:00:00+0000")
    checkout.git("config", "log.showSignature", "true")
    checkout.git("config", "log.date", "relative")
    commit = checkout.commit()
    assert GIT.commit_time(checkout.path, commit) == datetime(2024, 5, 1, 10, tzinfo=UTC)
    with pytest.raises(ReleaseNotFound):
        GIT.commit_time(checkout.path, "f" * 40)


class TestExport:
    def test_links_modes_and_pointers_survive(self, checkout, tmp_path):
        """Symlinks stay links, executables executable; what git-lfs keeps elsewhere stays a pointer without it."""
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 12\n"
        checkout.write("run.sh", "#!/bin/sh\n")
        (checkout.path / "run.sh").chmod(0o755)
        checkout.write("model.bin", pointer)
        checkout.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
        checkout.write("größe und mehr/ä.txt", "1")
        (checkout.path / "link").symlink_to("größe und mehr/ä.txt")
        (checkout.path / "out").symlink_to("/etc/passwd")
        commit = checkout.commit()
        GIT.export(checkout.path, commit, tmp_path / "out dir")
        there = tmp_path / "out dir"
        assert os.access(there / "run.sh", os.X_OK)
        assert not os.access(there / "a.py", os.X_OK)
        assert (there / "model.bin").read_text() == pointer
        assert (there / "link").readlink().as_posix() == "größe und mehr/ä.txt"
        assert (there / "out").is_symlink()
        assert not (there / ".git").exists()

    def test_submodules_are_absent(self, checkout, make_checkout, tmp_path):
        """A submodule's files belong to another repository: its directory is empty, the rest is there."""
        other = make_checkout("other")
        other.write("inner.py", "x = 1\n")
        other.commit()
        checkout.git("submodule", "add", "-q", str(other.path), "vendored")
        commit = checkout.commit()
        GIT.export(checkout.path, commit, tmp_path / "out")
        assert (tmp_path / "out" / "a.py").is_file()
        assert not (tmp_path / "out" / "vendored" / "inner.py").exists()
        assert "vendored/inner.py" not in GIT.tracked(checkout.path)

    def test_the_repository_is_untouched(self, checkout, tmp_path):
        """Neither index nor working tree nor branch change, whatever is exported while they differ from it."""
        first = checkout.git("rev-parse", "HEAD")
        checkout.commit()
        checkout.write("a.py", "class A: changed = 1\n")
        checkout.write("staged.py", "x = 1\n")
        checkout.git("add", "staged.py")
        before = checkout.git("status", "--porcelain=v2", "--branch")
        GIT.export(checkout.path, first, tmp_path / "out")
        assert (tmp_path / "out" / "a.py").read_text() == "class A: ...\n"
        assert checkout.git("status", "--porcelain=v2", "--branch") == before

    def test_a_bare_repository_can_be_exported_from(self, checkout, tmp_path):
        """A server's copy without a working tree is as good as a clone."""
        bare = tmp_path / "bare.git"
        subprocess.run(["git", "clone", "-q", "--bare", checkout.path, bare], check=True)
        GIT.export(bare, GIT.resolve(bare, "main"), tmp_path / "out")
        assert (tmp_path / "out" / "a.py").is_file()


class TestPlaces:
    def test_below_a_bare_parent(self, checkout, tmp_path):
        """Worktrees beside a bare repository, whose parent has a `.git` file: the project is found and released."""
        parent = tmp_path / "parent dir"
        parent.mkdir()
        subprocess.run(["git", "clone", "-q", "--bare", checkout.path, parent / ".bare"], check=True)
        (parent / ".git").write_text("gitdir: ./.bare\n")
        subprocess.run(["git", "-C", parent, "worktree", "add", "-q", "feature", "-b", "feature"], check=True)
        tree = GIT.work_tree(parent / "feature")
        assert (tree.branch, tree.prefix) == ("feature", "")
        assert GIT.work_tree(parent / ".bare") is None
        seen = read_repository_state(load_project(parent / "feature"), GIT)
        plan = plan_tag(seen, "sentiment", Bump.MAJOR, TOOL)
        GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
        again = read_repository_state(load_project(parent / "feature"), GIT)
        assert release_status(again, TOOL)[0].status == "Ready"

    def test_inside_of_a_submodule(self, checkout, make_checkout):
        """A project that is a submodule has its own commits and tags, not those around it."""
        outer = make_checkout("outer")
        outer.commit()
        outer.git("submodule", "add", "-q", str(checkout.path), "inner")
        outer.commit()
        inside = outer.path / "inner"
        seen = read_repository_state(load_project(inside), GIT)
        assert seen.work_tree.top == inside
        assert seen.work_tree.head == checkout.git("rev-parse", "HEAD")
        checkout_of_outer = GIT.work_tree(outer.path)
        assert checkout_of_outer.head != seen.work_tree.head

    def test_a_changed_submodule_is_a_change(self, checkout, make_checkout):
        """Another commit in a submodule changes what a release would hold, so it stands against one."""
        other = make_checkout("other")
        other.commit()
        checkout.git("submodule", "add", "-q", str(other.path), "vendored")
        checkout.commit()
        subprocess.run(
            ["git", "-C", checkout.path / "vendored", "commit", "-q", "--allow-empty", "-m", "x"], check=True
        )
        assert GIT.work_tree(checkout.path).changed == ("vendored",)

    def test_spaces_and_letters_of_any_language(self, make_checkout):
        """Paths are told as they are, unquoted; a directory below the root is told by its prefix."""
        repository = make_checkout("mein Projekt ä")
        repository.write("modelle/größe 1/mlserver.yaml", SINGLE)
        repository.write("modelle/größe 1/a.py", "class A: ...\n")
        repository.commit()
        repository.write("modelle/größe 1/a.py", "class A: x = 1\n")
        project = load_project(repository.path / "modelle" / "größe 1")
        seen = read_repository_state(project, GIT)
        assert seen.work_tree.prefix == "modelle/größe 1"
        assert seen.work_tree.changed == ("modelle/größe 1/a.py",)
        assert GIT.tracked(project.root) == ("a.py", "mlserver.yaml")

    def test_the_tag_of_one_project_says_nothing_of_its_neighbours(self, make_checkout):
        """Two projects in one repository with classifiers of their own names have releases of their own."""
        repository = make_checkout()
        for name in ("one", "two"):
            repository.write(f"{name}/mlserver.yaml", SINGLE.replace("name: m", f"name: {name}"))
            repository.write(f"{name}/a.py", "class A: ...\n")
        repository.commit()
        repository.tag("one-v1.0.0-mlserver-762e7f2")
        status = {
            name: release_status(read_repository_state(load_project(repository.path / name), GIT), TOOL)[0].status
            for name in ("one", "two")
        }
        assert status == {"one": "Ready", "two": "No tags"}

    def test_a_shallow_clone_without_tags_is_not_tagged(self, checkout, tmp_path):
        """Where releases may be missing, the next version cannot be known."""
        checkout.tag(NAME)
        checkout.commit()
        clone = tmp_path / "clone"
        command = ["git", "clone", "-q", "--depth", "1", "--no-tags", f"file://{checkout.path}", clone]
        subprocess.run(command, check=True)
        refused = plan_tag(read_repository_state(load_project(clone), GIT), "sentiment", Bump.MAJOR, TOOL)
        assert refused.reasons == (SHALLOW,)

    def test_a_broken_repository_says_what_git_says(self, checkout):
        """A repository that git reports is an error with git's words, not an absent one."""
        (checkout.path / ".git" / "config").write_text("[core\n")
        with pytest.raises(InvalidProject, match="git reports"):
            GIT.work_tree(checkout.path)


class TestWithoutGit:
    def test_every_question_says_that_git_is_missing(self, checkout):
        """What needs git says so; nothing pretends that there is no repository."""
        absent = GitPrograms("no-such-git")
        with pytest.raises(Unsupported, match="git is not installed"):
            absent.work_tree(checkout.path)
        with pytest.raises(Unsupported):
            absent.tag(checkout.path, NAME)

    def test_the_tool_still_knows_its_version(self, checkout):
        """An image has no git, and says its version all the same."""
        package = checkout.path / "mendel"
        package.mkdir()
        (package / "__init__.py").write_text("")
        built = tool_build(GitPrograms("no-such-git"), package=package, install_record="")
        assert (built.commit, built.install) == (None, "wheel")


@pytest.mark.parametrize("sent", ["before", "within"])
def test_an_interrupt_leaves_no_half_tag(checkout, tmp_path, sent):
    """Ctrl-C at any moment of tagging: the tag is whole or absent, and the repository takes the next one."""
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    ready = tmp_path / "ready"
    real = subprocess.run(["which", "git"], check=True, capture_output=True, text=True).stdout.strip()
    before, after = (f"touch {ready}; sleep 0.5;", "") if sent == "before" else ("", f"touch {ready}; sleep 0.5;")
    tagging = f'{before} {real} "$@"; code=$?; {after} exit $code'
    slow.write_text(f'#!/bin/sh\ncase "$*" in *" tag "*) {tagging};; esac\nexec {real} "$@"\n')
    slow.chmod(0o755)
    command = [sys.executable, "-m", "mendel.app.cli", "tag", "patch", "--classifier", "sentiment"]
    environment = {**os.environ, "PATH": f"{slow.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [*command, "--allow-missing-mlserver"],
        cwd=checkout.path,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    ) as process:
        while not ready.exists() and process.poll() is None:
            pass
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    assert not list((checkout.path / ".git").rglob("*.lock"))
    names = checkout.git("tag").split()
    assert len(names) == (0 if sent == "before" else 1)
    assert all(GIT.tag(checkout.path, name).tool_version for name in names)
    done = subprocess.run([*command, "--allow-missing-mlserver"], cwd=checkout.path, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
