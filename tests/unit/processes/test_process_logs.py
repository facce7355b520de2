"""How the processes of a server write their log."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mendel.adapters.processes.process_logs import LogStyle
from mendel.errors import InvalidSettings

PROGRAM = """
import asyncio, json, logging, sys
import structlog
from mendel.adapters.processes.process_logs import LogStyle, write_log
write_log(LogStyle(**json.loads(sys.argv[1])))

async def main():
    structlog.get_logger("mendel.part").debug("whispered")
    structlog.get_logger("mendel.part").warning("heard", port=8000)
    logging.getLogger("predictor").info("of a library")
    logging.getLogger("uvicorn.error").info("noise")
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger("mendel.part").exception("failed")

asyncio.run(main())
"""


def written(**style):
    """The lines that one program writes in this style, all of them on standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(style)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_structured_lines_are_objects():
    """One JSON object per event, those of libraries too; without times and tasks unless they are asked for."""
    lines = [json.loads(line) for line in written(structured=True, timestamp=False)]
    assert lines[0] == {"event": "heard", "level": "warning", "port": 8000}
    assert lines[1] == {"event": "of a library", "level": "info", "logger": "predictor"}
    assert "ValueError" in json.dumps(lines[2])
    assert len(lines) == 3


def test_times_and_tasks_are_added():
    """Both stand in every line when they are asked for."""
    line = json.loads(written(structured=True, timestamp=True, tasks=True)[0])
    assert line["timestamp"].endswith("Z")
    assert line["task"].startswith("Task-")


def test_the_level_is_a_bound():
    """Below it nothing is written, of nobody."""
    assert [json.loads(line)["event"] for line in written(structured=True, level="ERROR")] == ["failed"]
    assert json.loads(written(structured=True, level="DEBUG")[0])["event"] == "whispered"


def test_a_format_stands_in_place_of_all_else():
    """The template is filled, with what the event carries after its message, and the trace after the line."""
    lines = written(structured=True, timestamp=False, format="%(levelname)s|%(name)s|%(message)s")
    assert lines[:2] == ["WARNING|mendel|heard port=8000", "INFO|predictor|of a library"]
    assert lines[-1] == "ValueError: odd"


@pytest.mark.parametrize("template", ["%(levelnme)s", "%(message)d", "%", "%(message"])
def test_a_format_that_cannot_be_filled_is_refused(template):
    """Before the first line, naming what there is."""
    with pytest.raises(InvalidSettings, match=r"server\.logger\.format"):
        LogStyle(format=template)
