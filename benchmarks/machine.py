"""Facts about the machine that a figure was measured on, and the way every benchmark prints its figures."""

import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def facts() -> dict[str, Any]:
    """Cores, memory, versions, and what an fsync (milliseconds) and a Python call (nanoseconds) cost here."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "ray": version("ray"),
        "python_call_ns": round(python_call_ns()),
        "fsync_ms": round(fsync_ms(), 3),
        "load": round(os.getloadavg()[0], 2),
    }


def fsync_ms(samples: int = 50) -> float:
    """Median time of a 4 KiB append with fsync, in milliseconds."""
    times: list[float] = []
    with tempfile.NamedTemporaryFile(dir=".") as file:
        for _ in range(samples):
            file.write(bytes(4096))
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return sorted(times)[samples // 2] * 1000


def python_call_ns(calls: int = 100_000, rounds: int = 5) -> float:
    """Processor time of one call of a small function, in nanoseconds: the least of some rounds.

    Machines of one name differ by two to three in it, with the build of their interpreter and with who else is on
    them, and so does every figure that is bound by Python.
    """
    times: list[float] = []
    for _ in range(rounds):
        started, about = time.process_time(), {"a": 1}
        for number in range(calls):
            _called(number, about)
        times.append(time.process_time() - started)
    return min(times) / calls * 1e9


def _called(number: int, about: dict[str, int]) -> int:
    return number + about["a"]


def processor_seconds(root: int) -> Iterator[tuple[int, str, float]]:
    """Process id, title and processor time, in user and kernel, of a process and all that come from it. Linux only."""
    processes = {pid: found for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if (found := _process(pid))}
    family, grown = {root}, True
    while grown:
        children = {pid for pid, (parent, _, _) in processes.items() if parent in family}
        grown = not children <= family
        family |= children
    for pid in sorted(family & processes.keys()):
        _, title, seconds = processes[pid]
        yield pid, title, seconds


def _process(pid: int) -> tuple[int, str, float] | None:
    """Its parent, title and processor time; None when it is no more. Fields 4, 14 and 15 of proc(5)'s stat."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), title, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie (nearest rank)."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def show(name: str, rows: Sequence[Mapping[str, Any]], **figures: Any) -> None:
    """A table for people and, last, one JSON line."""
    machine = facts()
    console = Console()
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    table = Table(title=name)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)
    print(json.dumps({"benchmark": name, "rows": list(rows), "machine": machine, **figures}))


def _cell(value: Any) -> str:
    return (
        f"{value:,.3f}"
        if isinstance(value, float) and value < 100
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
