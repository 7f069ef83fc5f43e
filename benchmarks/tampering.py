"""G17: is a journal that somebody changed found out? And what do an audit and a proof cost?

A journal is written by the real code, and its heads go to a file outside, every hundred entries. Then somebody with
full access to the data folder, its key included, changes it in one of seven ways, plainly or cleverly: the clever one
numbers everything anew, recomputes the chain, and throws away the roots that do not fit any more. Each time the audit
that `hanse audit verify --anchors` does must find it; and between them, as a control, it must find nothing in an
untouched copy.

    python -m hanse.benchmarks.tampering --cases 10000

What is behind the last head can be cut off or written anew unseen, and more can be added there: that is what the
federation itself does. It is at most `every_entries` entries or `every_seconds` seconds of them.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import apsw

from ..contracts import Kind, TaskId, Write
from ..contracts import Sequence as Number
from ..contracts.ids import uuid7
from ..contracts.wire import decode_event, encode_event
from ..runtime.audit import Signer, audit
from ..runtime.audit.anchoring import Witnesses
from ..runtime.audit.anchors import FileAnchor, read_anchors
from ..runtime.audit.proofs import prove
from ..runtime.audit.reasons import check
from ..runtime.journal import GENESIS, Journal
from ..runtime.store import SqliteStore
from ..runtime.world import SystemClock
from .machine import percentile, show

KEY = bytes(range(32))
NAME = "coordinator-0"
EVERY = 100
CONTROL = 50
"""Of so many cases one is left untouched."""

Row = tuple[int, str | None, bytes, bytes]
"""Sequence, task, entry, hash."""


# A journal with witnesses


async def write(data: Path, entries: int) -> None:
    """A journal as a coordinator leaves it, with its heads in `data.heads`."""
    store = SqliteStore.open(data / f"{NAME}.sqlite", "journal")
    clock = SystemClock()
    journal = Journal(store, clock, _raise)
    witnesses = Witnesses((FileAnchor(_heads(data)),), every_entries=EVERY)
    anchoring = witnesses.of(journal, NAME, "bench", KEY, clock)
    anchoring.start()
    task = TaskId("")
    for number in range(entries):
        task = _append(journal, number, task)
        if number % 20 == 0:
            await journal.durable()
    await journal.stop()
    await anchoring.stop()
    await store.close()


def _append(journal: Journal, number: int, task: TaskId) -> TaskId:
    """One more entry, of the same task or every fourth time of a new one."""
    if number % 4 == 0:
        task = TaskId(uuid7(1_700_000_000_000, number.to_bytes(8, "big")))
        journal.write(Write("insert_task", (task, "default", None, "", "completed", 1, 1)))
    about = {"number": number, "output": {"cents": number * 7, "words": "x" * (number * 31 % 200)}}
    journal.append(Kind.STEP_COMPLETED, task, None, about)
    return task


def _raise(error: BaseException) -> None:
    raise error


def _heads(data: Path) -> Path:
    return data.with_name(f"{data.name}.heads")


# What somebody does to it


def edit(rows: list[Row], chance: Random) -> list[Row]:
    at = chance.randrange(len(rows))
    number, task, entry, hash = rows[at]
    place = chance.randrange(len(entry))
    flipped = entry[:place] + bytes([entry[place] ^ 1 << chance.randrange(8)]) + entry[place + 1 :]
    return [*rows[:at], (number, task, flipped, hash), *rows[at + 1 :]]


def reword(rows: list[Row], chance: Random) -> list[Row]:
    at = chance.randrange(len(rows))
    return chained([*rows[:at], _forged(rows[at], chance), *rows[at + 1 :]])


def delete(rows: list[Row], chance: Random) -> list[Row]:
    at = chance.randrange(len(rows) - 1)
    return rows[:at] + rows[at + chance.randint(1, 5) :]


def delete_and_close_up(rows: list[Row], chance: Random) -> list[Row]:
    return chained(delete(rows, chance))


def insert(rows: list[Row], chance: Random) -> list[Row]:
    """A forged entry, good against the one before it; those behind it move up as they are."""
    at = chance.randrange(1, len(rows))
    moved = [(number + 1, task, entry, hash) for number, task, entry, hash in rows[at:]]
    number, task, entry, _ = _forged(rows[at], chance)
    return [*rows[:at], (number, task, entry, sha256(rows[at - 1][3] + entry).digest()), *moved]


def insert_and_chain(rows: list[Row], chance: Random) -> list[Row]:
    at = chance.randrange(len(rows))
    return chained([*rows[:at], _forged(rows[at], chance), *rows[at:]])


def swap(rows: list[Row], chance: Random) -> list[Row]:
    one, other = sorted(chance.sample(range(len(rows)), 2))
    changed = list(rows)
    changed[one] = (rows[one][0], *rows[other][1:])
    changed[other] = (rows[other][0], *rows[one][1:])
    return changed


def swap_and_chain(rows: list[Row], chance: Random) -> list[Row]:
    return chained(swap(rows, chance))


def truncate(rows: list[Row], chance: Random) -> list[Row]:
    return rows[: chance.randrange(len(rows))]


def truncate_a_little(rows: list[Row], chance: Random) -> list[Row]:
    return rows[: -chance.randint(1, 3)]


def roll_back(rows: list[Row], chance: Random) -> list[Row]:
    """An old copy of the file, as it was when a head was handed out."""
    return rows[: EVERY * chance.randrange(0, (len(rows) - 1) // EVERY + 1)]


def roll_back_and_go_on(rows: list[Row], chance: Random) -> list[Row]:
    """The old copy, on which another history was then written, at least as long as the one that is gone."""
    kept = roll_back(rows, chance)
    others = [_forged(row, chance) for row in rows[len(kept) :]]
    return chained([*kept, *others, *others[: chance.randint(0, 20)]])


def rewrite(rows: list[Row], chance: Random) -> list[Row]:
    return chained([_forged(row, chance) for row in rows])


def rewrite_the_beginning(rows: list[Row], chance: Random) -> list[Row]:
    return chained([_forged(rows[0], chance), *rows[1:]])


def _forged(row: Row, chance: Random) -> Row:
    """An entry of the same kind that says something else."""
    event = decode_event(row[2])
    entry = encode_event(event._replace(data={**event.data, "number": chance.randrange(1 << 40)}))
    return row[0], row[1], entry, row[3]


def chained(rows: Sequence[Row]) -> list[Row]:
    """Numbered anew and chained anew: taken by itself, a perfect journal."""
    made: list[Row] = []
    hash = GENESIS
    for number, (_, task, entry, _) in enumerate(rows, 1):
        entry = encode_event(decode_event(entry)._replace(sequence=Number(number)))
        hash = sha256(hash + entry).digest()
        made.append((number, task, entry, hash))
    return made


WAYS: dict[str, tuple[Callable[[list[Row], Random], list[Row]], ...]] = {
    "edit": (edit, reword),
    "delete": (delete, delete_and_close_up),
    "insert": (insert, insert_and_chain),
    "reorder": (swap, swap_and_chain),
    "truncate": (truncate, truncate_a_little),
    "rollback": (roll_back, roll_back_and_go_on),
    "full rewrite": (rewrite, rewrite_the_beginning),
}
"""Plainly, and cleverly."""


class Scene:
    """One journal and what was kept of it; each case works on a copy."""

    def __init__(self, folder: Path, entries: int, seed: int) -> None:
        self._data = folder / "data"
        asyncio.run(write(self._data, entries))
        kept = read_anchors([_heads(self._data)], Signer("bench", KEY).public)
        assert not kept.problems, kept.problems
        self._heads = [each.head for each in kept.heads]
        self._copy = folder / "copy"
        self._chance = Random(seed)
        self._rows = _rows(self._data / f"{NAME}.sqlite")

    def untouched(self) -> list[str]:
        """What the audit says against a copy that nobody touched."""
        self._put(None)
        return self._found()

    def tampered(self, way: Callable[[list[Row], Random], list[Row]]) -> list[str]:
        """What the audit says against one that was."""
        changed = self._rows
        while changed == self._rows:
            changed = way(self._rows, self._chance)
        self._put(changed)
        return self._found()

    def _put(self, rows: list[Row] | None) -> None:
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._data, self._copy)
        if rows is not None:
            _replace(self._copy / f"{NAME}.sqlite", rows)

    def _found(self) -> list[str]:
        return [problem for each in audit(self._copy, self._heads) for problem in each.report.problems]


def _rows(file: Path) -> list[Row]:
    connection = apsw.Connection(str(file))
    rows: Any = list(connection.execute("SELECT sequence, task, entry, hash FROM journal ORDER BY sequence"))
    connection.close()
    return rows


def _replace(file: Path, rows: list[Row]) -> None:
    """The rows, and no subtree that would tell."""
    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA synchronous = OFF; BEGIN; DELETE FROM journal; DELETE FROM subtree")
    connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()


def detect(folder: Path, cases: int, entries: int = 400, seed: int = 1) -> list[dict[str, Any]]:
    """Of each kind: cases, and how many were found."""
    scene = Scene(folder, entries, seed)
    done, found, false_alarms = Counter[str](), Counter[str](), 0
    for number in range(cases):
        kind = list(WAYS)[number % len(WAYS)]
        way = WAYS[kind][number // len(WAYS) % 2]
        done[kind] += 1
        found[kind] += bool(scene.tampered(way))
        if number % CONTROL == 0:
            done["untouched"] += 1
            false_alarms += bool(scene.untouched())
    rows = [{"kind": kind, "n": done[kind], "found": found[kind], "missed": done[kind] - found[kind]} for kind in WAYS]
    return [*rows, {"kind": "untouched", "n": done["untouched"], "found": false_alarms, "missed": 0}]


def speed(folder: Path, entries: int, proofs: int = 300) -> dict[str, Any]:
    """Entries that an audit with all heads does in a second of one core; milliseconds of a proof, from opening the file
    to signing it, as they pass and as they keep a core busy.
    """
    data = folder / "large"
    asyncio.run(write(data, entries))
    heads = [each.head for each in read_anchors([_heads(data)]).heads]
    begun = time.process_time()
    (found,) = audit(data, heads)
    seconds = time.process_time() - begun
    assert found.report.ok, found.report.problems
    signer, chance = Signer("bench", KEY), Random(1)
    made, busy, checked = list[float](), list[float](), list[float]()
    for _ in range(proofs):
        started, begun = time.perf_counter(), time.process_time()
        proof = prove(data, NAME, chance.randint(1, entries), signer, 1)
        made.append((time.perf_counter() - started) * 1000)
        busy.append((time.process_time() - begun) * 1000)
        begun = time.process_time()
        assert not check(proof, signer.public).problems
        checked.append((time.process_time() - begun) * 1000)
    return {
        "entries": entries,
        "heads": len(heads),
        "entries_per_second": round(entries / seconds),
        "proof_ms_p50": round(percentile(made, 0.5), 2),
        "proof_cpu_ms_p50": round(percentile(busy, 0.5), 2),
        "proof_cpu_ms_p99": round(percentile(busy, 0.99), 2),
        "check_cpu_ms_p50": round(percentile(checked, 0.5), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--entries", type=int, default=400, help="of the journal that is tampered with")
    parser.add_argument("--speed-entries", type=int, default=200_000, help="of the journal that is verified for speed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", default=None, help="where the files lie")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = detect(Path(folder), options.cases, options.entries, options.seed)
        costs = speed(Path(folder), options.speed_entries)
    show("tampering", rows, seed=options.seed, journal_entries=options.entries, speed=costs)
    if any(row["missed"] for row in rows) or rows[-1]["found"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
