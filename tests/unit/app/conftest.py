"""The command line, called in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from mendel.app.cli.main import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def mendel(monkeypatch, capsys):
    """Runs ``mendel`` with arguments, without any MENDEL_* of the outside."""
    for name in ("MENDEL_URL", "MENDEL_KEY", "MENDEL_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mendel", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(ended.value.code or 0, said.out, said.err)

    return run
