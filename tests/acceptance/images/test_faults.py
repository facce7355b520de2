"""Everything that may go wrong with a release or an image: one clear sentence, exit code 1, and nothing half done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import httpx
import pytest

FEATURES_ONLY = "rfq_likelihood_rfq_features_only"
WITH_QUOTE = "rfq_likelihood_with_quote"
MODEL = "models/rfq_features_only/model.joblib"
BUILD = ("build", "--classifier", FEATURES_ONLY, "--no-load")
ROOT = Path(__file__).parents[3]
NO_INDEX = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_NO_INDEX": "1",
    "PIP_FIND_LINKS": "",
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
}


def test_all_reasons_against_a_release_are_told_at_once(rfq):
    """A changed file, a staged one and an untracked artefact refuse a tag together, and no tag is made."""
    before = rfq.git("tag", "--list")
    rfq.write("likelihood/bounds.py", "changed = True\n")
    rfq.write("features/more.json", "[]")
    rfq.git("add", "features/more.json")
    rfq.write("models/rfq_features_only/extra.bin", "untracked")
    said = rfq.refused("tag", "patch", "--classifier", FEATURES_ONLY)
    for name in ("likelihood/bounds.py", "features/more.json", "models/rfq_features_only/extra.bin"):
        assert name in said
    assert rfq.git("tag", "--list") == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_untracked_artefact_belongs_to_a_release_by_its_digest(rfq):
    """Allowed by name, it is in the image of the tag; changed afterwards, the tag is not built."""
    rfq.git("rm", "--quiet", "--cached", MODEL)
    rfq.write(".gitignore", (rfq.root / ".gitignore").read_text() + f"{MODEL}\n")
    rfq.git("commit", "--quiet", "--all", "--message", "The model is too large for git")
    assert MODEL in rfq.refused("tag", "patch", "--classifier", FEATURES_ONLY)
    rfq.ok("tag", "patch", "--classifier", FEATURES_ONLY, "--allow-untracked")
    tag = f"{FEATURES_ONLY}-v0.1.1-mlserver-{rfq.tag().rpartition('-')[2]}"
    told = rfq.build(tag)
    assert not told["reproducible"]
    assert rfq.layout.files(told["digest"])[f"app/{MODEL}"] == (rfq.root / MODEL).read_bytes()
    (rfq.root / MODEL).write_bytes(b"another model")
    said = rfq.refused(*BUILD[:2], tag, "--no-load")
    assert MODEL in said
    assert "changed" in said


def test_a_link_out_of_the_tree_is_refused(rfq, tmp_path):
    """What a symbolic link brings from elsewhere is in no commit, and goes into no image."""
    (tmp_path / "secret").write_text("of this machine")
    (rfq.root / MODEL).unlink()
    (rfq.root / MODEL).symlink_to(tmp_path / "secret")
    rfq.commit()
    said = rfq.refused(*BUILD)
    assert MODEL in said
    assert not rfq.layout.named()


@pytest.mark.parametrize("name", [".env", ".env.production", "id_rsa", "server.key", "service-account.pem"])
def test_a_secret_in_the_tree_is_refused_unless_excluded(rfq, name):
    """In a directory that the configuration names, a secret stops the build; excluded, it stays out of the image."""
    secret = f"models/rfq_features_only/{name}"
    rfq.write(secret, "-----BEGIN PRIVATE KEY-----\nTOKEN=sesame\n")
    assert secret in rfq.refused(*BUILD, "--dry-run")
    rfq.change("mlserver.yaml", 'exclude_patterns: ["*.csv"]', f'exclude_patterns: ["*.csv", "{name}"]')
    assert secret not in rfq.ok(*BUILD, "--dry-run")


def test_a_stale_lock_is_refused(rfq):
    """Requirements that moved on from their lock are not built, and it is said what to run."""
    rfq.write("requirements.txt", "joblib\nnumpy\nscikit-learn\nprettytable\n")
    said = rfq.refused(*BUILD)
    assert "mlserver.lock" in said
    assert "mendel lock" in said
    assert rfq.run("lock", "--check").returncode == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_missing_lock_is_a_hint(rfq):
    """Without a lock the image is built from one made for the moment, and is not called reproducible."""
    (rfq.root / "mlserver.lock").unlink()
    rfq.commit()
    told = rfq.build(FEATURES_ONLY, "--dry-run")
    assert any("mendel lock" in hint for hint in told["hints"])
    assert not told["reproducible"]
    assert not (rfq.root / "mlserver.lock").exists()


def test_a_wheel_that_vanished_is_named(rfq, tmp_path):
    """With an empty cache and an index that has nothing, the build says which wheel is nowhere; no image is named."""
    said = rfq.refused(*BUILD, MENDEL_CACHE=str(tmp_path / "empty"), **NO_INDEX)
    assert ".whl" in said or "annotated" in said
    assert not rfq.layout.named()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["dependencies", "verifying"])
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_build_names_nothing_and_the_next_is_whole(rfq, moment, number, tmp_path):
    """Stopped while layers are made, or while the predictor is tried, it leaves nothing; the next build is verified."""
    (tmp_path / "scratch").mkdir()
    rfq.change("likelihood/bounds.py", "\n", f"\n# {moment} {number}\n")
    slow = ("--no-cache",) if moment == "dependencies" else ()
    code, said = rfq.interrupted(*BUILD, *slow, when=moment, by=number, TMPDIR=str(tmp_path / "scratch"))
    assert code == 128 + number
    assert "Traceback" not in said
    assert not rfq.layout.named()
    assert not list((tmp_path / "scratch").iterdir())
    assert [path.name for path in rfq.layout.directory.iterdir() if path.is_dir()] in ([], ["blobs"])
    told = rfq.build()
    assert told["verified"]
    assert set(rfq.layout.named()) == set(told["references"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_push_leaves_no_tag(rfq, built, docker_registry):
    """Ctrl-C while blobs are sent: the registry has no tag, and the next push brings all of them."""
    open_to_all = {"MENDEL_REGISTRY_INSECURE": docker_registry.host}
    rfq.build()
    push = ("push", "--registry", docker_registry.host, "--classifier", FEATURES_ONLY)
    uploads = docker_registry.directory / "docker" / "registry" / "v2" / "repositories"
    code, said = rfq.interrupted(*push, when=lambda: any(uploads.rglob("_uploads/*")), **open_to_all)
    assert code == 130
    assert "Traceback" not in said
    tags = f"http://{docker_registry.host}/v2/rfq_likelihood/{FEATURES_ONLY}/tags/list"
    assert not httpx.get(tags).json().get("tags")
    (pushed,) = rfq.told(*push, **open_to_all)
    assert pushed["digest"] == built["digest"]
    kept = {tag for tag in httpx.get(tags).json()["tags"] if not tag.startswith("sha256-")}
    assert kept == {reference.rpartition(":")[2] for reference in pushed["references"]}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_interrupted_run_leaves_no_container(rfq, podman, free_port):
    """Ctrl-C before the server is ready, and SIGTERM while its output is followed: the container is gone."""
    rfq.told("build", "--classifier", FEATURES_ONLY, "--load")
    run = ("run", "--classifier", FEATURES_ONLY, "--port", str(free_port))
    code, said = rfq.interrupted(*run, when=podman.containers)
    assert (code, podman.containers()) == (130, [])
    assert "Traceback" not in said
    code, said = rfq.interrupted(*run, when=podman.is_followed, by=signal.SIGTERM)
    assert (code, podman.containers()) == (143, [])
    assert "Traceback" not in said
    rfq.ok("clean", "--yes")


def test_a_registry_that_refuses_is_told_plainly(rfq, secured):
    """A wrong password, an unknown certificate, a registry that is not there: each is one sentence with its host."""
    registry, login = secured
    rfq.build()
    push = ("push", "--classifier", FEATURES_ONLY, "--registry")
    said = rfq.refused(*push, registry.host, **{**login, "MENDEL_REGISTRY_PASSWORD": "wrong"})
    assert registry.host in said
    assert "wrong" not in said
    assert "localhost:9" in rfq.refused(*push, "localhost:9", MENDEL_REGISTRY_INSECURE="localhost:9")
    assert "certificate" in rfq.refused(*push, registry.host, **{**login, "SSL_CERT_FILE": ""}).lower()


@pytest.mark.parametrize(
    "command",
    [("build",), ("push", "--registry", "localhost:9"), ("run",), ("images",), ("clean",), ("tag", "patch"), ("lock",)],
    ids=lambda command: command[0],
)
def test_an_unknown_classifier_is_told_with_those_there_are(rfq, command):
    """Every command that takes a classifier lists the known ones where it does not know the given one."""
    said = rfq.refused(*command, "--classifier", "rfq_likelihood")
    assert FEATURES_ONLY in said
    assert WITH_QUOTE in said


@pytest.mark.parametrize("command", [("build",), ("push", "--registry", "localhost:9")], ids=lambda command: command[0])
def test_several_classifiers_and_no_choice_is_an_error_that_lists_them(rfq, command):
    """In a repository of several, the default is for what serves, not for what is made or pushed."""
    said = rfq.refused(*command)
    assert FEATURES_ONLY in said
    assert "--classifier" in said


def test_nothing_built_is_told_with_what_builds_it(rfq, podman):
    """Push, run and verify of what was never built say so; clean has nothing to do."""
    for command in (("push", "--registry", "localhost:9"), ("run",)):
        assert "mendel build" in rfq.refused(*command, "--classifier", FEATURES_ONLY)
    assert "mendel images" in rfq.refused("verify", f"rfq_likelihood/{FEATURES_ONLY}:latest")
    assert rfq.told("clean") == {"removed": []}
    assert "No image was built" in rfq.ok("images")


def test_a_release_that_is_not_there_is_told(rfq):
    """A full tag that git does not have, and one that is no annotated tag, are not built."""
    absent = f"{FEATURES_ONLY}-v9.9.9-mlserver-0123456"
    assert absent in rfq.refused("build", "--classifier", absent, "--no-load")
    rfq.git("tag", absent)
    assert "not annotated" in rfq.refused("build", "--classifier", absent, "--no-load")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_names_that_share_a_prefix_are_kept_apart(rfq):
    """Images, push and clean of `..._with_quote` never touch those of `..._with_quote-v2`."""
    longer = f"{WITH_QUOTE}-v2"
    section = (rfq.root / "mlserver.yaml").read_text().partition(f"  {WITH_QUOTE}:\n")[2]
    rfq.write("mlserver.yaml", (rfq.root / "mlserver.yaml").read_text() + f"\n  {longer}:\n{section}")
    rfq.ok("lock")
    rfq.commit()
    rfq.ok("tag", "minor", "--classifier", longer)
    shorter, other = rfq.build(WITH_QUOTE), rfq.build(longer)
    assert (shorter["release"], other["release"]) == (None, rfq.tag(longer))
    assert [one["image"]["digest"] for one in rfq.told("images", "--classifier", WITH_QUOTE)] == [shorter["digest"]]
    rfq.ok("clean", "--yes", "--classifier", WITH_QUOTE)
    assert set(rfq.layout.named().values()) == {other["digest"]}
    assert set(rfq.layout.named()) == set(other["references"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_root_a_build_is_the_same(rfq, released, built, need, surroundings):
    """
    As `nobody`, in a cache of its own and again over what that left, the digest is what it is for root; where user
    namespaces are off, the error says so.
    """
    need("setpriv")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin"]
    packages = next((ROOT / ".venv" / "lib").glob("python3.*/site-packages"), Path("absent"))
    path = f"PYTHONPATH={ROOT / 'src'}:{packages}"
    tried = [*as_nobody, path, str(python), "-c", "import mendel.app.cli, deflate"]
    if python is None or subprocess.run(tried, cwd="/", capture_output=True, check=False).returncode:
        pytest.skip("needs a python3 of the system that nobody else's rights hinder, of the version of this one")
    with tempfile.TemporaryDirectory(prefix="mendel-nobody-") as room:
        there = Path(room)
        shutil.copytree(rfq.root, there / "rfq", symlinks=True)
        shutil.copytree(Path(surroundings["MENDEL_CACHE"]) / "wheels", there / "cache" / "wheels")
        shutil.copyfile(surroundings["GIT_CONFIG_GLOBAL"], there / "gitconfig")
        subprocess.run(["chown", "--recursive", "65534:65534", room], check=True)
        own = [path, f"HOME={room}", f"MENDEL_CACHE={room}/cache", f"GIT_CONFIG_GLOBAL={room}/gitconfig"]
        command = [*as_nobody, *own, str(python), "-m", "mendel.app.cli", *BUILD]
        for _ in range(2):
            done = subprocess.run(
                command,
                cwd=there / "rfq",
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
                stdin=subprocess.DEVNULL,
            )
            assert done.returncode in {0, 1}, done.stderr
            assert "Traceback" not in done.stderr
            assert built["digest"] in done.stdout or "namespace" in done.stderr, done.stderr + done.stdout
