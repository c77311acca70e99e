"""The machine as the figures name it, its cores, and what a process has used of it. Linux only: it reads /proc."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median

from benchmarks.figures import MeasurementFault
from handrail.store.binary import find_server

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SYNCS = 50
SPARE_FILES = 1_000  # that a process has open besides its connections


def cores() -> tuple[int, int] | None:
    """(the server's core, everybody else's), or None where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else None


@contextmanager
def staying_on(core: int | None) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_open_files(wanted: int) -> int:
    """Let this process and its children open as many files as they may, at most `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def need_open_files(connections: int) -> None:
    """Let this process, and so its children, have that many connections. Raises MeasurementFault if it may not."""
    wanted = connections + SPARE_FILES
    if raise_open_files(wanted) < wanted:
        raise MeasurementFault(f"{connections:,} connections need more open files: ulimit -n {wanted}")


def most_connections(wanted: int) -> int:
    """How many of so many connections this process, and its children, may have at most."""
    return min(wanted, raise_open_files(wanted + SPARE_FILES) - SPARE_FILES)


def own_seconds() -> float:
    """Processor time this process has used."""
    spent = os.times()
    return spent.user + spent.system


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for one in found:
        for listed in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, listed.read_text().split())
    return found


def family_seconds(pid: int) -> float:
    """Processor time that a process and its children, as they are now, have used."""
    return sum(map(cpu_seconds, family(pid)))


def family_bytes(pid: int) -> int:
    """Resident memory of a process and its children; what they share is counted for each."""
    return sum(map(resident_bytes, family(pid)))


def cpu_seconds(pid: int) -> float:
    """Processor time the process has used, all threads, user and system; in steps of one clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def free_bytes() -> int:
    """Memory that processes may still take."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def write_to_disk_us(folder: Path) -> float:
    """Median microseconds of a 1 KiB write and its fdatasync in the folder: what a durable commit cannot undercut."""
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            start = time.perf_counter()
            file.write(bytes(1024))
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - start) * 1e6)
    return median(taken)


def file_system(folder: Path) -> str:
    """The type of the file system the folder lies on."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(where, kind) for where, kind in mounts if folder.resolve().is_relative_to(where)]
    return max(holding, key=lambda mount: len(mount[0]), default=("", "unknown"))[1]


def describe() -> str:
    """One line: processor, cores, system."""
    named = (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines())
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((name for name, line in zip(named, lines, strict=True) if line.startswith("model name")), "processor")
    return f"{model}, {len(os.sched_getaffinity(0))} cores · {platform.system()} {platform.release()}"


def versions() -> str:
    names = ("handrail", "uvicorn", "uvloop", "websockets", "hiredis", "msgspec", "cel-expr-python")
    told = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    store = next((word.partition("=")[2] for word in told.split() if word.startswith("v=")), "?")
    packages = " · ".join(f"{name} {version(name)}" for name in names)
    return f"{packages} · store {store} · Python {sys.version.split()[0]}"
