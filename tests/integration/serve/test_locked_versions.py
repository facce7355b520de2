"""Versions with code and packages of their own on one server."""

from __future__ import annotations

import pytest
from tests.integration.serve.test_model_processes import model_processes

from mendel.images import LOCK_FILE
from mendel.serving import TrainedClassifier, write_artifact
from mendel.values.directory_trees import tree_digest
from support.locks import BORROWED_NUMPY, lock_of
from support.wheels import wheel

PROJECT = "classifier: {name: credit}\npredictor: {module: model, class_name: P}\n"
CODE = """
import answering
class P:
    def predict(self, X):
        return [[answering.WORD, WORD]] * len(X)
WORD = "WHICH"
"""


@pytest.fixture
def release(tmp_path, hub, monkeypatch):
    """Puts a version into the hub whose code and whose only package say *word*; gives its digest and its lock's."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("MENDEL_CACHE", str(cache))

    def make(word):
        root = tmp_path / word
        root.mkdir()
        answering = wheel("answering", "1.0", files={"answering.py": f"WORD = {word!r}".encode()})
        lock = lock_of(cache, [answering, BORROWED_NUMPY], classifier="credit")
        texts = {"mlserver.yaml": PROJECT, "model.py": CODE.replace("WHICH", word), LOCK_FILE: lock.as_text()}
        for name, text in texts.items():
            (root / name).write_text(text)
        draft = hub.artifacts / "draft"
        files = {name: root / name for name in texts}
        write_artifact(TrainedClassifier(name="credit", files=files, locked=True), draft, project=None)
        digest = tree_digest(draft)
        draft.rename(hub.artifacts / digest.hex)
        return digest, lock.digest

    return make


def answer(server):
    return server.predict()[1]["predictions"]


def test_versions_with_other_code_and_packages_swap_without_a_failed_request(serve, hub, release, load):
    """Each answers with its own code and package, there and back again; the process of the former one ends."""
    (one, first), (two, second) = release("one"), release("two")
    hub.deploy(one, locks=[first])
    server = serve(workers=2).ready()
    assert answer(server) == [["one", "one"]]
    with load(server) as asking:
        for versions, locks, number in (([one, two], [first, second], 2), ([one, two], [first, second], 1)):
            hub.deploy(*versions, locks=locks, production=number)
            server.until(lambda number=number: server.version() == number)
            asking.go_on(20)
            assert answer(server) == [[word := {1: "one", 2: "two"}[number], word]]
    assert not asking.failures
    hub.deploy(one, locks=[first])
    server.until(lambda: len(model_processes(server)) == 1)
