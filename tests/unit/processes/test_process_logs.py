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
    assert lines[2]["fault"] == "ValueError"
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
    """The template is filled, with what the event carries after its message."""
    lines = written(structured=True, timestamp=False, format="%(levelname)s|%(name)s|%(message)s")
    assert lines[:2] == ["WARNING|mendel|heard port=8000", "INFO|predictor|of a library"]
    assert lines[-1].startswith("ERROR|mendel|failed fault=ValueError at=__main__:")


@pytest.mark.parametrize("template", ["%(levelnme)s", "%(message)d", "%", "%(message"])
def test_a_format_that_cannot_be_filled_is_refused(template):
    """Before the first line, naming what there is."""
    with pytest.raises(InvalidSettings, match=r"server\.logger\.format"):
        LogStyle(format=template)


SECRETS = """
import asyncio, gc, json, logging, threading, warnings, sys
import structlog
from mendel.adapters.processes.process_logs import LogStyle, log_crashes, write_log
write_log(LogStyle(structured=True, timestamp=False))
log_crashes()
log = structlog.get_logger("mendel.part")

def fail(secret):
    try:
        raise KeyError(secret)
    except KeyError as error:
        raise ValueError(f"no {secret}") from error

async def main():
    for _ in range(500):
        try:
            fail("CANARY")
        except ValueError:
            log.exception("door_fault")
    try:
        fail("CANARY")
    except ValueError as error:
        logging.getLogger("uvicorn.error").error("Exception %s in ASGI application", error, exc_info=error)
    task = asyncio.create_task(asyncio.to_thread(fail, "CANARY"))
    await asyncio.wait([task])
    del task
    gc.collect()
    asyncio.get_running_loop().call_soon(fail, "CANARY")
    await asyncio.sleep(0)
    warnings.warn("odd value CANARY")
    thread = threading.Thread(target=fail, args=["CANARY"])
    thread.start()
    thread.join()
    try:
        raise ExceptionGroup("CANARY", [OSError(28, "CANARY")])
    except ExceptionGroup:
        log.exception("group")

asyncio.run(main())
fail("CANARY")
"""


def test_no_message_of_an_exception_is_written():
    """Exceptions of tasks, callbacks, threads, libraries and the process itself are type and place."""
    done = subprocess.run([sys.executable, "-c", SECRETS], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "CANARY" not in done.stderr
    *lines, counted = [json.loads(line) for line in done.stderr.splitlines()]
    told = {line["event"]: line for line in lines}
    assert len(lines) == len(told)
    assert (counted["event"], counted["of"], counted["times"]) == ("repeated", "door_fault", 499)
    assert told["door_fault"]["fault"] == "ValueError from KeyError"
    assert told["door_fault"]["at"].startswith("__main__:13 fail < __main__:")
    assert told["group"]["fault"] == "ExceptionGroup(OSError ENOSPC)"
    assert set(told) == {
        *("door_fault", "Exception %s in ASGI application", "Task exception was never retrieved"),
        *("Exception in callback fail", "python_warning", "thread_crashed", "group", "crashed"),
    }
