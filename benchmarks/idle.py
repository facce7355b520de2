"""
Measure the CPU time and memory of `mendel up` with one model and nothing to do.

    .venv/bin/python benchmarks/idle.py [--minutes 20]

The script registers and promotes a model through the hub, sends 300 requests, and studies the model once. It then waits
and measures the second half of the given minutes. ``cpu`` is the CPU time of the processes as a share of one core,
averaged over that half; ``memory`` is the largest sum of their proportional set sizes (Linux only).
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

import mendel
from mendel.app.directory import DataDirectory

REQUESTS = 300
SAMPLE_EVERY_S = 5.0
START_S = 120.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
DOORS = ("MENDEL_HUB__PORT", "MENDEL_SERVING__REST_PORTS", "MENDEL_SERVING__GRPC_PORT", "MENDEL_SERVING__ZMQ_PORT")
BOUNDS = {"hub": "2 %, 350 MB"}

Processes = dict[str, dict[int, tuple[float, float]]]
"""For each part, its processes by id, each with its CPU seconds and its memory in MB."""


@contextmanager
def running(directory: Path) -> Iterator[int]:
    """Run `mendel up` with the data directory *directory* on free ports; give its process id."""
    ports = {name: str(free_port()) for name in DOORS}
    environment = {**os.environ, **ports, "MENDEL_DIRECTORY": str(directory)}
    log = directory.parent / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mendel.app.cli", "up"],
            cwd=directory.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        data, end = DataDirectory(directory), time.monotonic() + START_S
        while data.hub() is None or not data.server_ports():
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"mendel up did not start: {log.read_text()}")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def work(directory: Path) -> None:
    """Register, promote and serve a model, send requests, and study the model once."""
    rows, truth = load_breast_cancer(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=10_000).fit(rows, truth)
    with mendel.connect(directory=str(directory)) as registry:
        made = registry.register_baseline(
            model=model,
            model_type="classification",
            name="tumours",
            training_data=rows.assign(benign=truth),
            target="benign",
        )
        registry.approve(made.model_id, policy=True, bias=True)
        registry.change_stage(made.model_id, "sandbox")
        registry.promote(made.model_id, reason="first version")
        port = DataDirectory(directory).server_ports()["rest"][0]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as server:
            end = time.monotonic() + START_S
            body = {"ndarray": [rows.iloc[0].tolist()]}
            while not server.post("/v1/tumours/predict", json=body).is_success:
                if time.monotonic() > end:
                    sys.exit("The model was not served in time.")
                time.sleep(0.2)
            for place in range(REQUESTS):
                row = rows.iloc[place % len(rows)].tolist()
                server.post("/v1/tumours/predict", json={"ndarray": [row]}).raise_for_status()
        registry.observe("tumours")


def sampled(up: int) -> Processes:
    """Read the CPU time and the memory of every process below `mendel up`."""
    parents, commands = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = _fields(int(entry.name))[1]
            commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):  # the process ended
            continue
    found: Processes = {"hub": {}, "server": {}, "mendel up": {}}
    for pid in parents:
        line = [pid]
        while line[-1] in parents and line[-1] != up:
            line.append(int(parents[line[-1]]))
        if line[-1] != up:
            continue
        top = line[-2] if len(line) > 1 else up
        part = "mendel up" if top == up else "hub" if " hub " in commands[top] else "server"
        try:
            found[part][pid] = (cpu_seconds(pid), memory_mb(pid))
        except (OSError, ValueError):
            continue
    return found


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name of the program, which may contain spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and of its children that have ended."""
    return sum(int(ticks) for ticks in _fields(pid)[11:15]) / TICKS_PER_S


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory(prefix="mendel-idle-") as scratch:
        directory = Path(scratch) / ".mendel"
        with running(directory) as up:
            work(directory)
            worked = time.monotonic()
            print(f"One model serves; the measurement takes {minutes:g} minutes.", flush=True)
            time.sleep(minutes * 30)
            began, before = time.monotonic(), sampled(up)
            seen = [before]
            while time.monotonic() < worked + minutes * 60:
                time.sleep(SAMPLE_EVERY_S)
                seen.append(sampled(up))
            report(seen, time.monotonic() - began)


def report(seen: list[Processes], seconds: float) -> None:
    print(f"{'part':10}{'processes':>10}{'cpu %':>8}{'memory MB':>11}  bound")
    for part in seen[0]:
        spent = _spent([sample[part] for sample in seen])
        memory = max(sum(mb for _, mb in sample[part].values()) for sample in seen)
        count = max(len(sample[part]) for sample in seen)
        print(f"{part:10}{count:10}{spent / seconds * 100:8.2f}{memory:11.0f}  {BOUNDS.get(part, '')}")


def _spent(samples: list[dict[int, tuple[float, float]]]) -> float:
    """The CPU time between the first and the last sample; a process that began in between counts from its start."""
    first, last = samples[0], {}
    for sample in samples:
        last.update(sample)
    return sum(cpu - first.get(pid, (0.0, 0.0))[0] for pid, (cpu, _) in last.items())


if __name__ == "__main__":
    main()
