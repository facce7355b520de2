"""What the documentation says of the code."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, fields, is_dataclass
from typing import get_type_hints

import pytest
import yaml

from mendel.operations import OPERATIONS
from mendel.projects import (
    Api,
    Build,
    DeploymentSection,
    Observability,
    PredictorSection,
    RepositorySection,
    ServerSection,
    load_project,
)

SECTIONS = {
    "repository": RepositorySection,
    "predictor": PredictorSection,
    "server": ServerSection,
    "api": Api,
    "observability": Observability,
    "build": Build,
    "deployment": DeploymentSection,
}
OTHER_LABELS = {
    "com.classifier.git_url",
    "com.classifier.repository.description",
    "org.opencontainers.image.authors",
    "org.opencontainers.image.source",
    *(f"com.mendel.{name}" for name in ("builder", "changed", "lock", "model", "model.artifact", "reproducible")),
    "com.mendel.untracked",
}
WRITTEN = ["images.md"]
PAGES = ["cli.md", "conformance.md", "errors.md", "events.md", "http.md", "metrics.md", "policies.md", "settings.md"]


@pytest.fixture(scope="module")
def made(make_reference):
    """The pages that scripts/make_reference.py would write now, by name."""
    return make_reference.tables()


@pytest.mark.parametrize("page", PAGES)
def test_the_reference_is_what_the_code_says(make_reference, made, page):
    """Every page below docs/reference is what scripts/make_reference.py would write now."""
    standing = (make_reference.TARGET / page).read_text(encoding="utf-8")
    assert standing == made[page], "run scripts/make_reference.py"


def test_the_reference_has_no_other_pages(make_reference, made):
    """A page that nothing makes would grow old; those that are written by hand have tests of their own below."""
    standing = sorted(path.name for path in make_reference.TARGET.iterdir())
    assert standing == sorted([*PAGES, *WRITTEN])
    assert sorted(made) == PAGES


def test_every_label_part_and_variable_of_images_stands_in_the_reference(check_docs):
    """What the code writes into images and reads of the environment for them is what the page about images tells."""
    from mendel.app.settings import OTHER_VARIABLES  # noqa: PLC0415 - half a second
    from mendel.images import RELEASE_LABELS, ImagePart  # noqa: PLC0415

    page = (check_docs.ROOT / "docs/reference/images.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`([^`\n]+)`", page))
    assert {label for label in told if re.fullmatch(r"(com|org)\.[a-z._]+", label)} == {*RELEASE_LABELS, *OTHER_LABELS}
    assert {part.value for part in ImagePart} <= told
    assert OTHER_VARIABLES - {"MENDEL_CONFIG", "MENDEL_URL"} <= told


def test_every_key_of_a_project_stands_on_its_page(check_docs):
    """Each key of mlserver.yaml is told in full, and no key that is none."""
    page = (check_docs.ROOT / "docs/how-to/write-a-project.md").read_text(encoding="utf-8")
    keys = {f"{name}.{key}" for name, kind in SECTIONS.items() for key in _keys_of(kind)}
    keys |= {"classifier.name", "classifier.description", "classifier.repository", "default_classifier"}
    told = set(re.findall(r"`([a-z_.]+)`", page))
    assert keys <= told
    sections = tuple(f"{name}." for name in (*SECTIONS, "classifier"))
    assert {key for key in told - {"classifier.yaml"} if key.startswith(sections)} <= keys


def test_every_command_stands_in_the_reference(make_reference, check_docs):
    """Each command, groups included, has a heading of its own; a former name stands with the name that replaced it."""
    page = make_reference.cli_page()
    headings = set(re.findall(r"^## mendel (.+)$", page, re.MULTILINE))
    former = set(re.findall(r"^\| `mendel (.+)` \| `mendel .+` \|$", page, re.MULTILINE))
    assert headings | former == {" ".join(words) for words in check_docs.known().commands}
    assert not headings & former


def test_every_operation_stands_in_the_reference_with_its_scope(make_reference):
    """Each operation of the hub has a row with its method, path and scope, and no row describes another one."""
    rows = re.findall(
        r"^\| (\w+) \| `([^`]+)` \| (\w+) \| .* \| `(\w+)` \|", "\n".join(make_reference._hub_routes()), re.MULTILINE
    )
    described = [(one.method, one.url, one.scope or "none", one.name) for one in OPERATIONS.values()]
    assert rows == described
    assert {path for _, path, scope, _ in rows if scope == "none"} == {"/health", "/live", "/ready"}


def test_a_key_without_a_meaning_is_refused(make_reference):
    """Nobody can add a key to a policy and leave it unexplained."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Silent:
        bound: float = 0.5

    with pytest.raises(SystemExit, match=r"rollback\.bound has no meaning"):
        make_reference._keys(Silent, "nowhere.rollback", {})


def test_no_meaning_outlives_its_key(make_reference):
    """Every meaning that the script adds belongs to a key that exists."""
    pages = make_reference.policies_page() + make_reference.settings_page()
    assert [text for text in make_reference.MEANINGS.values() if text not in pages] == []


def test_pages_link_to_what_exists(check_docs):
    """No page of the repository links to nowhere."""
    for path in check_docs.pages():
        assert list(check_docs.broken_links(path.read_text(encoding="utf-8"), path.parent)) == [], path


def test_a_link_that_leads_nowhere_is_found(check_docs, tmp_path):
    """Links into the web are left alone."""
    page = "[a](b.md) and [c](https://example.org/d)"
    assert list(check_docs.broken_links(page, tmp_path)) == ["link to b.md leads nowhere"]


def test_a_marked_block_is_run_and_its_failure_told(check_docs):
    """A block without the mark is not run."""
    page = "<!-- run -->\n```python\nraise ValueError('so')\n```\n\n```python\nraise SystemExit(3)\n```\n"
    assert list(check_docs.failures(page)) == ["Python block 1 fails: ValueError: so"]


@pytest.mark.parametrize("name", ["quickstart.md", "how-to/policies.md"])
def test_the_policies_that_are_shown_are_policies(check_docs, name):
    """Every YAML block of the pages about policies is one that the hub takes."""
    from mendel.app.project.policy_files import checked_policy  # noqa: PLC0415 - half a second

    page = (check_docs.ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]
    assert blocks
    assert [checked_policy(block, at=name) for block in blocks] == blocks


def test_the_project_that_is_shown_is_a_project(check_docs, tmp_path):
    """The mlserver.yaml of the page about projects is read, and its classifiers are the example's."""
    page = (check_docs.ROOT / "docs/how-to/write-a-project.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    example = check_docs.ROOT / "examples/rfq_likelihood"
    shutil.copytree(example / "features", tmp_path / "features")
    (tmp_path / "mlserver.yaml").write_text(text, encoding="utf-8")
    shown, real = load_project(tmp_path), load_project(example)
    assert len(shown.classifiers) > 1
    for one in shown.classifiers:
        other = real.classifier(one.name)
        assert (one.predictor, one.api, one.policy) == (other.predictor, other.api, other.policy)


def test_docs_name_no_machine(check_docs):
    """Neither working directories nor hosts of registries stand in a page."""
    for path in check_docs.pages():
        assert not re.search(r"(?<![\w.-])/work/|/tmp/|artifactory|pypi\.org", path.read_text(encoding="utf-8")), path


def _keys_of(kind):
    hints = get_type_hints(kind)
    for one in fields(kind):
        inner = hints[one.name]
        yield from (f"{one.name}.{key}" for key in _keys_of(inner)) if is_dataclass(inner) else (one.name,)
