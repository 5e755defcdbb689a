"""What a command and all it starts use: wall clock, CPU and memory (Linux)."""

import os
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]


@dataclass
class Usage:
    """What a process and its descendants used."""

    wall: float = 0.0
    cpu: float = 0.0  # seconds of all cores
    peak: float = 0.0  # MB, proportional set size of all processes at once


def watch(command: list[str], log: Any) -> Usage:
    """Wall, CPU and peak memory of a command's session, sampled every second."""
    env = {**os.environ, "PYTHONPATH": str(REPO), "HF_HUB_OFFLINE": "1"}
    usage, started = Usage(), time.monotonic()
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
    )
    seconds: Counter[int] = Counter()
    done = threading.Event()

    def sample() -> None:
        while not done.wait(1):
            pids = list(map(int, filter(str.isdigit, os.listdir("/proc"))))
            alive = {pid: s for pid in pids if (s := cpu_seconds(pid, process.pid)) is not None}
            seconds.update({pid: max(0.0, s - seconds[pid]) for pid, s in alive.items()})
            usage.peak = max(usage.peak, sum(map(proportional_megabytes, alive)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    code = process.wait()
    usage.wall = time.monotonic() - started
    done.set()
    sampler.join()
    usage.cpu = float(sum(seconds.values()))
    if code:
        raise SystemExit(f"{command}: exit {code}, see {log.name}")
    return usage


def cpu_seconds(pid: int, session: int) -> float | None:
    """User and system time of a process of this session; None for any other."""
    fields = stat_of(pid)
    return seconds_of(fields) if fields and int(fields[3]) == session else None


def stat_of(pid: int) -> list[str] | None:
    """/proc/PID/stat from the state on; None where there is no such process any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def seconds_of(stat: list[str]) -> float:
    """User and system time, of what `stat_of` gives."""
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def proportional_megabytes(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1e3
