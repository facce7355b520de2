"""The nouns: validated at birth, and the same after a journey as JSON."""

from __future__ import annotations

import contextlib
import io
import tarfile
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import DigestMismatch, InvalidInput, InvalidPolicy, InvalidValue, ShapeMismatch
from mendel.values import (
    Bump,
    ColumnSpec,
    ColumnType,
    Deployment,
    ModelName,
    ReleaseTag,
    Route,
    SemVer,
    Signature,
    Table,
    VersionRef,
    Window,
    from_json,
    from_mapping,
    from_micros,
    parse_duration,
    read_json,
    render_duration,
    require_utc,
    to_json,
    to_micros,
)
from mendel.values.directory_trees import pack_tree, tree_digest, unpack_tree

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True)
versions = st.builds(SemVer, *[st.integers(0, 10**6)] * 3)
tools = st.one_of(st.from_regex(r"[0-9a-f]{7,40}", fullmatch=True), st.just("dev"))
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(lambda m: m.replace(tzinfo=UTC))


@given(names, versions, tools)
def test_a_release_tag_reads_back_what_it_renders(name: str, version: SemVer, tool: str) -> None:
    """parse(render(tag)) is the tag, for every tag."""
    tag = ReleaseTag(name, version, tool)
    assert ReleaseTag.parse(str(tag)) == tag


@given(names, versions, tools, versions)
def test_a_tag_splits_at_its_last_infix(name: str, version: SemVer, tool: str, inner: SemVer) -> None:
    """A classifier whose own name looks like a tag keeps that name."""
    odd = f"{name}-v{inner}-mlserver-x".replace(".", "_")
    tag = ReleaseTag(odd, version, tool)
    assert ReleaseTag.parse(str(tag)).classifier == odd


@given(versions, st.sampled_from(list(Bump)))
def test_a_bump_goes_up_and_resets_what_is_below(version: SemVer, part: Bump) -> None:
    """Every bump is greater, and parts below the bumped one are 0."""
    bumped = version.bumped(part)
    assert bumped > version
    if part is not Bump.PATCH:
        assert bumped.patch == 0


@pytest.mark.parametrize("text", ["1.2", "01.2.3", "1.2.3-rc1", "", "v1.2.3", "1.2.3 "])
def test_versions_that_are_none_are_refused(text: str) -> None:
    """Only X.Y.Z without leading zeros is a version."""
    with pytest.raises(InvalidValue, match="not a semantic version"):
        SemVer.parse(text)


@pytest.mark.parametrize("text", ["", "Credit", "-a", "a b", "a/b", "a" * 129, "é", "a\n"])
def test_model_names_that_are_none_are_refused(text: str) -> None:
    """A name is a slug, and the refusal says what one looks like."""
    with pytest.raises(InvalidValue, match="lower-case"):
        ModelName(text)


@pytest.mark.parametrize("text", ["credit", "credit@0", "credit@-1", "credit@1.0", "@3", "credit@³"])
def test_references_that_are_none_are_refused(text: str) -> None:
    """A version reference is NAME@N with N from 1."""
    with pytest.raises(InvalidValue):
        VersionRef.parse(text)


@given(st.integers(0, 10**9).map(lambda n: timedelta(milliseconds=n)))
def test_durations_read_back(span: timedelta) -> None:
    """A rendered duration parses to itself."""
    assert parse_duration(render_duration(span)) == span


@given(moments)
def test_times_survive_as_microseconds(moment: datetime) -> None:
    """Microseconds since 1970 lose nothing."""
    assert from_micros(to_micros(moment)) == moment


@given(moments, st.integers(1, 10**6).map(lambda s: timedelta(seconds=s)))
def test_every_moment_has_one_grain(moment: datetime, every: timedelta) -> None:
    """The grain of a moment holds it, and its end belongs to the next."""
    grain = Window.containing(moment, every)
    assert moment in grain
    assert grain.end not in grain
    assert Window.containing(grain.end, every).start == grain.end


def test_a_window_without_zone_is_refused() -> None:
    """Times without a zone cannot be meant."""
    with pytest.raises(InvalidValue, match="time zone"):
        Window(datetime(2026, 1, 1), datetime(2026, 1, 2))


def test_shares_sum_to_one() -> None:
    """A deployment whose shares do not sum to 1 cannot be born."""
    routes = (Route(version=1, share=0.9), Route(version=2, share=0.2))
    with pytest.raises(InvalidValue, match="sum to"):
        Deployment(model=ModelName("credit"), routes=routes)


@given(names, st.integers(0, 5), st.floats(0.01, 0.99))
def test_a_deployment_travels_as_json(name: str, generation: int, share: float) -> None:
    """What a server reads is what the hub wrote."""
    routes = (Route(version=1, share=share), Route(version=2, share=1 - share))
    deployment = Deployment(model=ModelName(name), generation=generation, routes=routes, keep=(7,))
    assert from_json(to_json(deployment), Deployment) == deployment


def test_unknown_json_says_where_it_is_wrong() -> None:
    """A document that does not fit is refused with the place."""
    with pytest.raises(InvalidValue, match=r"\$\.generation"):
        from_json(b'{"model": "credit", "generation": "x"}', Deployment)


nested = st.integers(1, 200)


@given(nested)
def test_json_has_64_levels_at_most(depth: int) -> None:
    """Lists and objects are read up to 64 levels deep, and refused by name from 65 on, however deep they are."""
    for text in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        if depth <= 64:
            read_json(text)
        else:
            with pytest.raises(InvalidValue, match="deeper than 64 levels"):
                read_json(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "deeper than 64 levels"),
        ("9223372036854775808", "64 bits"),
        ('{"a": [-9223372036854775809]}', "64 bits"),
        ("1" * 5000, "not JSON"),
        ("1e999", "not JSON"),
        ("NaN", "not JSON"),
        ("-Infinity", "not JSON"),
        ('{"\\u0000": 1}', "NUL"),
        ('["\\u0000"]', "NUL"),
        ('["\\ud800"]', "not JSON"),
        (b'["\xff"]', "not JSON"),
        (f'["{"x" * 100_001}"]', "100001 characters"),
        ("", "not JSON"),
        ("{} {}", "not JSON"),
    ],
)
def test_json_that_nothing_can_store_is_refused(text: str | bytes, said: str) -> None:
    """What a database or another program could not hold is refused where it arrives, with what is wrong."""
    with pytest.raises(InvalidValue, match=said):
        read_json(text)


def test_json_at_its_bounds_is_read() -> None:
    """The largest and the smallest integer, a long text and Unicode beyond the basic plane are values."""
    assert read_json("[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]
    assert read_json(f'"{"x" * 100_000}"') == "x" * 100_000
    assert read_json('"\\ud83d\\ude00"') == "😀"


def test_deep_json_does_not_fit_any_noun() -> None:
    """Reading a noun from JSON that is nested too deep for the decoder is refused, too."""
    with pytest.raises(InvalidValue, match="deeper"):
        from_json("[" * 100_000, list[object])  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1000000000000d", "9" * 400 + "d", "365251d"])
def test_durations_of_ages_are_refused(text: str) -> None:
    """A duration beyond a thousand years is refused by name; the calendar could not hold its end."""
    with pytest.raises(InvalidValue, match="longer than 1000 years"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"])
def test_moments_outside_the_calendar_are_refused(text: str) -> None:
    """A moment that does not exist in UTC is refused."""
    with pytest.raises(InvalidValue, match="outside the calendar"):
        require_utc(datetime.fromisoformat(text))


COLUMNS = (ColumnSpec(name="age", type=ColumnType.DOUBLE), ColumnSpec(name="city", type=ColumnType.STRING))


def test_a_signature_accepts_what_the_other_allows() -> None:
    """Nothing newly required, no column more or fewer, no other type."""
    strict = Signature.of_columns(COLUMNS)
    lenient = Signature.of_columns((COLUMNS[0], ColumnSpec(name="city", type=ColumnType.STRING, required=False)))
    assert lenient.accepts(strict)
    assert not strict.accepts(lenient)
    assert not strict.accepts(Signature.of_columns(COLUMNS[:1]))
    assert Signature.from_mlflow(strict.to_mlflow()) == strict


@pytest.mark.parametrize(
    ("mine", "theirs", "accepted"),
    [
        ("double", "long", True),
        ("double", "float", True),
        ("float", "integer", True),
        ("long", "integer", True),
        ("long", "double", False),
        ("integer", "float", False),
        ("integer", "long", False),
        ("float", "double", False),
        ("boolean", "integer", False),
        ("string", "datetime", False),
    ],
)
def test_a_signature_accepts_narrower_numbers_only(mine: str, theirs: str, accepted: bool) -> None:
    """A column takes the place of another when every value of the other is a value of its own."""
    new, old = (Signature.of_columns((ColumnSpec(name="age", type=ColumnType(kind)),)) for kind in (mine, theirs))
    assert new.accepts(old) is accepted


def test_tables_refuse_ragged_columns_and_join_what_fits() -> None:
    """Columns have one length; concatenation fills what a table lacks."""
    with pytest.raises(ShapeMismatch):
        Table({"a": np.zeros(2), "b": np.zeros(3)})
    joined = Table.concat([Table({"a": np.array([1.0])}), Table({"a": np.array([2.0]), "b": np.array([3.0])})])
    assert joined["a"].tolist() == [1.0, 2.0]
    assert np.isnan(joined["b"][0])
    assert joined["b"][1] == 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    span: timedelta = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    cooldown: timedelta = timedelta(minutes=30)
    share: float = 0.3
    inner: Inner = field(default_factory=Inner)


def test_a_mapping_is_read_whole_or_refused() -> None:
    """Durations and texts are read; an unknown key is refused with the nearest known one."""
    read = from_mapping(Outer, {"cooldown": "5m", "share": "0.5", "inner": {"span": "2s"}}, at="healing")
    assert read == Outer(cooldown=timedelta(minutes=5), share=0.5, inner=Inner(span=timedelta(seconds=2)))
    with pytest.raises(InvalidPolicy, match=r"healing\.inner: unknown key 'spam'; did you mean 'span'"):
        from_mapping(Outer, {"inner": {"spam": "1s"}}, at="healing")
    with pytest.raises(InvalidPolicy, match="not a duration"):
        from_mapping(Outer, {"cooldown": "soon"}, at="healing")
    with pytest.raises(InvalidPolicy, match="is not a mapping"):
        from_mapping(Outer, {"inner": 3}, at="healing")


def _tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_tree_travels_as_a_tar_and_keeps_its_digest(tmp_path: Path) -> None:
    """Unpacked elsewhere, a tree has the digest it left with; what is excluded stays."""
    source = _tree(tmp_path / "a", {"MLmodel": b"x", "sub/ü.bin": b"\0" * 70000, "data/training.parquet": b"t"})
    digest = tree_digest(source, exclude=("data",))
    packed = io.BytesIO()
    pack_tree(source, packed, exclude=("data",))
    unpack_tree(io.BytesIO(packed.getvalue()), tmp_path / "b", expect=digest)
    assert tree_digest(tmp_path / "b") == digest
    assert not (tmp_path / "b" / "data").exists()


def test_a_changed_tree_is_refused(tmp_path: Path) -> None:
    """A tar whose content differs from the promised digest is refused."""
    packed = io.BytesIO()
    pack_tree(_tree(tmp_path / "a", {"f": b"1"}), packed)
    promised = tree_digest(_tree(tmp_path / "b", {"f": b"2"}))
    with pytest.raises(DigestMismatch):
        unpack_tree(io.BytesIO(packed.getvalue()), tmp_path / "c", expect=promised)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_no_entry_leaves_the_directory(tmp_path: Path, name: str) -> None:
    """A hostile archive writes nothing outside."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    packed.seek(0)
    with pytest.raises(InvalidInput, match="leaves the archive"):
        unpack_tree(packed, tmp_path / "in" / "side")
    assert not list(tmp_path.rglob("evil"))


def test_links_are_neither_packed_nor_unpacked(tmp_path: Path) -> None:
    """A link has no content of its own, so a tree that holds one has no digest."""
    source = _tree(tmp_path / "a", {"f": b"1"})
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="is a link"):
        tree_digest(source)


def _archive(*entries: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"1" * entry.size))
    packed.seek(0)
    return packed


def _entry(name: str, kind: bytes = tarfile.REGTYPE, **headers: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.pax_headers = kind, headers
    entry.size = 1 if kind == tarfile.REGTYPE else 0
    return entry


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((_entry("a"), _entry("a")), "two entries named 'a'"),
        ((_entry("a"), _entry("./a")), "two entries named"),
        ((_entry("a"), _entry("a/b")), "'a' both as a file and as a directory"),
        ((_entry("a/b"), _entry("a")), "two entries named"),
        ((_entry("a"), _entry("a", tarfile.DIRTYPE)), "'a' both as a file and as a directory"),
        ((_entry("x" * 300),), "too long"),
        ((_entry("d/" * 600 + "f"),), "too long"),
        ((_entry("a\udcff"),), "not UTF-8"),
        ((_entry("a\nb"),), "control character"),
        ((_entry("a", path="b\0c"),), "control character"),
        ((_entry("l", tarfile.SYMTYPE),), "not a regular file"),
        ((_entry("l", tarfile.LNKTYPE),), "not a regular file"),
        ((_entry("null", tarfile.CHRTYPE),), "not a regular file"),
        ((_entry("sda", tarfile.BLKTYPE),), "not a regular file"),
        ((_entry("pipe", tarfile.FIFOTYPE),), "not a regular file"),
        ((_entry("holes", tarfile.GNUTYPE_SPARSE),), "not a regular file"),
        ((_entry("a", size="-5"),), "negative size"),
        ((_entry("a", path="x" * (1 << 20)),), "declares"),
    ],
)
def test_no_entry_breaks_unpacking(tmp_path: Path, entries: tuple[tarfile.TarInfo, ...], said: str) -> None:
    """Each kind of entry that cannot be written is refused by name, as the sender's error."""
    with pytest.raises(InvalidInput, match=said):
        unpack_tree(_archive(*entries), tmp_path / "in")


@given(st.data())
def test_no_damage_breaks_unpacking(data: st.DataObject) -> None:
    """An archive with any bytes changed or cut off unpacks, or is refused as the sender's error."""
    packed = bytearray(_archive(_entry("a"), _entry("b/ü" + "x" * 120), _entry("d", tarfile.DIRTYPE)).getvalue())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 2047), st.integers(0, 255)), max_size=8)):
        packed[place] = value
    cut = data.draw(st.integers(0, len(packed)))
    with tempfile.TemporaryDirectory() as scratch, contextlib.suppress(InvalidInput):
        unpack_tree(io.BytesIO(bytes(packed[:cut])), Path(scratch) / "in")


def test_an_archive_larger_than_its_bound_is_refused(tmp_path: Path) -> None:
    """Unpacking stops at the bound."""
    packed = io.BytesIO()
    pack_tree(_tree(tmp_path / "a", {"f": b"1" * 5000}), packed)
    packed.seek(0)
    with pytest.raises(InvalidInput, match="bytes in total"):
        unpack_tree(packed, tmp_path / "b", max_bytes=4000)
