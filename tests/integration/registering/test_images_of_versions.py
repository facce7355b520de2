"""Registering a directory with its image, and recording an image later, against a hub in this process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from sklearn.linear_model import LogisticRegression

import mendel
from mendel.adapters.oci.layout.layout import Layout
from mendel.app.images.image_resolution import find_image
from mendel.app.project.artifact_registration import ArtifactRequest, record_image, register_artifact
from mendel.errors import Conflict, ImageNotFound, InvalidInput, NotFound, ProjectNotFound, VersionNotFound
from mendel.images.manifests import CONFIG, INDEX, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.serving import write_artifact
from mendel.values import Digest, VersionRef
from mendel.values.directory_trees import tree_digest

RELEASE = "credit-v1.0.0-mlserver-762e7f2"
PROJECT = """
repository: {name: risk}
classifiers:
  credit:
    predictor: {module: model, class_name: Credit}
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with mendel.connect(directory=str(tmp_path_factory.mktemp("hub") / ".mendel")) as client:
        yield client


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The artefact of a small model."""
    directory = tmp_path_factory.mktemp("trees") / "artifact"
    write_artifact(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), directory, input_example=[[0.0]])
    return directory


@pytest.fixture
def project(tmp_path):
    """A project without images."""
    (tmp_path / "mlserver.yaml").write_text(PROJECT)
    (tmp_path / "model.py").write_text("class Credit:\n    def predict(self, X): return X\n")
    return tmp_path


@pytest.fixture
def make_image(project):
    """Puts an image with given labels into the project's layout."""
    layout = Layout(project / ".mendel" / "images")

    def make(name, labels, *, indexed=False):
        config = canonical_json({"config": {"Labels": labels}})
        manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=()).as_json()
        image = Descriptor.of(manifest, MANIFEST, platform="linux/amd64")
        layout.put(config)
        layout.put(manifest)
        if indexed:
            content = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image.as_tree()]})
            layout.put(content)
            image = Descriptor.of(content, INDEX)
        layout.name([name], image)
        return image.digest

    return make


def _wish(tree, project, **more):
    return ArtifactRequest(tree=tree, path=project, **more)


def test_a_directory_is_registered_with_its_image(client, tree, project, make_image):
    """The version has the image's digest and release; list, lookup by image and card show them."""
    digest = make_image("risk/credit:v1.0.0", {"com.classifier.git_tag": RELEASE})
    done = register_artifact(_wish(tree, project, name="first", image="risk/credit:v1.0.0"), client)
    assert done.image_seen
    record = done.version
    assert (record.image.digest, record.release_tag) == (digest, RELEASE)
    assert (record.flavor, record.task) == ("sklearn", "classification")
    assert client.versions_by_image(digest) == (record,)
    card = client.card(record.ref)
    assert f"| Release | {RELEASE} |" in card
    assert f"| Image | risk/credit:v1.0.0 ({digest}) |" in card


@pytest.mark.parametrize("indexed", [False, True])
def test_an_image_is_found_by_name_and_by_digest(project, make_image, indexed):
    """Tag, digest alone, and name at digest mean the same image, of one platform or of several."""
    digest = make_image("risk/credit:v1.0.0", {"com.classifier.git_tag": RELEASE}, indexed=indexed)
    for text in ("risk/credit:v1.0.0", digest, f"ghcr.io/acme/risk/credit@{digest}"):
        found = find_image(text, path=project)
        assert (found.image.reference, found.image.digest, found.image.release_tag) == (text, digest, RELEASE)


def test_an_image_is_recorded_with_a_version(client, tree, project, make_image):
    """A version that is registered already gets an image of its release, and refuses one of another."""
    make_image("risk/credit:v1.0.0", {"com.classifier.git_tag": RELEASE})
    make_image("risk/credit:v2.0.0", {"com.classifier.git_tag": RELEASE.replace("v1", "v2")})
    ref = register_artifact(_wish(tree, project, name="second", release=RELEASE), client).version.ref
    assert record_image(ref, "risk/credit:v1.0.0", client, path=project).version.image is not None
    with pytest.raises(Conflict, match=r"v2\.0\.0"):
        record_image(ref, "risk/credit:v2.0.0", client, path=project)
    with pytest.raises(VersionNotFound):
        record_image(VersionRef(ref.model, 99), "risk/credit:v1.0.0", client, path=project)


def test_an_image_of_another_artefact_is_refused(client, tree, project, make_image):
    """An image that was built for a registered artefact delivers that one only."""
    labels = {"com.classifier.git_tag": RELEASE, "com.mendel.model.artifact": tree_digest(tree)}
    make_image("risk/credit:mine", labels)
    make_image("risk/credit:other", labels | {"com.mendel.model.artifact": f"sha256:{'0' * 64}"})
    with pytest.raises(Conflict, match="contains the artefact"):
        register_artifact(_wish(tree, project, name="third", image="risk/credit:other"), client)
    assert "third" not in client.models()
    record = register_artifact(_wish(tree, project, name="third", image="risk/credit:mine"), client).version
    with pytest.raises(Conflict, match="third@1"):
        record_image(record.ref, "risk/credit:other", client, path=project)


def test_a_digest_stands_for_itself(tmp_path, monkeypatch):
    """Where the registry does not answer, a pinned image is known by its digest alone, and says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MENDEL_REGISTRY_INSECURE", "localhost:1")
    digest = Digest(f"sha256:{'5' * 64}")
    found = find_image(f"localhost:1/risk/credit@{digest}")
    assert (found.seen, found.image.digest, found.image.release_tag) == (False, digest, None)


def test_what_is_not_there_is_refused(client, tree, project, tmp_path):
    """An image nobody has, a directory that is missing, and a project that is missing are each named."""
    with pytest.raises(ImageNotFound, match="risk/credit:v9"):
        find_image("risk/credit:v9", path=project)
    with pytest.raises(ProjectNotFound):
        find_image("risk/credit:v9", path=tmp_path / "absent")
    with pytest.raises(NotFound, match="absent"):
        register_artifact(_wish(tmp_path / "absent", project), client)
    with pytest.raises(InvalidInput, match="--name"):
        register_artifact(_wish(tree, project), client)


def test_mlflows_own_models_are_registered(client, project, tmp_path):
    """What MLflow saved is registered as it is; it does not tell its task, so the caller does."""
    tree = tmp_path / "saved"
    tree.mkdir()
    (tree / "MLmodel").write_text("flavors:\n  sklearn: {pickled_model: model.pkl}\n  python_function: {}\n")
    (tree / "model.pkl").write_bytes(b"never read here")
    with pytest.raises(InvalidInput, match="--task"):
        register_artifact(_wish(tree, project, name="fourth"), client)
    assert (
        register_artifact(_wish(tree, project, name="fourth", task="regression"), client).version.task == "regression"
    )
    (tree / "MLmodel").write_text("flavors:\n  tensorflow: {}\n")
    with pytest.raises(InvalidInput, match="tensorflow"):
        register_artifact(_wish(tree, project, name="fourth", task="regression"), client)


@pytest.fixture
def git_project(project):
    """The project on its first release."""

    def git(*words):
        subprocess.run(["git", "-C", project, "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    (project / ".gitignore").write_text(".mendel/\nartifact/\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", RELEASE, "-m", "first")
    return project


def test_the_artefact_of_a_classifier_belongs_to_its_release(client, git_project, make_image):
    """It takes release, code and name from the project at HEAD, and is refused between releases."""
    tree = git_project / "artifact"
    tree.mkdir()
    (tree / "MLmodel").write_text("flavors:\n  mendel: {classifier: credit}\nmetadata: {task: classification}\n")
    make_image("risk/credit:v1.0.0", {"com.classifier.git_tag": RELEASE})
    record = register_artifact(_wish(tree, git_project, image="risk/credit:v1.0.0"), client).version
    assert (str(record.ref), record.flavor, record.release_tag) == ("credit@1", "mendel", RELEASE)
    assert record.code_digest is not None
    assert record.project.tag == RELEASE
    assert record.provenance.git_commit_hash is not None
    make_image("risk/credit:v2.0.0", {"com.classifier.git_tag": RELEASE.replace("v1", "v2")})
    with pytest.raises(Conflict, match=r"v2\.0\.0"):
        register_artifact(_wish(tree, git_project, image="risk/credit:v2.0.0"), client)
    (git_project / "model.py").write_text("class Credit: pass\n")
    with pytest.raises(Conflict, match=r"model\.py"):
        register_artifact(_wish(tree, git_project), client)


def test_commands(tree, project, make_image):
    """`register` says version, release and image; `versions --json` shows them; a version without --image is misuse."""
    digest = make_image("risk/credit:v1.0.0", {"com.classifier.git_tag": RELEASE})

    def run(*words):
        command = [sys.executable, "-m", "mendel.app.cli", *words]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)

    said = run("register", str(tree), "--name", "credit")
    assert said.returncode == 0, said.stderr
    assert "release    -" in said.stdout
    said = run("register", "credit@1", "--image", "risk/credit:v1.0.0")
    assert said.returncode == 0, said.stderr
    assert f"image      risk/credit:v1.0.0 {digest}" in said.stdout
    (told,) = json.loads(run("versions", "credit", "--json").stdout)
    assert told["image"] == {"reference": "risk/credit:v1.0.0", "digest": digest, "release_tag": RELEASE}
    assert run("register", "credit@1").returncode == 2
