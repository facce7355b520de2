"""The rendered Dockerfile: read back as engines read it, it says what the plan says and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.errors import BuildRefused, InvalidValue, Unsupported
from mendel.images import (
    EngineNeeds,
    apt_packages,
    base_reference,
    build_context,
    context_wheels,
    one_line,
    render_dockerfile,
    source_requirements,
)

NAMED = "predictor: {module: model, class_name: Model, init_kwargs: {d: data}}\nclassifier: {name: m}\n"
FILES = {"data/a.bin": "a", "data/[x]*.csv": ""}
KNOWN = {"FROM", "USER", "RUN", "COPY", "ENV", "WORKDIR", "EXPOSE", "LABEL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def instructions(text: str) -> list[tuple[str, str]]:
    """As docker's parser splits: lines joined after a final backslash, comments dropped, the first word apart."""
    joined = re.sub(r"\\[ \t]*\n", "", text)
    lines = (line.strip() for line in joined.split("\n"))
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def pairs(rest: str) -> dict[str, str]:
    """As docker's lexer reads ``key="value" ...``: a backslash frees the quote, the dollar and itself."""
    one = r'([A-Za-z0-9._-]+)="((?:[^"\\]|\\.)*)"'
    assert re.fullmatch(rf"{one}(?:\s+{one})*", rest), rest
    found = dict(re.findall(one, rest))
    expanded = {name for name, value in found.items() if re.search(r"(?<!\\)(?:\\\\)*\$", value)}
    assert expanded <= {"PATH"}
    return {name: re.sub(r'\\(["\\$])', r"\1", value) for name, value in found.items()}


def labels(text: str) -> dict[str, str]:
    (rest,) = (rest for word, rest in instructions(text) if word == "LABEL")
    return pairs(rest)


def test_the_whole_file(make_plan):
    """Two stages from the pinned base; exec form everywhere; the last word is the plan's command."""
    plan = make_plan(FILES, NAMED)
    text = render_dockerfile(plan)
    found = instructions(text)
    assert {word for word, _ in found} <= KNOWN
    base = "docker.io/library/python@sha256:" + "b" * 64
    assert [rest for word, rest in found if word == "FROM"] == [f"{base} AS builder", base]
    assert all(rest.startswith("[") and json.loads(rest) for word, rest in found if word in {"RUN", "CMD"})
    assert json.loads(found[-1][1]) == list(plan.run.command)
    assert ("ENTRYPOINT", "[]") in found
    assert [rest for word, rest in found if word == "USER"][-1] == "10001:10001"
    assert ("EXPOSE", "8000 7212 7211") in found
    health = next(rest for word, rest in found if word == "HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2]) == list(plan.run.healthcheck)
    path, others = (pairs(rest) for word, rest in found if word == "ENV")
    assert (path, others) == ({"PATH": "/opt/mendel/bin:$PATH"}, plan.run.environment)


def test_two_environments(make_plan):
    """Each is made and filled with its own requirements; what is compiled goes to the project's."""
    base = replace(make_plan.isolated.base, python="3.12", interpreter="/usr/bin/python3.12", runtime=None)
    plan = make_plan(FILES, NAMED, environment=replace(make_plan.isolated, base=base))
    needs = EngineNeeds(sources=("slow==1",))
    runs = [json.loads(rest) for word, rest in instructions(render_dockerfile(plan, needs)) if word == "RUN"]
    assert [run[-1] for run in runs if run[1:3] == ["-m", "venv"]] == ["/opt/mendel", "/opt/project"]
    project = ("/usr/bin/python3.12", "/opt/project/bin/python")
    assert [(run[0], run[4], run[-1]) for run in runs if "install" in run] == [
        ("/usr/bin/python3.12", "/opt/mendel/bin/python", "/build/requirements.txt"),
        (*project, "/build/project-requirements.txt"),
        (*project, "/build/sources.txt"),
    ]
    wheels = {pin.filename: Path(pin.filename) for pin in context_wheels(plan)}
    context = {file.path: file.source for file in build_context(plan, wheels, needs)}
    assert b"numpy==2.1.0" in context["build/requirements.txt"]
    assert context["build/project-requirements.txt"].startswith(b"numpy==1.22.4 --hash=")
    assert context["build/constraints.txt"] == b"numpy==1.22.4\n"


def test_a_python_that_pip_does_not_support_needs_our_own_builder(make_plan):
    """The engines install with the pip of today, which knows no Python 3.9; the error says which builder does."""
    with pytest.raises(Unsupported, match=r"no image for a project on Python 3\.9") as refused:
        render_dockerfile(make_plan(FILES, NAMED, environment=make_plan.isolated))
    assert "--engine oci" in refused.value.remedy


def test_labels_are_the_plans_and_say_it_cannot_be_repeated(make_plan):
    """Every label is rendered; com.mendel.reproducible is false whatever the plan said."""
    plan = make_plan(FILES, NAMED)
    assert labels(render_dockerfile(plan)) == {**plan.labels, "com.mendel.reproducible": "false"}


@REUSED
@given(st.text())
def test_any_value_survives_and_starts_no_instruction(make_plan, value):
    """Quotes, dollars, backslashes and other alphabets come back; line breaks and control characters as spaces."""
    plan = replace(make_plan(FILES, NAMED), labels={"k": value})
    text = render_dockerfile(plan)
    assert labels(text)["k"] == one_line(value)
    assert {word for word, _ in instructions(text)} <= KNOWN
    assert len(instructions(text)) == len(instructions(render_dockerfile(replace(plan, labels={"k": ""}))))


@pytest.mark.parametrize(
    "value", ["a\nUSER root", "a\\\nRUN evil", '"\nRUN evil', "$(id) ${HOME} `id`", "\u2028x", "\r\nRUN x", "\\"]
)
def test_hostile_values(make_plan, value):
    """The usual attempts stay a value."""
    plan = replace(make_plan(FILES, NAMED), labels={"k": value})
    assert labels(render_dockerfile(plan))["k"] == one_line(value)


def test_names_of_files_never_stand_in_the_dockerfile(make_plan):
    """Files are copied as directories of the context, so no name is read as a pattern or an instruction."""
    text = render_dockerfile(make_plan(FILES, NAMED))
    assert "[x]" not in text
    assert [rest for word, rest in instructions(text) if word == "COPY"] == [
        '["build/", "/build/"]',
        '--from=builder --chown=0:0 ["/opt/mendel/", "/opt/mendel/"]',
        '--chown=0:0 ["artifacts/", "/app/"]',
        '--chown=0:0 ["code/", "/app/"]',
    ]


def test_the_context_holds_exactly_the_plan(make_plan):
    """Files, manifest, pinned requirements and wheels; nothing else of the project."""
    plan = make_plan(FILES, NAMED)
    wheels = {wheel.filename: Path("/wheels") / wheel.filename for wheel in context_wheels(plan)}
    context = {file.path: file.source for file in build_context(plan, wheels)}
    assert sorted(context) == [
        "Dockerfile",
        "artifacts/data/[x]*.csv",
        "artifacts/data/a.bin",
        "build/requirements.txt",
        "build/wheels/mendel-0.1.0-py3-none-any.whl",
        "build/wheels/numpy-2.1.0-py3-none-any.whl",
        "build/wheels/scipy-1.14.0-py3-none-any.whl",
        "code/mendel-manifest.json",
        "code/mlserver.yaml",
        "code/model.py",
    ]
    assert context["code/mendel-manifest.json"] == plan.manifest
    assert context["build/requirements.txt"].decode().splitlines()[0] == f"numpy==2.1.0 --hash=sha256:{'a' * 64}"


def test_wheels_from_the_index(make_plan):
    """On demand only Mendel's own wheel is in the context, and pip may ask its index, still by hash."""
    plan = make_plan(FILES, NAMED)
    needs = EngineNeeds(from_index=True)
    assert [wheel.name for wheel in context_wheels(plan, needs)] == ["mendel"]
    text = render_dockerfile(plan, needs)
    assert "--no-index" not in text
    assert "--require-hashes" in text


def test_compilers_do_not_stay(make_plan):
    """Compilers and headers are for the build only, libraries for both; packages are arguments, not script."""
    needs = EngineNeeds(apt=("gcc", "g++-12", "libpq-dev", "libpq5", "build-essential"), sources=("psycopg2==2.9.9",))
    plan = make_plan(FILES, NAMED)
    runs = [json.loads(rest) for word, rest in instructions(render_dockerfile(plan, needs)) if word == "RUN"]
    stages = [run[4:] for run in runs if run[0] == "/bin/sh"]
    assert stages == [list(needs.apt), ["libpq5"]]
    context = {
        file.path: file.source
        for file in build_context(plan, dict.fromkeys((w.filename for w in context_wheels(plan)), Path()), needs)
    }
    assert context["build/sources.txt"] == b"psycopg2==2.9.9\n"
    assert context["build/constraints.txt"] == b"numpy==2.1.0\nscipy==1.14.0\n"


def test_a_base_without_pip(make_plan):
    """A pip wheel in the context installs where the base has none."""
    text = render_dockerfile(make_plan(FILES, NAMED), EngineNeeds(pip_wheel="pip-25.0-py3-none-any.whl"))
    assert '"/opt/mendel/bin/python", "/build/wheels/pip-25.0-py3-none-any.whl/pip", "install"' in text


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("python:3.11-slim", "python@"),
        ("localhost:5000/base", "localhost:5000/base@"),
        ("localhost:5000/base:1", "localhost:5000/base@"),
        (f"ghcr.io/acme/base@sha256:{'0' * 64}", "ghcr.io/acme/base@"),
    ],
)
def test_bases_by_digest(make_plan, reference, expected):
    """A tag gives way to the digest; a port is no tag."""
    plan = make_plan(FILES, NAMED)
    base = replace(plan.environment.base, reference=reference)
    plan = replace(plan, environment=replace(plan.environment, base=base))
    assert base_reference(plan) == f"{expected}sha256:{'b' * 64}"


@pytest.mark.parametrize("reference", ["oci:/base", "a b", "$BASE"])
def test_bases_that_no_dockerfile_can_name(make_plan, reference):
    """Layouts need a name in the engine; anything that is no reference is refused."""
    plan = make_plan(FILES, NAMED)
    base = replace(plan.environment.base, reference=reference)
    with pytest.raises(InvalidValue):
        render_dockerfile(replace(plan, environment=replace(plan.environment, base=base)))


def test_lists_of_packages():
    """Comments and blanks are skipped; every line that is no name is refused at once."""
    assert apt_packages("libgomp1  # OpenMP\n\n# nothing\ng++\nlibgomp1\n") == ("g++", "libgomp1")
    with pytest.raises(BuildRefused) as refused:
        apt_packages("libgomp1\n--allow-unauthenticated\na b\nlibx;rm\n$(id)\n")
    assert [reason.split(":")[1] for reason in refused.value.reasons] == ["2", "3", "4", "5"]
    assert source_requirements("a==1  # why\nb @ https://example.org/b#egg=b\n") == (
        "a==1",
        "b @ https://example.org/b#egg=b",
    )
    with pytest.raises(BuildRefused):
        source_requirements("--index-url https://evil.example\n")
