"""`mendel tag` in real repositories: the table, the tag, and every reason against one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mendel.app.project.installed_tool import this_tool

MULTI = """\
classifiers:
  sentiment: {predictor: {module: a, class_name: A}}
  sentiment-vip: {predictor: {module: a, class_name: A}}
"""
SINGLE = "classifier: {name: churn}\npredictor: {module: a, class_name: A}\n"


HEAVY = (
    "email",
    "grpc",
    "httpx",
    "importlib.metadata",
    "numpy",
    "pydantic",
    "rich",
    "structlog",
    "tempfile",
    "zipfile",
)
LIGHT = ("adapters", "app", "errors", "images", "lazy_exports", "projects", "values", "version")


class Repository:
    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.git("init", "-q")

    def git(self, *arguments):
        command = ["git", "-C", str(self.path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, **files):
        for name, text in files.items():
            (self.path / name.replace("__", ".")).write_text(text, encoding="utf-8")
        return self

    def commit(self):
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")
        return self.git("rev-parse", "HEAD")

    @property
    def tags(self):
        return self.git("tag", "--list").split()


@pytest.fixture
def make(tmp_path, monkeypatch):
    configuration = tmp_path / "gitconfig"
    configuration.write_text("[user]\n\tname = Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def made(yaml, name="repository"):
        repository = Repository(tmp_path / name).write(mlserver__yaml=yaml, a__py="class A: ...\n")
        repository.commit()
        return repository

    return made


@pytest.fixture
def several(make):
    return make(MULTI)


@pytest.fixture
def tool():
    build = this_tool()
    if build.commit is None:
        pytest.skip("The commit of this tool is unknown; install it from a checkout.")
    return build.short


def cells(line):
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def status(mendel, repository):
    told = json.loads(mendel("tag", "--json", "--path", repository.path).out)
    return told["classifiers"]


class TestStatus:
    def test_never_tagged(self, mendel, several, tool):
        """One row per classifier with what to do, and the tool's commit below."""
        said = mendel("tag", "--path", several.path)
        assert (said.code, said.err) == (0, "")
        title, header, first, second, last = said.out.splitlines()
        assert title == "Classifier Version Status"
        assert cells(header) == ["Classifier", "Version", "MLServer", "Status", "Action Required"]
        action = "mlserver tag --classifier sentiment <major|minor|patch>"
        assert cells(first) == ["sentiment", "-", "-", "No tags", action]
        assert second.split()[0] == "sentiment-vip"
        assert last == f" Current MLServer commit: {tool}"

    def test_ready_behind_and_its_own(self, mendel, several, tool):
        """A fresh tag is Ready; each classifier counts from its own newest tag."""
        mendel("tag", "minor", "--classifier", "sentiment", "--path", several.path)
        rows = {row["classifier"]: row for row in status(mendel, several)}
        assert rows["sentiment"]["status"] == "Ready"
        assert rows["sentiment-vip"]["status"] == "No tags"
        ready = next(line for line in mendel("tag", "--path", several.path).out.splitlines() if " sentiment " in line)
        assert cells(ready) == ["sentiment", "0.1.0", f"{tool} ✓", "Ready", "-"]
        several.write(a__py="class A: x = 1\n").commit()
        several.write(a__py="class A: x = 2\n").commit()
        rows = {row["classifier"]: row for row in status(mendel, several)}
        assert rows["sentiment"]["status"] == "2 commits behind"
        assert rows["sentiment"]["action"] == "mlserver tag --classifier sentiment <major|minor|patch>"

    def test_from_anywhere_below(self, mendel, several, monkeypatch):
        """Without --path, the project around the working directory."""
        (several.path / "deep" / "er").mkdir(parents=True)
        monkeypatch.chdir(several.path / "deep" / "er")
        assert "sentiment-vip" in mendel("tag").out


class TestTagging:
    def test_a_tag_is_told_step_by_step(self, mendel, several, tool):
        """What was made, from what to what, on which commits, and what comes next."""
        head = several.git("rev-parse", "HEAD")
        mendel("tag", "major", "--classifier", "sentiment", "--path", several.path)
        said = mendel("tag", "patch", "--classifier", "sentiment", "--path", several.path)
        assert (said.code, said.err) == (0, "")
        lines = said.out.splitlines()
        name = f"sentiment-v1.0.1-mlserver-{tool}"
        assert lines[:5] == [
            f"✓ Created tag: {name}",
            "",
            "  Version: 1.0.0 → 1.0.1 (patch bump)",
            f"  MLServer commit: {tool}",
            f"  Classifier commit: {head[:8]}",
        ]
        assert lines[6:10] == [
            "Next steps:",
            "  1. Push tags to remote: git push --tags",
            "  2. Build container: mlserver build --classifier sentiment",
            "  3. Push to registry: mlserver push --classifier sentiment --registry <url>",
        ]
        assert name in several.tags
        assert several.git("cat-file", "-t", name) == "tag"
        assert several.git("rev-parse", f"{name}^{{commit}}") == head

    def test_the_only_classifier_need_not_be_named(self, mendel, make, tool):
        """In a project of one, `mendel tag patch` is enough."""
        single = make(SINGLE)
        assert mendel("tag", "patch", "--path", single.path).code == 0
        assert single.tags == [f"churn-v0.0.1-mlserver-{tool}"]

    def test_of_several_one_must_be_named(self, mendel, several):
        """Otherwise they are listed, and nothing is made."""
        said = mendel("tag", "patch", "--path", several.path)
        assert said.code == 1
        assert said.err.splitlines() == [
            "error: The project has 2 classifiers, and none was named: sentiment, sentiment-vip.",
            "  Name a classifier with --classifier.",
        ]
        assert several.tags == []

    def test_all_that_are_not_ready(self, mendel, several, tool):
        """--all tags what is not Ready, never tagged ones included; then there is nothing left to do."""
        mendel("tag", "major", "--classifier", "sentiment", "--path", several.path)
        told = json.loads(mendel("tag", "patch", "--all", "--json", "--path", several.path).out)
        assert [one["tag"] for one in told] == [f"sentiment-vip-v0.0.1-mlserver-{tool}"]
        again = mendel("tag", "patch", "--all", "--path", several.path)
        assert (again.code, again.out) == (0, "")
        assert again.err == "The status of every classifier is Ready, so no tag was made.\n"
        assert len(several.tags) == 2

    def test_a_dry_run_makes_nothing(self, mendel, several, tool):
        """It says which tag it would make."""
        said = mendel("tag", "minor", "--classifier", "sentiment", "--dry-run", "--path", several.path)
        assert said.code == 0
        assert said.out.startswith(f"Would create tag: sentiment-v0.1.0-mlserver-{tool}\n")
        assert "Next steps" not in said.out
        told = mendel("tag", "minor", "--classifier", "sentiment", "--dry-run", "--json", "--path", several.path)
        assert [one["made"] for one in json.loads(told.out)] == [False]
        assert several.tags == []

    def test_the_message_is_kept(self, mendel, several, tool):
        """--message stands first in the tag, before what a rebuild must know."""
        mendel("tag", "minor", "--classifier", "sentiment", "-m", "Better on irony", "--path", several.path)
        text = several.git("tag", "-l", "--format=%(contents)", f"sentiment-v0.1.0-mlserver-{tool}")
        assert text.splitlines()[0] == "Better on irony"
        assert "Repository-Branch: main" in text


class TestByHand:
    """Tags that people made, moved or misspelt."""

    def test_what_is_no_release_is_none(self, mendel, several, tool):
        """Malformed, misspelt and foreign tags are not seen, and do not disturb."""
        head = several.git("rev-parse", "HEAD")
        for name in (
            f"sentiment-v03.0.0-mlserver-{tool}",
            f"sentiment-v3.0-mlserver-{tool}",
            f"sentimental-v3.0.0-mlserver-{tool}",
            f"Sentiment-v3.0.0-mlserver-{tool}",
            "sentiment-v3.0.0",
        ):
            several.git("tag", "-a", "-m", "x", name, head)
        assert {row["status"] for row in status(mendel, several)} == {"No tags"}
        assert mendel("tag", "major", "--classifier", "sentiment", "--path", several.path).code == 0
        assert status(mendel, several)[0]["version"] == "1.0.0"

    def test_a_lightweight_tag_counts_and_is_annotated(self, mendel, several, tool):
        """It is shown as what it is, raises the next version, and becomes an annotated tag on its own commit."""
        name = f"sentiment-v3.0.0-mlserver-{tool}"
        several.git("tag", name)
        row = status(mendel, several)[0]
        assert (row["version"], row["status"]) == ("3.0.0", "lightweight")
        planned = json.loads(mendel("tag", "patch", "--dry-run", "--json", "--all", "--path", several.path).out)
        assert planned[0]["version"] == "3.0.1"
        head = several.git("rev-parse", "HEAD")
        several.write(a__py="class A: x = 1\n").commit()
        assert row["action"] == "mlserver tag --annotate --classifier sentiment"
        said = mendel("tag", "--annotate", "--classifier", "sentiment", "--path", several.path)
        assert said.code == 0
        assert said.out.startswith(f"✓ Annotated tag: {name}\n")
        assert f"git push --force origin refs/tags/{name}" in said.out
        assert several.git("cat-file", "-t", name) == "tag"
        assert several.git("rev-parse", f"{name}^{{commit}}") == head
        assert "Repository-Name: repository" in several.git("tag", "-l", "--format=%(contents)", name)
        assert status(mendel, several)[0]["status"] == "1 commits behind"
        again = mendel("tag", "--annotate", "--classifier", "sentiment", "--path", several.path)
        assert (again.code, again.out) == (0, "")

    def test_commits_elsewhere_do_not_make_it_stale(self, mendel, several):
        """Only commits that touch files of the image count; a file that is gone counts too."""
        several.write(helper__py="", README__md="one").commit()
        mendel("tag", "minor", "--all", "--path", several.path)
        several.write(README__md="two").commit()
        several.commit()
        assert {row["status"] for row in status(mendel, several)} == {"Ready"}
        several.git("rm", "-q", "helper.py")
        several.commit()
        assert {row["status"] for row in status(mendel, several)} == {"1 commits behind"}

    def test_a_hotfix_branch_goes_on_from_its_own_release(self, mendel, several, tool):
        """The next version is told by HEAD's history, not by what other branches released."""
        mendel("tag", "major", "--classifier", "sentiment", "--path", several.path)
        first = several.git("rev-parse", "HEAD")
        several.write(a__py="class A: x = 1\n").commit()
        mendel("tag", "major", "--classifier", "sentiment", "--path", several.path)
        several.git("checkout", "-q", "-b", "hotfix", first)
        several.write(a__py="class A: x = 2\n").commit()
        assert mendel("tag", "patch", "--classifier", "sentiment", "--path", several.path).code == 0
        several.git("checkout", "-q", "-b", "other", first)
        several.write(a__py="class A: x = 3\n").commit()
        taken = mendel("tag", "--version", "2.0.0", "--classifier", "sentiment", "--path", several.path)
        assert f"the git tag sentiment-v2.0.0-mlserver-{tool} already exists" in taken.err
        given = mendel("tag", "--version", "1.4.0", "--classifier", "sentiment", "--path", several.path)
        assert "  Version: 1.0.0 → 1.4.0 (given)" in given.out
        assert sorted(several.tags) == [f"sentiment-v{v}-mlserver-{tool}" for v in ("1.0.0", "1.0.1", "1.4.0", "2.0.0")]

    def test_a_history_without_releases_asks_for_the_version(self, mendel, several, tool):
        """Where only another branch has a release, none is guessed; and no version is released twice."""
        several.git("checkout", "-q", "-b", "other")
        several.write(a__py="class A: x = 1\n").commit()
        several.git("tag", "-a", "-m", "x", "sentiment-v1.0.0-mlserver-b5dff2a")
        several.git("checkout", "-q", "main")
        said = mendel("tag", "patch", "--classifier", "sentiment", "--path", several.path)
        assert "another branch has sentiment-v1.0.0-mlserver-b5dff2a (--version X.Y.Z chooses the version)" in said.err
        twice = mendel("tag", "--version", "1.0.0", "--classifier", "sentiment", "--path", several.path)
        assert "version 1.0.0 of sentiment is already released as sentiment-v1.0.0-mlserver-b5dff2a" in twice.err
        assert mendel("tag", "--version", "1.0", "--classifier", "sentiment", "--path", several.path).code == 2

    def test_a_tag_on_another_commit_counts_from_there(self, mendel, several, tool):
        """A release made by hand on an older commit is behind; moved to HEAD, it is Ready."""
        first = several.git("rev-parse", "HEAD")
        several.write(a__py="class A: x = 1\n").commit()
        name = f"sentiment-v1.0.0-mlserver-{tool}"
        several.git("tag", "-a", "-m", "x", name, first)
        assert status(mendel, several)[0]["status"] == "1 commits behind"
        several.git("tag", "-f", "-a", "-m", "moved", name)
        assert status(mendel, several)[0]["status"] == "Ready"

    def test_another_tool_is_told_with_what_to_do(self, mendel, several, tool):
        """On the tag, made with another tool: its hash, a warning sign, and the command that tags again."""
        several.git("tag", "-a", "-m", "x", "sentiment-v1.0.3-mlserver-b5dff2a")
        row = next(line for line in mendel("tag", "--path", several.path).out.splitlines() if " sentiment " in line)
        action = "mlserver tag --classifier sentiment <major|minor|patch>"
        assert cells(row) == ["sentiment", "1.0.3", "b5dff2a ⚠", "Tool changed", action]
        told = json.loads(mendel("tag", "patch", "--all", "--json", "--path", several.path).out)
        assert [one["tag"] for one in told] == [
            f"sentiment-v1.0.4-mlserver-{tool}",
            f"sentiment-vip-v0.0.1-mlserver-{tool}",
        ]
        assert {row["status"] for row in status(mendel, several)} == {"Ready"}

    def test_names_are_whole_where_there_is_no_terminal(self, mendel, make, tool):
        """Names, versions and actions of any length are printed whole, in columns."""
        long = "a" * 120
        yaml = f"classifiers:\n  {long}: {{predictor: {{module: a, class_name: A}}}}\n"
        lines = mendel("tag", "--path", make(yaml).path).out.splitlines()
        assert cells(lines[2])[0] == long
        assert cells(lines[2])[-1] == f"mlserver tag --classifier {long} <major|minor|patch>"
        assert lines[1].index("Version") == lines[2].index(" - ") + 1


class TestRefusals:
    def test_an_invalid_file_is_told_with_the_rest(self, mendel, several):
        """A broken mlserver.yaml and changed files are one refusal; the second of two reasons is no surprise."""
        several.write(mlserver__yaml=MULTI + "servr: {}\n")
        said = mendel("tag", "patch", "--classifier", "sentiment", "--path", several.path)
        assert said.code == 1
        first, *reasons = said.err.splitlines()
        assert first == "error: No tag was made."
        assert "mlserver.yaml:4: mlserver.yaml: unknown key 'servr'; did you mean 'server'?" in reasons[0]
        assert reasons[1] == "  - tracked files have uncommitted changes: mlserver.yaml"

    def test_a_reason_that_all_share_is_said_once(self, mendel, several):
        """With --all, what concerns everybody stands once, what concerns one with its name."""
        yaml = MULTI.replace("sentiment-vip: {predictor: {module: a,", "sentiment-vip: {predictor: {module: b,")
        several.write(mlserver__yaml=yaml)
        said = mendel("tag", "patch", "--all", "--path", several.path)
        assert said.err.splitlines() == [
            "error: No tag was made.",
            "  - tracked files have uncommitted changes: mlserver.yaml",
            "  - sentiment-vip: the predictor file of 'b' is missing",
        ]

    def test_what_was_made_before_one_fails_is_said(self, mendel, several, tool):
        """When the second of two tags cannot be made, the first is named, and the exit code tells of the failure."""
        blocked = several.path / ".git" / "refs" / "tags" / f"sentiment-vip-v0.0.1-mlserver-{tool}.lock"
        blocked.parent.mkdir(parents=True, exist_ok=True)
        blocked.touch()
        said = mendel("tag", "patch", "--all", "--path", several.path)
        assert said.code == 1
        assert f"✓ Created tag: sentiment-v0.0.1-mlserver-{tool}" in said.out
        made, error = said.err.splitlines()[:2]
        assert made == f"These tags were made before the error: sentiment-v0.0.1-mlserver-{tool}."
        assert error.startswith("error: ")
        blocked.unlink()
        assert mendel("tag", "patch", "--all", "--path", several.path).code == 0
        assert len(several.tags) == 2

    @pytest.mark.parametrize(
        "words",
        [
            *(["--all"], ["--dry-run"], ["--message", "x"], ["--allow-untracked"], ["--allow-missing-mlserver"]),
            ["patch", "--all", "--classifier", "x"],
        ],
    )
    def test_flags_that_mean_nothing_together(self, mendel, several, words):
        """A flag of tagging without a bump, or two that exclude each other, is a usage error."""
        assert mendel("tag", *words, "--path", several.path).code == 2
        assert several.tags == []

    def test_every_reason_at_once(self, mendel, several):
        """A missing predictor file and changed files are told together, and nothing is made."""
        (several.path / "a.py").unlink()
        (several.path / "mlserver.yaml").write_text(MULTI + "# changed\n")
        said = mendel("tag", "patch", "--classifier", "sentiment", "--path", several.path)
        assert said.code == 1
        assert "the predictor file of 'a' is missing" in said.err
        assert "tracked files have uncommitted changes: a.py, mlserver.yaml" in said.err
        assert several.tags == []

    def test_of_all_none_is_made_when_one_is_refused(self, mendel, several):
        """--all makes every tag or none."""
        yaml = MULTI.replace("sentiment-vip: {predictor: {module: a,", "sentiment-vip: {predictor: {module: b,")
        several.write(mlserver__yaml=yaml).commit()
        said = mendel("tag", "patch", "--all", "--path", several.path)
        assert said.code == 1
        assert "sentiment-vip: the predictor file of 'b' is missing" in said.err
        assert several.tags == []

    @pytest.mark.parametrize(
        ("outside", "how"),
        [
            *((file, "ignored") for file in ("mlserver.yaml", "a.py", "helper.py", "pkg/deep.py")),
            *((file, "untracked") for file in ("mlserver.yaml", "helper.py")),
            ("pkg/deep.py", "submodule"),
        ],
    )
    def test_what_the_build_needs_is_in_the_commit(self, mendel, make, outside, how):
        """An ignored, untracked or other repository's project file, predictor or import refuses the tag by its name."""
        repository = make(SINGLE)
        repository.write(a__py="import helper, pkg.deep\nclass A: ...\n", helper__py="")
        (repository.path / "pkg").mkdir()
        (repository.path / "pkg" / "deep.py").touch()
        if how == "submodule":
            repository.git("init", "-q", "pkg")
            repository.git("-C", "pkg", "add", "-A")
            repository.git("-C", "pkg", "commit", "-q", "-m", "of another repository")
        repository.commit()
        if how != "submodule":
            repository.git("rm", "-q", "--cached", outside)
            if how == "ignored":
                (repository.path / ".gitignore").write_text(f"{outside}\n")
                repository.git("add", ".gitignore")
            repository.git("commit", "-q", "-m", "without a file")
        said = mendel("tag", "patch", "--path", repository.path)
        assert said.code == 1
        assert f"git does not track these files, which the image needs: {outside}" in said.err
        assert repository.tags == []

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["patch", "--classifier", "sentimental"], "the project has no classifier 'sentimental'"),
            (["--path", "no-such-directory"], "no-such-directory"),
        ],
    )
    def test_what_there_is_not(self, mendel, several, words, sentence):
        """An unknown classifier, or a path that is missing, is named."""
        said = mendel("tag", *words, *([] if "--path" in words else ["--path", several.path]))
        assert said.code == 1
        assert sentence in said.err

    def test_a_bump_is_one_of_three(self, mendel, several):
        """Anything else is a usage error."""
        said = mendel("tag", "huge", "--classifier", "sentiment", "--path", several.path)
        assert said.code == 2
        assert "'huge' is not major, minor or patch" in said.err

    def test_outside_of_a_repository(self, mendel, tmp_path):
        """A project that no repository holds has no releases, and gets none."""
        project = tmp_path / "plain"
        project.mkdir()
        (project / "mlserver.yaml").write_text(SINGLE)
        (project / "a.py").write_text("class A: ...\n")
        for words in ([], ["patch"], ["--annotate"]):
            said = mendel("tag", *words, "--path", project)
            assert (said.code, said.out) == (1, "")
            assert "is not in a git repository" in said.err
        Repository.git(type("At", (), {"path": project})(), "init", "-q")
        said = mendel("tag", "--path", project)
        assert (said.code, said.out) == (1, "")
        assert "has no commit yet" in said.err

    @pytest.mark.parametrize(
        ("yaml", "said"),
        [
            ("classifiers:\n  a:\n    predctor: {module: a}\n", ["mlserver.yaml:3", "did you mean 'predictor'?"]),
            ("classifiers: {", ["mlserver.yaml"]),
            ("", ["mlserver.yaml"]),
        ],
    )
    def test_a_malformed_project_is_told_by_line(self, mendel, make, yaml, said):
        """File, line and nearest key; never a traceback."""
        refused = mendel("tag", "--path", make(yaml).path)
        assert (refused.code, refused.out) == (1, "")
        for part in said:
            assert part in refused.err

    def test_no_project_at_all(self, mendel, tmp_path, monkeypatch):
        """Without a mlserver.yaml anywhere, it says what it looked for."""
        monkeypatch.chdir(tmp_path)
        said = mendel("tag")
        assert said.code == 1
        assert "mlserver.yaml" in said.err


@pytest.mark.parametrize("words", [["tag"], ["tag", "patch", "--dry-run"]], ids=" ".join)
def test_little_is_imported(make, words):
    """Status and plan of a release need no rooms but projects and images, and no slow library: that is their speed."""
    probe = (
        "import sys; sys.argv = ['mendel', *sys.argv[1:]]\n"
        "from mendel.app.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('mendel.')}\n"
        f"print(*sorted({set(HEAVY)!r} & sys.modules.keys()), *sorted(rooms), file=sys.stderr)"
    )
    command = [sys.executable, "-c", probe, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=make(SINGLE).path)
    assert tuple(done.stderr.split()) == LIGHT
