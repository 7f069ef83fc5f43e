"""What counting costs: entries per second into the statistics, what a look at them takes after that, and what work
loses while somebody looks twice a second.
"""

import argparse
import asyncio
import resource
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ..contracts import Tenant
from ..runtime.federation import Federation
from ..runtime.statistics import Keeper, readers
from ..runtime.store.place import Folder
from ..runtime.world import SystemClock
from .history import fill
from .machine import percentile, show
from .steps import AGENTS, measure

TENANT = Tenant("default")
DAY = 86_400.0
LOOKS = 20
PAUSE_SECONDS = 0.5


def count(data: Path) -> dict[str, Any]:
    """Everything from the first entry, then the same with nothing new."""
    with closing(_keeper(data)) as keeper:
        read = _ms(keeper.catch_up)
        view = keeper.outcomes(TENANT, DAY, "capability")
        assert view.total.tasks, "nothing was counted"
        figures = {
            "entries": view.entries,
            "entries_per_second": view.entries / read * 1000,
            "again_ms": _median(keeper.catch_up),
            "outcomes_ms": _median(lambda: keeper.outcomes(TENANT, DAY, "capability")),
            "totals_ms": _median(lambda: keeper.totals(TENANT)),
        }
    size = (data / "statistics.duckdb").stat().st_size
    return {**figures, "file_mb": size / 1e6, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _keeper(data: Path) -> Keeper:
    @contextmanager
    def sources() -> Any:
        found = readers(Folder(data), 1)
        yield found
        for each in found.values():
            each.close()

    return Keeper(data / "statistics.duckdb", sources, SystemClock())


def _ms(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _median(work: Callable[[], Any]) -> float:
    return percentile([_ms(work) for _ in range(LOOKS)], 0.5)


async def work(data: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Steps per second alone and while somebody looks, in turns in one federation."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    looks: list[float] = []
    async with Federation.local(agents=AGENTS, data=data, federation={"statistics": True}) as federation:
        await measure(federation, 100, 10, options.concurrency)
        await federation.client.stats()
        for _ in range(options.rounds):
            for looked_at in (False, True):
                async with _looking(federation, looks if looked_at else None):
                    row = await measure(federation, options.tasks, 10, options.concurrency)
                rates[looked_at].append(row["steps_per_second"])
    alone, beside = max(rates[False]), max(rates[True])
    beside_work = {"looks": len(looks), "look_ms": percentile(looks, 0.5) if looks else None}
    return {"steps_per_second": alone, "while_looked_at": beside, "ratio": beside / alone, **beside_work}


@asynccontextmanager
async def _looking(federation: Federation, looks: list[float] | None) -> AsyncIterator[None]:
    """Somebody looks meanwhile, and adds the milliseconds of each look; nobody where there is no list."""

    async def look() -> None:
        while looks is not None:
            started = time.perf_counter()
            await federation.client.stats()
            await federation.client.totals()
            looks.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(PAUSE_SECONDS)

    looking = asyncio.create_task(look())
    yield
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking


async def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        rows: list[dict[str, Any]] = []
        for events in options.events:
            await fill(folder / str(events), events)
            rows.append(await asyncio.to_thread(count, folder / str(events)))
        if options.rounds:
            beside = await work(folder / "work", options)
            rows = [{**row, **(beside if row is rows[-1] else dict.fromkeys(beside, 0.0))} for row in rows]
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=_numbers, default=[10_000, 1_000_000])
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="of the work beside; 0 leaves it out")
    parser.add_argument("--folder", default=".", help="where the stores lie; a real disk")
    show("outcomes", asyncio.run(run(parser.parse_args())))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
