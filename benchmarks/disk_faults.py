"""G2, G3, G4: power cuts, torn and flipped bytes, disks that refuse; under a real journal in a real SQLite.

    python -m hanse.benchmarks.disk_faults power-cuts --cuts 10000
    python -m hanse.benchmarks.disk_faults torn-bytes --flips 10000
    python -m hanse.benchmarks.disk_faults bad-disk --nth 200

Between SQLite and its files stands `runtime.simulation.power`: it keeps apart what was synced, and fails where it is
told to. Each time the journal is opened again by the real code, its chain is recomputed, and the last entry that was
acknowledged must be in it, with the very hash that it was acknowledged with: so is every one before it.

    power-cuts   the power goes at a chosen write or sync, while the store is opened, written to, or checkpointed; what
                 was not synced is lost, or is there in part, in any order, the last write torn. The same run over a
                 disk that says it has synced and has not must lose something soon, or the run could find nothing
    torn-bytes   the write-ahead log is cut off at every offset of its last three commits: the exact acknowledged prefix
                 must be there. Single bits are flipped in acknowledged entries, in the log, and anywhere: an audit with
                 the heads that were kept must find it; where it finds nothing, everything must read as it was written
    bad-disk     the n-th write or sync fails with ENOSPC or EIO, once or for ever: nothing false is acknowledged, the
                 writer takes nothing more, and the journal goes on when the disk is well again. SQLite renames nothing
"""

import argparse
import asyncio
import gc
import logging
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count, product
from pathlib import Path
from random import Random
from typing import Any

import apsw
from rich.progress import track

from ..contracts import HanseError, Kind, StorageError, TaskId, Write
from ..runtime.audit import Head, audit, verify
from ..runtime.journal import GENESIS, Journal
from ..runtime.simulation.power import Disk, Operation
from ..runtime.store import SqliteStore
from ..runtime.store.reading import StoreReader
from ..runtime.world import SystemClock
from .machine import show

NAME = "coordinator-0"
FILE = f"{NAME}.sqlite"
OFTEN = 8
"""Pages of the log after which it is checkpointed: so each run passes through some."""
FOREVER = 1 << 30
FAULTS: dict[str, type[apsw.Error]] = {"ENOSPC": apsw.FullError, "EIO": apsw.IOError}
OPERATIONS: tuple[Operation, ...] = ("write", "sync")


# Somebody who writes, and remembers what was acknowledged


class Client:
    """Appends entries of tasks, a few at a time."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self.acknowledged = Head(0, GENESIS)
        self._tasks = 0

    async def work(self, journal: Journal, bursts: int) -> None:
        """Raises StorageError when the disk refuses."""
        for _ in range(bursts):
            for _ in range(self._chance.randint(1, 4)):
                self._append(journal)
            head = Head(journal.sequence, journal.head)
            await journal.durable()
            self.acknowledged = head

    def _append(self, journal: Journal) -> None:
        self._tasks += 1
        task = TaskId(f"task {self._tasks}-{journal.store.epoch}")
        filling = "x" * self._chance.randint(0, 2000)
        about = {"tenant": "default", "key": None, "body": "", "filling": filling}
        journal.append(Kind.TASK_SUBMITTED, task, None, about)
        journal.write(Write("insert_task", (task, "default", None, "", "submitted", 1, 1)))

    def lost(self, store: SqliteStore) -> str:
        """What is wrong with a journal that was opened again; nothing, or a sentence."""
        report = verify(store)
        if not report.ok:
            return report.problems[0]
        if self.acknowledged.sequence and store.read("hash_of", (self.acknowledged.sequence,)) != [
            (self.acknowledged.hash,)
        ]:
            return f"entry {self.acknowledged.sequence} was acknowledged, and is not there"
        entries, tasks = report.entries, len(store.read("open_tasks"))
        return "" if entries == tasks else f"{entries} entries and {tasks} tasks: half a commit is there"


@contextmanager
def opened(disk: Disk) -> Iterator[tuple[SqliteStore, Journal]]:
    """A journal whose process simply ends."""
    store = SqliteStore.open(disk.path(FILE), "journal", vfs=disk.name, inline=True)
    with closing_power(disk):
        store._writer.execute(f"PRAGMA wal_autocheckpoint = {OFTEN}")
        yield store, Journal(store, SystemClock(), lambda error: None)


@contextmanager
def closing_power(disk: Disk) -> Iterator[None]:
    """apsw's errors at this border as the store's own."""
    try:
        yield
    except apsw.Error as error:
        raise StorageError(str(error), path=str(disk.folder)) from error


# Power cuts


class PowerCuts:
    """Lives of journals, each ended by a power cut somewhere."""

    def __init__(self, folder: Path, *, lies: bool = False) -> None:
        self._folder = folder
        self._lies = lies
        self.cuts = self.acknowledged = 0
        self.losses: list[str] = []

    async def live(self, seed: int, lives: int = 3) -> None:
        """Some lives of one journal."""
        chance = Random(seed)
        client = Client(chance)
        disk = self._disk(self._folder / f"{seed}")
        for _ in range(lives):
            disk.cut_at = disk.operations + chance.randint(1, 120)
            try:
                await self._work(disk, client, 12)
            except StorageError:
                self.cuts += 1
            disk = self._after(disk, chance.choice([None, seed]))
        try:
            await self._work(disk, client, 1)
        except StorageError as error:
            self.losses.append(f"seed {seed}: it cannot be opened again: {error.detail}")
        disk.cut()
        shutil.rmtree(disk.folder, ignore_errors=True)

    async def _work(self, disk: Disk, client: Client, bursts: int) -> None:
        with opened(disk) as (store, journal):
            if lost := client.lost(store):
                self.losses.append(f"{disk.folder.name}: {lost}")
            before = client.acknowledged.sequence
            try:
                await client.work(journal, bursts)
            finally:
                self.acknowledged += max(0, client.acknowledged.sequence - before)

    def _disk(self, folder: Path) -> Disk:
        disk = Disk(folder)
        disk.lies = self._lies
        return disk

    def _after(self, disk: Disk, seed: int | None) -> Disk:
        after = disk.after_power_cut(seed)
        after.lies = self._lies
        shutil.rmtree(disk.folder, ignore_errors=True)
        return after


async def power_cuts(folder: Path, cuts: int) -> list[dict[str, Any]]:
    run = PowerCuts(folder / "honest")
    for seed in count():
        await run.live(seed)
        _bury(seed)
        if run.cuts >= cuts or run.losses:
            break
    mutant = PowerCuts(folder / "lying", lies=True)
    for seed in count():
        await mutant.live(seed)
        if mutant.losses or mutant.cuts >= 1000:
            break
    return [_cut("journal", run, must_lose=False), _cut("mutant: no sync", mutant, must_lose=True)]


def _cut(what: str, run: PowerCuts, *, must_lose: bool) -> dict[str, Any]:
    is_right = bool(run.losses) and run.cuts < 100 if must_lose else not run.losses
    return {
        "what": what,
        "cuts": run.cuts,
        "acknowledged": run.acknowledged,
        "losses": len(run.losses),
        "first": run.losses[0] if run.losses else "",
        "ok": is_right,
    }


def _bury(seed: int) -> None:
    """The dead are collected now and then: their connections hold files."""
    if seed % 50 == 0:
        gc.collect()


# Torn and flipped bytes


class Written:
    """A journal on disk: its files, how long the log was after each commit, and the heads that were kept."""

    def __init__(self, folder: Path, commits: int, *, checkpointed: bool) -> None:
        self.folder = folder / ("checkpointed" if checkpointed else "logged")
        self.ends: list[int] = []
        self.heads: list[Head] = []
        asyncio.run(self._write(commits, checkpointed))
        self.files = {path.name: path.read_bytes() for path in self.folder.iterdir() if not path.name.endswith("-shm")}
        self.content = everything(self.folder / FILE)

    async def _write(self, commits: int, checkpointed: bool) -> None:
        """What is not checkpointed lies in the log, as after a crash."""
        disk = Disk(self.folder)
        store = SqliteStore.open(disk.path(FILE), "journal", vfs=disk.name, inline=True)
        journal = Journal(store, SystemClock(), lambda error: None)
        client = Client(Random(7))
        for _ in range(commits):
            await client.work(journal, 1)
            self.ends.append(disk.path(f"{FILE}-wal").stat().st_size)
            self.heads.append(Head(client.acknowledged.sequence, client.acknowledged.hash, NAME))
        if checkpointed:
            await store.close()
        else:
            disk.cut()

    def copy(self, folder: Path, name: str = "", content: bytes = b"") -> Path:
        """The files, one of them with another content. The folder that they are in."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, held in {**self.files, **({name: content} if name else {})}.items():
            (folder / file).write_bytes(held)
        return folder


def everything(file: Path) -> list[Any]:
    """What readers get: entries as they stand, entries by task, and of tasks what a start or a client is told."""
    with closing(StoreReader(file, "journal")) as store:
        rows = store.read("chain", (0, FOREVER))
        tasks = {task for _, task, _, _ in rows if task is not None}
        by_task = [store.read("entries_of_task", (task, 0, FOREVER)) for task in sorted(tasks)]
        told = [row[:5] for task in sorted(tasks) for row in store.read("task", (task,))]
        return [rows, by_task, told, store.read("open_tasks")]


def torn(folder: Path, stride: int) -> dict[str, Any]:
    """The log cut off at every `stride`-th offset of its last three commits."""
    written = Written(folder, 6, checkpointed=False)
    log = written.files[f"{FILE}-wal"]
    outcomes = Counter[str]()
    for size in track(range(written.ends[-4], written.ends[-1] + 1, stride), "torn", transient=True):
        copied = written.copy(folder / "copy", f"{FILE}-wal", log[:size])
        outcomes[_torn(copied, written, sum(end <= size for end in written.ends))] += 1
    return {"what": "log cut off", "n": outcomes.total(), **_counted(outcomes)}


def _torn(folder: Path, written: Written, whole: int) -> str:
    """Exactly the commits that are whole must be there."""
    expected = written.heads[whole - 1]
    try:
        (found,) = audit(folder, [expected])
    except HanseError:
        return "detected"
    is_exact = found.report.ok and found.report.entries == expected.sequence
    return "unchanged" if is_exact else "silent"


def flipped(folder: Path, what: str, flips: int, seed: int) -> dict[str, Any]:
    """One bit at a time; `what` says where."""
    written = Written(folder, 40, checkpointed=what != "in the log")
    name = f"{FILE}-wal" if what == "in the log" else FILE
    held, chance = written.files[name], Random(seed)
    places = _places(written, held) if what == "in an entry" else [range(len(held))]
    outcomes = Counter[str]()
    for _ in track(range(flips), what, transient=True):
        at = chance.choice(chance.choices(places, weights=[len(each) for each in places])[0])
        changed = held[:at] + bytes([held[at] ^ 1 << chance.randrange(8)]) + held[at + 1 :]
        outcomes[_flipped(written.copy(folder / "copy", name, changed), written)] += 1
    return {"what": f"bit flipped {what}", "n": outcomes.total(), **_counted(outcomes)}


def _places(written: Written, held: bytes) -> list[range]:
    """Where the entries and their hashes lie in the file. Left out are those that SQLite has cut in pieces, and those
    of which it has left an old copy in free room, which nobody reads.
    """
    there = [entry + hash for _, _, entry, hash in written.content[0] if held.count(entry + hash) == 1]
    return [range(held.index(each), held.index(each) + len(each)) for each in there]


def _flipped(folder: Path, written: Written) -> str:
    try:
        (found,) = audit(folder, [written.heads[-1]])
        if not found.report.ok:
            return "detected"
        return "unchanged" if everything(folder / FILE) == written.content else "silent"
    except HanseError:
        return "detected"


def _counted(outcomes: Counter[str]) -> dict[str, Any]:
    names = ("detected", "unchanged", "silent")
    return {name: outcomes[name] for name in names} | {"ok": outcomes["silent"] == 0}


def torn_bytes(folder: Path, flips: int, stride: int, seed: int = 1) -> list[dict[str, Any]]:
    rows = [torn(folder, stride)]
    for what in ("in an entry", "in the log", "anywhere"):
        row = flipped(folder, what, flips, seed)
        if what == "in an entry":
            row["ok"] = row["detected"] == row["n"]
        rows.append(row)
    return rows


# Bad disks


async def bad_disk(folder: Path, nth: int) -> list[dict[str, Any]]:
    ways = product(OPERATIONS, FAULTS, (1, FOREVER))
    return [await _refusing(folder, operation, name, times, nth) for operation, name, times in ways]


async def _refusing(folder: Path, operation: Operation, name: str, times: int, nth: int) -> dict[str, Any]:
    outcomes = Counter[str]()
    for n in range(1, nth + 1):
        outcomes.update(await _refused(folder / "disk", operation, FAULTS[name], times, n))
        shutil.rmtree(folder / "disk", ignore_errors=True)
        _bury(n)
    often = "once" if times == 1 else "for ever"
    figures = {what: outcomes[what] for what in ("fired", "false acknowledgements", "not fenced", "not back")}
    is_right = outcomes["fired"] == nth and outcomes.total() == nth
    return {"what": f"{name} at the n-th {operation}, {often}", "n": nth, **figures, "ok": is_right}


async def _refused(folder: Path, operation: Operation, error: type[apsw.Error], times: int, n: int) -> list[str]:
    """What came of it, in the words of the table."""
    disk, client = Disk(folder), Client(Random(n))
    found = list[str]()
    with opened(disk) as (store, journal):
        await client.work(journal, 2)
        disk.fail(operation, n, error, times=times)
        found += await _worked(lambda: client.work(journal, 400), "fired", "not fired")
        disk.heal()
        found += await _worked(lambda: client.work(journal, 1), "", "not fenced")
        await journal.stop()
        await store.close()
    found += await _back(disk, client)
    return [each for each in found if each]


async def _worked(work: Callable[[], Any], refused: str, done: str) -> list[str]:
    try:
        await work()
    except StorageError:
        return [refused]
    return [done]


async def _back(disk: Disk, client: Client) -> list[str]:
    """Opened again when the disk is well; and once more after a power cut."""
    try:
        found = await _opened_again(disk, client)
        after = disk.after_power_cut(1)
        found += await _opened_again(after, client)
        shutil.rmtree(after.folder, ignore_errors=True)
        return found
    except StorageError:
        return ["not back"]


async def _opened_again(disk: Disk, client: Client) -> list[str]:
    with opened(disk) as (store, journal):
        lost = client.lost(store)
        await client.work(journal, 3)
        await journal.stop()
        await store.close()
    return ["false acknowledgements"] if lost else []


# The command


def _quietly(unraisable: Any) -> None:
    """What a dead process held is collected here, and its connections say that the power is off."""
    if not isinstance(unraisable.exc_value, apsw.Error):
        sys.__unraisablehook__(unraisable)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default=None, help="where the files lie; memory will do, for nothing is synced")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("power-cuts").add_argument("--cuts", type=int, default=10_000)
    bytes_ = kinds.add_parser("torn-bytes")
    bytes_.add_argument("--flips", type=int, default=10_000, help="of each kind")
    bytes_.add_argument("--stride", type=int, default=1, help="cut the log off at every so many-th offset")
    bytes_.add_argument("--seed", type=int, default=1)
    kinds.add_parser("bad-disk").add_argument("--nth", type=int, default=200)
    options = parser.parse_args()
    sys.unraisablehook = _quietly
    logging.disable(logging.CRITICAL)  # each fault is an alarm
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = _run(options, Path(folder))
    show(options.kind, rows)
    if not all(row["ok"] for row in rows):
        sys.exit(1)


def _run(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    if options.kind == "power-cuts":
        return asyncio.run(power_cuts(folder, options.cuts))
    if options.kind == "torn-bytes":
        return torn_bytes(folder, options.flips, options.stride, options.seed)
    return asyncio.run(bad_disk(folder, options.nth))


if __name__ == "__main__":
    main()
