"""requirements.txt, read for a lock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import BuildRefused, InvalidValue
from mendel.images import (
    Platform,
    Requirements,
    WheelPin,
    environment_inputs,
    normal_requirement,
    read_requirements,
    refused_by_hashes,
)
from mendel.images.requirements import requirement_name
from mendel.values import Digest


def read(**files: str) -> Requirements:
    texts = {name.replace("__", "/").replace("_txt", ".txt"): text for name, text in files.items()}
    return read_requirements("requirements.txt", texts.get)


def test_lines_take_one_form_and_one_order():
    """Comments, spelling, order, blanks, continued lines and hashes make no difference."""
    first = read(requirements_txt="# model\nNumPy >= 2,<3\nscikit_learn[b,A]==1.6 \\\n  --hash=sha256:abc\n\n")
    second = read(requirements_txt="\ufeffscikit.learn[a, b] ==1.6 # pinned\r\nnumpy<3,>=2\nnumpy >=2, <3\n")
    assert first.lines == second.lines
    assert first.lines == ("numpy<3,>=2", "scikit-learn[a,b]==1.6")


def test_hashes_are_kept_beside_their_lines():
    """Each line has its hashes, constraints too; --require-hashes alone asks for them."""
    found = read(requirements_txt="A==1 --hash=sha256:b \\\n --hash sha256:a\n-c c.txt\n", c_txt="b==2 --hash=sha512:d")
    assert found.hashes == (("a==1", ("sha256:a", "sha256:b")), ("b==2", ("sha512:d",)))
    assert read(requirements_txt="--require-hashes\na==1").hashes == ()
    assert read(requirements_txt="a==1").hashes is None


def test_a_pin_is_refused_only_by_a_hash_of_its_own_kind():
    """Another SHA-256 refuses a wheel; hashes of other distributions or of other kinds tell nothing of it."""
    pin = WheelPin(
        name="a", version="1", filename="a-1-py3-none-any.whl", sha256=Digest(f"sha256:{'1' * 64}"), size_bytes=1
    )
    other = (("a==1", (f"sha256:{'2' * 64}",)),)
    assert list(refused_by_hashes([pin], other)) == [pin]
    for hashes in (None, (), (("a==1", ("sha512:2",)),), (("b==1", other[0][1]),), (("a==1", (pin.sha256,)), *other)):
        assert list(refused_by_hashes([pin], hashes)) == []


def test_markers_are_kept():
    """A marker stands in the line, for the target to judge, with one kind of quotes and spaces."""
    assert read(requirements_txt="tomli>=2 ;python_version<'3.11'  and os_name=='posix'").lines == (
        'tomli>=2; python_version < "3.11" and os_name == "posix"',
    )


def test_other_files_of_the_project_are_included():
    """-r and -c are followed from the file that names them, each file once, circles too."""
    found = read(
        requirements_txt="-r sub/more.txt\n-c bounds.txt\nnumpy",
        sub__more_txt="--requirement=../requirements.txt\n-r deep.txt",
        sub__deep_txt="joblib",
        bounds_txt="scipy<2\n",
    )
    assert found.lines == ("joblib", "numpy")
    assert found.constraints == ("scipy<2",)
    assert found.recorded == ("-c scipy<2", "joblib", "numpy")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("-e .", "editable"),
        ("--editable=git+https://me:secret@host/x", "//host/x"),
        ("./wheels/x-1-py3-none-any.whl", "path or a URL"),
        ("/srv/x.tar.gz", "path or a URL"),
        ("x @ https://host/x.whl", "path or a URL"),
        ("git+https://host/x.git@main", "path or a URL"),
        ("https://user:secret@host/x.whl", "//host/x.whl"),
        ("--index-url https://host/simple", "on each machine"),
        ("-f wheels", "on each machine"),
        ("--extra-index-url=https://host", "on each machine"),
        ("--pre", "is not supported"),
        ("-r https://host/requirements.txt", "inside the project"),
        ("-r ../outside.txt", "the file '../outside.txt' does not exist"),
        ("numpy>>2", "not a version bound"),
        ("numpy 2", "not a version bound"),
        ("${NAME}>=1", "environment variable"),
        ("!numpy", "not a valid requirement"),
    ],
)
def test_what_no_lock_can_pin_is_refused_with_its_line(line, why):
    """Paths, addresses, editables, indexes and nonsense are refused, naming file and line, and never a secret."""
    with pytest.raises(BuildRefused) as refused:
        read(requirements_txt=f"numpy\n{line}\n")
    (reason,) = refused.value.reasons
    assert why in reason
    assert reason.startswith("requirements.txt:2")
    assert "secret" not in str(reason)
    assert "--engine docker" in refused.value.remedy


def test_every_reason_is_given_at_once():
    """Two wrong lines are two reasons."""
    with pytest.raises(BuildRefused) as refused:
        read(requirements_txt="-e .\nnumpy\n--pre\n-r missing.txt")
    assert [reason.split(": ")[0] for reason in refused.value.reasons] == [
        "requirements.txt:1",
        "requirements.txt:3",
        "requirements.txt:4",
    ]


def test_mendel_itself_is_left_out_with_a_hint():
    """The runtime is in every image; asking for it too would pin it twice."""
    found = read(requirements_txt="mendel>=0.1\nnumpy")
    assert found.lines == ("numpy",)
    assert "requirements.txt:1" in found.hints[0]


@given(
    st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,5}([._-][A-Za-z0-9]{1,4}){0,2}", fullmatch=True),
    st.lists(st.sampled_from([">=1", "<3.0", "==2.*", "!=1.5", "~=1.2", "===1.0+cpu"]), unique=True),
    st.lists(st.sampled_from(["a", "B_c", "d"]), unique=True),
    st.sampled_from(["", "; python_version<'3.12'", ' ; extra == "x"']),
)
def test_the_normal_form_is_a_fixed_point(name, versions, extras, marker):
    """Normalising twice is normalising once, in any order of versions and extras."""
    wanted = f"[{','.join(extras)}]" if extras else ""
    normal = normal_requirement(f"{name} {wanted} {', '.join(versions)}{marker}")
    assert normal_requirement(normal) == normal
    assert normal == normal_requirement(f"{name}{wanted}{','.join(reversed(versions))}{marker}")
    assert requirement_name(normal) == requirement_name(normal_requirement(name))


@given(st.text(max_size=60))
def test_no_line_crashes_the_reader(text):
    """Any text is a requirement or refused."""
    try:
        normal_requirement(text)
    except InvalidValue:
        return


def test_inputs_change_with_everything_that_was_asked():
    """Base, platform, isolation, requirements and Mendel's own each change the digest; the order of lines does not."""
    amd, arm = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
    asked = {"base_reference": "a", "requirements": ["x", "y"], "own": ["z"], "platform": amd, "isolated": False}
    others = (
        {"base_reference": "b"},
        {"requirements": ["x"]},
        {"own": []},
        {"platform": arm},
        {"own": ["y"]},
        {"isolated": True},
    )
    digests = {environment_inputs(**{**asked, **other}) for other in ({}, *others)}
    assert len(digests) == 1 + len(others)
    assert environment_inputs(**{**asked, "requirements": ["y", "x"]}) in digests
