"""The contract of ContainerRunner, over memory and podman."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import httpx
import pytest

from mendel.adapters.engines import EngineProgram
from mendel.adapters.memory.container_runner import MemoryContainerRunner, MemoryProcess
from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import AlreadyExists, Corrupt, ImageNotFound, PortInUse, ProgramFailed
from mendel.images import ContainerRunner, RunRequest, running_container
from mendel.images.image_archives import write_archive
from mendel.images.manifests import CONFIG, MANIFEST, Descriptor, Manifest, canonical_json, digest_of
from mendel.images.tar_archives import File, write_tar
from mendel.values import Digest

REFERENCES = ("risk/echo:latest", "risk/echo:v1.0.0")
TAR = "application/vnd.oci.image.layer.v1.tar"
SERVER = """
import http.server, json, os, signal, sys
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


def echo(process: MemoryProcess) -> None:
    """The same server in this process."""
    if process.environment.get("BROKEN"):
        process.print("the model is missing")
        return

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if process.environment.get("SLOW") else 200)
            self.end_headers()
            self.wfile.write(json.dumps(dict(process.environment)).encode())

        def log_message(self, *_: object) -> None:
            process.print(f"asked for {self.path}")

    port = int(process.environment["MENDEL_SERVING__REST_PORTS"])
    with http.server.HTTPServer((process.environment["MENDEL_SERVING__HOST"], port), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        process.stopped.wait()
        server.shutdown()
        thread.join()
    process.print("bye")


def write_image(room: Path, rootfs: bytes | None) -> Path:
    """The archive of an image with the server in it."""
    layout = Layout(room / "layout")
    code = b"".join(write_tar([File.of("server.py", SERVER.encode())]))
    layers = [code] if rootfs is None else [rootfs, code]
    config = canonical_json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/usr/bin/python3", "/server.py"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
    )
    described = tuple(Descriptor.of(layer, TAR) for layer in layers)
    manifest = Manifest(config=Descriptor.of(config, CONFIG), layers=described).as_json()
    for content in (*layers, config, manifest):
        layout.put(content)
    write_archive(layout, Descriptor.of(manifest, MANIFEST).digest, REFERENCES, room / "image.tar")
    return room / "image.tar"


class Hands(Protocol):
    """What a user does with containers behind Mendel's back."""

    def end(self, container: str) -> None:
        """End one, and leave it there."""

    def create_foreign(self, name: str) -> None:
        """Make one that does not run."""

    def forget_foreign(self, name: str) -> None:
        """Remove it; fails where it is gone."""


@dataclass(frozen=True)
class MemoryHands:
    runner: MemoryContainerRunner

    def end(self, container: str) -> None:
        self.runner.end(container)

    def create_foreign(self, name: str) -> None:
        self.runner.create_foreign(name)

    def forget_foreign(self, name: str) -> None:
        self.runner.remove_foreign(name)


@dataclass(frozen=True)
class EngineHands:
    runner: EngineProgram

    def end(self, container: str) -> None:
        self.runner.program.answer("stop", "-t", "5", container)

    def create_foreign(self, name: str) -> None:
        self.runner.program.answer("create", f"--name={name}", REFERENCES[0])

    def forget_foreign(self, name: str) -> None:
        self.runner.program.answer("container", "inspect", name)
        self.runner.program.answer("rm", name)


@dataclass(frozen=True)
class Lab:
    runner: ContainerRunner
    hands: Hands
    archive: Path


@pytest.fixture(scope="module", params=["memory", "podman"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A runner that has the image."""
    room = tmp_path_factory.mktemp("image")
    if request.param == "memory":
        memory = MemoryContainerRunner(dict.fromkeys(REFERENCES, echo))
        made = Lab(memory, MemoryHands(memory), write_image(room, None))
    else:
        engine = EngineProgram(request.param, request.getfixturevalue("podman_environment"))
        rootfs = request.getfixturevalue("debian_rootfs").read_bytes()
        made = Lab(engine, EngineHands(engine), write_image(room, rootfs))
    made.runner.load(made.archive)
    return made


@pytest.fixture(autouse=True)
def nothing_is_left(lab: Lab) -> Iterator[None]:
    """No test leaves a container behind."""
    yield
    left = lab.runner.containers({})
    for container in left:
        lab.runner.stop(container.id)
    assert left == ()


@pytest.fixture
def asked(free_port: int) -> RunRequest:
    return RunRequest(image=REFERENCES[1], host_port=free_port, name=f"mendel-contract-{free_port}")


def test_a_container_is_ready_when_run_returns_and_gone_after(lab, asked):
    """Its server answers with what it was told, it is listed by its labels, and stopping it twice is once."""
    request = replace(
        asked,
        digest=Digest("sha256:" + "a" * 64),
        tag="credit-v1.0.0-mlserver-abcdef1",
        environment={"SECRET": "s3cret with spaces"},
        labels={"of": "this test"},
    )
    container = lab.runner.run(request)
    told = httpx.get(f"{container.url}/health").json()
    assert (container.name, container.image) == (request.name, request.image)
    assert lab.runner.is_running(container.id)
    assert lab.runner.containers({"of": "this test"}) == (container,)
    assert lab.runner.containers({"of": "another"}) == ()
    assert "asked for /health" in lab.runner.logs(container.id)
    assert len(lab.runner.logs(container.id, lines=1).splitlines()) == 1
    lab.runner.stop(container.id)
    lab.runner.stop(container.id)
    assert not lab.runner.is_running(container.id)
    assert lab.runner.logs(container.id) == ""
    assert told["SECRET"] == "s3cret with spaces"
    assert told["MENDEL_IMAGE_DIGEST"] == "sha256:" + "a" * 64
    assert told["MENDEL_IMAGE_TAG"] == "credit-v1.0.0-mlserver-abcdef1"


def test_a_server_that_ends_says_why_and_leaves_nothing(lab, asked):
    """A container that ends before it is ready is an error with its log."""
    with pytest.raises(ProgramFailed, match="ended before it was ready") as failed:
        lab.runner.run(replace(asked, environment={"BROKEN": "1"}))
    assert failed.value.log_tail == "the model is missing"


def test_a_server_that_never_gets_ready_is_removed(lab, asked):
    """What answers 503 for as long as it may is an error with its log."""
    with pytest.raises(ProgramFailed, match="not ready within 2 s") as failed:
        lab.runner.run(replace(asked, environment={"SLOW": "1"}, ready_within=timedelta(seconds=2)))
    assert "asked for /health" in failed.value.log_tail


def test_ports_and_names_in_use_are_refused(lab, asked):
    """A port on which something listens, and the name of a running container; the first one is not disturbed."""
    with running_container(lab.runner, asked) as first:
        with pytest.raises(PortInUse):
            lab.runner.run(replace(asked, name=f"{asked.name}-second"))
        with pytest.raises(AlreadyExists, match="is running"):
            lab.runner.run(asked)
        assert lab.runner.is_running(first.id)


def test_a_container_that_ended_makes_room(lab, asked):
    """It is listed until another one takes its name."""
    with running_container(lab.runner, asked) as first:
        lab.hands.end(first.id)
        assert lab.runner.containers({}) == (first,)
        assert not lab.runner.is_running(first.id)
        with running_container(lab.runner, asked) as second:
            assert first.id != second.id


def test_containers_of_others_are_left_alone(lab, asked):
    """They keep their name, and are neither listed nor stopped."""
    lab.hands.create_foreign(asked.name)
    with pytest.raises(AlreadyExists, match="was not created by Mendel"):
        lab.runner.run(asked)
    assert lab.runner.containers({}) == ()
    lab.runner.stop(asked.name)
    lab.hands.forget_foreign(asked.name)


def test_following_gives_each_line_until_the_container_ends(lab, asked):
    """Every line arrives in order, from the first to the last."""
    lines: list[str] = []
    with running_container(lab.runner, asked) as container:
        lab.hands.end(container.id)
        lab.runner.follow(container.id, lines.append)
    assert lines[0] == "asked for /health"
    assert lines[-1] == "bye"


def test_what_is_no_image_is_refused(lab, asked, tmp_path):
    """A reference that the engine does not have is never pulled, and a file that is no archive is not loaded."""
    with pytest.raises(ImageNotFound, match="no image risk/unknown:latest"):
        lab.runner.run(replace(asked, image="risk/unknown:latest"))
    (tmp_path / "nonsense.tar").write_bytes(b"nonsense")
    with pytest.raises(Corrupt):
        lab.runner.load(tmp_path / "nonsense.tar")
    lab.runner.load(lab.archive)
