"""What errors tell people to run can be run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mendel
from mendel.app.cli.main import commands

SOURCES = Path(mendel.__file__).parent
OF_OTHERS = {"--dest-compress-format"}  # skopeo's
PROSE = {"directory", "from", "on", "or"}  # "the .mendel directory"


def remedies():
    """Every text given as ``remedy=``, with where it stands; what is filled in is an X."""
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "remedy":
                texts = [part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
                yield f"{file.relative_to(SOURCES)}:{node.value.lineno}", "X".join(map(str, texts))


@pytest.fixture(scope="module")
def flags():
    return {name for _, one in commands() for param in one.params for name in (*param.opts, *param.secondary_opts)}


def test_remedies_name_commands_that_exist():
    """`mendel x` in a remedy is a command."""
    known = {words[0] for words, _ in commands()}
    named = [(where, word) for where, text in remedies() for word in re.findall(r"\bmendel ([a-z][a-z-]+)", text)]
    assert len(named) > 20
    assert [(where, word) for where, word in named if word not in known | PROSE] == []


def test_remedies_name_flags_that_exist(flags):
    """`--x` in a remedy is a flag of some command, or one of another program's."""
    named = [(where, flag) for where, text in remedies() for flag in re.findall(r"--[a-z][a-z-]+", text)]
    assert len(named) > 10
    assert [(where, flag) for where, flag in named if flag not in flags | OF_OTHERS] == []
