"""The contract of Resolver, over memory and pip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mendel.adapters.memory.wheels import MemoryResolver
from mendel.adapters.pip import CachedWheels, PipResolver
from mendel.errors import BuildRefused, ProgramFailed
from mendel.images import Platform, Resolver, WheelPin
from mendel.images.requirements import Hashes
from mendel.values import Digest

from .conftest import Index, OfflineMemoryIndex

Add = Callable[..., WheelPin]


@pytest.fixture(params=["memory", "pip"])
def index(request: pytest.FixtureRequest) -> Index:
    return OfflineMemoryIndex() if request.param == "memory" else request.getfixturevalue("pip_index")


@pytest.fixture
def resolver(index: Index, tmp_path: Path) -> Resolver:
    if isinstance(index, OfflineMemoryIndex):
        return MemoryResolver(index)
    return PipResolver(CachedWheels(tmp_path / "cache"))


def names(pins: tuple[WheelPin, ...]) -> list[str]:
    return [f"{pin.name}=={pin.version}" for pin in pins]


def test_pins_are_by_content_and_sorted(resolver, add, at):
    """Dependencies come along, each pin with the digest and size of its wheel; asked again, the answer is the same."""
    expected = (add("inner-part", "1.0"), add("outer", "2.0", "Inner_Part>=1"))
    assert resolver.resolve(["outer"], **at) == expected
    assert resolver.resolve(["outer", "inner-part"], **at) == expected
    assert resolver.resolve([], **at) == ()


def test_the_newest_wheel_that_runs_there_is_chosen(resolver, add, at):
    """Wheels for a newer C library, another processor or another Python are passed over."""
    add("fast", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64")
    add("fast", "2.0", tag="cp311-cp311-manylinux_2_38_x86_64")
    add("fast", "3.0", tag="cp311-cp311-manylinux_2_17_aarch64")
    add("fast", "4.0", tag="cp312-cp312-manylinux_2_17_x86_64")
    assert names(resolver.resolve(["fast"], **at)) == ["fast==1.0"]


def test_of_one_version_the_most_specific_wheel_is_chosen(resolver, add, at):
    """A compiled wheel wins over one for every machine."""
    add("fast", "1.0")
    compiled = add("fast", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    assert resolver.resolve(["fast"], **at) == (compiled,)


@pytest.mark.parametrize(
    "case",
    [
        ("3.11", "linux/amd64", ["backport==1.0", "top==1.0"]),
        ("3.13", "linux/arm64", ["modern==1.0", "onlyarm==1.0", "top==1.0"]),
    ],
)
def test_markers_are_judged_for_the_base(resolver, add, base, case):
    """What a marker says of Python, processor or system is asked of the base, not of this machine."""
    for name in ("backport", "modern", "onlyarm", "elsewhere"):
        add(name, "1.0")
    add(
        *("top", "1.0", 'backport; python_version < "3.12"', 'modern; python_version >= "3.13"'),
        *('onlyarm; platform_machine == "aarch64"', 'elsewhere; sys_platform == "win32"'),
    )
    python, platform, expected = case
    found = resolver.resolve(["top"], base=replace(base, python=python), platform=Platform.parse(platform))
    assert names(found) == expected


def test_extras_bring_what_they_need(resolver, add, at):
    """A dependency of an extra is chosen only where the extra is asked for."""
    add("plot", "1.0")
    add("top", "1.0", 'plot; extra == "pictures"')
    assert names(resolver.resolve(["top"], **at)) == ["top==1.0"]
    assert names(resolver.resolve(["top[pictures]"], **at)) == ["plot==1.0", "top==1.0"]


def test_a_choice_that_leads_nowhere_is_taken_back(resolver, add, at):
    """The newest version gives way to an older one where only that goes with the rest."""
    add("inner", "1.0")
    add("inner", "2.0")
    add("left", "1.0", "inner<2")
    add("left", "2.0", "inner>=2")
    add("right", "1.0", "inner<2")
    assert names(resolver.resolve(["left", "right"], **at)) == ["inner==1.0", "left==1.0", "right==1.0"]


def test_constraints_bound_and_add_nothing(resolver, add, at):
    """A constraint chooses among versions; one for a distribution that nobody requires has no effect."""
    for version in ("1.0", "2.0"):
        add("inner", version)
    add("outer", "1.0", "inner")
    add("unused", "1.0")
    found = resolver.resolve(["outer"], **at, constraints=["inner<2", "unused<1"])
    assert names(found) == ["inner==1.0", "outer==1.0"]


def test_preferred_versions_are_kept_until_they_stand_in_the_way(resolver, index, add, at):
    """A newer version moves nothing; a requirement moves only what it excludes, and so does a withdrawn wheel."""
    kept = [add("inner", "1.0"), add("other", "1.0")]
    add("inner", "2.0")
    add("other", "2.0")
    assert list(resolver.resolve(["inner", "other"], **at, prefer=kept)) == kept
    add("outer", "1.0", "inner>=2")
    moved = resolver.resolve(["inner", "other", "outer"], **at, prefer=kept)
    assert names(moved) == ["inner==2.0", "other==1.0", "outer==1.0"]
    index.remove(kept[0].filename)
    assert names(resolver.resolve(["inner", "other"], **at, prefer=kept)) == ["inner==2.0", "other==1.0"]


def test_what_has_no_wheel_is_refused_by_name(resolver, index, add, at):
    """Sources alone are told from a name that nobody has; the message says for which base."""
    index.add_sources("rough")
    with pytest.raises(BuildRefused, match=r"Python 3\.11 on linux/amd64 with glibc 2\.36") as refused:
        resolver.resolve(["rough"], **at)
    assert refused.value.reasons == (
        "rough: the package index has only source distributions, or wheels for other platforms",
    )
    assert "--engine docker" in refused.value.remedy
    add("outer", "1.0", "nonesuch>=1")
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve(["outer"], **at)
    (reason,) = refused.value.reasons
    assert reason.startswith("nonesuch>=1")
    assert reason.endswith(": no package index has this distribution")


def test_requirements_that_contradict_are_refused_with_who_asked(resolver, add, at):
    """One of the reasons says which distribution depends on what."""
    add("inner", "1.0")
    add("inner", "2.0")
    add("outer", "1.0", "inner>=2")
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve(["outer", "inner<2"], **at)
    assert any("outer 1.0 depends on inner>=2" in reason for reason in refused.value.reasons)


def test_a_conflict_with_mendel_says_so(resolver, add, at):
    """Requirements of Mendel itself are told from those of the project and from its constraints."""
    add("inner", "1.0")
    add("inner", "2.0")
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve(["inner<2"], **at, own=["inner>=2"])
    assert set(refused.value.reasons) == {"The project requires inner<2", "Mendel itself requires inner>=2"}
    with pytest.raises(BuildRefused) as refused:
        resolver.resolve([], **at, own=["inner>=2"], constraints=["inner<2"])
    assert set(refused.value.reasons) == {
        "The project's constraints allow only inner<2",
        "Mendel itself requires inner>=2",
    }


def hashes(*pins: WheelPin) -> Hashes:
    return tuple((f"{pin.name}=={pin.version}", (str(pin.sha256),)) for pin in pins)


def test_hashes_are_honoured(resolver, add, at):
    """A wheel is pinned if the requirements give its hash; what only Mendel needs has none."""
    inner, outer, mine = add("inner", "1.0"), add("outer", "1.0", "inner"), add("mine", "1.0", "inner")
    add("inner", "2.0")
    known = hashes(inner, outer)
    found = resolver.resolve([line for line, _ in known], **at, own=["mine"], hashes=known)
    assert found == (inner, mine, outer)


def test_hashes_that_pip_refuses_are_refused(resolver, add, at):
    """A dependency without a hash, a requirement without one, and a wheel with another hash are named."""
    inner, outer = add("inner", "1.0"), add("outer", "1.0", "inner")
    other = replace(inner, sha256=Digest(f"sha256:{'0' * 64}"))
    for lines, known, name in (
        (["outer==1.0"], hashes(outer), "inner"),
        (["outer==1.0", "inner==1.0"], hashes(outer), "inner==1.0"),
        (["inner==1.0"], (), "inner==1.0"),
        (["inner==1.0"], hashes(other), "inner==1.0"),
    ):
        with pytest.raises(BuildRefused, match="hashes in the requirements") as refused:
            resolver.resolve(lines, **at, hashes=known)
        (reason,) = refused.value.reasons
        assert reason.startswith(name)
    assert str(inner.sha256) in reason


def test_an_index_that_does_not_answer_is_no_refusal(resolver, index, add, at):
    """Offline, nothing is said about the requirements."""
    add("one", "1.0")
    index.go_offline()
    with pytest.raises(ProgramFailed, match="reach a package index"):
        resolver.resolve(["one"], **at)
