"""
The process of one training job: ``python -m mendel.adapters.processes.runner_child ORDER LIFELINE PROGRESS``.

The first process only watches and starts a second process. When the pipe LIFELINE closes, because the process that
ordered the job has ended, the first process kills the process group. The second process does the work under the memory
limit and dies with the first.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUT_OF_MEMORY = 77
"""The exit status for a job that exceeded its memory limit."""

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Start and watch the working process, or run the job in the working process."""
    order, lifeline, progress = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    worker = os.fork()
    if worker:
        os.close(progress)
        os._exit(_watch(worker, lifeline))
    os.close(lifeline)
    _die_with_parent()
    try:
        _work(order, progress)
    except MemoryError:
        sys.excepthook(*sys.exc_info())
        sys.exit(OUT_OF_MEMORY)


def _watch(worker: int, lifeline: int) -> int:
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(wake)
    while True:
        ended, status = os.waitpid(worker, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code  # as shells report a signal
        ready, _, _ = select.select([lifeline, woken], [], [])
        if lifeline in ready:
            os.killpg(0, signal.SIGKILL)
        os.read(woken, 512)


def _die_with_parent() -> None:
    watcher = os.getppid()
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - only the working process needs it

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        sys.exit(1)


def _work(order_file: Path, progress: int) -> None:
    import resource  # noqa: PLC0415 - only the working process needs it

    from mendel.errors import InvalidInput  # noqa: PLC0415 - the watcher stays small
    from mendel.retraining import Progress  # noqa: PLC0415 - the watcher stays small
    from mendel.retraining.job_execution import execute  # noqa: PLC0415 - the watcher stays small
    from mendel.retraining.job_orders import JobOrder, finish  # noqa: PLC0415 - the watcher stays small
    from mendel.values import from_json, to_json  # noqa: PLC0415 - the watcher stays small

    order = from_json(order_file.read_bytes(), JobOrder)
    _find_project_modules(Path.cwd())
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))

    def on_progress(told: Progress) -> None:
        os.write(progress, to_json(told) + b"\n")

    try:
        finish(order, execute(order, find_function=_function, on_progress=on_progress))
    except InvalidInput as error:
        sys.exit(f"InvalidInput: {error}")


def _find_project_modules(project: Path) -> None:
    """Let imports find the modules of *project* before installed packages and after the standard library."""
    packages = (n for n, place in enumerate(sys.path) if Path(place).name in {"site-packages", "dist-packages"})
    sys.path.insert(next(packages, len(sys.path)), str(project))


def _function(name: str) -> Callable[..., Any]:
    import importlib  # noqa: PLC0415 - the watcher stays small

    from mendel.retraining.job_execution import require_function  # noqa: PLC0415 - the watcher stays small

    module, _, attribute = name.partition(":")
    return require_function(name, getattr(importlib.import_module(module), attribute, None))


if __name__ == "__main__":
    main()
