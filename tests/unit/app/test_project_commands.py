"""Commands around a project: what is here, and how one begins."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from datetime import timedelta
from importlib.metadata import metadata

import pytest
import yaml

from mendel import __version__
from mendel.app.images.host_tools import this_machine
from mendel.app.project.scaffold import write_new
from mendel.errors import StoreUnavailable
from mendel.projects import NewFile, load_project

MULTI = """\
classifiers:
  sentiment: {predictor: {module: a, class_name: A}, classifier: {description: Says how it feels}}
  sentiment-vip: {predictor: {module: gone, class_name: A}}
default_classifier: sentiment
"""
URL = ["--tool-url", "https://example.org/mendel.git"]
WRITTEN = {
    "mlserver.yaml",
    "predictor.py",
    "requirements.txt",
    ".gitignore",
    "smoke/churn.json",
    ".github/workflows/release-image.yml",
}


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Runs git in a directory, untouched by the machine's configuration."""
    configuration = tmp_path / "gitconfig"
    configuration.write_text("[user]\n\tname = T\n\temail = t@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(configuration))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def run(directory, *arguments):
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return run


@pytest.fixture
def several(tmp_path, git):
    """A repository of two classifiers with one commit."""
    root = tmp_path / "Zwei Modelle ä"
    root.mkdir()
    git(root, "init", "-q")
    (root / "mlserver.yaml").write_text(MULTI)
    (root / "a.py").write_text("class A: ...\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def files_of(root):
    return {
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and ".git" not in path.parts
    }


class TestVersion:
    def test_without_a_project(self, mendel, tmp_path, monkeypatch):
        """The tool's version, commit, install type and Python are told anywhere; --detailed only adds a hint."""
        monkeypatch.chdir(tmp_path)
        told = json.loads(mendel("version", "--json").out)
        assert (told["version"], told["classifiers"]) == (__version__, [])
        assert told["install"] in {"checkout", "wheel", "vcs", "embedded"}
        assert told["python"] == ".".join(map(str, sys.version_info[:3]))
        said = mendel("version", "--detailed")
        assert said.code == 0
        assert said.out.startswith(f"mendel {__version__}, commit ")
        assert "contains no mlserver.yaml" in said.err

    def test_of_each_classifier(self, mendel, several, git):
        """--detailed tells version, tag, commit, branch and changes, of all classifiers or of one."""
        tag = "sentiment-v1.2.0-mlserver-762e7f2"
        git(several, "tag", "-a", "-m", "x", tag)
        (several / "a.py").write_text("class A: x = 1\n")
        told = json.loads(mendel("version", "--detailed", "--json", "--path", several).out)["classifiers"]
        head = git(several, "rev-parse", "HEAD")
        assert [(c["classifier"], c["version"], c["tag"]) for c in told] == [
            ("sentiment", "1.2.0", tag),
            ("sentiment-vip", None, None),
        ]
        assert {(c["commit"], c["branch"], c["dirty"]) for c in told} == {(head, "main", True)}
        said = mendel("version", "--detailed", "--path", several, "--classifier", "sentiment")
        row = next(line for line in said.out.splitlines() if tag in line)
        assert row.split()[:6] == ["sentiment", "1.2.0", tag, head[:8], "main", "yes"]
        assert "sentiment-vip" not in said.out

    def test_a_path_that_is_missing_is_an_error(self, mendel, tmp_path):
        """Where a project is named, it must be there."""
        said = mendel("version", "--detailed", "--path", tmp_path / "none")
        assert (said.code, said.out) == (1, "")
        assert "none does not exist" in said.err

    def test_without_git(self, mendel, several, monkeypatch, tmp_path):
        """An image has no git: the tool's version is told, and why no more is."""
        monkeypatch.setenv("PATH", str(tmp_path))
        said = mendel("version", "--detailed", "--path", several)
        assert said.code == 0
        assert __version__ in said.out
        assert "git is not installed" in said.err
        assert mendel("tag", "--path", several).code == 1
        assert mendel("init", "--path", tmp_path / "new", *URL).code == 0

    def test_outside_of_a_repository(self, mendel, several, git, tmp_path):
        """A project without git has no commit, and is no error."""
        plain = tmp_path / "plain"
        plain.mkdir()
        (plain / "mlserver.yaml").write_text(MULTI)
        told = json.loads(mendel("version", "--detailed", "--json", "--path", plain).out)["classifiers"]
        assert {(c["commit"], c["branch"], c["dirty"]) for c in told} == {(None, None, False)}


class TestListing:
    def test_all_or_one(self, mendel, several):
        """Every classifier with predictor, default and description; a missing predictor file shows."""
        told = json.loads(mendel("list-classifiers", "--json", "--path", several).out)
        assert [(c["classifier"], c["predictor"], c["default"], c["source"]) for c in told["classifiers"]] == [
            ("sentiment", "a:A", True, True),
            ("sentiment-vip", "gone:A", False, False),
        ]
        said = mendel("list-classifiers", "--path", several).out
        assert "gone:A (missing)" in said
        assert "Says how it feels" in said
        assert "sentiment-vip" not in mendel("list-classifiers", "--classifier", "sentiment", "--path", several).out

    def test_an_unknown_one_is_answered_with_those_there_are(self, mendel, several):
        """The error lists the classifiers."""
        said = mendel("list-classifiers", "--classifier", "x", "--path", several)
        assert said.code == 1
        assert "Choose one of: sentiment, sentiment-vip." in said.err

    def test_status_of_one(self, mendel, several):
        """`mendel tag` shows one where one is named, with a name that others begin with."""
        rows = json.loads(mendel("tag", "--json", "--classifier", "sentiment", "--path", several).out)["classifiers"]
        assert [row["classifier"] for row in rows] == ["sentiment"]
        assert mendel("tag", "--classifier", "x", "--path", several).code == 1


class TestStatus:
    def test_what_this_machine_has(self, mendel):
        """Git, engines, extras, credentials: each is said to be here or not; the extras are those of the package."""
        told = json.loads(mendel("status", "--json").out)
        programs = {one["name"]: one for one in told["machine"]["programs"]}
        assert list(programs) == ["git", "docker", "podman", "buildah"]
        assert programs["git"]["answers"]
        assert {one["name"] for one in told["machine"]["extras"]} == set(metadata("mendel").get_all("Provides-Extra"))
        lines = mendel("status").out.splitlines()
        assert lines[0] == "This machine"
        assert any(line.startswith(" registry credentials") for line in lines)

    def test_it_never_hangs(self, tmp_path):
        """An engine that does not answer is ended after a moment, its children too; absent ones are told so."""
        programs = {
            "docker": "sleep 60 & sleep 60",
            "podman": "echo Error: broken >&2; exit 1",
            "git": "echo git 2.1.0",
        }
        for name, body in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(stat.S_IRWXU)
        (tmp_path / "auth.json").write_text("{}")
        environment = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json"),
        }
        began = time.monotonic()
        machine = this_machine(environment, patience=timedelta(seconds=0.5))
        assert time.monotonic() - began < 5
        found = {one.name: one for one in machine.programs}
        assert (found["docker"].answers, found["docker"].said) == (False, "no answer within 0.5 s")
        assert (found["podman"].answers, found["podman"].said) == (False, "Error: broken")
        assert (found["git"].answers, found["git"].said) == (True, "2.1.0")
        assert machine.credentials == (str(tmp_path / "auth.json"),)

    def test_a_machine_without_anything(self, tmp_path):
        """Nothing is there, and nothing fails."""
        machine = this_machine({"PATH": str(tmp_path), "HOME": str(tmp_path)})
        assert {(one.path, one.answers, one.said) for one in machine.programs} == {(None, False, "not installed")}
        assert machine.credentials == ()

    def test_credentials_are_those_that_pushing_reads(self, tmp_path):
        """The files are named in the order they are tried in: what the user names, podman's, docker's."""
        places = ("named.json", "run/containers/auth.json", "docker/config.json", ".docker/config.json")
        for place in places:
            (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / place).write_text("{}")
        environment = {"PATH": "", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
        given = {"REGISTRY_AUTH_FILE": str(tmp_path / "named.json"), "DOCKER_CONFIG": str(tmp_path / "docker")}
        assert this_machine({**environment, **given}).credentials == tuple(
            str(tmp_path / place) for place in places[:3]
        )
        assert this_machine(environment).credentials == tuple(str(tmp_path / places[index]) for index in (1, 3))


class TestInit:
    def test_everything_is_written_and_valid(self, mendel, tmp_path):
        """A project that loads, with a workflow, and what to do next."""
        root = tmp_path / "new one" / "Churn"
        said = mendel("init", "--path", root, *URL)
        assert (said.code, said.err) == (0, "")
        assert files_of(root) == WRITTEN
        (only,) = load_project(root).classifiers
        assert (only.name, only.predictor.class_name) == ("churn", "Predictor")
        assert only.predictor.source(root) == root / "predictor.py"
        assert "Next steps:" in said.out

    def test_names_are_honoured(self, mendel, tmp_path):
        """--classifier, --predictor-class and --ci say what is written."""
        told = json.loads(
            mendel(
                *("init", "--path", tmp_path, "--classifier", "risk", "--predictor-class", "Risk", "--ci", "gitlab"),
                *(*URL, "--json"),
            ).out
        )
        assert told["classifier"] == "risk"
        assert str(tmp_path / ".gitlab-ci.yml") in told["written"]
        assert "class Risk:" in (tmp_path / "predictor.py").read_text()
        assert load_project(tmp_path).classifier("risk").predictor.class_name == "Risk"

    @pytest.mark.parametrize("there", sorted(WRITTEN))
    def test_nothing_is_written_over_what_is_there(self, mendel, tmp_path, there):
        """One file in the way, whichever: none is written; --force writes all."""
        root = tmp_path / "churn"
        (root / there).parent.mkdir(parents=True, exist_ok=True)
        (root / there).write_text("mine")
        said = mendel("init", "--path", root, *URL)
        assert (said.code, said.out) == (1, "")
        assert there in said.err
        assert files_of(root) == {there}
        assert (root / there).read_text() == "mine"
        assert mendel("init", "--path", root, "--force", *URL).code == 0
        assert files_of(root) == WRITTEN

    def test_the_workflow_stands_at_the_repositorys_root(self, mendel, tmp_path, git):
        """A project below the root is built from its own directory."""
        git(tmp_path, "init", "-q")
        root = tmp_path / "models" / "churn"
        assert mendel("init", "--path", root, *URL).code == 0
        workflow = yaml.safe_load((tmp_path / ".github" / "workflows" / "release-image.yml").read_text())
        assert workflow["defaults"]["run"]["working-directory"] == "models/churn"
        assert not (root / ".github").exists()

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["--ci", "jenkins"], 2, "is not one of 'github', 'gitlab', 'none'"),
            (["--predictor-class", "not a class"], 1, "is not a valid Python class name"),
            (["--predictor-class", "class"], 1, "is not a valid Python class name"),
            (["--classifier", "Not A Name"], 1, "is not a model name"),
        ],
    )
    def test_what_cannot_be(self, mendel, tmp_path, words, code, said):
        """A name that cannot be one is refused before anything is written."""
        refused = mendel("init", "--path", tmp_path / "x", *words, *URL)
        assert refused.code == code
        assert said in refused.err
        assert not (tmp_path / "x").exists()

    def test_a_link_is_replaced_not_written_through(self, mendel, tmp_path):
        """--force never changes a file outside that a link points to."""
        root, outside = tmp_path / "churn", tmp_path / "outside"
        root.mkdir()
        outside.write_text("mine")
        (root / "predictor.py").symlink_to(outside)
        assert mendel("init", "--path", root, "--force", *URL).code == 0
        assert outside.read_text() == "mine"

    def test_a_place_that_takes_no_files(self, mendel, tmp_path):
        """Where a file is in the way of the directory it is one sentence, and the file stays."""
        (tmp_path / "churn").write_text("mine")
        said = mendel("init", "--path", tmp_path / "churn", "--classifier", "churn", *URL)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"error: {tmp_path / 'churn' / 'mlserver.yaml'} cannot be written")
        assert (tmp_path / "churn").read_text() == "mine"

    def test_a_disk_that_fills_up_leaves_nothing(self, tmp_path, monkeypatch):
        """What was written before one file failed is gone again; a file that was there keeps what it held."""
        (tmp_path / "b").write_text("mine")
        took = iter([None, None])

        def full(_: int) -> None:
            if next(took, OSError) is OSError:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", full)
        files = [(tmp_path, NewFile(path=name, text="new\n")) for name in ("a", "c", "b")]
        with pytest.raises(StoreUnavailable, match=r"/b cannot be written: No space left"):
            write_new(files, force=True)
        assert files_of(tmp_path) == {"b"}
        assert (tmp_path / "b").read_text() == "mine"

    def test_the_next_steps_can_be_copied(self, mendel, tmp_path):
        """A path with spaces is quoted as a shell needs it."""
        root = tmp_path / "new one"
        assert f"mendel serve --path '{root}'" in mendel("init", "--path", root, *URL).out


class TestWorkflows:
    @pytest.mark.parametrize("command", ["init-github", "init-gitlab"])
    def test_no_password_gets_into_a_workflow(self, mendel, several, command):
        """An address of the tool with a password is refused without showing it, and nothing is written."""
        said = mendel(command, "--path", several, "--tool-url", "https://me:s3cret@example.org/mendel.git")
        assert said.code == 1
        assert "contains a user name or a password" in said.err
        assert "s3cret" not in said.err
        assert files_of(several) == {"mlserver.yaml", "a.py"}

    @pytest.mark.parametrize("url", ["/srv/mendel", "../mendel", "file:///srv/mendel"])
    @pytest.mark.parametrize("command", ["init", "init-github", "init-gitlab"])
    def test_no_path_of_this_machine_gets_into_a_workflow(self, mendel, several, tmp_path, command, url):
        """A CI machine cannot install from it: it is refused, and nothing is written."""
        place = tmp_path / "new" if command == "init" else several
        before = files_of(several)
        said = mendel(command, "--path", place, "--tool-url", url)
        assert said.code == 1
        assert "a path of this machine" in said.err
        assert files_of(several) == before
        assert command != "init" or not (place / "mlserver.yaml").exists()

    @pytest.mark.parametrize("command", ["init-github", "init-gitlab"])
    def test_a_base_image_of_this_machine_is_refused(self, mendel, several, command):
        """The workflow could not build: the error names the base image and the step that is missing."""
        with (several / "mlserver.yaml").open("a") as file:
            file.write("build: {base_image: 'oci:.mendel/base'}\n")
        said = mendel(command, "--path", several, *URL)
        assert said.code == 1
        assert "oci:.mendel/base exists on this machine only" in said.err
        assert "mendel base export" in said.err
        assert files_of(several) == {"mlserver.yaml", "a.py"}

    @pytest.mark.parametrize(
        ("command", "file"), [("init-github", ".github/workflows/release-image.yml"), ("init-gitlab", ".gitlab-ci.yml")]
    )
    def test_once_and_with_force(self, mendel, several, command, file):
        """It is written at the root, honours the project's registry, and is not overwritten without --force."""
        registry = "deployment: {registry: {type: custom, url: r.example.org, namespace: ml}}\n"
        (several / "mlserver.yaml").write_text(MULTI + registry)
        assert mendel(command, "--path", several, *URL).code == 0
        text = (several / file).read_text()
        assert "r.example.org/ml" in text
        again = mendel(command, "--path", several, *URL)
        assert again.code == 1
        assert "No file was written" in again.err
        told = json.loads(mendel(command, "--path", several, "--force", "--json", *URL).out)
        assert told == {"written": [str(several / file)]}

    def test_a_registry_that_lacks_something(self, mendel, several):
        """What the registry needs is named by its key; nothing is written."""
        (several / "mlserver.yaml").write_text(MULTI + "deployment: {registry: {type: ecr}}\n")
        said = mendel("init-github", "--path", several, *URL)
        assert said.code == 1
        assert "deployment.registry.ecr.registry_id is missing" in said.err
        assert not (several / ".github").exists()

    def test_a_tag_hints_at_it_until_there_is_one(self, mendel, several):
        """A repository without a workflow is tagged all the same, with a hint."""
        (several / "gone.py").write_text("")
        first = mendel("tag", "major", "--classifier", "sentiment", "--path", several, "--allow-missing-mlserver")
        assert first.code == 0
        assert "hint: no CI workflow" in first.out
        mendel("init-github", "--path", several, *URL)
        second = mendel("tag", "minor", "--classifier", "sentiment", "--path", several, "--allow-missing-mlserver")
        assert second.code == 0
        assert "hint" not in second.out


LEGACY = """\
# Our first classifier
classifier:
  name: churn      # as in the warehouse
  version: 1.2.0
predictor:
  module: a
  class_name: A
api:
  version: v1
  adapter: auto
model:
  path: x
  size: 3
# the end
"""


class TestMigration:
    def test_comments_stay_and_retired_keys_go(self, mendel, tmp_path):
        """The new file says what the old one did; the old one is left for git to remove."""
        (tmp_path / "classifier.yaml").write_text(LEGACY)
        dry = mendel("migrate", "mlserver", "--path", tmp_path, "--dry-run")
        assert dry.code == 0
        assert files_of(tmp_path) == {"classifier.yaml"}
        said = mendel("migrate", "mlserver", "--path", tmp_path)
        assert said.code == 0
        assert "classifier.version is ignored" in said.err
        text = (tmp_path / "mlserver.yaml").read_text()
        assert text == dry.out
        assert text.startswith(
            "# Our first classifier\nclassifier:\n  name: churn      # as in the warehouse\npredictor"
        )
        assert text.endswith("  adapter: auto\n# the end\n")
        project = load_project(tmp_path)
        assert (project.file.name, project.hints, project.classifier().api.adapter) == ("mlserver.yaml", (), "auto")

    def test_flow_style_is_written_anew(self, mendel, tmp_path):
        """Where a key cannot be cut out by its line, the mapping is kept, if not its form."""
        text = "{classifier: {name: churn, version: 1}, predictor: {module: a, class_name: Ä}, model: {x: 1}}\n"
        (tmp_path / "classifier.yaml").write_text(text)
        told = json.loads(mendel("migrate", "mlserver", "--path", tmp_path, "--json").out)
        assert told["written"] is True
        assert yaml.safe_load((tmp_path / "mlserver.yaml").read_text()) == {
            "classifier": {"name": "churn"},
            "predictor": {"module": "a", "class_name": "Ä"},
        }

    def test_it_refuses_to_overwrite(self, mendel, tmp_path):
        """A mlserver.yaml that is there stays as it is."""
        (tmp_path / "classifier.yaml").write_text(LEGACY)
        (tmp_path / "mlserver.yaml").write_text("mine")
        said = mendel("migrate", "mlserver", "--path", tmp_path)
        assert said.code == 1
        assert (tmp_path / "mlserver.yaml").read_text() == "mine"

    def test_what_is_not_there(self, mendel, tmp_path):
        """Without a classifier.yaml there is nothing to rewrite; an invalid one is told by its line."""
        assert "does not exist" in mendel("migrate", "mlserver", "--path", tmp_path).err
        (tmp_path / "classifier.yaml").write_text("classifier: {name: x}\npredictr: {}\n")
        said = mendel("migrate", "mlserver", "--path", tmp_path)
        assert said.code == 1
        assert "classifier.yaml:2" in said.err


class TestSchema:
    def test_printed_or_written(self, mendel, tmp_path):
        """One JSON Schema, on standard output or in a file."""
        printed = json.loads(mendel("schema").out)
        assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert mendel("schema", "--output", tmp_path / "s.json").code == 0
        assert json.loads((tmp_path / "s.json").read_text()) == printed

    def test_a_file_that_cannot_be_written(self, mendel, tmp_path):
        """It is one sentence that names the file."""
        said = mendel("schema", "--output", tmp_path / "nowhere" / "s.json")
        assert (said.code, said.out) == (1, "")
        file = tmp_path / "nowhere" / "s.json"
        assert said.err == f"error: The schema file {file} cannot be written: No such file or directory.\n"


def test_the_older_name_is_the_same_program(several):
    """`mlserver` answers as `mendel` does."""
    from importlib.metadata import entry_points  # noqa: PLC0415 - only asked here

    scripts = {
        one.name: one.value for one in entry_points(group="console_scripts", value="mendel.app.cli.main:program")
    }
    assert scripts.keys() == {"mendel", "mlserver"}
