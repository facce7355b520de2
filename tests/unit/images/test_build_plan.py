"""The plan of an image: pure, equal for equal inputs, and complete."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.errors import BuildRefused
from mendel.images import (
    BUILDER_FORMAT,
    RegisteredVersion,
    SourceFile,
    SourceRevision,
    describe_plan,
    image_name,
    select_files,
)
from mendel.values import ReleaseTag, VersionRef, to_json

NAMED = "predictor: {module: model, class_name: Model, init_kwargs: {d: data}}\nclassifier: {name: m}\n"
FILES = {"data/a.bin": "aaa", "data/b.bin": "b", "model.py": "import helper", "helper.py": "", "requirements.txt": ""}


def test_everything_that_the_image_says_of_itself(make_plan, make_digest):
    """References, times, command, ports and manifest are the contract's."""
    plan = make_plan(FILES, f"{NAMED}server: {{port: 9000}}\n")
    assert plan.references == ("shop/m:latest", "shop/m:v1.2.0", "shop/m:v1.2.0-0123456")
    assert plan.created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert plan.run.command == (
        *("/opt/mendel/bin/python", "-m", "mendel.app.cli", "serve", "--path", "/app"),
        *("--classifier", "m", "--directory", "/data"),
    )
    assert plan.run.healthcheck == ("/opt/mendel/bin/python", "-m", "mendel.app.server.healthcheck", "/data")
    assert plan.run.ports == (9000, 7212, 7211)
    assert plan.run.environment == {"HOME": "/data", "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    assert plan.labels["com.mendel.reproducible"] == "true"
    manifest = json.loads(plan.manifest)
    assert [(entry["path"], entry["part"]) for entry in manifest["files"]] == [
        ("data/a.bin", "artifacts"),
        ("data/b.bin", "artifacts"),
        ("helper.py", "code"),
        ("mlserver.yaml", "code"),
        ("model.py", "code"),
        ("requirements.txt", "code"),
    ]
    assert manifest["files"][0] == {
        "path": "data/a.bin",
        "part": "artifacts",
        "size": 3,
        "sha256": str(plan.artifacts[0].digest),
    }
    assert manifest["release"] == {
        "tag": "m-v1.2.0-mlserver-762e7f2",
        "version": "1.2.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "branch": "main",
        "repository": "shop",
        "url": "https://example.org/team/shop.git",
        "tool_commit": "762e7f2" + "0" * 33,
        "time": "2026-01-02T03:04:05Z",
    }
    assert manifest["lock"] == make_digest("e")
    assert (manifest["format"], manifest["classifier"]) == (1, "m")


def test_what_is_planned_changes_with_the_format_only(make_plan):
    """
    The same inputs give the same labels, settings and list of files with every later Mendel of this builder's format.

    Where this fails, images of releases would get other digests from old locks: raise `BUILDER_FORMAT`, and then the
    digest here.
    """
    origin = SourceRevision(
        repository="shop",
        created=datetime(2026, 1, 2, tzinfo=UTC),
        tag=ReleaseTag.parse("m-v1.2.0-mlserver-762e7f2"),
        commit="0123456789abcdef0123456789abcdef01234567",
        branch="main",
        url="https://example.org/team/shop.git",
        tool_url="https://example.org/mendel.git",
        maintainer="M",
        about="A shop",
    )
    plan = make_plan(FILES, f"{NAMED}server: {{port: 9000}}\n", origin=origin)
    planned = {
        "labels": plan.labels,
        "run": plan.run,
        "tags": plan.tags,
        "created": plan.created,
        "files": plan.manifest,
    }
    assert (BUILDER_FORMAT, hashlib.sha256(to_json(planned)).hexdigest()) == (
        2,
        "e2c1f0b1b928efbc8778fd56920bc2af0880579b58bfa5280b67e645a0efd476",
    )


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_does_not_matter(make_plan, workshop, rng: random.Random):
    """Files in any order give an equal plan, to the byte of its manifest."""
    project = workshop.write(FILES, NAMED)
    chosen = select_files(project, project.classifiers[0], workshop.root)
    shuffled = replace(
        chosen,
        artifacts=tuple(rng.sample(chosen.artifacts, len(chosen.artifacts))),
        code=tuple(rng.sample(chosen.code, len(chosen.code))),
    )
    assert make_plan.again(project, shuffled) == make_plan.again(project, chosen)


def test_another_directory_gives_the_same_plan_but_for_where_files_lie(make_plan, tmp_path):
    """Nothing of the machine stands in labels or manifest."""
    plan = make_plan(FILES, NAMED)
    said = " ".join([*plan.labels.values(), plan.manifest.decode(), *plan.run.command, *plan.references])
    assert str(tmp_path) not in said


def test_without_a_release(make_plan):
    """A working tree's manifest has no release, and the image is not called repeatable."""
    plan = make_plan(FILES, NAMED, origin=SourceRevision(repository="shop", created=datetime(2026, 1, 1, tzinfo=UTC)))
    assert json.loads(plan.manifest)["release"] is None
    assert plan.labels["com.mendel.reproducible"] == "false"


@pytest.mark.parametrize(
    "change",
    [
        {"engine": "podman"},
        {"lock": None},
        {"untracked": ("data/a.bin",)},
        {"changed": True},
        {"tag": "m-v1.2.0-mlserver-dev"},
    ],
)
def test_when_an_image_cannot_be_repeated(make_plan, change):
    """Another engine, no lock, untracked artefacts, changed files or a tag without a tool: the label says so."""
    origin = SourceRevision(
        repository="shop",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        tag=ReleaseTag.parse(change.get("tag", "m-v1.2.0-mlserver-762e7f2")),
        untracked=change.get("untracked", ()),
        changed=change.get("changed", False),
    )
    more = {key: change[key] for key in ("engine", "lock") if key in change}
    assert make_plan(FILES, NAMED, origin=origin, **more).labels["com.mendel.reproducible"] == "false"


def test_an_image_of_a_registered_version(make_plan, make_digest, tmp_path):
    """Its artefact stands below /app/.version, the server starts with it, and labels and manifest name it."""
    (tmp_path / "MLmodel").write_text("")
    file = SourceFile(path=".version/MLmodel", source=tmp_path / "MLmodel", size_bytes=0, digest=make_digest("0"))
    version = RegisteredVersion(ref=VersionRef.parse("m@3"), artifact=make_digest("9"), files=(file,))
    plan = make_plan(FILES, NAMED, version=version)
    assert plan.run.command[-2:] == ("--artifact", "/app/.version")
    assert ".version/MLmodel" in [one.path for one in plan.artifacts]
    assert json.loads(plan.manifest)["model"] == {"version": "m@3", "artifact": make_digest("9")}
    assert plan.labels["com.mendel.model"] == "m@3"


def test_a_project_with_an_environment_of_its_own(make_plan):
    """Its predictor runs in a process with its own Python; Mendel has the Python of the base that is new enough."""
    plan, shared = make_plan(FILES, NAMED, environment=make_plan.isolated), make_plan(FILES, NAMED)
    assert plan.run.environment == {
        **shared.run.environment,
        "MENDEL_SERVING__BACKEND": "process",
        "MENDEL_SERVING__MODEL_PYTHON": "/opt/project/bin/python",
        "PYTHONPYCACHEPREFIX": "/data/.bytecode",
    }
    assert [(venv.python, venv.base.interpreter, [pin.name for pin in venv.wheels]) for venv in plan.venvs] == [
        ("/opt/mendel/bin/python", "/usr/bin/python3.11", ["numpy", "scipy", "mendel"]),
        ("/opt/project/bin/python", "/usr/bin/python3.9", ["numpy"]),
    ]
    assert (plan.path, shared.path) == ("/opt/mendel/bin:/opt/project/bin", "/opt/mendel/bin")


def test_no_path_stands_in_two_parts(make_plan, workshop):
    """A selection made by hand that names a file twice is refused."""
    project = workshop.write(FILES, NAMED)
    chosen = select_files(project, project.classifiers[0], workshop.root)
    with pytest.raises(BuildRefused) as refused:
        make_plan.again(project, replace(chosen, artifacts=chosen.code))
    assert "model.py comes from two sources." in refused.value.reasons


def test_credentials_stay_out_of_the_manifest(make_plan):
    """A remote with a token leaves none in the image."""
    origin = SourceRevision(
        repository="s", created=datetime(2026, 1, 1, tzinfo=UTC), url="https://me:t0ken@example.org/s"
    )
    plan = make_plan(FILES, NAMED, origin=origin)
    assert "t0ken" not in plan.manifest.decode() + "".join(plan.labels.values())


def test_what_build_says_first(make_plan, workshop):
    """The runtime, the files by kind, their total, and for what, in the contract's order."""
    project = workshop.write({**FILES, "mlserver.yaml": NAMED})
    chosen = select_files(project, project.classifiers[0], workshop.root)
    lines = describe_plan(make_plan.again(project, chosen), chosen)
    assert lines[0] == "Runtime: mendel 0.1.0 at 762e7f2 (checkout)"
    order = ["Predictor files:", "  model.py (13 B)", "Artefact files:", "  data/a.bin (3 B)", "Configuration files:"]
    assert [lines.index(line) for line in order] == sorted(lines.index(line) for line in order)
    assert lines[-2].startswith("Total: 6 files, ")
    assert lines[-1] == "Building container for m v1.2.0"
    untagged = make_plan.again(
        project, chosen, origin=SourceRevision(repository="s", created=datetime(2026, 1, 1, tzinfo=UTC))
    )
    assert describe_plan(untagged, chosen)[-1] == "Building container for m (untagged)"


def test_the_name_is_the_callers(make_plan):
    """A registry and a prefix stand in every reference."""
    name = image_name("shop", "m", registry="ghcr.io/acme", prefix="ml")[0]
    assert make_plan(FILES, NAMED, name=name).references[0] == "ghcr.io/acme/ml/shop/m:latest"
