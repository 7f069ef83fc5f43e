"""Which process this is, so that a later one can tell whether it is dead.

Linux tells. Elsewhere nobody knows, and leases must run out.
"""

from functools import cache
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


@cache
def identity() -> tuple[str, str, int, str] | None:
    """Boot of the machine, namespace of process ids, process id and start time. None where this cannot be found out."""
    try:
        start = _started("self")
        return (*_place(), int((_PROC / "self").readlink().name), start) if start else None
    except OSError:
        return None


def is_dead(owner: Any) -> bool:
    """Whether the process with this identity is certainly gone. False when in doubt, such as for another machine's."""
    try:
        boot, namespace, pid, start = owner
        return (boot, namespace) == _place() and _started(str(pid)) != start
    except (TypeError, ValueError, OSError):
        return False


@cache
def _place() -> tuple[str, str]:
    boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return boot, str((_PROC / "self/ns/pid").readlink())


def _started(pid: str) -> str | None:
    """Clock ticks since boot when the process began; None when it is no more, or only waits to be collected."""
    try:
        # the name, in brackets, may hold anything; fields 3 (state) and 22 (start) of proc(5) come after it
        fields = (_PROC / pid / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]
