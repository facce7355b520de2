"""Projects made of a mapping of paths to contents, and plans of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mendel.errors import BuildRefused
from mendel.images import (
    BasePin,
    Environment,
    FileSelection,
    ImagePlan,
    Interpreter,
    RuntimePin,
    SourceRevision,
    WheelPin,
    image_name,
    image_tags,
    plan_image,
    select_files,
)
from mendel.projects import Project, load_project
from mendel.values import Digest, ReleaseTag

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TREE = {"mlserver.yaml": "", "model.py": "class Model:\n    def predict(self, rows): return rows\n"}


def digest(letter: str) -> Digest:
    return Digest(f"sha256:{letter * 64}")


def wheel(name: str, version: str = "1.0", letter: str = "a") -> WheelPin:
    return WheelPin(
        name=name,
        version=version,
        filename=f"{name}-{version}-py3-none-any.whl",
        sha256=digest(letter),
        size_bytes=1000,
    )


ENVIRONMENT = Environment(
    classifiers=("m",),
    platform="linux/amd64",
    inputs=digest("1"),
    requirements=("numpy",),
    base=BasePin(
        reference="docker.io/library/python:3.11-slim",
        digest=digest("b"),
        python="3.11",
        interpreter="/usr/local/bin/python3.11",
        glibc="2.36",
    ),
    wheels=(wheel("numpy", "2.1.0"), wheel("scipy", "1.14.0", "c")),
)


def plan_of(project: Project, selection: FileSelection, **changes: Any) -> ImagePlan:
    classifier = project.classifiers[0]
    tag = ReleaseTag.parse(f"{classifier.name}-v1.2.0-mlserver-762e7f2")
    origin = SourceRevision(
        repository="shop",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        tag=tag,
        commit=COMMIT,
        branch="main",
        url="https://example.org/team/shop.git",
    )
    given: dict[str, Any] = {
        "origin": origin,
        "environment": replace(ENVIRONMENT, classifiers=(classifier.name,)),
        "runtime": RuntimePin(
            version="0.1.0",
            commit="762e7f2" + "0" * 33,
            url="https://example.org/mendel.git",
            how="checkout",
            wheel=wheel("mendel", "0.1.0", "d"),
        ),
        "lock": digest("e"),
        "name": image_name("shop", classifier.name)[0],
        "tags": image_tags(tag.version, COMMIT),
    }
    return plan_image(classifier, selection, **{**given, **changes})


class Workshop:
    """Writes projects below one directory and selects from them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, files: Mapping[str, str | bytes], settings: str = "") -> Project:
        head = "classifier: {name: m}\npredictor: {module: model, class_name: Model}\n"
        for name, content in {**TREE, **files}.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        if "mlserver.yaml" not in files:
            body = settings if "predictor:" in settings else head + settings
            (self.root / "mlserver.yaml").write_text(body)
        return load_project(self.root)

    def select(self, files: Mapping[str, str | bytes] | None = None, settings: str = "", **more: Any) -> FileSelection:
        project = self.write(files or {}, settings)
        return select_files(project, project.classifiers[0], self.root, **more)

    def reasons(self, files: Mapping[str, str | bytes] | None = None, settings: str = "") -> tuple[str, ...]:
        with pytest.raises(BuildRefused) as refused:
            self.select(files, settings)
        return refused.value.reasons


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    root = tmp_path / "project"
    root.mkdir()
    return Workshop(root)


class Planner:
    """Plans images of what the workshop writes; ``isolated`` has an environment for the project on Python 3.9."""

    isolated = replace(
        ENVIRONMENT,
        base=replace(
            ENVIRONMENT.base,
            python="3.9",
            interpreter="/usr/bin/python3.9",
            runtime=Interpreter(python="3.11", path="/usr/bin/python3.11"),
        ),
        project=(wheel("numpy", "1.22.4", "f"),),
    )

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def __call__(self, files: Mapping[str, str | bytes] | None = None, settings: str = "", **changes: Any) -> ImagePlan:
        project = self._workshop.write(files or {}, settings)
        return self.again(project, select_files(project, project.classifiers[0], self._workshop.root), **changes)

    def again(self, project: Project, selection: FileSelection, **changes: Any) -> ImagePlan:
        return plan_of(project, selection, **changes)


@pytest.fixture
def make_plan(workshop: Workshop) -> Planner:
    return Planner(workshop)


@pytest.fixture
def make_wheel() -> Callable[..., WheelPin]:
    return wheel


@pytest.fixture
def make_digest() -> Callable[[str], Digest]:
    return digest
