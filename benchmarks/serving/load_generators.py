"""Run h2load and wrk, and read what they measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

INSTALL = (Path(__file__).parents[2] / "scripts" / "install_test_programs.sh", "h2load=nghttp2-client", "wrk=wrk")
PATIENCE_S = 30.0
_REQUESTS = re.compile(
    r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout"
)
_STATUSES = re.compile(r"status codes: (\d+) 2xx")
WRK_SCRIPT = """
local bodies = {BODIES}
local at = 0
wrk.method = "POST"
wrk.body = bodies[1]
if #bodies > 1 then
  request = function()
    at = at % #bodies + 1
    return wrk.format(nil, nil, nil, bodies[at])
  end
end
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\nREPORT {"requests": %d, "micros": %d, "p50": %f, "p95": %f, "p99": %f, "failed": %d, "timed_out": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status, errors.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    What a load generator measured.

    Attributes:
        requests: Requests that were answered with an HTTP status 2xx.
        seconds: The time from the first request to the last answer.
        timed_out: Requests that took longer than wrk waits; they are not among *requests*.
        complaints: What went wrong, one sentence each; empty when every other request was answered with 2xx.
    """

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    timed_out: int = 0
    complaints: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """Where h2load and wrk send their requests."""

    url: str
    headers: Mapping[str, str]


def require_programs() -> None:
    """End the program with advice when h2load or wrk is not installed; install them first where that is possible."""
    if not (shutil.which("h2load") and shutil.which("wrk")):
        done = subprocess.run(INSTALL, check=False, stdout=sys.stderr)
        if done.returncode:
            sys.exit(done.returncode)


def h2load(aim: Aim, bodies: Sequence[Path], *, connections: int, streams: int, requests: int) -> Load:
    """
    Send *requests* gRPC requests, with one h2load for each file of *bodies*, all at the same time.

    Args:
        connections: The number of connections, divided among the bodies.
        streams: Requests in flight per connection.
    """
    share = connections // len(bodies)
    each = max(requests // len(bodies) // share, 1) * share
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        logs = [Path(scratch) / str(place) for place in range(len(bodies))]
        commands = [
            _h2load(aim, body, share, streams, "-n", str(each), f"--log-file={log}")
            for body, log in zip(bodies, logs, strict=True)
        ]
        printed = _run_together(commands)
        return read_h2load(printed, [log.read_text() for log in logs])


def h2load_rate(aim: Aim, body: Path, *, connections: int, streams: int, seconds: float) -> float:
    """Warm a gRPC server up for *seconds*, and give the requests per second that it answered."""
    (printed,) = _run_together([_h2load(aim, body, connections, streams, "-D", f"{round(seconds * 1000)}ms")])
    found = _REQUESTS.search(printed)
    return int(found.group(3)) / seconds if found else 0.0


def read_h2load(printed: Sequence[str], logs: Sequence[str]) -> Load:
    """
    Read the output and the log files of h2load processes that ran at the same time.

    A line of the log has the start of a request in microseconds, the HTTP status, and the microseconds to the answer.
    Percentiles are the smallest latency that at least that share of all requests did not exceed.
    """
    complaints: list[str] = []
    total = good = 0
    for text in printed:
        found, statuses = _REQUESTS.search(text), _STATUSES.search(text)
        if found is None or statuses is None:
            complaints.append(f"h2load printed no result: {text.strip()[-200:]!r}")
            continue
        asked, _, done, _, failed, errored, timeout = map(int, found.groups())
        total, good = total + asked, good + int(statuses.group(1))
        if failed or errored or timeout or done != asked or int(statuses.group(1)) != asked:
            complaints.append(
                f"{asked} requests: {statuses.group(1)} 2xx, {failed} failed, {errored} errored, {timeout} timed out"
            )
    lines = np.concatenate([np.array(log.split(), dtype=np.int64).reshape(-1, 3) for log in logs])
    if len(lines) != total:
        complaints.append(f"the logs of h2load have {len(lines)} lines for {total} requests")
    if not len(lines):
        return Load(requests=0, seconds=0.0, p50_ms=0.0, p95_ms=0.0, p99_ms=0.0, complaints=tuple(complaints))
    p50, p95, p99 = percentiles_ms(lines[:, 2])
    seconds = float((lines[:, 0] + lines[:, 2]).max() - lines[:, 0].min()) / 1e6
    return Load(requests=good, seconds=seconds, p50_ms=p50, p95_ms=p95, p99_ms=p99, complaints=tuple(complaints))


def percentiles_ms(micros: NDArray[np.int64]) -> tuple[float, float, float]:
    """P50, P95 and P99 of latencies in microseconds, in milliseconds."""
    p50, p95, p99 = np.quantile(micros, (0.5, 0.95, 0.99), method="inverted_cdf") / 1000
    return float(p50), float(p95), float(p99)


def wrk(aim: Aim, bodies: Sequence[bytes], *, connections: int, seconds: int) -> Load:
    """Send HTTP/1.1 requests with *bodies* in turn for *seconds*; an answer that takes over 2 s is a time-out."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        listed = ", ".join(f"[==[{body.decode()}]==]" for body in bodies)
        script.write(WRK_SCRIPT.replace("BODIES", listed))
        script.flush()
        headers = [part for name, value in aim.headers.items() for part in ("-H", f"{name}: {value}")]
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "2s", "-s", script.name]
        (printed,) = _run_together([[*command, *headers, aim.url]])
    return read_wrk(printed)


def read_wrk(printed: str) -> Load:
    """Read the report that the script of wrk prints."""
    line = next((line for line in printed.splitlines() if line.startswith("REPORT ")), None)
    if line is None:
        complaint = f"wrk printed no result: {printed.strip()[-200:]!r}"
        return Load(requests=0, seconds=0.0, p50_ms=0.0, p95_ms=0.0, p99_ms=0.0, complaints=(complaint,))
    told = json.loads(line.removeprefix("REPORT "))
    complaints = (f"{told['failed']} requests failed",) if told["failed"] else ()
    return Load(
        requests=told["requests"],
        seconds=told["micros"] / 1e6,
        p50_ms=told["p50"] / 1000,
        p95_ms=told["p95"] / 1000,
        p99_ms=told["p99"] / 1000,
        timed_out=told["timed_out"],
        complaints=complaints,
    )


def _h2load(aim: Aim, body: Path, connections: int, streams: int, *more: str) -> list[str]:
    headers = [part for name, value in aim.headers.items() for part in ("-H", f"{name}: {value}")]
    shape = ["-t1", f"-c{connections}", f"-m{streams}", f"-d{body}"]
    return ["h2load", *shape, *headers, *more, aim.url]


def _run_together(commands: Sequence[Sequence[str]]) -> list[str]:
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands
    ]
    try:
        return [one.communicate(timeout=PATIENCE_S)[0] for one in started]
    except subprocess.TimeoutExpired:
        return [f"not finished after {PATIENCE_S:g} s"] * len(started)
    finally:
        for one in started:
            one.kill()
            one.wait()
