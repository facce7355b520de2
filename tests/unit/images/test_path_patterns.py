"""Patterns: what .gitignore would match, git itself agreeing."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.images.path_patterns import Pattern

PATHS = ["a", "b.tmp", "d/a", "d/b.tmp", "d/e/a", "d/e/f/b.tmp", "x[1]", "ab", "a b", "d/.hidden", "data/raw/one"]
PATTERNS = [
    "*.tmp", "a", "/a", "d/", "d/e", "d/*", "**/a", "d/**", "d/**/b.tmp", "?", "[ab]", "[!a]", "x\\[1\\]", "*",
    "/data/**/one", "data/raw", ".*", "**", "d/**/a", "a*", "e/", "/d/e/", "[a-c]b",
]  # fmt: skip


def test_git_agrees(tmp_path):
    """Each pattern covers exactly the files that git ignores for it."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    for text in PATTERNS:
        (tmp_path / ".git" / "info" / "exclude").write_text(f"{text}\n")
        out = subprocess.run(
            ["git", "-C", str(tmp_path), "check-ignore", "-z", "--no-index", "--stdin"],
            input="\0".join(PATHS),
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        assert {path for path in PATHS if Pattern(text).covers(path)} == set(filter(None, out.split("\0"))), text


@pytest.mark.parametrize("text", ["", "/", "!a", "../x", "a/../b", ".", "./", "[z-a]", "a\0b"])
def test_what_is_no_pattern_is_refused(text):
    """Empty, negated, leaving and malformed patterns are refused in a sentence."""
    with pytest.raises(InvalidValue):
        Pattern(text)


@given(
    st.text(alphabet="ab*?[]!-^\\/.&|~", min_size=1, max_size=12), st.text(alphabet="ab/.-", min_size=1, max_size=12)
)
def test_any_text_is_a_pattern_or_refused(text, path):
    """No text makes the matcher fail in any other way."""
    try:
        pattern = Pattern(text)
    except InvalidValue:
        return
    pattern.covers(path.strip("/") or "a")
