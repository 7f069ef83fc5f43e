"""`hanse audit compact`: over the stores of a data folder on which no federation works."""

from pathlib import Path

from ...contracts import InvalidInput, JsonObject, NotFound
from ...contracts.events import milliseconds
from ..audit.archive import ARCHIVE
from ..audit.compaction import Compacted, check_horizon, compact, forget_receipts, plan
from ..audit.folder import shards
from ..data_lock import DataLock
from ..store.place import Place, place_of
from ..world import SystemClock
from .text import plain

DAY_MS = 86_400_000
_SHOWN = 20


def horizon(before: str | None, keep_days: float | None) -> int:
    """Unix milliseconds. Raises InvalidInput unless exactly one of the two is given, and long enough ago."""
    if (before is None) == (keep_days is None):
        raise InvalidInput("say what goes: --before DATE, or --keep-days N")
    now = SystemClock().now_ms()
    found = _moment(before) if before is not None else now - round((keep_days or 0) * DAY_MS)
    check_horizon(found, now)
    return found


def _moment(text: str) -> int:
    try:
        return milliseconds(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise InvalidInput(f"{text!r:.80} is no date. Write 2026-11-21, or 2026-11-21T12:00:00Z") from error


def planned(data: Path, before_ms: int) -> list[Compacted]:
    """What would go of each shard."""
    place = place_of(data)
    return [plan(place, name, before_ms) for name in _shards(data, place)]


async def done(data: Path, before_ms: int, *, discard: bool, by: str) -> list[Compacted]:
    """What went of each shard. Raises Conflict while a federation works on the data."""
    lock, place = DataLock(data), place_of(data)
    try:
        agents = [name for name in place.names() if name.rpartition("/")[0] == "agents"]
        doomed = [each.task for found in planned(data, before_ms) for each in found.tasks]
        await forget_receipts(place, agents, doomed)
        folder = None if discard else data / ARCHIVE
        return [
            await compact(place, name, before_ms, SystemClock(), archive=folder, by=by) for name in _shards(data, place)
        ]
    finally:
        lock.release()


def _shards(data: Path, place: Place) -> list[str]:
    if not (found := shards(place)):
        raise NotFound(f"there is no coordinator's journal in {data}. Say where one is: --data", data=str(data))
    return found


def reported(found: list[Compacted], *, dry_run: bool) -> JsonObject:
    return {"dry_run": dry_run, "journals": [each.to_data() for each in found]}


def drawn(found: list[Compacted], *, dry_run: bool) -> str:
    """What went, or would go, task by task as far as a person reads."""
    return "\n".join(line for each in found for line in _lines(each, "would go" if dry_run else "went"))


def _lines(found: Compacted, verb: str) -> list[str]:
    tasks = [f"  {each.task}  {each.status}  {each.entries} entries  {plain(each.key or '')}" for each in found.tasks]
    more = [f"  … and {len(tasks) - _SHOWN} more"] if len(tasks) > _SHOWN else []
    kept = f", kept in {', '.join(found.archives)}" if found.archives else ""
    head = f"{found.journal}: {found.entries} entries ({found.bytes} bytes) of {len(tasks)} tasks {verb}{kept}"
    return [head, *tasks[:_SHOWN], *more]
