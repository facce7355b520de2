"""Locks of real projects over an index: fresh, stale, partial, kept, interrupted; by pip where its answer matters."""

from __future__ import annotations

import errno
import io
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mendel.adapters.memory.wheels import MemoryIndex, MemoryResolver
from mendel.adapters.pip import CachedWheels, PipResolver, write_wheel
from mendel.app.images.lockfile import (
    Locking,
    bring_wheels,
    changes_between,
    check_fresh,
    drop_wheels,
    read_lock,
    requirements_of,
    write_lock,
)
from mendel.errors import BuildRefused, ImageNotFound, InvalidProject, StaleLock, StoreUnavailable
from mendel.images import BasePin, Interpreter, Lock, Platform, Resolver, RuntimePin, WheelPin, ignore_progress
from mendel.projects import load_project
from mendel.values import Digest
from mendel.values.directory_trees import file_digest

OTHERS = ("numpy-1.0", "runtimedep-1.0")
AMD, ARM = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
TWO = """
classifiers:
  credit:
    predictor: {module: model, class_name: Model}
  churn:
    predictor: {module: model, class_name: Model}
"""


@dataclass
class FixedBases:
    """Bases that a test moves; remembers what it was asked."""

    python: str = "3.11"
    runtime: Interpreter | None = None
    digest: str = "1"
    asked: list[str] = field(default_factory=list)

    def pin(self, reference, platform, *, on_progress=ignore_progress):
        self.asked.append(reference)
        if reference == "absent":
            raise ImageNotFound("There is none.")
        return BasePin(
            reference=reference,
            digest=Digest(f"sha256:{self.digest * 64}"),
            python=self.python,
            interpreter="/usr/bin/python3",
            glibc="2.36",
            runtime=self.runtime,
        )


@dataclass
class Bench:
    """
    A project, an index, and what locks it.

    The index is a directory for pip, which fetches wheels, and the same in memory for the resolver, whose answers are
    those of pip (``tests/contracts/test_resolver.py``).
    """

    root: Path
    index: Path
    wheels: CachedWheels
    bases: FixedBases
    resolver: Resolver
    in_memory: MemoryIndex
    own: tuple[str, ...] = ("runtimedep",)

    def add(self, name: str, version: str, *requires: str) -> None:
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        buffer = io.BytesIO()
        files = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        write_wheel(files, info, buffer)
        filename = f"{name}-{version}-py3-none-any.whl"
        (self.index / filename).write_bytes(buffer.getvalue())
        self.in_memory.add(filename, buffer.getvalue())

    def ask(self, *lines: str, file: str = "requirements.txt") -> None:
        (self.root / file).write_text("".join(f"{line}\n" for line in lines))

    def locking(self) -> Locking:
        with self.wheels.unfinished() as scratch:
            file = scratch / "mendel-1-0_1-py3-none-any.whl"
            file.write_bytes(b"runtime")
            pin = WheelPin(name="mendel", version="1", filename=file.name, sha256=file_digest(file), size_bytes=7)
            self.wheels.keep(file, pin)
        runtime = RuntimePin(version="1", commit="c" * 40, url=None, how="checkout", wheel=pin)
        return Locking(bases=self.bases, resolver=self.resolver, runtime=runtime, own=self.own, compressor="test/1")

    def lock(self, *classifiers: str, platforms=(AMD,), former: Lock | None = None, upgrade: bool = False) -> Lock:
        return self.locking().make_lock(
            load_project(self.root),
            platforms=platforms,
            classifiers=classifiers or None,
            former=former,
            upgrade=upgrade,
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    index, root = tmp_path / "index", tmp_path / "a project é"
    index.mkdir()
    root.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    (root / "mlserver.yaml").write_text(TWO)
    (root / "model.py").write_text("class Model: ...\n")
    in_memory = MemoryIndex()
    made = Bench(
        root=root,
        index=index,
        wheels=CachedWheels(tmp_path / "cache", project=root / "mlserver.wheels"),
        bases=FixedBases(),
        resolver=MemoryResolver(in_memory),
        in_memory=in_memory,
    )
    for version in ("1.0", "2.0"):
        made.add("alpha", version)
        made.add("beta", version)
    made.add("runtimedep", "1.0")
    made.add("numpy", "1.0")
    return made


@pytest.fixture
def pip_bench(bench: Bench) -> Bench:
    bench.resolver = PipResolver(bench.wheels)
    return bench


def versions(lock: Lock, classifier: str = "credit", platform: Platform = AMD) -> list[str]:
    """The wheels of both environments, but for the numpy that the project's environment always has."""
    pins = lock.environment(classifier, platform).every_wheel
    return sorted(f"{pin.name} {pin.version}" for pin in pins if pin.name != "numpy")


def test_twice_is_the_same_bytes(pip_bench):
    """A lock made again, with or without the former, from an empty cache too, is equal to the byte."""
    bench = pip_bench
    bench.ask("beta", "alpha<2")
    first = bench.lock()
    assert versions(first) == ["alpha 1.0", "beta 2.0", "runtimedep 1.0"]
    assert bench.lock(former=first).as_text() == first.as_text()
    shutil.rmtree(bench.root.parent / "cache")
    assert bench.lock().as_text() == first.as_text()


def test_classifiers_that_ask_for_the_same_share_an_environment(bench):
    """Two classifiers with one requirements file are one environment; with two files, two."""
    bench.ask("alpha")
    (environment,) = bench.lock().environments
    assert environment.classifiers == ("churn", "credit")
    bench.ask("beta", file="other.txt")
    section = "predictor: {module: model, class_name: Model}\n    build: {requirements: other.txt}"
    text = TWO.replace("predictor: {module: model, class_name: Model}", section, 1)
    (bench.root / "mlserver.yaml").write_text(text)
    apart = bench.lock()
    assert [environment.classifiers for environment in apart.environments] == [("churn",), ("credit",)]
    assert versions(apart, "credit") == ["beta 2.0", "runtimedep 1.0"]


def test_pins_are_kept_until_an_upgrade(bench):
    """A newer version on the index changes nothing until --upgrade, nor does asking for one thing more."""
    bench.ask("alpha")
    former = bench.lock()
    bench.add("alpha", "3.0")
    bench.ask("alpha", "beta")
    assert versions(bench.lock(former=former)) == ["alpha 2.0", "beta 2.0", "runtimedep 1.0"]
    assert versions(bench.lock(former=former, upgrade=True)) == ["alpha 3.0", "beta 2.0", "runtimedep 1.0"]


def test_a_fresh_lock_asks_nobody(bench, monkeypatch):
    """Locking again what did not change needs no index and no registry: it works offline."""
    bench.ask("alpha")
    former = bench.lock()
    bench.in_memory.reachable = False
    bench.bases.asked.clear()
    assert bench.lock(former=former) == former
    assert bench.bases.asked == []


def test_a_registrys_base_is_kept_and_a_local_one_looked_at_again(bench):
    """A moved tag changes nothing until --upgrade; a layout made anew does at once, for its old content is gone."""
    bench.ask("alpha")
    registry = bench.lock()
    text = TWO + "build: {base_image: 'oci:.mendel/base'}\n"
    (bench.root / "mlserver.yaml").write_text(text)
    local = bench.lock()
    bench.bases.digest = "2"
    moved = bench.lock(former=local)
    assert moved.environments[0].base.digest == f"sha256:{'2' * 64}"
    assert moved.environments[0].wheels == local.environments[0].wheels
    (bench.root / "mlserver.yaml").write_text(TWO)
    assert bench.lock(former=registry) == registry
    assert bench.lock(former=registry, upgrade=True).environments[0].base.digest == f"sha256:{'2' * 64}"


def test_another_python_in_the_base_resolves_anew(bench):
    """Wheels are for one Python: a local base with another one gets others."""
    bench.add("gamma", "1.0", 'alpha; python_version < "3.12"', 'beta; python_version >= "3.12"')
    bench.ask("gamma")
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {base_image: 'oci:.mendel/base'}\n")
    former = bench.lock()
    bench.bases.python = "3.13"
    assert versions(former) == ["alpha 2.0", "gamma 1.0", "runtimedep 1.0"]
    assert versions(bench.lock(former=former)) == ["beta 2.0", "gamma 1.0", "runtimedep 1.0"]


def two_files(bench: Bench) -> None:
    """Requirements of its own for credit; churn has those of the project."""
    section = "predictor: {module: model, class_name: Model}\n    build: {requirements: other.txt}"
    (bench.root / "mlserver.yaml").write_text(TWO.replace("predictor: {module: model, class_name: Model}", section, 1))


def test_one_classifier_can_be_locked_and_the_others_keep_theirs(bench):
    """--classifier changes that classifier's pins, upgraded or asked for anew; the other's stay as they were."""
    two_files(bench)
    bench.ask("alpha")
    bench.ask("alpha", file="other.txt")
    former = bench.lock()
    bench.add("alpha", "3.0")
    bench.ask("alpha", "beta", file="other.txt")
    made = bench.lock("credit", former=former, upgrade=True)
    assert versions(made, "credit") == ["alpha 3.0", "beta 2.0", "runtimedep 1.0"]
    assert made.environment("churn", AMD).wheels == former.environment("churn", AMD).wheels
    project = load_project(bench.root)
    for name in project.names:
        check_fresh(made, project, name, AMD, own=bench.own)


def test_another_mendel_is_locked_for_every_classifier(bench):
    """A lock pins one Mendel: what another needs is resolved for the classifiers that nobody named, too."""
    two_files(bench)
    bench.ask("alpha<2")
    bench.ask("beta", file="other.txt")
    former = bench.lock(platforms=(AMD, ARM))
    bench.add("laterdep", "1.0")
    bench.own = ("runtimedep", "laterdep")
    made = bench.lock("credit", former=former)
    project = load_project(bench.root)
    for platform in (AMD, ARM):
        assert versions(made, "credit", platform) == ["beta 2.0", "laterdep 1.0", "runtimedep 1.0"]
        assert versions(made, "churn", platform) == ["alpha 1.0", "laterdep 1.0", "runtimedep 1.0"]
        for name in project.names:
            check_fresh(made, project, name, platform, own=bench.own)
    assert bench.lock(former=made) == made
    bench.add("alpha", "1.5")
    assert versions(bench.lock("credit", former=former, upgrade=True), "churn")[0] == "alpha 1.0"


def test_a_classifier_that_asks_for_something_else_is_locked_with_the_one_that_is_named(bench):
    """What nobody named but is stale is made anew, so that a lock just written is fresh; what is gone is left out."""
    bench.ask("alpha")
    former = bench.lock()
    bench.ask("alpha", "beta")
    (environment,) = bench.lock("credit", former=former).environments
    assert environment.classifiers == ("churn", "credit")
    assert [pin.name for pin in environment.project] == ["alpha", "beta", "numpy"]
    (bench.root / "mlserver.yaml").write_text(TWO.replace("churn", "later"))
    assert [env.classifiers for env in bench.lock("credit", former=former).environments] == [("credit",)]


def test_a_platform_is_added_to_those_there_are(bench):
    """--platform linux/arm64 keeps the pins for linux/amd64; afterwards both are locked together."""
    bench.ask("alpha")
    former = bench.lock()
    both = bench.lock(platforms=(ARM,), former=former)
    assert [environment.platform for environment in both.environments] == ["linux/amd64", "linux/arm64"]
    assert bench.lock(platforms=(), former=both) == both


def test_what_changed_is_named_when_a_lock_is_stale(bench):
    """New lines, gone lines, another base, Mendel's own needs: each is named; a platform never locked too."""
    bench.ask("alpha", "-c bounds.txt")
    bench.ask("beta<2", file="bounds.txt")
    made, project = bench.lock(), load_project(bench.root)
    assert check_fresh(made, project, "credit", AMD, own=bench.own).classifiers == ("churn", "credit")
    with pytest.raises(StaleLock, match="Mendel's own requirements changed"):
        check_fresh(made, project, "credit", AMD, own=("other",))
    with pytest.raises(StaleLock, match="no entry for classifier credit on linux/arm64"):
        check_fresh(made, project, "credit", ARM)
    bench.ask("beta")
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {base_image: other}\n")
    with pytest.raises(StaleLock) as stale:
        check_fresh(made, load_project(bench.root), "credit", AMD)
    assert "new requirements: beta; removed requirements: -c beta<2, alpha; the base image changed" in str(stale.value)
    assert stale.value.remedy == "Run: mendel lock"


def test_comments_and_spelling_leave_a_lock_fresh(bench):
    """What means the same is the same."""
    bench.ask("alpha >= 1")
    made = bench.lock()
    bench.ask("# why", "Alpha>=1  # model")
    check_fresh(made, load_project(bench.root), "credit", AMD, own=bench.own)


def test_a_project_without_requirements_has_what_mendel_needs(bench):
    """No requirements.txt is no error, but a hint; one that is named and missing is an error."""
    assert versions(bench.lock()) == ["runtimedep 1.0"]
    project = load_project(bench.root)
    assert "numpy" in requirements_of(project, project.classifier("credit")).hints[0]
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {requirements: absent.txt}\n")
    with pytest.raises(BuildRefused) as refused:
        bench.lock()
    assert "absent.txt" in refused.value.reasons[0]


@pytest.mark.parametrize("include", ["../outside.txt", "link.txt", "/etc/hostname"])
def test_requirements_stay_inside_the_project(bench, include):
    """Neither a path nor a link leads out of the project."""
    (bench.root.parent / "outside.txt").write_text("alpha\n")
    (bench.root / "link.txt").symlink_to(bench.root.parent / "outside.txt")
    bench.ask(f"-r {include}")
    with pytest.raises(BuildRefused) as refused:
        bench.lock()
    assert "does not exist in the project" in refused.value.reasons[0]


def test_a_failure_or_an_interrupt_leaves_the_former_lock(bench, monkeypatch):
    """Nothing is written before everything is known, and then whole or not at all."""
    bench.ask("alpha")
    write_lock(bench.root, bench.lock())
    before = (bench.root / "mlserver.lock").read_bytes()
    bench.ask("nonesuch")
    with pytest.raises(BuildRefused):
        bench.lock(former=read_lock(bench.root))
    bench.ask("beta")
    other = bench.lock(former=read_lock(bench.root))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_lock(bench.root, other)
    assert (bench.root / "mlserver.lock").read_bytes() == before
    assert not list(bench.root.glob(".mlserver.lock*"))


def test_a_disk_that_does_not_take_the_lock_is_said_plainly(bench, monkeypatch):
    """A full disk is an error that names the file, and the former lock stands."""
    bench.ask("alpha")
    write_lock(bench.root, bench.lock())
    before = (bench.root / "mlserver.lock").read_bytes()
    bench.ask("beta")
    other = bench.lock()

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(StoreUnavailable, match=r"mlserver\.lock cannot be written: No space left"):
            write_lock(bench.root, other)
    assert (bench.root / "mlserver.lock").read_bytes() == before


def test_a_lock_is_written_only_when_it_changed(bench):
    """Writing the same lock leaves the file alone; reading gives what was written."""
    bench.ask("alpha")
    made = bench.lock()
    assert write_lock(bench.root, made)
    assert not write_lock(bench.root, made)
    assert read_lock(bench.root) == made
    assert read_lock(bench.root / "..") is None


def test_what_is_no_lock_is_refused_with_its_path(bench):
    """A torn or foreign file is told from none."""
    (bench.root / "mlserver.lock").write_text("{")
    with pytest.raises(InvalidProject, match=r"mlserver\.lock: The file is not a valid lock"):
        read_lock(bench.root)


def test_mendels_wheel_is_committed_and_strangers_are_left_alone(bench):
    """The runtime's wheel is brought; all with vendor; what the former lock brought goes; the user's own stays."""
    bench.ask("alpha", "beta")
    former = bench.lock()
    assert bring_wheels(bench.root, former, bench.wheels, every=False) == ("mendel-1-0_1-py3-none-any.whl",)
    assert len(bring_wheels(bench.root, former, bench.wheels, every=True)) == 4
    own = bench.root / "mlserver.wheels" / "mine-1-py3-none-any.whl"
    own.write_bytes(b"mine")
    changed = bench.root / "mlserver.wheels" / "beta-2.0-py3-none-any.whl"
    changed.write_bytes(b"the user's now")
    bench.ask("alpha")
    made = bench.lock(former=former)
    assert drop_wheels(bench.root, former, made) == ()
    bench.ask("runtimedep")
    assert drop_wheels(bench.root, former, bench.lock(former=made)) == ("alpha-2.0-py3-none-any.whl",)
    assert own.exists()
    assert changed.read_bytes() == b"the user's now"


def test_a_fresh_clone_can_be_vendored(bench, tmp_path):
    """With a current lock and an empty cache, the wheels of every environment are fetched before they are copied."""
    two_files(bench)
    bench.ask("alpha")
    bench.ask("beta", file="other.txt")
    made = bench.lock()
    bring_wheels(bench.root, made, bench.wheels, every=False)
    empty = CachedWheels(tmp_path / "other", project=bench.root / "mlserver.wheels")
    brought = bring_wheels(bench.root, made, empty, every=True)
    assert brought == tuple(f"{name}-py3-none-any.whl" for name in ("alpha-2.0", "beta-2.0", *OTHERS))


def test_changes_are_told_wheel_by_wheel(bench):
    """Added, removed, moved."""
    bench.ask("alpha<2", "beta")
    former = bench.lock()
    bench.ask("alpha", "gamma")
    bench.add("gamma", "1.0")
    told = {change.name: (change.before, change.after) for change in changes_between(former, bench.lock())}
    assert told.keys() == {"alpha", "beta", "gamma"}
    assert told["alpha"][0].startswith("1.0 (")
    assert told["alpha"][1].startswith("2.0 (")
    assert told["beta"][1] is None
    assert told["gamma"][0] is None


def test_the_project_meets_no_requirement_of_mendel(bench):
    """The project has its own Python and wheels, numpy always among them; in one environment both would clash."""
    bench.own = ("alpha>=2", "runtimedep")
    bench.bases.python, bench.bases.runtime = "3.9", Interpreter(python="3.11", path="/usr/bin/python3.11")
    bench.ask("alpha<2", "beta; python_version >= '3.10'")
    (environment,) = bench.lock().environments
    (for_mendel, wheels), (for_project, project) = environment.parts
    assert (for_mendel.python, [pin.filename[:9] for pin in wheels]) == ("3.11", ["alpha-2.0", "runtimede"])
    assert (for_project.python, [pin.filename[:9] for pin in project]) == ("3.9", ["alpha-1.0", "numpy-1.0"])
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {isolation: shared}\n")
    with pytest.raises(BuildRefused) as refused:
        bench.lock()
    assert {"The project requires alpha<2", "Mendel itself requires alpha>=2"} <= set(refused.value.reasons)


def test_a_base_without_a_python_for_mendel_is_refused(bench):
    """The message says which Python the base has, which one Mendel needs, and how to make such a base."""
    bench.bases.python = "3.9"
    bench.ask("alpha")
    with pytest.raises(BuildRefused, match=r"its only Python is 3\.9, and Mendel needs Python 3\.11") as refused:
        bench.lock()
    assert "mendel base --suite bullseye" in refused.value.remedy


@pytest.mark.parametrize(
    ("requirements", "settings", "isolated"),
    [
        (("alpha",), TWO, True),
        ((), TWO, False),
        ((), TWO + "build: {isolation: process}\n", True),
        (("alpha",), TWO + "build: {isolation: shared}\n", False),
        (("alpha",), TWO.replace("class_name: Model", "class_name: Model, backend: thread"), False),
    ],
)
def test_which_projects_have_an_environment_of_their_own(bench, requirements, settings, isolated):
    """Those with requirements, unless they say otherwise or run their predictor in the threads of Mendel."""
    if requirements:
        bench.ask(*requirements)
    (bench.root / "mlserver.yaml").write_text(settings)
    assert (bench.lock().environment("credit", AMD).project is not None) is isolated


def test_a_lock_of_an_older_mendel_means_one_environment(bench):
    """It stays fresh until the project asks for more; a lock of this Mendel is stale when the isolation changes."""
    bench.ask("alpha")
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {isolation: shared}\n")
    shared = bench.lock()
    older = replace(shared, format=1)
    check_fresh(shared, load_project(bench.root), "credit", AMD)
    (bench.root / "mlserver.yaml").write_text(TWO)
    check_fresh(older, load_project(bench.root), "credit", AMD)
    with pytest.raises(StaleLock, match=r"build\.isolation changed from shared to process"):
        check_fresh(shared, load_project(bench.root), "credit", AMD)
    assert bench.lock(former=older).environment("credit", AMD).project is not None
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {isolation: process}\n")
    with pytest.raises(StaleLock, match=r"build\.isolation changed from shared to process"):
        check_fresh(older, load_project(bench.root), "credit", AMD)


def test_a_missing_base_is_an_error_of_its_own(bench):
    """The base's error comes through, and nothing is locked."""
    (bench.root / "mlserver.yaml").write_text(TWO + "build: {base_image: absent}\n")
    with pytest.raises(ImageNotFound):
        bench.lock()


def test_the_lock_holds_no_address_and_nothing_of_the_machine(pip_bench):
    """Where the index is, where the project lies and who locked it stand nowhere in the file."""
    bench = pip_bench
    bench.ask("alpha")
    text = bench.lock().as_text()
    for part in ("http", "file:", str(bench.index), str(bench.root), str(Path.home())):
        assert part not in text


def test_a_vanished_wheel_is_found_in_the_project(bench, tmp_path):
    """What was vendored needs no index: another cache, an empty index, and the pins are still at hand."""
    bench.ask("alpha")
    made = bench.lock()
    bring_wheels(bench.root, made, bench.wheels, every=True)
    shutil.rmtree(bench.index)
    elsewhere = CachedWheels(tmp_path / "other", project=bench.root / "mlserver.wheels")
    environment = made.environment("credit", AMD)
    elsewhere.fetch(
        [made.runtime.wheel, *environment.wheels], base=environment.base, platform=AMD, on_progress=ignore_progress
    )
    assert elsewhere.path(environment.wheels[0]).parent.name == "mlserver.wheels"
