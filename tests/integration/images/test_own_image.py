"""Mendel's own images, built from `deploy/Dockerfile` by buildah on a Debian base, and run by podman."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from mendel.adapters.engines.external_program import Program
from support.waiting import until

ROOT = Path(__file__).resolve().parents[3]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PACKAGES = (
    "base-files,base-passwd,ca-certificates,coreutils,dash,git,libgomp1,libstdc++6,netbase,python3,python3-pip,tzdata"
)
"""As in `python:3.11-slim`, the one base has pip, so that it is the builder too."""


@pytest.mark.slow(200)
@pytest.mark.timeout(900)
def test_server_and_hub_are_built_and_answer(podman_environment, rootfs_of, need, free_port, tmp_path):
    """`serve` and `hub` build from hashes alone, run as nobody in particular, hold no secret, and answer for health."""
    need("buildah", "mmdebstrap")
    podman, buildah = (Program(name, podman_environment) for name in ("podman", "buildah"))
    rootfs_of(tmp_path / "base.tar", PACKAGES)
    podman.answer("import", "--quiet", str(tmp_path / "base.tar"), "localhost/own-base:test")
    for target in ("serve", "hub"):
        build(buildah, target, tmp_path)
        check_configuration(podman, target)
    hub, key = f"own-hub-{free_port}", "a-key-that-the-hub-made"
    server = f"own-serve-{free_port}"
    try:
        started = ("run", "--detach", f"--env=MENDEL_HUB__PORT={free_port}", f"--name={hub}", "localhost/own-hub:test")
        podman.answer(*started)
        wait_until_ok(f"http://127.0.0.1:{free_port}/health", podman, hub)
        assert podman.answer("exec", hub, "git", "--version").startswith("git version")
        assert healthy(podman, hub)
        key = podman.answer("exec", hub, "cat", "/data/key").strip()
        rest = str(other_port(free_port))
        told = {"MENDEL_URL": f"http://127.0.0.1:{free_port}", "MENDEL_KEY": key, "MENDEL_SERVING__REST_PORTS": rest}
        doors = ("--env=MENDEL_SERVING__GRPC_PORT=0", "--env=MENDEL_SERVING__ZMQ_PORT=0")
        named = (f"--env={name}={value}" for name, value in told.items())
        podman.answer("run", "--detach", f"--name={server}", *named, *doors, "localhost/own-serve:test")
        wait_until_ok(f"http://127.0.0.1:{rest}/healthz", podman, server)
        assert httpx.get(f"http://127.0.0.1:{rest}/health").json()["status"] in {"ok", "starting", "degraded"}
        assert healthy(podman, server)
        who = podman.answer("exec", server, "python", "-c", "import os; print(os.getuid(), os.access('/opt', os.W_OK))")
        assert who.split() == ["10001", "False"]
    finally:
        podman.attempt("rm", "--force", "--volumes", hub, server)


def build(buildah: Program, target: str, scratch: Path) -> None:
    configuration, volumes = pip_configuration(scratch)
    arguments = {"BASE": "localhost/own-base:test", "COMMIT": COMMIT, "VERSION": "0.1.0"}
    lines: list[str] = []
    buildah.watch(
        *("build", "--format=docker", "--force-rm", "--layers=true", "--pull-never", "--network=host"),
        *(f"--build-arg={name}={value}" for name, value in arguments.items()),
        f"--secret=id=pip,src={configuration}",
        *(f"--volume={path}:{path}:ro" for path in volumes),
        f"--target={target}",
        f"--tag=localhost/own-{target}:test",
        f"--file={ROOT / 'deploy' / 'Dockerfile'}",
        str(ROOT),
        within=None,
        write=lines.append,
    )


def pip_configuration(scratch: Path) -> tuple[Path, list[str]]:
    """This machine's way to an index, as one file, and the local files it speaks of."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    values: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        values.setdefault(key.rpartition(".")[2], value.strip("'"))
    file = scratch / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    words = [word.removeprefix("file://") for value in values.values() for word in value.replace("\\n", " ").split()]
    paths = {str(Path(word).parent if Path(word).name == "simple" else word) for word in words if word.startswith("/")}
    return file, sorted(path for path in paths if Path(path).exists())


def check_configuration(podman: Program, target: str) -> None:
    image = f"localhost/own-{target}:test"
    (found,) = json.loads(podman.answer("image", "inspect", image))
    config = found["Config"]
    ports = {"serve": {"7211/tcp", "7212/tcp", "8008/tcp"}, "hub": {"8080/tcp"}}[target]
    assert set(config["ExposedPorts"]) == ports
    assert config["User"] == "10001:10001"
    assert found.get("Healthcheck") or config.get("Healthcheck")
    assert config["Labels"]["org.opencontainers.image.revision"] == COMMIT
    assert config["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    looked = "import os; print([p for p in ('/build', '/src', '/etc/pip.conf', '/run/secrets') if os.path.exists(p)])"
    assert "pip" not in podman.answer("run", "--rm", image, "/opt/mendel/bin/python", "-c", looked)
    version = podman.answer("run", "--rm", image, "mendel", "version")
    assert COMMIT[:7] in version


def healthy(podman: Program, container: str) -> bool:
    """What the HEALTHCHECK of the image says, asked in the container: without systemd nobody asks."""
    (found,) = json.loads(podman.answer("container", "inspect", container))
    command, *arguments = found["Config"]["Healthcheck"]["Test"][1:]
    return podman.attempt("exec", container, command, *arguments).code == 0


def wait_until_ok(url: str, podman: Program, container: str) -> None:
    def log() -> str:
        told = podman.attempt("logs", container)
        return told.out + told.err

    def answers() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(url, timeout=2).status_code == httpx.codes.OK
        assert json.loads(podman.answer("container", "inspect", container))[0]["State"]["Running"], log()
        return False

    until(answers, within=90, every=0.2, told=log)


def other_port(port: int) -> int:
    return port + 1 if port < 60000 else port - 1
