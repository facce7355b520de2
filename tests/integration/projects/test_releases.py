"""Release status and tags over real repositories."""

from __future__ import annotations

import json
import subprocess

import pytest

from mendel.adapters.git import GitPrograms
from mendel.errors import AlreadyExists, InvalidProject, ReleaseNotFound, Unsupported
from mendel.projects import (
    ReleaseState,
    TagPlan,
    TagRefused,
    ToolBuild,
    code_digest,
    files_below,
    load_project,
    plan_tag,
    read_repository_state,
    release_status,
    tool_build,
    untracked_digests,
)
from mendel.values import Bump, SemVer

TOOL = ToolBuild(version="1.2.3", commit="762e7f2" + "0" * 33, url="https://example.org/tool.git", how="embedded")
GIT = GitPrograms()


def seen(checkout, project=None):
    return read_repository_state(project or load_project(checkout.path), GIT)


def states(checkout, tool=TOOL):
    return {row.classifier: row.state for row in release_status(seen(checkout), tool)}


def make(checkout, classifier, bump=Bump.PATCH, **how):
    observed = seen(checkout)
    if how.pop("allow_untracked", False):
        how["recorded"] = untracked_digests(observed, [classifier])
    plan = plan_tag(observed, classifier, bump, TOOL, **how)
    assert isinstance(plan, TagPlan), plan
    GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
    return plan


def reasons(checkout, classifier="sentiment", **how):
    plan = plan_tag(seen(checkout), classifier, Bump.PATCH, how.pop("tool", TOOL), **how)
    assert isinstance(plan, TagRefused)
    return plan.reasons


def test_two_classifiers_on_one_commit_are_both_ready(checkout):
    """Tags of one commit do not hide each other."""
    assert set(states(checkout).values()) == {ReleaseState.NO_TAGS}
    make(checkout, "sentiment", Bump.MAJOR)
    make(checkout, "sentiment-vip", Bump.MINOR)
    rows = release_status(seen(checkout), TOOL)
    assert [(r.version, r.tool, r.mark, r.status, r.action) for r in rows] == [
        ("1.0.0", "762e7f2", "✓", "Ready", "-"),
        ("0.1.0", "762e7f2", "✓", "Ready", "-"),
    ]


def test_names_with_a_common_prefix_stay_apart(checkout):
    """Classifier sentiment never sees the tags of sentiment-vip, nor the other way round."""
    checkout.tag("sentiment-vip-v9.9.9-mlserver-762e7f2")
    assert states(checkout) == {"sentiment": ReleaseState.NO_TAGS, "sentiment-vip": ReleaseState.READY}
    checkout.tag("sentiment-v1.0.0-mlserver-762e7f2")
    assert make(checkout, "sentiment").tag.version.patch == 1


def test_versions_order_as_numbers(checkout):
    """1.10.0 is above 1.9.0, whatever the order in which tags were made."""
    checkout.tag("sentiment-v1.10.0-mlserver-762e7f2")
    checkout.tag("sentiment-v1.9.0-mlserver-762e7f2")
    row = release_status(seen(checkout), TOOL)[0]
    assert row.version == "1.10.0"
    assert str(make(checkout, "sentiment").tag) == "sentiment-v1.10.1-mlserver-762e7f2"


def test_distance_counts_from_the_classifiers_own_tag(checkout):
    """Commits behind are told per classifier, merges counted as git counts them."""
    checkout.tag("sentiment-v1.0.0-mlserver-762e7f2")
    checkout.commit()
    checkout.tag("sentiment-vip-v1.0.0-mlserver-762e7f2")
    checkout.git("checkout", "-q", "-b", "side")
    checkout.commit("side")
    checkout.git("checkout", "-q", "main")
    checkout.commit("straight")
    checkout.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    rows = release_status(seen(checkout), TOOL)
    counted = [
        checkout.git("rev-list", "--count", f"{name}-v1.0.0-mlserver-762e7f2..HEAD") for name in states(checkout)
    ]
    assert (
        [row.status for row in rows]
        == [f"{count} commits behind" for count in counted]
        == [
            "4 commits behind",
            "3 commits behind",
        ]
    )
    assert rows[0].action == "mlserver tag --classifier sentiment <major|minor|patch>"


def test_another_tool_asks_to_tag_again(checkout):
    """On the tag but with another tool: marked, and not Ready; an unknown tool marks nothing."""
    checkout.tag("sentiment-v1.0.0-mlserver-b5dff2a")
    row = release_status(seen(checkout), TOOL)[0]
    assert (row.tool, row.mark, row.status) == ("b5dff2a", "⚠", "Tool changed")
    unknown = release_status(seen(checkout), ToolBuild(version="1"))[0]
    assert (unknown.mark, unknown.status) == ("", "Ready")


def test_a_moved_tag_counts_from_where_it_is(checkout):
    """A tag that was moved by force is read at its new commit."""
    checkout.tag("sentiment-v1.0.0-mlserver-762e7f2")
    checkout.commit()
    assert states(checkout)["sentiment"] is ReleaseState.BEHIND
    checkout.git("tag", "-f", "-a", "-m", "moved", "sentiment-v1.0.0-mlserver-762e7f2")
    assert states(checkout)["sentiment"] is ReleaseState.READY


def test_foreign_tags_are_no_releases(checkout):
    """Only tags of the grammar that point to a commit count."""
    for name in ("v1.0.0", "sentiment-v01.0.0-mlserver-762e7f2", "sentiment-v1.0.0-mlserver-XYZ"):
        checkout.tag(name)
    checkout.git("tag", "-a", "-m", "a tree", "sentiment-v0.0.1-mlserver-762e7f2", "HEAD^{tree}")
    assert states(checkout)["sentiment"] is ReleaseState.NO_TAGS


def test_detached_head_is_a_place_like_any(checkout):
    """Without a branch, status and tags work, and the message names no branch."""
    checkout.git("checkout", "-q", "--detach")
    make(checkout, "sentiment")
    assert states(checkout)["sentiment"] is ReleaseState.READY
    assert "Repository-Branch" not in checkout.git("tag", "-l", "--format=%(contents)")


def test_a_tag_outside_of_this_history_says_so(checkout):
    """On a branch that never had the tag, the row neither says Ready nor invents a distance."""
    checkout.git("checkout", "-q", "-b", "other")
    checkout.commit()
    checkout.tag("sentiment-v1.0.0-mlserver-762e7f2")
    checkout.git("checkout", "-q", "main")
    assert states(checkout)["sentiment"] is ReleaseState.ELSEWHERE


def test_a_shallow_clone_does_not_guess(checkout, make_checkout, tmp_path):
    """Where history is cut off, the row says to fetch it instead of counting what is left."""
    checkout.tag("sentiment-v1.0.0-mlserver-762e7f2")
    checkout.commit()
    clone = make_checkout("empty")
    clone.git("remote", "add", "origin", f"file://{checkout.path}")
    clone.git("fetch", "-q", "--depth", "1", "origin", "main", "refs/tags/*:refs/tags/*")
    clone.git("checkout", "-q", "-B", "main", "origin/main")
    row = release_status(seen(clone), TOOL)[0]
    assert row.state is ReleaseState.UNTOLD
    assert "unshallow" in row.action


def test_no_commits_yet(make_checkout):
    """A fresh repository is told as such."""
    fresh = make_checkout()
    fresh.write("mlserver.yaml", "classifier: {name: m}\npredictor: {module: a, class_name: A}\n")
    fresh.write("a.py", "class A: ...\n")
    assert states(fresh) == {"m": ReleaseState.NO_TAGS}
    assert reasons(fresh, "m") == ("the repository has no commit yet",)


def test_worktrees_and_subdirectories(make_checkout):
    """A project below the root, seen from a linked worktree, is released like any."""
    repository = make_checkout()
    repository.write("models/x/mlserver.yaml", "classifier: {name: m}\npredictor: {module: a, class_name: A}\n")
    repository.write("models/x/a.py", "class A: ...\n")
    repository.commit()
    linked = repository.path.parent / "linked"
    repository.git("worktree", "add", "-q", str(linked), "-b", "linked")
    project = load_project(linked / "models" / "x")
    observed = read_repository_state(project, GIT)
    assert observed.work_tree is not None
    assert (observed.work_tree.prefix, observed.work_tree.branch) == ("models/x", "linked")
    plan = plan_tag(observed, "m", Bump.MAJOR, TOOL)
    assert isinstance(plan, TagPlan)
    GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
    assert GIT.resolve(repository.path, str(plan.tag)) == plan.commit


def test_all_reasons_at_once(checkout):
    """Everything that stands against a tag is said the first time."""
    checkout.write(
        "mlserver.yaml",
        "classifier: {name: sentiment}\npredictor: {module: gone, class_name: A, init_kwargs: {w: new.bin}}\n",
    )
    checkout.write("new.bin", "weights")
    checkout.write("täglich.py", "x = 1\n")
    checkout.git("add", "täglich.py")
    found = reasons(checkout, tool=ToolBuild(version="1"))
    assert [reason.split(":")[0].split(" (")[0] for reason in found] == [
        "tracked files have uncommitted changes",
        "the predictor file of 'gone' is missing",
        "git does not track these artefacts",
        "the commit of the installed tool is unknown",
    ]
    assert "täglich.py" in found[0]


def test_outside_of_a_repository(tmp_path):
    """A project without git is told so, and its configuration still loads."""
    (tmp_path / "mlserver.yaml").write_text("classifier: {name: m}\npredictor: {module: a, class_name: A}\n")
    observed = read_repository_state(load_project(tmp_path), GIT)
    plan = plan_tag(observed, "m", Bump.PATCH, TOOL)
    assert isinstance(plan, TagRefused)
    assert "is not in a git repository" in plan.reasons[0]


def test_untracked_artefacts_are_recorded_when_allowed(checkout):
    """With leave, the digest of what git does not track stands in the tag."""
    checkout.write(".gitignore", "*.bin\n")
    checkout.write(
        "mlserver.yaml", "classifier: {name: m}\npredictor: {module: a, class_name: A, init_kwargs: {w: data}}\n"
    )
    checkout.write("data/w.bin", "abc")
    checkout.commit()
    assert "data/w.bin" in reasons(checkout, "m")[0]
    make(checkout, "m", allow_untracked=True)
    message = checkout.git("tag", "-l", "--format=%(contents)")
    assert (
        "Untracked-Artifact: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad data/w.bin"
        in message
    )


def test_texts_are_no_artefacts(checkout):
    """A prompt among the arguments, however long or odd, is neither an artefact nor an error."""
    values = {
        "prompt": "Answer briefly. " * 300,
        "word": "x" * 300,
        "odd": "a\ud800b",
        "lines": "a\nb",
        "dots": "../up",
    }
    arguments = json.dumps({**values, "number": 1, "list": ["x" * 300, "w.bin"]})
    checkout.write(
        "mlserver.yaml", f"classifier: {{name: m}}\npredictor: {{module: a, class_name: A, init_kwargs: {arguments}}}\n"
    )
    checkout.write(".gitignore", "*.bin\n")
    checkout.write("w.bin", "abc")
    checkout.commit()
    project = load_project(checkout.path)
    assert read_repository_state(project, GIT).untracked == {"m": ("w.bin",)}
    assert project.classifier().predictor.kwargs_in(checkout.path)["prompt"] == values["prompt"]


def test_patterns_and_requirements_count_as_artefacts(checkout):
    """What the build section names must be tracked too, patterns included; caches and git's own never count."""
    checkout.write(
        "mlserver.yaml",
        "classifier: {name: m}\npredictor: {module: a, class_name: A, init_kwargs: {d: data}}\n"
        "build: {include_files: ['extra/*.csv'], requirements: needs.txt}\n",
    )
    checkout.write(".gitignore", "data/\nextra/\nneeds.txt\n__pycache__/\n")
    for name in ("data/w.bin", "data/__pycache__/x.pyc", "extra/a.csv", "extra/b.txt", "needs.txt"):
        checkout.write(name, name)
    checkout.commit()
    assert read_repository_state(load_project(checkout.path), GIT).untracked == {
        "m": ("data/w.bin", "extra/a.csv", "needs.txt")
    }


def test_the_message_answers_what_a_rebuild_asks(checkout):
    """Trailers carry names, branch, tool and an origin without its token."""
    checkout.git("remote", "add", "origin", "https://user:s3cret@example.org/team/shop.git")
    make(checkout, "sentiment", message="# Spring release\n\nwith a body")
    read = "--format=%(contents:subject)%0a%(trailers:only=true)"
    subject, *trailers = checkout.git(
        "for-each-ref", read.replace("trailers:", "contents:trailers:"), "refs/tags"
    ).split("\n")
    assert subject == "# Spring release"
    assert [line for line in trailers if line] == [
        "Repository-Name: shop",
        "Repository-Branch: main",
        "Repository-Url: https://example.org/team/shop.git",
        "Tool-Version: 1.2.3",
        "Tool-Url: https://example.org/tool.git",
    ]
    assert "s3cret" not in checkout.git("cat-file", "-p", "refs/tags/sentiment-v0.0.1-mlserver-762e7f2")


def test_without_a_tool_commit_a_tag_is_marked(checkout):
    """The word dev stands for the hash only with leave, and such a release is not Ready by a known tool."""
    plan = plan_tag(seen(checkout), "sentiment", Bump.MINOR, ToolBuild(version="1"), allow_missing_tool=True)
    assert isinstance(plan, TagPlan)
    assert str(plan.tag) == "sentiment-v0.1.0-mlserver-dev"
    assert not plan.tag.reproducible
    GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)
    assert release_status(seen(checkout), TOOL)[0].state is ReleaseState.TOOL_CHANGED


def test_a_tag_is_made_once(checkout):
    """Two who plan the same release: the second is told that it exists."""
    plan = make(checkout, "sentiment")
    with pytest.raises(AlreadyExists):
        GIT.create_tag(plan.top, str(plan.tag), commit=plan.commit, message=plan.message)


def test_code_digest_is_that_of_the_release(checkout, tmp_path):
    """A checkout and an export of its commit have one digest; links, modes and odd names included."""
    checkout.write("ordner/größe.txt", "1\n")
    checkout.write(".gitattributes", "secret.txt export-ignore\nwin.txt eol=crlf text\n")
    checkout.write("secret.txt", "kept\n")
    checkout.write("win.txt", "a\n")
    (checkout.path / "link").symlink_to("ordner")
    commit = checkout.commit()
    checkout.git("checkout", "-q", "-f", "HEAD")
    (checkout.path / "win.txt").unlink()
    checkout.git("checkout", "-q", "--", "win.txt")
    checkout.write("untracked.txt", "no\n")
    GIT.export(checkout.path, commit, tmp_path / "out")
    tracked = GIT.tracked(checkout.path)
    assert "ordner/größe.txt" in tracked
    assert files_below(tmp_path / "out") == tracked
    digest = code_digest(checkout.path, tracked)
    assert code_digest(tmp_path / "out", files_below(tmp_path / "out")) == digest
    assert checkout.git("status", "--porcelain") == "?? untracked.txt"
    checkout.write("a.py", "class A: changed = 1\n")
    assert code_digest(checkout.path, tracked) != digest


def test_export_of_a_bare_repository_and_of_an_older_commit(checkout, tmp_path):
    """What is exported is the commit that was asked for, from any kind of repository."""
    first = checkout.git("rev-parse", "HEAD")
    checkout.write("a.py", "class A: newer = 1\n")
    checkout.commit()
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(checkout.path), str(bare)], check=True)
    GIT.export(bare, GIT.resolve(bare, first[:10]), tmp_path / "out")
    assert (tmp_path / "out" / "a.py").read_text() == "class A: ...\n"


def test_names_of_nothing(checkout, tmp_path):
    """An unknown release, a damaged repository, and an absent git are three different errors."""
    with pytest.raises(ReleaseNotFound, match="nonsense"):
        GIT.resolve(checkout.path, "nonsense")
    with pytest.raises(Unsupported, match="not installed"):
        GitPrograms("no-such-git").work_tree(checkout.path)
    (checkout.path / ".git" / "config").write_text("[broken\n")
    with pytest.raises(InvalidProject):
        GIT.tag_names(checkout.path)


def test_git_variables_do_not_lead_astray(checkout, make_checkout, monkeypatch):
    """Started from a hook of another repository, git still reads the project's own."""
    other = make_checkout("other")
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    tree = GIT.work_tree(checkout.path)
    assert tree is not None
    assert tree.top.resolve() == checkout.path.resolve()


def test_where_the_tools_commit_is_known_from(checkout, tmp_path):
    """Embedded beats recorded beats checkout; an environment inside a foreign repository is no checkout."""
    package = checkout.path / "mendel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert tool_build(GIT, package=package, install_record="").how == "unknown"
    head = checkout.commit()
    assert tool_build(GIT, package=package, install_record="").commit == head
    record = '{"url": "https://t0ken@example.org/m.git", "vcs_info": {"vcs": "git", "commit_id": "%s"}}' % ("a" * 40)
    recorded = tool_build(GIT, package=package, install_record=record)
    assert (recorded.how, recorded.short, recorded.url) == ("vcs", "aaaaaaa", "https://example.org/m.git")
    (package / "_commit.txt").write_text("b" * 40 + "\nhttps://example.org/e.git\n")
    assert tool_build(GIT, package=package, install_record=record).how == "embedded"


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_files_that_git_is_told_to_ignore_are_no_release(checkout, flag):
    """Changes of such files would get into a release unnoticed: no tag is made, and the reason says how to end it."""
    checkout.git("update-index", flag, "a.py")
    (reason,) = reasons(checkout)
    assert reason.startswith("git is told to ignore changes of a.py")
    assert "--no-skip-worktree --no-assume-unchanged" in reason


def test_a_path_of_this_machine_is_no_url(checkout):
    """Where tool or project came from a path of a disk, neither tool, tag nor label names it."""
    package = checkout.path / "mendel"
    package.mkdir()
    (package / "__init__.py").write_text("")
    checkout.commit()
    for origin in ("/srv/shop.git", "../shop.git", "file:///srv/shop.git"):
        checkout.git("config", "remote.origin.url", origin)
        assert tool_build(GIT, package=package, install_record="").url is None
        plan = plan_tag(seen(checkout), "sentiment", Bump.MAJOR, TOOL)
        assert "srv" not in plan.message
        assert "Repository-Url" not in plan.message
        assert "Repository-Name: shop" in plan.message
    (package / "_commit.txt").write_text("b" * 40 + "\n/srv/mendel\n")
    assert tool_build(GIT, package=package, install_record="").url is None


def test_the_number_of_git_processes_is_bounded(make_checkout, tmp_path):
    """Status reads 3,000 tags of 30 classifiers as it reads one tag; with two more if HEAD lacks all."""
    repository, calls, counting = make_checkout(), tmp_path / "calls", tmp_path / "counting-git"
    counting.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexec git "$@"\n')
    counting.chmod(0o755)
    names = [f"model-{n}" for n in range(30)]
    body = "".join(f"  {name}: {{predictor: {{module: a, class_name: A}}}}\n" for name in names)
    repository.write("mlserver.yaml", "classifiers:\n" + body)
    repository.write("a.py", "class A: ...\n")
    repository.commit("first")
    project = load_project(repository.path)

    def commands():
        calls.unlink(missing_ok=True)
        rows = release_status(read_repository_state(project, GitPrograms(str(counting))), TOOL)
        return rows, len(calls.read_text().splitlines())

    repository.tag("model-0-v1.0.0-mlserver-762e7f2")
    _, with_one = commands()
    stream = "".join(
        f"tag {name}-v1.{n}.0-mlserver-762e7f2\nfrom refs/heads/main\ntagger T <t@example.org> {n} +0000\ndata 1\nx\n"
        for n in range(1, 101)
        for name in names
    )
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repository.path, input=stream, text=True, check=True)
    repository.git("pack-refs", "--all")
    rows, with_many = commands()
    assert {(row.version, row.status) for row in rows} == {("1.100.0", "Ready")}
    assert with_many == with_one <= 8
    repository.git("checkout", "-q", "--orphan", "other")
    repository.commit("another history")
    rows, elsewhere = commands()
    assert {row.state for row in rows} == {ReleaseState.ELSEWHERE}
    assert elsewhere <= with_one + 2


def test_a_tag_that_points_to_no_commit_is_no_release(checkout):
    """A tag of a tree or a file has the form of a release tag only; a tag of a tag counts by its commit."""
    make(checkout, "sentiment")
    checkout.git("tag", "sentiment-v2.0.0-mlserver-762e7f2", "HEAD:a.py")
    assert seen(checkout).newest["sentiment"].tag.version == SemVer(0, 0, 1)
    checkout.git("tag", "-a", "-m", "x", "sentiment-v3.0.0-mlserver-762e7f2", "sentiment-v0.0.1-mlserver-762e7f2")
    newest = seen(checkout).newest["sentiment"]
    assert (newest.tag.version, newest.behind, newest.annotated) == (SemVer(3, 0, 0), 0, True)
    details = GIT.tag(checkout.path, "sentiment-v3.0.0-mlserver-762e7f2")
    assert (details.commit, details.message.strip()) == (checkout.git("rev-parse", "HEAD").strip(), "x")
    assert GIT.tag(checkout.path, "sentiment-v2.0.0-mlserver-762e7f2") is None


def test_a_line_end_of_unicode_belongs_to_the_name_of_a_tag(checkout):
    """A tag whose name holds a line separator is one tag, not two."""
    name = "odd\u2028sentiment-v9.0.0-mlserver-762e7f2"
    checkout.git("tag", name)
    assert GIT.tag_names(checkout.path) == (name,)
