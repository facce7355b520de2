"""CI workflows: what they hold, and what they do when their steps are run with programs that only take notes."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace

import pytest
import yaml

from mendel.errors import InvalidValue
from mendel.projects import CiWorkflowInputs, Ecr, ImageRegistry, ci_workflow, github_workflow, gitlab_pipeline, pip_url

COMMIT = "762e7f2"
TAG = f"sentiment-vip-v1.2.3-mlserver-{COMMIT}"
ECR = Ecr(aws_region="eu-west-1", registry_id="123456789012", repository_prefix="ml")
REGISTRIES = {
    "ghcr": ImageRegistry(),
    "ghcr-other": ImageRegistry(namespace="acme"),
    "dockerhub": ImageRegistry(type="dockerhub", namespace="acme"),
    "gitlab": ImageRegistry(type="gitlab", namespace="acme/ml"),
    "ecr": ImageRegistry(type="ecr", ecr=ECR),
    "custom": ImageRegistry(type="custom", url="https://images.example.org:5000", namespace="ml"),
}
HOSTILE = [
    "x-v1.0.0-mlserver-762e7f2;touch${IFS}pwned",
    "x-v1.0.0-mlserver-$(touch${IFS}pwned)",
    "`touch${IFS}pwned`-v1.0.0-mlserver-762e7f2",
    "x'-v1.0.0-mlserver-762e7f2'",
    'x"-v1.0.0-mlserver-762e7f2"|touch${IFS}pwned',
    "x-v1.0.0-mlserver-dev",
    "x-v01.0.0-mlserver-762e7f2",
    "X-v1.0.0-mlserver-762e7f2",
    "é-v1.0.0-mlserver-762e7f2",
]
NOTES = """\
#!/bin/sh
printf '%s' "$(basename "$0")" >> "$NOTES"
for word in "$@"; do printf ' [%s]' "$word" >> "$NOTES"; done
echo >> "$NOTES"
case "$(basename "$0") $1" in
  "mendel version") printf '{"commit": "%s"}' "$INSTALLED" ;;
  "mendel list-classifiers") printf '{"classifiers": [{"classifier": "a"}, {"classifier": "b-2"}]}' ;;
  "mendel build") printf '{"digest": "sha256:00"}' ;;
  "docker ps") echo c0ffee ;;
  "aws ecr") [ "$2" = get-login-password ] && echo s3cret ;;
esac
exit 0
"""
PYTHON = """\
#!/bin/sh
if [ "$1" = -m ]; then exec pip "$@"; fi
exec {python} "$@"
"""


def pipeline(registry=None, **how):
    parts = {"registry": registry or ImageRegistry(), "repository": "shop", "tool_source": "git+https://e.org/m.git"}
    return CiWorkflowInputs(**{**parts, **how})


def steps(registry=None, **how):
    workflow = yaml.safe_load(github_workflow(pipeline(registry, **how)))
    job = workflow["jobs"]["image"]
    return {**job, "env": {**workflow["env"], **job["env"]}}, job["steps"]


@pytest.fixture
def runner(tmp_path):
    """Runs shell text as the runners of GitHub do, with programs that only take notes."""
    programs, notes, work = tmp_path / "bin", tmp_path / "notes", tmp_path / "work"
    programs.mkdir()
    work.mkdir()
    for name in ("mendel", "docker", "podman", "git", "curl", "pip", "aws", "apt-get"):
        (programs / name).write_text(NOTES)
    (programs / "python3").write_text(PYTHON.format(python=sys.executable))
    for program in programs.iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    notes.touch()
    settings = tmp_path / "github_env"
    settings.touch()
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "NOTES": str(notes),
        "INSTALLED": COMMIT + "0" * 33,
        "GITHUB_ENV": str(settings),
        "RUNNER_TEMP": str(tmp_path),
        "HOME": str(tmp_path),
    }

    def run(script, **variables):
        told = dict(line.split("=", 1) for line in settings.read_text().splitlines())
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=work,
            env={**environment, **told, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    run.notes, run.work, run.settings, run.temp = notes, work, settings, tmp_path
    return run


def variables_of(job, step, **given):
    """The environment of a step, its expressions answered as GitHub would."""
    answers = {"github.ref_name": given.get("TAG", TAG), "github.repository_owner": "Acme", "github.actor": "me"}
    found = {**job["env"], **step.get("env", {})}
    told = {
        name: re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda m: answers.get(m.group(1), "s3cret"), str(value))
        for name, value in found.items()
    }
    return {**told, **given}


@pytest.mark.parametrize("name", REGISTRIES)
def test_every_action_is_pinned_by_its_commit(name):
    """A tag of an action can be moved; 40 hex digits cannot, and the version stands behind them."""
    text = github_workflow(pipeline(REGISTRIES[name]))
    used = re.findall(r"uses: (.*)", text)
    assert len(used) == (7 if name == "ecr" else 6)
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("name", REGISTRIES)
def test_no_expression_stands_in_a_shell(name):
    """What GitHub fills in comes by variables, never as text of a script."""
    _, found = steps(REGISTRIES[name])
    assert not [step for step in found if "${{" in step.get("run", "")]


@pytest.mark.parametrize(
    ("name", "permissions"),
    [
        ("ghcr", {"contents": "read", "packages": "write"}),
        ("ecr", {"contents": "read", "id-token": "write"}),
        ("custom", {"contents": "read"}),
        ("dockerhub", {"contents": "read"}),
    ],
)
def test_permissions_are_what_the_registry_needs(name, permissions):
    """The token of the job can do no more than push where images go."""
    assert yaml.safe_load(github_workflow(pipeline(REGISTRIES[name])))["permissions"] == permissions


def test_it_starts_by_release_tags():
    """Nothing but a tag of the grammar's shape starts the job of the image; a new lock starts that of the cache."""
    workflow = yaml.safe_load(github_workflow(pipeline()))
    assert workflow[True] == {"push": {"tags": ["*-v*-mlserver-*"], "branches": ["**"], "paths": ["**/mlserver.lock"]}}
    assert workflow["jobs"]["image"]["if"] == "github.ref_type == 'tag'"
    assert "github.event.repository.default_branch" in workflow["jobs"]["cache"]["if"]
    assert workflow["jobs"]["cache"]["permissions"] == {"contents": "read"}


def test_the_cache_is_filled_on_the_default_branch(runner):
    """Runs of a tag read only caches of the default branch: there every classifier is built with the lock's tool."""
    workflow = yaml.safe_load(github_workflow(pipeline()))
    (runner.work / "mlserver.lock").write_text(json.dumps({"runtime": {"commit": COMMIT}}))
    *_, last = workflow["jobs"]["cache"]["steps"]
    done = runner(last["run"].replace("sudo ", "true "), **workflow["env"])
    assert done.returncode == 0, done.stderr
    said = [line for line in runner.notes.read_text().splitlines() if line.startswith("mendel [build]")]
    assert said == [f"mendel [build] [--no-load] [--classifier] [{name}]" for name in ("a", "b-2")]
    kept = [
        step["with"] for job in workflow["jobs"].values() for step in job["steps"] if "cache@" in step.get("uses", "")
    ]
    assert kept[0] == kept[1]
    assert kept[0]["path"] == "~/.cache/mendel"
    assert "hashFiles('**/mlserver.lock')" in kept[0]["key"]


def test_gitlab_keeps_wheels_and_pins_its_image():
    """The job's image is pinned by digest; wheels and layers are kept as long as the project's lock is the same."""
    job = yaml.safe_load(gitlab_pipeline(pipeline(directory="models")))["release image"]
    assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", job["image"])
    assert job["cache"] == {"key": {"prefix": "mendel", "files": ["models/mlserver.lock"]}, "paths": [".mendel-cache/"]}
    assert job["variables"]["MENDEL_CACHE"] == "$CI_PROJECT_DIR/.mendel-cache"


@pytest.mark.parametrize("name", REGISTRIES)
def test_its_steps_do_what_they_say(name, runner):
    """Install the tag's tool, assert it, check the lock, build and verify, try it, stop it, log in, push."""
    job, found = steps(REGISTRIES[name])
    (runner.work / "smoke").mkdir()
    (runner.work / "smoke" / "sentiment-vip.json").write_text("{}")
    for step in found:
        if "run" in step:
            done = runner(step["run"], **variables_of(job, step))
            assert done.returncode == 0, (step, done.stderr)
    notes = runner.notes.read_text()
    assert f"pip [-m] [pip] [install] [--quiet] [mendel[build] @ git+https://e.org/m.git@{COMMIT}]" in notes
    assert f"[fetch] [--force] [origin] [refs/tags/{TAG}:refs/tags/{TAG}]" in notes
    wanted = {
        "ghcr": "ghcr.io/acme",
        "ghcr-other": "ghcr.io/acme",
        "dockerhub": "docker.io/acme",
        "gitlab": "registry.gitlab.com/acme/ml",
        "ecr": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml",
        "custom": "images.example.org:5000/ml",
    }[name]
    said = [line for line in notes.splitlines() if line.startswith(("mendel", "docker", "curl"))]
    assert said[0] == "mendel [version] [--json]"
    assert said[1:5] == [
        "mendel [lock] [--check] [--classifier] [sentiment-vip]",
        f"mendel [build] [--classifier] [{TAG}] [--json]",
        "mendel [verify] [sha256:00] [--rebuild]",
        f"mendel [run] [--classifier] [{TAG}] [--port] [18008] [--detach]",
    ]
    assert said[5].endswith("[http://127.0.0.1:18008/health]")
    assert said[6].endswith("[@smoke/sentiment-vip.json] [http://127.0.0.1:18008/v1/sentiment-vip/predict]")
    assert said[7] == f"docker [ps] [--all] [--quiet] [--filter] [label=com.classifier.git_tag={TAG}]"
    assert said[8] == "docker [rm] [--force] [c0ffee]"
    assert said[9] == f"mendel [push] [--classifier] [{TAG}] [--registry] [{wanted}]"
    file = runner.temp / "registry" / "config.json"
    ((host, login),) = json.loads(file.read_text())["auths"].items()
    assert host == {"dockerhub": "https://index.docker.io/v1/"}.get(name, wanted.partition("/")[0])
    assert base64.b64decode(login["auth"]).decode().endswith(":s3cret")
    assert file.stat().st_mode & 0o077 == 0


def test_another_tool_than_the_tags_is_refused(runner):
    """What was installed must be the commit that the tag names."""
    job, found = steps()
    read, install = (next(step for step in found if word in step.get("name", "")) for word in ("Read", "Install"))
    runner(read["run"], **variables_of(job, read))
    done = runner(install["run"], **variables_of(job, install, INSTALLED="b" * 40))
    assert done.returncode == 1
    assert f"The tag asks for tool commit {COMMIT}, installed is bbb" in done.stderr


@pytest.mark.parametrize("tag", HOSTILE)
def test_a_hostile_tag_stops_the_job_and_runs_nothing(tag, runner):
    """Whoever may push tags cannot run commands by naming them; even a step that went on would not."""
    job, found = steps()
    read, *rest = [step for step in found if "run" in step]
    done = runner(read["run"], **variables_of(job, read, TAG=tag))
    assert done.returncode == 1
    assert "No release tag with the commit of a tool" in done.stderr
    assert runner.settings.read_text() == ""
    for step in rest:
        runner(step["run"], **variables_of(job, step, TAG=tag))
    assert not list(runner.temp.rglob("pwned"))


@pytest.mark.parametrize("tag", HOSTILE)
def test_a_hostile_tag_on_gitlab(tag, runner):
    """The same of the pipeline, whose steps are one shell."""
    done = runner(gitlab_script(pipeline()), CI_COMMIT_TAG=tag)
    assert done.returncode == 1
    assert "mendel" not in runner.notes.read_text()
    assert not list(runner.temp.rglob("pwned"))


def gitlab_script(settings):
    (job,) = yaml.safe_load(gitlab_pipeline(settings)).values()
    return "\n".join([*job["before_script"], *job["script"]])


def test_the_pipeline_of_gitlab(runner):
    """The same steps, into the project's own registry."""
    (runner.work / "it's a dir").mkdir()
    script = gitlab_script(pipeline(directory="it's a dir"))
    own = {"CI_REGISTRY_IMAGE": "r.example.org/a/b", "CI_REGISTRY": "r.example.org", "CI_REGISTRY_USER": "u"}
    done = runner(f"{script}\ncat $DOCKER_CONFIG/config.json", CI_COMMIT_TAG=TAG, CI_REGISTRY_PASSWORD="s3cret", **own)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["auths"]["r.example.org"]
    said = [line for line in runner.notes.read_text().splitlines() if line.startswith("mendel")]
    assert [line.split()[1] for line in said] == ["[version]", "[lock]", "[build]", "[verify]", "[run]", "[push]"]
    assert said[-1] == f"mendel [push] [--classifier] [{TAG}] [--registry] [r.example.org/a/b]"


@pytest.mark.parametrize("name", [name for name in REGISTRIES if name != "ghcr"])
def test_gitlab_pushes_where_it_is_told(name, runner):
    """A registry of another kind is honoured there too."""
    secrets = {f"{word}_{kind}": "x" for word in ("GHCR", "DOCKERHUB", "GITLAB", "REGISTRY") for kind in ("USERNAME",)}
    secrets |= {"GHCR_TOKEN": "y", "DOCKERHUB_TOKEN": "y", "GITLAB_TOKEN": "y", "REGISTRY_PASSWORD": "y"}
    done = runner(gitlab_script(pipeline(REGISTRIES[name])), CI_COMMIT_TAG=TAG, AWS_TOKEN="t", **secrets)
    assert done.returncode == 0, done.stderr
    assert f"mendel [push] [--classifier] [{TAG}] [--registry] [" in runner.notes.read_text()


@pytest.mark.parametrize(
    ("registry", "said"),
    [
        (ImageRegistry(type="custom"), "deployment.registry.url is missing"),
        (ImageRegistry(type="dockerhub"), "deployment.registry.namespace is missing"),
        (ImageRegistry(type="ecr"), "deployment.registry.ecr.registry_id is missing"),
        (ImageRegistry(type="ecr", ecr=replace(ECR, aws_region=None)), "deployment.registry.ecr.aws_region is missing"),
        (ImageRegistry(type="custom", url="https://x.org/$(id)"), "which has characters that are not allowed"),
        (ImageRegistry(namespace="${{ secrets.KEY }}"), "which has characters that are not allowed"),
    ],
)
def test_a_registry_that_cannot_be_pushed_to(registry, said):
    """What is missing is named by its key; what could become shell text is refused."""
    for render in (github_workflow, gitlab_pipeline):
        with pytest.raises(InvalidValue, match=re.escape(said)):
            render(pipeline(registry))


def test_a_project_below_the_root(runner):
    """Every step runs in the project's own directory, whatever its name."""
    text = github_workflow(pipeline(directory='models/Größe 1: "x"'))
    assert yaml.safe_load(text)["defaults"]["run"]["working-directory"] == 'models/Größe 1: "x"'
    with pytest.raises(InvalidValue):
        pipeline(directory="${{ secrets.X }}")


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://example.org/m.git", "git+https://example.org/m.git"),
        ("ssh://git@example.org:22/a/m.git", "git+https://example.org/a/m.git"),
        ("git@example.org:a/m.git", "git+https://example.org/a/m.git"),
        ("git+https://example.org/m.git", "git+https://example.org/m.git"),
    ],
)
def test_where_the_tool_is_installed_from(url, source):
    """Any form of a repository's URL becomes one that pip takes on a machine without keys."""
    assert pip_url(url) == source


def test_a_workflow_is_found_by_what_it_speaks_of(tmp_path):
    """Only a CI file about release tags counts as one."""
    assert ci_workflow(tmp_path) is None
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "test.yml").write_text("on: push\n")
    assert ci_workflow(tmp_path) is None
    (folder / "release.yaml").write_text(github_workflow(pipeline()))
    assert ci_workflow(tmp_path) == folder / "release.yaml"


def test_every_command_and_flag_exists():
    """The workflows call commands as this very tool has them."""
    from mendel.app.cli.main import commands  # noqa: PLC0415 - a moment

    known = {
        words[0]: {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        for words, command in commands()
    }
    for text in (github_workflow(pipeline()), gitlab_pipeline(pipeline())):
        for name, rest in re.findall(r"\bmendel ([a-z-]+)((?: [^|>\n]*)?)", re.sub(r"#.*|name:.*", "", text)):
            assert set(re.findall(r"--[a-z-]+", rest)) <= known[name]
