"""
The processes of models: one per model version and server, shared by the workers, restarted when they end.

The workers connect to a local socket and send the order to load a model. The connection is the worker's share of the
process: when the last worker with an equal order has closed its connection, or has died, the process ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog

from mendel.adapters.processes.exit_codes import exit_text, sent_by_others
from mendel.resilience import RetryPolicy, TryAgain, decide_retry
from mendel.serving import model_program

_log = structlog.get_logger("mendel.model_processes")
SOCKET: Final = "models"
_MAX_LINE_BYTES: Final = 16 << 20
_RETRY: Final = RetryPolicy(attempts=sys.maxsize, base=timedelta(milliseconds=100), cap=timedelta(seconds=10))
_STEADY_S: Final = 10.0
_BLAMED_AT: Final = 3
"""The number of ends in a row, each within ``_STEADY_S`` of a start, from which the version is blamed in any case."""
FAREWELL_S: Final = 5.0
"""The time that a model has to close itself."""
_LAST_WORDS_S: Final = 0.2
"""The time to read what a process logged before it ended; processes that it started may hold the socket open."""
_LOOK_EVERY_S: Final = 0.25
_PYTHON_FOR_ALL: Final = frozenset(
    {"PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONPYCACHEPREFIX", "PYTHONUNBUFFERED", "PYTHONWARNINGS"}
)
"""The variables that mean the same to every Python; PYTHONPATH and PYTHONHOME name the files of one."""
_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical"})
_LOGGED: Final = ("logger", "fault", "at", "dropped")
_TOO_LONG: Final = "a call took longer than serving.predict_timeout"


class ModelProcesses:
    """
    Starts the processes of models at the order of workers, on the socket ``models`` in the directory *run*.

    Start it on the event loop of the main thread, because the processes end with the thread that started them.

    A process gets *environment* without the variables that begin with ``MENDEL_``; another Python than the server's
    also gets none that begin with ``PYTHON``, except those that mean the same to every Python.

    Each process is killed when its memory exceeds the order's ``most_memory``, or when a worker says that a call takes
    too long; if that worker has ended, the process ends itself after ``call_limit`` seconds. A process that ended is
    started again after a pause that grows from 0.1 s to 10 s.
    """

    def __init__(self, run: Path, *, environment: Mapping[str, str], rng: random.Random) -> None:
        self._run = run
        self._environment = {name: value for name, value in environment.items() if not name.startswith("MENDEL_")}
        self._rng = rng
        self._keepers: dict[str, _Keeper] = {}
        self._numbers = count()
        self._serving: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._serving = await asyncio.start_unix_server(self._attend, path=self._run / SOCKET, limit=_MAX_LINE_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process, and close the connections of the workers."""
        if self._serving is not None:
            self._serving.close()
        await asyncio.gather(*(keeper.close() for keeper in self._keepers.values()))
        self._keepers.clear()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep the process that a worker orders, until the worker closes the connection."""
        with suppress(ConnectionError):
            order = (await reader.readline()).decode("ascii")
            if order:
                await self._hold(order, reader, writer)
        writer.close()

    async def _hold(self, order: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        keeper = self._keepers.get(order)
        if keeper is None:
            keeper = self._keepers[order] = _Keeper(
                json.loads(order), self._run, self._numbers, environment=self._environment, rng=self._rng
            )
        keeper.add(writer)
        try:
            while line := await reader.readline():
                command = json.loads(line)
                keeper.kill(command["kill"], command["reason"])
        finally:
            if keeper.remove(writer) and self._keepers.get(order) is keeper:
                del self._keepers[order]
                await keeper.close()


@dataclass(slots=True, kw_only=True, eq=False)
class _Child:
    """A running process, and the parent's end of its control socket."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: Path
    born: float
    loaded: bool = False
    killed_for: str = ""
    buried: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ended_by_others(self) -> bool:
        return not self.killed_for and sent_by_others(self.process.returncode or 0)

    def kill(self, reason: str) -> None:
        if self.process.returncode is None:
            self.killed_for = self.killed_for or reason
            self.process.kill()


class _Keeper:
    """Keeps one model's process running while workers hold it."""

    def __init__(
        self,
        order: Mapping[str, Any],
        run: Path,
        numbers: count[int],
        *,
        environment: Mapping[str, str],
        rng: random.Random,
    ) -> None:
        self._order = order
        self._environment = environment
        self._run = run
        self._numbers = numbers
        self._rng = rng
        self._holders: set[asyncio.StreamWriter] = set()
        self._told: Mapping[str, Any] | None = None
        self._child: _Child | None = None
        self._restarts = 0
        self._keeping = asyncio.get_running_loop().create_task(self._keep())

    def add(self, holder: asyncio.StreamWriter) -> None:
        self._holders.add(holder)
        if self._told is not None:
            holder.write(model_program.json_line(self._told))

    def remove(self, holder: asyncio.StreamWriter) -> bool:
        """Remove *holder*; True if no holder is left."""
        self._holders.discard(holder)
        return not self._holders

    def kill(self, pid: int, reason: str) -> None:
        """Kill the process if it still has the id *pid*."""
        if self._child is not None and self._child.pid == pid:
            self._child.kill(reason)

    async def close(self) -> None:
        """Let the model close itself, and end the process."""
        self._keeping.cancel()
        await asyncio.wait([self._keeping])
        if not self._keeping.cancelled() and (error := self._keeping.exception()) is not None:
            _log.error("model_keeper_failed", model=self._order["name"], error=type(error).__name__)
        if (child := self._child) is not None:
            await self._end(child)
        for holder in self._holders:
            holder.close()

    async def _end(self, child: _Child) -> None:
        if child.loaded:
            child.writer.write(b"close\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL_S):
                    await self._until_end(child)
        child.kill("the model was unloaded")
        await self._bury(child)

    def _tell(self, news: Mapping[str, Any]) -> None:
        self._told = news
        for holder in self._holders:
            holder.write(model_program.json_line(news))

    async def _keep(self) -> None:
        crashes = 0
        while True:
            told = await self._load()
            child = self._child
            if child is not None and "loaded" in told:
                child.loaded = True
                running = {"running": child.pid, "address": str(child.address), "facts": told["loaded"]}
                self._tell({**running, "restarts": self._restarts})
                await self._until_end(child)
            elif not self._restarts:
                self._tell(told)
                return
            crashes += 1
            if child is None or "failed" in told:
                reason, external = told["failed"]["message"], told["failed"].get("external", False)
            else:
                reason = await self._ended(child)
                crashes = 1 if asyncio.get_running_loop().time() - child.born >= _STEADY_S else crashes
                external = child.ended_by_others and crashes < _BLAMED_AT
            pause = decide_retry(_RETRY, crashes, self._rng)
            after = pause.after.total_seconds() if isinstance(pause, TryAgain) else 0.0
            self._tell({"ended": reason, "external": external, "restart_in": after})
            await asyncio.sleep(after)
            self._restarts += 1

    async def _load(self) -> Mapping[str, Any]:
        """Start a process, and give its first word; a process that cannot be started has failed."""
        self._child = None
        try:
            child = self._child = await self._start()
        except (OSError, RuntimeError) as error:  # the Python is missing, or there are too many files or processes
            python = self._order["interpreter"]
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"The process of the model cannot be started with {python}: {reason}."
            remedy = (
                "If serving.model_python names this Python, correct the setting; if it is in the cache (MENDEL_CACHE), "
                "start the server again, which makes the environment."
            )
            _log.error("model_process_not_started", model=self._order["name"], python=python, reason=reason)
            return {"failed": {"message": message, "remedy": remedy, "external": True}}
        return await self._first_word(child)

    async def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        address = self._run / f"m{next(self._numbers)}"
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    self._order["interpreter"],
                    model_program.__file__,
                    "--control",
                    str(theirs.fileno()),
                    "--parent",
                    str(os.getpid()),
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    env=self._passed(),
                    start_new_session=True,
                )
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=_MAX_LINE_BYTES)
        except BaseException:
            ours.close()  # a process that was started ends at the end of its control socket
            raise
        writer.write(model_program.json_line({**self._order, "address": str(address)}))
        born = asyncio.get_running_loop().time()
        return _Child(process=process, reader=reader, writer=writer, address=address, born=born)

    def _passed(self) -> dict[str, str]:
        python = self._order["interpreter"]
        if python == sys.executable:
            return dict(self._environment)
        passed = {
            name: value
            for name, value in self._environment.items()
            if name in _PYTHON_FOR_ALL or not name.startswith("PYTHON")
        }
        programs = [str(Path(python).parent), passed.get("PATH", os.defpath)]  # its own programs before those of Mendel
        return {**passed, "PATH": os.pathsep.join(programs)}

    async def _first_word(self, child: _Child) -> Mapping[str, Any]:
        """Give what the process says of its load: ``loaded`` with the facts, or ``failed`` with the reason."""
        limit = self._order["load_limit"]
        async with self._limited_memory(child):
            try:
                async with asyncio.timeout(limit):
                    told = await self._word(child)
            except TimeoutError:
                child.kill(f"the load took longer than serving.load_timeout ({limit:g} s)")
                told = {}
        if "loaded" in told:
            return told
        if "failed" in told:
            child.kill("the model could not be loaded")
            await self._bury(child)
            return told
        reason = await self._ended(child)
        return {"failed": {"message": f"Loading the model failed. {reason}", "external": child.ended_by_others}}

    async def _word(self, child: _Child) -> Mapping[str, Any]:
        """Log what the model logs, until the process says something else; empty at its end, or if it cannot be read."""
        try:
            while line := await child.reader.readline():
                told: Mapping[str, Any] = json.loads(line)
                if "log" not in told:
                    return told
                self._log(child, told)
        except Exception as error:  # noqa: BLE001 - the model can write anything to the socket
            _log.warning("model_log_unreadable", model=self._order["name"], pid=child.pid, fault=type(error).__name__)
        return {}

    def _log(self, child: _Child, told: Mapping[str, Any]) -> None:
        level = told["log"] if told["log"] in _LEVELS else "error"
        more = {name: str(told[name]) for name in _LOGGED if name in told}
        getattr(_log, level)(str(told.get("event", "")), model=self._order["name"], pid=child.pid, **more)

    async def _until_end(self, child: _Child) -> None:
        async with self._limited_memory(child), asyncio.TaskGroup() as tasks:
            logs = tasks.create_task(self._word(child))
            await child.process.wait()
            await asyncio.wait([logs], timeout=_LAST_WORDS_S)
            logs.cancel()

    @asynccontextmanager
    async def _limited_memory(self, child: _Child) -> AsyncIterator[None]:
        """Kill the process if its memory exceeds the order's limit before the end of the ``with`` block."""
        looking = asyncio.get_running_loop().create_task(self._limit_memory(child))
        try:
            yield
        finally:
            looking.cancel()

    async def _limit_memory(self, child: _Child) -> None:
        most = self._order["most_memory"]
        while most:
            await asyncio.sleep(_LOOK_EVERY_S)
            used = model_program.resident_bytes(str(child.pid))
            if used is not None and used > most:
                child.kill(f"the process used {used} bytes of memory, more than serving.model_memory_bytes ({most})")

    async def _ended(self, child: _Child) -> str:
        """Give the reason why the process ended, and log it."""
        code = await self._bury(child)
        cause = child.killed_for or (_TOO_LONG if code == -signal.SIGALRM else exit_text(code))
        _log.error("model_process_ended", model=self._order["name"], pid=child.pid, reason=cause)
        return f"The process of the model ended: {cause}."

    async def _bury(self, child: _Child) -> int:
        """Wait for the end of the process, and end the processes that its model started."""
        code = await child.process.wait()
        if not child.buried:
            child.buried = True
            with suppress(ProcessLookupError, PermissionError):  # none is left; macOS raises PermissionError for this
                os.killpg(child.pid, signal.SIGKILL)
            child.writer.close()
            child.address.unlink(missing_ok=True)
        return code
