"""
Measure the time to build, rebuild and push the image of a project with numpy, scipy and scikit-learn.

    python benchmarks/images.py [--runs 5]

The script prints one table: the median of several runs of the whole command in seconds, and the sizes. Wheels are
fetched before the measurement. For comparison, `buildah build` builds the Dockerfile of the same plan: its row contains
only the time of buildah, while Mendel's row contains the whole command, including the import in the unpacked image.
Needs root, mmdebstrap, buildah and docker-registry (scripts/install_test_programs.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

MENDEL = [str(Path(sys.executable).parent / "mendel")]
PREDICTOR = """\
from pathlib import Path

import joblib
import numpy as np


class Answers:
    def __init__(self, weights):
        self._weights = joblib.load(Path(weights))

    def predict(self, rows):
        return np.asarray(rows) @ self._weights
"""
PROJECT = """\
classifier:
  name: {name}
predictor:
  module: answers
  class_name: Answers
  init_kwargs:
    weights: weights.joblib
build:
  base_image: oci:.mendel/base
  requirements: requirements.txt
"""
REGISTRY = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
ARTIFACT_FLOATS = 1_000_000
ENGINE_CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
SHIM = """\
#!/bin/sh
start=$(date +%s.%N)
{program} "$@"
code=$?
[ "$1" = build ] && echo "$start $(date +%s.%N)" >> {log}
exit $code
"""
STORAGE_CONF = '[storage]\ndriver = "overlay"\ngraphroot = "{room}/graph"\nrunroot = "{room}/run"\n'


class Bench:
    """A project in a directory of its own, with a cache of its own, and the table that grows."""

    def __init__(self, room: Path, runs: int) -> None:
        self.room = room
        self.project = room / "project"
        self.runs = runs
        self.rows: list[tuple[str, str, str]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "MENDEL_CACHE": str(room / "cache"),
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_CONF": str(room / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(room / "storage.conf"),
        }

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Run a command, and give what it printed."""
        done = subprocess.run(
            command,
            cwd=cwd or self.project,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def mendel(self, *arguments: str, cwd: Path | None = None, **variables: str) -> str:
        """Run Mendel's command line."""
        return self.run(*MENDEL, *arguments, cwd=cwd, **variables)

    def timed(self, what: str, work: Callable[[], object], *, runs: int | None = None, bound: str = "") -> float:
        """The median wall time of *work*, as a row."""
        seconds = []
        for _ in range(runs or self.runs):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
        self.row(what, f"{median(seconds):.2f} s", bound)
        return median(seconds)

    def row(self, what: str, figure: str, bound: str = "") -> None:
        """One line of the table."""
        self.rows.append((what, figure, bound))
        print(f"{what}: {figure}", file=sys.stderr)

    def edit(self) -> None:
        """Change the code a little."""
        with (self.project / "answers.py").open("a") as file:
            file.write(f"# {time.time_ns()}\n")

    def begin(self) -> None:
        """A project with a base, a lock and a release; its wheels are fetched."""
        self.project.mkdir(parents=True)
        (self.project / "mlserver.yaml").write_text(PROJECT.format(name="answers"))
        (self.project / "answers.py").write_text(PREDICTOR)
        (self.project / "requirements.txt").write_text("numpy\nscipy\nscikit-learn\njoblib\n")
        (self.project / ".gitignore").write_text(".mendel/\n")
        script = "import joblib, numpy; joblib.dump(numpy.random.default_rng(0).random(%d), 'weights.joblib')"
        self.run(sys.executable, "-c", script % ARTIFACT_FLOATS)
        self.timed("mendel base (Debian packages)", lambda: self.mendel("base"), runs=1)
        self.timed("mendel lock, nothing cached", lambda: self.mendel("lock"), runs=1)
        for command in (["init", "-q"], ["config", "user.email", "a@example.com"], ["config", "user.name", "a"]):
            self.run("git", *command)
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", "first")

    def own(self) -> tuple[str, float]:
        """Our own builder; gives the release's digest and the time after a code change."""
        build = ("build", "--no-load", "--json")

        def cold() -> None:
            for name in ("layers", "rootfs"):
                shutil.rmtree(self.room / "cache" / name, ignore_errors=True)
            shutil.rmtree(self.project / ".mendel" / "images", ignore_errors=True)
            self.mendel(*build)

        def changed() -> None:
            self.edit()
            self.mendel(*build)

        self.mendel("tag", "patch")
        self.timed("build, cold, wheels cached", cold, runs=3, bound="< 10 s")
        self.timed("build, nothing changed", lambda: self.mendel(*build), bound="< 0.3 s")
        report = json.loads(self.mendel(*build))
        self.row("pushed size", f"{sum(layer['size_bytes'] for layer in report['layers']) / 1e6:.0f} MB")
        unpacked = sum(layer["unpacked_bytes"] for layer in report["layers"])
        self.row("unpacked size", f"{unpacked / 1e6:.0f} MB", "< 400 MB")
        after = self.timed("build, after a code change", changed, bound="< 0.8 s")
        self.run("git", "checkout", "-q", "answers.py")
        return report["digest"], after

    def push(self) -> None:
        """To a registry on this machine."""
        with registry(self.room) as host:
            self.mendel("build", "--no-load")
            self.timed("push, first", lambda: self.mendel("push", "--registry", host), runs=1)

            def once() -> float:
                self.edit()
                self.mendel("build", "--no-load")
                start = time.perf_counter()
                self.mendel("push", "--registry", host)
                return time.perf_counter() - start

            self.row("push of a code change", f"{median(once() for _ in range(self.runs)):.2f} s", "< 1 s")
        self.run("git", "checkout", "-q", "answers.py")

    def peer(self, own_after_change: float) -> None:
        """The rendered Dockerfile, built by buildah itself, which a script before it on the PATH times."""
        log, shim = self.room / "buildah.log", self.room / "bin" / "buildah"
        shim.parent.mkdir()
        shim.write_text(SHIM.format(program=shutil.which("buildah"), log=log))
        shim.chmod(0o755)
        self.environment["PATH"] = f"{shim.parent}:{self.environment['PATH']}"
        (self.room / "containers.conf").write_text(ENGINE_CONF)
        (self.room / "storage.conf").write_text(STORAGE_CONF.format(room=self.room))
        build = ("build", "--engine", "buildah", "--json")
        self.mendel(*build)
        self.row("buildah build, cold", f"{took(log)[-1]:.2f} s")
        log.unlink()
        for _ in range(self.runs):
            self.edit()
            self.mendel(*build)
        theirs = median(took(log))
        self.row("buildah build, after a code change", f"{theirs:.2f} s")
        self.row("ratio after a code change", f"{theirs / own_after_change:.1f} times", ">= 3")
        listed = json.loads(self.run("buildah", "images", "--json"))
        sizes = {image["names"][0]: image["size"] for image in listed if image.get("names")}
        for name, size in sizes.items():
            if "answers" in name:
                self.row(f"buildah's image, unpacked ({name.rsplit('/', 1)[-1]})", str(size))
                break
        self.run("git", "checkout", "-q", "answers.py")

    def digests(self, expected: str) -> None:
        """The release from other directories, caches and Pythons."""
        tag = self.run("git", "tag", "--points-at", "HEAD").split()[0]
        elsewhere = self.room / "else where"
        self.run("git", "clone", "-q", str(self.project), str(elsewhere))
        shutil.copytree(self.project / ".mendel" / "base", elsewhere / ".mendel" / "base")
        build = ("build", "--no-load", "--json", "--classifier", tag)
        report = json.loads(self.mendel(*build, cwd=elsewhere, MENDEL_CACHE=str(self.room / "cache2")))
        self.row("another directory and cache", "same digest" if report["digest"] == expected else "OTHER DIGEST")
        for python in other_pythons():
            found = self._from(python, elsewhere, build)
            self.row(f"{python.name} ({python.parent.parent.name})", "same digest" if found == expected else "OTHER")

    def _from(self, python: Path, project: Path, build: tuple[str, ...]) -> str:
        here = Path(__file__).resolve().parent.parent
        environment = self.room / f"env-{python.parent.parent.name}"
        uv = str(Path(sys.executable).parent / "uv")
        self.run(uv, "venv", "-q", "--python", str(python), str(environment))
        wanted = ("click", "deflate", "msgspec", "numpy", "packaging", "pip", "pyyaml", "rich", "structlog")
        self.run(uv, "pip", "install", "-q", "--python", str(environment / "bin" / "python"), *wanted, "cryptography")
        self.run(
            uv, "pip", "install", "-q", "--no-deps", "--python", str(environment / "bin" / "python"), "-e", str(here)
        )
        shutil.rmtree(project / ".mendel" / "images", ignore_errors=True)
        shutil.rmtree(self.room / "cache3", ignore_errors=True)
        printed = self.run(
            str(environment / "bin" / "mendel"), *build, cwd=project, MENDEL_CACHE=str(self.room / "cache3")
        )
        return str(json.loads(printed)["digest"])


def took(log: Path) -> list[float]:
    """How long each build took, in seconds."""
    return [float(end) - float(start) for start, end in (line.split() for line in log.read_text().splitlines())]


def other_pythons() -> list[Path]:
    """Interpreters of other minor versions that Mendel supports, one each."""
    found: dict[str, Path] = {}
    for minor in (12, 13, 14):
        here = shutil.which(f"python3.{minor}")
        places = [Path(here)] if here else []
        places += sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))
        real = [place for place in places if "shims" not in place.parts]
        if real and sys.version_info[1] != minor:
            found[f"3.{minor}"] = real[0]
    return list(found.values())


@contextmanager
def registry(room: Path) -> Iterator[str]:
    """A real registry on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = room / "registry.yml"
    config.write_text(REGISTRY.format(root=room / "registry", port=port))
    with subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def main() -> None:
    """Run everything, then print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=5)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="mendel-bench-", ignore_cleanup_errors=True) as room:
        bench = Bench(Path(room), chosen.runs)
        bench.begin()
        digest, after = bench.own()
        bench.push()
        bench.peer(after)
        bench.digests(digest)
        table = Table("What", "Measured", "Bound", title="Images", title_justify="left")
        for row in bench.rows:
            table.add_row(*row)
        Console(width=110).print(table)
        subprocess.run(["buildah", "rmi", "--all", "--force"], env=bench.environment, capture_output=True, check=False)


if __name__ == "__main__":
    main()
