"""One repository, three classifiers: released, built anywhere, run, pushed, verified, cleaned away."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import datetime

import pytest

FEATURES_ONLY = "rfq_likelihood_rfq_features_only"
WITH_QUOTE = "rfq_likelihood_with_quote"
REQUEST = {
    "notional_musd": 5,
    "maturity_years": 10,
    "is_buy": 1,
    "client_tier": 1,
    "competitors": 2,
    "hour": 11,
    "volatility_pct": 9,
    "spread_bps": 1.1,
    "inventory_musd": 12,
    "edge_bps": 0.4,
}
DIRECTLY = """
import json, sys
from likelihood.predictor import RfqLikelihood
import numpy as np
row = json.loads(sys.argv[2])
columns = json.load(open(f"features/{sys.argv[1]}.json"))
rows = np.array([[float(row[name]) for name in columns]])
print(json.dumps(RfqLikelihood(f"models/{sys.argv[1]}").predict_proba(rows).tolist()))
"""
LABELS = {
    *("com.classifier.git_tag", "com.classifier.version", "com.classifier.git_commit"),
    *("com.classifier.tag.mlserver_commit", "com.mlserver.commit", "com.mlserver.version", "com.mlserver.git_url"),
    *("com.classifier.name", "com.classifier.repository", "com.classifier.predictor.class"),
    *("com.classifier.predictor.module", "com.classifier.git_branch"),
    *(f"org.opencontainers.image.{key}" for key in ("created", "description", "revision", "title", "version")),
}


def directly(repository, features):
    """What the predictor says when it is called without a server."""
    asked = [sys.executable, "-c", DIRECTLY, features, json.dumps(REQUEST)]
    return json.loads(subprocess.run(asked, cwd=repository.root, capture_output=True, text=True, check=True).stdout)


def skopeo(surroundings, *arguments):
    """What skopeo says."""
    done = subprocess.run(["skopeo", *arguments], env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_one_release_is_one_digest_wherever_it_is_built(released, built, tmp_path):
    """By full tag or by name, from another directory, with every layer made again, the same tag is the same digest."""
    tag = released.tag()
    elsewhere = released.clone(tmp_path / "elsewhere")
    assert released.build(tag)["digest"] == built["digest"]
    assert elsewhere.build(tag, "--no-cache")["digest"] == built["digest"]
    assert elsewhere.build(FEATURES_ONLY)["digest"] == built["digest"]
    assert built["reproducible"]
    assert built["verified"]


def test_three_names_are_one_digest(released, built):
    """`latest`, the version, and version with commit name the same manifest in the layout."""
    short = released.git("rev-parse", "HEAD")[:7]
    names = [f"rfq_likelihood/{FEATURES_ONLY}:{tag}" for tag in ("latest", "v0.1.0", f"v0.1.0-{short}")]
    named = released.layout.named()
    assert built["references"] == names
    assert {named[name] for name in names} == {built["digest"]}


def test_labels_say_the_release(released, built):
    """All 17 labels are there, and tell tag, commit, branch and date as git has them."""
    labels = released.layout.config(built["digest"])["config"]["Labels"]
    commit = released.git("rev-parse", "HEAD")
    assert set(labels) >= LABELS
    assert len(LABELS) == 17
    assert labels["com.classifier.git_tag"] == released.tag()
    assert labels["com.classifier.version"] == labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["com.classifier.git_commit"] == labels["org.opencontainers.image.revision"] == commit[:8]
    assert labels["com.classifier.git_branch"] == "main"
    assert labels["com.classifier.tag.mlserver_commit"] == released.tag().rpartition("-")[2]
    assert labels["com.mlserver.commit"] in (released.root / "mlserver.lock").read_text()
    created = datetime.fromisoformat(labels["org.opencontainers.image.created"])
    assert created.timestamp() == float(released.git("show", "-s", "--format=%ct", "HEAD"))


def test_an_image_holds_what_its_manifest_lists_and_no_secret(released, built):
    """Every file below /app stands in the manifest with its sha256; no git, data, images or other model is there."""
    files = released.layout.files(built["digest"])
    manifest = next(name for name in files if name.endswith("manifest.json"))
    listed = {f"app/{entry['path']}": entry["sha256"] for entry in json.loads(files.pop(manifest))["files"]}
    assert listed == {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
    assert {"app/likelihood/predictor.py", "app/models/rfq_features_only/model.joblib"} <= set(files)
    strange = [name for name in files if ".git" in name or "with_quote/" in name or name.endswith((".csv", ".whl"))]
    assert not strange
    config = released.layout.config(built["digest"])["config"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"][0] == "/opt/mendel/bin/python"
    assert "gregor@example.org" not in json.dumps(config)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_classifiers_of_one_repository_answer_as_their_predictors_do(rfq, podman, free_ports):
    """Each container answers as the predictor called directly, tells tag, commit and digest, and knows only itself."""
    commit = rfq.git("rev-parse", "HEAD")
    told = {name: rfq.told("build", "--classifier", name, "--load") for name in (FEATURES_ONLY, WITH_QUOTE)}
    assert {one["loaded"] for one in told.values()} == {"podman"}
    with (
        podman.running(rfq, FEATURES_ONLY, free_ports[0]) as first,
        podman.running(rfq, WITH_QUOTE, free_ports[1]) as second,
    ):
        for client, name, features in (
            (first, FEATURES_ONLY, "rfq_features_only"),
            (second, WITH_QUOTE, "with_quote"),
        ):
            columns = json.loads((rfq.root / "features" / f"{features}.json").read_text())
            asked = {column: REQUEST[column] for column in columns}
            answer = client.post("/predict_proba", json=asked).raise_for_status().json()
            assert answer["probabilities"] == directly(rfq, features)
            assert client.post("/predict", json=asked).json()["prediction"] in {0, 1}
            (model,) = client.get("/info").json()["models"]
            assert model["name"] == name
            image = {"tag": rfq.tag(name), "commit": commit, "digest": told[name]["digest"]}
            assert model["metadata"]["image"] == image
        assert len(podman.containers()) == 2
        checked = [podman("healthcheck", "run", name, check=False) for name in podman.containers()]
        assert checked == ["", ""]
    kept = [(one["where"], one["image"]["digest"]) for one in rfq.told("images")]
    assert sorted(kept) == sorted((where, one["digest"]) for where in ("oci", "podman") for one in told.values())
    names = {one["where"]: one["image"]["references"] for one in rfq.told("images", "--classifier", WITH_QUOTE)}
    assert names["oci"] == names["podman"]
    rfq.ok("clean", "--yes")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_built_is_what_a_registry_has(released, built, secured, surroundings, need):
    """Over TLS, with a password, all tags arrive as built; a second push sends nothing; it verifies from there."""
    need("skopeo", root=False)
    registry, login = secured
    place = f"{registry.host}/risk"
    (pushed,) = released.told("push", "--registry", place, "--classifier", FEATURES_ONLY, **login)
    assert pushed["digest"] == built["digest"]
    assert pushed["references"] == [f"{place}/{name}" for name in built["references"]]
    user = f"{registry.login.user}:{registry.login.password}"
    trusting = {**surroundings, "SSL_CERT_FILE": login["SSL_CERT_FILE"]}
    for reference in pushed["references"]:
        seen = json.loads(skopeo(trusting, "inspect", f"--creds={user}", f"docker://{reference}"))
        assert seen["Digest"] == built["digest"]
        assert seen["Labels"]["com.classifier.git_tag"] == released.tag()
    (again,) = released.told("push", "--registry", place, "--classifier", FEATURES_ONLY, **login)
    assert again["pushed_bytes"] == 0
    done = released.run("verify", f"{place}/{built['references'][1]}", "--json", **login)
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["holds"], verdict["verdict"]["digest"]) == (3, False, built["digest"])
    assert [claim.partition(":")[0] for claim in verdict["unproved"]] == [
        "who built the image",
        "that the image was built from the code of the release",
    ]
    assert {one["document"] for one in verdict["verdict"]["documents"]["findings"]} >= {"sbom", "provenance"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_version_in_a_registry_does_not_move(rfq, docker_registry):
    """A tag that means another image there is refused with nothing pushed; `--force` moves it; `latest` may move."""
    open_to_all = {"MENDEL_REGISTRY_INSECURE": docker_registry.host}
    first = rfq.build()
    rfq.ok("push", "--registry", docker_registry.host, "--classifier", FEATURES_ONLY, **open_to_all)
    rfq.git("tag", "--delete", rfq.tag())
    rfq.change("likelihood/bounds.py", "\n", "\n\n")
    rfq.commit()
    rfq.ok("tag", "minor", "--classifier", FEATURES_ONLY)
    second = rfq.build()
    assert second["references"][1] == first["references"][1]
    assert second["digest"] != first["digest"]
    push = ("push", "--registry", docker_registry.host, "--classifier", FEATURES_ONLY)
    said = rfq.refused(*push, **open_to_all)
    assert ":v0.1.0" in said
    assert "--force" in said
    verified = ("verify", f"{docker_registry.host}/{first['references'][1]}")
    assert rfq.run(*verified, "--json", **open_to_all).stdout.count(first["digest"])
    rfq.ok(*push, "--force", **open_to_all)
    assert rfq.run(*verified, "--json", **open_to_all).stdout.count(second["digest"])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_rebuild_that_differs_names_what_moved(rfq):
    """`verify --rebuild` holds for what its tag says; of a moved tag it names the changed file and the changed pin."""
    image = rfq.build()["references"][1]
    tag = rfq.tag()
    assert rfq.told("verify", image, "--rebuild")["holds"]
    rfq.change("likelihood/bounds.py", "\n", "\n\n")
    rfq.change("requirements.txt", "joblib\n", "joblib<1.6\n")
    rfq.ok("lock", timeout=300)
    rfq.commit()
    rfq.git("tag", "--force", "--annotate", "--message", rfq.git("tag", "-l", "--format=%(contents)", tag), tag)
    done = rfq.run("verify", image, "--rebuild", "--json")
    assert done.returncode == 1
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["rebuilt"] != verdict["digest"]
    moved = json.dumps(verdict["differences"])
    assert "likelihood/bounds.py" in moved
    assert "joblib" in moved


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_clean_takes_this_projects_images_only(rfq, podman, tmp_path):
    """Of two projects with images below the same prefix, one is cleaned away, layout and engine, the other stays."""
    other = rfq.copy(tmp_path / "other")
    other.change("mlserver.yaml", "name: rfq_likelihood\n", "name: rfq_likelihood_too\n")
    for one in (rfq, other):
        one.ok("build", "--classifier", FEATURES_ONLY, "--load", "--tag-prefix", "rfq_likelihood")
    assert "--yes" in rfq.refused("clean")
    removed = rfq.told("clean", "--yes")["removed"]
    assert {one["where"] for one in removed} == {"oci", "podman"}
    assert rfq.told("images") == []
    assert {one["where"] for one in other.told("images")} == {"oci", "podman"}
    other.ok("clean", "--yes")
    assert not [name for name in podman.names() if FEATURES_ONLY in name]
