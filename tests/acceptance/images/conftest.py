"""Projects in repositories of their own, and the command line over them: what a user of images does."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from support.engines import filling, share_layers

MENDEL = (sys.executable, "-m", "mendel.app.cli")
EXAMPLES = Path(__file__).parents[3] / "examples"
ODD = "größere Modelle"
"""A directory whose name has a blank and a letter that is none of ASCII's."""

FEATURES_ONLY = "rfq_likelihood_rfq_features_only"
WITH_QUOTE = "rfq_likelihood_with_quote"
UNLABELLED = "com.classifier.name= com.classifier.repository= com.classifier.git_url="
"""Labels with which an image belongs to no project."""


@dataclass(kw_only=True)
class Repository:
    """A project in a git repository, and the command line in it."""

    root: Path
    environment: dict = field(repr=False)

    def run(self, *arguments, timeout=120, prefix=(), **more):
        """One command to its end."""
        return subprocess.run(
            [*prefix, *MENDEL, *arguments],
            cwd=self.root,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def ok(self, *arguments, **more):
        """What one command printed; it succeeded."""
        done = self.run(*arguments, **more)
        assert done.returncode == 0, f"mendel {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def told(self, *arguments, **more):
        """What one command said as JSON; it succeeded."""
        return json.loads(self.ok(*arguments, "--json", **more))

    def refused(self, *arguments, **more):
        """What one command wrote to standard error: it ended with 1 and without a traceback."""
        done = self.run(*arguments, **more)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert "error: " in done.stderr
        return done.stderr

    def build(self, what=FEATURES_ONLY, *more, **environment):
        """What `mendel build` says of an image that goes into no engine."""
        named = () if what is None else ("--classifier", what)
        return self.told("build", *named, "--no-load", *more, **environment)

    def tag(self, name=FEATURES_ONLY):
        """The newest release tag of a classifier."""
        return self.git("tag", "--list", f"{name}-v*", "--sort=-creatordate").split()[0]

    def git(self, *arguments):
        """What git says; it succeeded."""
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message="A change"):
        """Commit everything that is not ignored."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def write(self, name, text):
        """A file of the project."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def change(self, name, before, after):
        """Replace a text that stands in a file."""
        text = (self.root / name).read_text(encoding="utf-8")
        assert before in text
        self.write(name, text.replace(before, after))

    def clone(self, where):
        """A second clone, with the base beside it that git does not keep."""
        self.git("clone", "--quiet", str(self.root), str(where))
        shutil.copytree(self.root / ".mendel" / "base", where / ".mendel" / "base")
        return Repository(root=where, environment=dict(self.environment))

    def copy(self, where):
        """The same repository elsewhere, tags and untracked files too, images not."""
        shutil.copytree(self.root, where, symlinks=True, ignore=shutil.ignore_patterns("images", "locks"))
        return Repository(root=where, environment=dict(self.environment))

    def interrupted(self, *arguments, when, by=signal.SIGINT, **more):
        """Start a command, send its process group SIGINT as Ctrl-C does once *when* is said or true; its end."""
        process = subprocess.Popen(
            [*MENDEL, *arguments],
            cwd=self.root,
            env={**self.environment, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        said = []
        try:
            _wait_for(when, process, said)
            _signal(process, by)
            rest, _ = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate(timeout=10)
        return process.returncode, "".join(said) + rest

    @property
    def layout(self):
        """The images that this project keeps."""
        return Images(self.root / ".mendel" / "images")


def _signal(process, number):
    """A terminal asks everybody, whoever else stops a command asks it alone."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def _wait_for(when, process, said):
    if isinstance(when, str):
        for line in process.stdout:
            said.append(line)
            if when in line:
                return
        pytest.fail(f"it never said {when!r}: {''.join(said)}")
    deadline = time.monotonic() + 60
    while not when():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@dataclass(frozen=True)
class Images:
    """An OCI layout, read by nothing of ours."""

    directory: Path

    def named(self):
        """Each name and its digest."""
        if not (self.directory / "index.json").exists():
            return {}
        entries = json.loads((self.directory / "index.json").read_text())["manifests"]
        names = ((entry, entry.get("annotations", {}).get("org.opencontainers.image.ref.name")) for entry in entries)
        return {name: entry["digest"] for entry, name in names if name is not None}

    def blob(self, digest):
        """The bytes of a blob."""
        return (self.directory / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()

    def config(self, digest):
        """The configuration of an image."""
        return json.loads(self.blob(json.loads(self.blob(digest))["config"]["digest"]))

    def files(self, digest, below="app/"):
        """Path and content of the files below a directory, over all layers."""
        found = {}
        for layer in json.loads(self.blob(digest))["layers"]:
            path = self.directory / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
            with gzip.open(path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
                found |= {
                    entry.name: tar.extractfile(entry).read()
                    for entry in tar
                    if entry.isfile() and entry.name.startswith(below)
                }
        return found


@dataclass(kw_only=True)
class Podman:
    """The engine, as a user has it."""

    environment: dict = field(repr=False)

    def __call__(self, *arguments, check=True):
        done = subprocess.run(
            ["podman", *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout.strip()

    def containers(self):
        """The names of all, running or not."""
        return self("ps", "--all", "--format={{.Names}}").split()

    def is_followed(self):
        """Whether somebody follows the output of a container of this engine."""
        return any(
            _has_argument(process, b"--follow") and _has_variable(process, "CONTAINERS_CONF", self.environment)
            for process in Path("/proc").glob("[0-9]*")
        )

    def names(self):
        """Of all images."""
        return set(self("images", "--format={{.Repository}}:{{.Tag}}").split())

    @contextmanager
    def running(self, repository, classifier, port, *more):
        """A container of the classifier's image; gone with the block, and one HTTP client of it."""
        chosen = ("--classifier", classifier, "--port", str(port))
        told = repository.told("run", *chosen, "--detach", *more)
        try:
            with httpx.Client(base_url=told["url"], timeout=20) as client:
                yield client
        finally:
            self("rm", "--force", "--time=10", told["name"], check=False)


def _has_argument(process, argument):
    with suppress(OSError):  # gone
        return argument in (process / "cmdline").read_bytes().split(b"\0")
    return False


def _has_variable(process, name, environment):
    with suppress(OSError):  # gone, or not ours
        return f"{name}={environment[name]}".encode() in (process / "environ").read_bytes().split(b"\0")
    return False


@pytest.fixture(scope="session")
def surroundings(request, once):
    """The environment of commands: a cache for the whole run, an author for git, engines with their own storage."""
    engines = request.getfixturevalue("podman_environment") if os.geteuid() == 0 else os.environ
    room = once("surroundings", _write_configuration)
    kept = {name: value for name, value in engines.items() if not name.startswith(("MENDEL_", "PYTEST_", "GIT_"))}
    own = {"GIT_CONFIG_GLOBAL": str(room / "gitconfig"), "GIT_CONFIG_SYSTEM": os.devnull, "DOCKER_CONFIG": str(room)}
    return {**kept, **own, "MENDEL_CACHE": str(room / "cache"), "NO_COLOR": "1"}


def _write_configuration(room):
    (room / "gitconfig").write_text(
        "[user]\nname = Gregor\nemail = gregor@example.org\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n"
    )
    (room / "config.json").write_text("{}")


@pytest.fixture(scope="session")
def podman(need, surroundings, release, once):
    """Podman, with storage that is nobody else's; the layers below the projects come from one store for all workers."""
    need("podman", "runc")

    def fill(store):
        with filling(store) as engine, tempfile.TemporaryDirectory() as room:
            copy = release.copy(Path(room) / "rfq")
            copy.environment.update((name, engine[name]) for name in ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"))
            names = copy.told("build", "--classifier", FEATURES_ONLY, "--load")["references"]
            (Path(room) / "Dockerfile").write_text(f"FROM {names[0]}\nLABEL {UNLABELLED}\n")
            loaded = Podman(environment=copy.environment)
            loaded("build", "--quiet", "--tag=localhost/layers", room)
            loaded("rmi", "--force", *names)

    share_layers(surroundings, once("layers", fill))
    _share_bytecode(surroundings, once("bytecode", _prepare_bytecode))
    return Podman(environment=surroundings)


def _prepare_bytecode(place):
    """Let every user write there; the project has none, for a changed source may keep its size and time."""
    place.chmod(0o777)
    (place / "app").touch()


def _share_bytecode(environment, place):
    """Let containers find what others compiled of the same packages, which is most of the work of their start."""
    configuration = Path(environment["CONTAINERS_CONF"])
    shared = f'[containers]\nenv = ["PYTHONPYCACHEPREFIX=/bytecode"]\nvolumes = ["{place}:/bytecode"]\n'
    configuration.write_text(configuration.read_text().replace("[containers]\n", shared))


@pytest.fixture(scope="session")
def begin(mendel_base, surroundings):
    """Make a repository of a project's files, with the base in it and a lock; all committed."""

    def make(source, where, *, prepare=lambda _: None):
        ignored = shutil.ignore_patterns("__pycache__", ".mendel", ".pytest_cache")
        shutil.copytree(source, where, ignore=ignored, dirs_exist_ok=True)
        shutil.copytree(mendel_base, where / ".mendel" / "base")
        made = Repository(root=where, environment=surroundings)
        prepare(made)
        with (where / ".gitignore").open("a") as ignore:
            ignore.write(".mendel/\n*.csv\n*.parquet\n__pycache__/\n")
        made.git("init", "--quiet")
        made.commit("A project")
        made.ok("lock", timeout=300)
        made.commit("Lock")
        return made

    return make


def _train(repository):
    """The models of the three classifiers, and the base in the configuration."""
    for script in (("make_data.py", "rfq.csv"), ("training.py", "rfq.csv")):
        subprocess.run([sys.executable, *script], cwd=repository.root, check=True, timeout=100)
    repository.change("mlserver.yaml", "build:\n", "build:\n  base_image: oci:.mendel/base\n")


@pytest.fixture(scope="session")
def release(begin, once, surroundings):
    """The project of three classifiers, trained, locked and released at 0.1.0; only copied."""

    def make(room):
        begin(EXAMPLES / "rfq_likelihood", room / "rfq", prepare=_train).ok("tag", "minor", "--all")

    return Repository(root=once("released", make) / "rfq", environment=surroundings)


@pytest.fixture(scope="session")
def released(release, tmp_path_factory):
    """A copy of it for all tests of this process that only build and ask."""
    return release.copy(tmp_path_factory.mktemp(ODD) / "rfq")


@pytest.fixture
def rfq(release, tmp_path):
    """A copy of it for one test, without images."""
    return release.copy(tmp_path / ODD / "rfq")


@pytest.fixture(scope="session")
def built(released):
    """What `mendel build` said when it built the first image; it is in no engine."""
    return released.build()


@pytest.fixture
def secured(secure_registry, surroundings, tmp_path):
    """The secure registry, and what a user of it has in the environment."""
    bundle = tmp_path / "bundle.pem"
    known = Path(surroundings["SSL_CERT_FILE"]).read_text() if surroundings.get("SSL_CERT_FILE") else ""
    bundle.write_text(known + secure_registry.ca.read_text())
    login = secure_registry.login
    return secure_registry, {
        "SSL_CERT_FILE": str(bundle),
        "MENDEL_REGISTRY_HOSTS": secure_registry.host,
        "MENDEL_REGISTRY_USER": login.user,
        "MENDEL_REGISTRY_PASSWORD": login.password,
    }
