"""What is built: the working tree by the rules of names, or what a tag says, however far the tree has moved on."""

from __future__ import annotations

import shutil

import pytest

FEATURES_ONLY = "rfq_likelihood_rfq_features_only"
IMAGE = f"rfq_likelihood/{FEATURES_ONLY}"
RELEASE = "com.classifier.git_tag"


def planned(repository, what=FEATURES_ONLY):
    """What a build would make."""
    return repository.build(what, "--dry-run")


def test_a_changed_tree_is_untagged(rfq):
    """On the tag, but with a changed file, the image is `untagged` and belongs to no release; the reason is told."""
    rfq.write("likelihood/bounds.py", (rfq.root / "likelihood" / "bounds.py").read_text() + "\n")
    told, short = planned(rfq), rfq.git("rev-parse", "HEAD")[:7]
    assert told["references"] == [f"{IMAGE}:{tag}" for tag in ("latest", "untagged", f"untagged-{short}")]
    assert RELEASE not in told["labels"]
    assert told["release"] is None
    assert not told["reproducible"]
    assert any("likelihood/bounds.py" in hint for hint in told["hints"])


def test_a_commit_after_the_tag_is_untagged(rfq):
    """A clean tree one commit further is `untagged`, too, and named for its own commit."""
    rfq.write("NOTES.md", "later")
    rfq.commit()
    short = rfq.git("rev-parse", "HEAD")[:7]
    assert planned(rfq)["references"][1:] == [f"{IMAGE}:untagged", f"{IMAGE}:untagged-{short}"]


def test_a_tree_in_no_repository_is_built(rfq):
    """Without git there are `latest` and `untagged`, and no commit."""
    shutil.rmtree(rfq.root / ".git")
    told = planned(rfq)
    assert [reference.rpartition(":")[2] for reference in told["references"]] == ["latest", "untagged"]
    assert any("git repository" in hint for hint in told["hints"])


def test_an_untracked_file_on_a_release_makes_it_untagged(rfq):
    """A tree that is on its tag, and puts a file into the image that git does not track, is not that release."""
    rfq.write("models/rfq_features_only/notes.txt", "by hand")
    told = planned(rfq)
    assert (told["release"], told["labels"]["com.mendel.changed"]) == (None, "true")
    assert any("models/rfq_features_only/notes.txt" in hint and rfq.tag() in hint for hint in told["hints"])


def test_a_detached_head_and_a_worktree_build_their_release(rfq, tmp_path):
    """The rules ask where HEAD is, and for no branch: a worktree that is detached at the tag is the release."""
    rfq.write("NOTES.md", "later")
    rfq.commit()
    there = tmp_path / "worktree"
    rfq.git("worktree", "add", "--quiet", "--detach", str(there), rfq.tag())
    shutil.copytree(rfq.root / ".mendel" / "base", there / ".mendel" / "base")
    beside = type(rfq)(root=there, environment=rfq.environment)
    assert planned(beside)["release"] == rfq.tag()
    assert planned(rfq)["release"] is None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_full_tag_builds_what_it_says_and_not_the_tree(rfq, built):
    """With a broken predictor committed, a model deleted and the lock gone, the tag gives the digest it always gave."""
    tag = rfq.tag()
    rfq.write("likelihood/predictor.py", "raise RuntimeError\n")
    rfq.commit("Break it")
    (rfq.root / "models" / "rfq_features_only" / "model.joblib").unlink()
    (rfq.root / "mlserver.lock").unlink()
    before = rfq.git("status", "--porcelain")
    assert rfq.build(tag)["digest"] == built["digest"]
    assert rfq.git("status", "--porcelain") == before
    assert rfq.git("worktree", "list").count("\n") == 0
    assert "raise" in (rfq.root / "likelihood" / "predictor.py").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_predictor_that_cannot_be_imported_gets_no_name(rfq):
    """The image of a broken predictor is refused with the end of its traceback, and what `latest` meant stays."""
    whole = rfq.build()["digest"]
    rfq.write("likelihood/predictor.py", "import a_module_that_nobody_has\n\n\nclass RfqLikelihood: ...\n")
    said = rfq.run("build", "--classifier", FEATURES_ONLY, "--no-load")
    assert said.returncode == 1
    assert "a_module_that_nobody_has" in said.stderr
    assert rfq.layout.named()[f"{IMAGE}:latest"] == whole
