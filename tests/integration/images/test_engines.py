"""Running images with a real podman, and a real docker where its daemon answers; a real server is in the container."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from mendel.adapters.engines import EngineProgram, find_engines
from mendel.adapters.oci.layout.layout import Layout
from mendel.images import RUN_LABEL, Container, RunRequest, running_container
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json
from mendel.values import Digest
from support.waiting import until

REFERENCES = ("risk/credit:latest", "risk/credit:v1.0.0", "risk/credit:v1.0.0-abcdef1")
SERVER = """
import http.server, json, os, signal, sys, time
if os.environ.get("BROKEN"):
    print("the model is missing", flush=True)
    sys.exit(3)
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.environ.get("SLOW") else 200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(os.environ)).encode())
    def log_message(self, *_):
        print("asked for", self.path, flush=True)
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
port = int(os.environ["MENDEL_SERVING__REST_PORTS"])
http.server.HTTPServer((os.environ["MENDEL_SERVING__HOST"], port), Answer).serve_forever()
"""


@pytest.fixture(scope="session")
def archive(debian_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Digest]:
    """An archive as `mendel build --output` writes it, with three names, and the digest of its manifest."""
    room = tmp_path_factory.mktemp("archive")
    layout, code = Layout(room / "layout"), io.BytesIO()
    with tarfile.open(fileobj=code, mode="w") as tar:
        entry = tarfile.TarInfo("server.py")
        entry.size, entry.mode = len(SERVER), 0o644
        tar.addfile(entry, io.BytesIO(SERVER.encode()))
    layers = (debian_rootfs.read_bytes(), code.getvalue())
    digests = [layout.put(layer) for layer in layers]
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Cmd": ["/usr/bin/python3", "/server.py"],
                "Labels": {"com.classifier.repository": "risk", "com.classifier.name": "credit"},
            },
            "rootfs": {"type": "layers", "diff_ids": list(digests)},
        }
    )
    layout.put(config)
    tar_type = "application/vnd.oci.image.layer.v1.tar"
    manifest = Manifest(
        config=Descriptor.of(config, CONFIG), layers=tuple(Descriptor.of(layer, tar_type) for layer in layers)
    ).as_json()
    layout.put(manifest)
    layout.name(REFERENCES, image := Descriptor.of(manifest, MANIFEST))
    docker = [
        {
            "Config": f"blobs/sha256/{Descriptor.of(config, CONFIG).digest.hex}",
            "RepoTags": list(REFERENCES),
            "Layers": [f"blobs/sha256/{digest.hex}" for digest in digests],
        }
    ]
    (layout.directory / "manifest.json").write_text(json.dumps(docker))
    path = room / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("oci-layout", "index.json", "blobs", "manifest.json"):
            tar.add(layout.directory / name, name)
    return path, image.digest


@pytest.fixture(params=["podman", "docker"])
def engine(request: pytest.FixtureRequest, podman_environment: dict[str, str]) -> Iterator[EngineProgram]:
    """An engine that holds no container before and after."""
    if request.param == "docker":
        request.getfixturevalue("docker_daemon")
    engine = EngineProgram(request.param, podman_environment)
    yield engine
    left = engine.containers({})
    for container in left:
        engine.stop(container.id)
    assert not left


@pytest.fixture
def loaded(engine: EngineProgram, archive: tuple[Path, Digest]) -> EngineProgram:
    """An engine with the image in it."""
    engine.load(archive[0])
    return engine


@pytest.fixture
def request_for(free_port: int) -> RunRequest:
    """A container of the image on a free port."""
    return RunRequest(image=REFERENCES[1], host_port=free_port, name=f"mendel-test-{free_port}")


def asked(container: Container) -> dict[str, str]:
    return dict(httpx.get(f"{container.url}/health").json())


def test_finding_tells_a_client_without_a_daemon_from_an_engine(podman_environment):
    """Podman answers; a docker client that reaches no daemon does not, and says why; what is absent says so."""
    environment = {**podman_environment, "DOCKER_HOST": "unix:///nowhere/docker.sock"}
    podman, docker, absent = find_engines(("podman", "docker", "no-such-engine"), environment)
    assert (podman.answers, podman.why_not) == (True, "")
    assert podman.version[0].isdigit()
    assert not docker.answers
    assert docker.why_not
    assert absent.why_not == "It is not installed."


def test_loading_keeps_every_name_and_the_digest(loaded, archive):
    """After loading, all three names mean the image that was built; podman keeps its manifest byte for byte."""
    path, digest = archive
    with tarfile.open(path) as tar:
        (docker,) = json.load(tar.extractfile("manifest.json"))
    for reference in REFERENCES:
        (found,) = json.loads(loaded.program.answer("image", "inspect", reference))
        assert found["Id"].endswith(docker["Config"].rpartition("/")[2])
        assert loaded.name == "docker" or found["Digest"] == digest


def test_a_container_is_ready_when_run_returns_and_gone_after(loaded, request_for):
    """The server answers on the published port with what it was told, and its container is removed with the block."""
    request = replace(
        request_for,
        digest=Digest("sha256:" + "a" * 64),
        tag="credit-v1.0.0-mlserver-abcdef1",
        environment={"SECRET": "s3cret with spaces", "PATH": "/usr/bin"},
    )
    with running_container(loaded, request) as container:
        told = asked(container)
        assert container.url == f"http://127.0.0.1:{request.host_port}"
        assert loaded.is_running(container.id)
        assert loaded.containers({}) == (container,)
        assert loaded.containers({"other": "label"}) == ()
        assert "asked for /health" in loaded.logs(container.id)
    assert told["SECRET"] == "s3cret with spaces"
    assert told["PATH"] == "/usr/bin"
    assert told["MENDEL_IMAGE_DIGEST"] == "sha256:" + "a" * 64
    assert told["MENDEL_IMAGE_TAG"] == "credit-v1.0.0-mlserver-abcdef1"
    assert not loaded.is_running(container.id)
    assert loaded.logs(container.id) == ""
    loaded.stop(container.id)


def test_volumes_reach_the_container(loaded, request_for, tmp_path):
    """What is mounted is read where it was said to be."""
    (tmp_path / "server.py").write_text(SERVER.replace("dict(os.environ)", "{'from': 'the volume'}"))
    request = replace(request_for, volumes=(f"{tmp_path / 'server.py'}:/server.py:ro",))
    with running_container(loaded, request) as container:
        assert asked(container) == {"from": "the volume"}


@pytest.mark.parametrize("moment", ["while it starts", "while it runs"])
def test_ctrl_c_leaves_no_container(loaded, request_for, podman_environment, tmp_path, moment):
    """An interrupted `run` in the foreground stops and removes its container, whenever the signal comes."""
    slow = "{'SLOW': '1'}" if moment == "while it starts" else "{}"
    program = tmp_path / "foreground.py"
    program.write_text(
        f"""
from mendel.adapters.engines import EngineProgram
from mendel.images import RunRequest, running_container
engine = EngineProgram("{loaded.name}")
request = RunRequest(image="{REFERENCES[0]}", host_port={request_for.host_port}, name="{request_for.name}",
                     environment={slow})
with running_container(engine, request) as container:
    engine.follow(container.id, lambda line: print(line, flush=True))
"""
    )
    process = subprocess.Popen([sys.executable, program], env=podman_environment, stderr=subprocess.PIPE)
    until(lambda: any(loaded.is_running(one.id) for one in loaded.containers({})))
    if moment == "while it runs":
        until(lambda: "asked for /health" in loaded.logs(request_for.name))
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in complaint
    assert loaded.containers({RUN_LABEL: "1"}) == ()
