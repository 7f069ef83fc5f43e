"""Handing heads out: every 100 entries or after a while, only what is on disk, and never in anybody's way."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from hanse.contracts import Kind, Unavailable
from hanse.runtime.audit import Audit, SignedHead, Signer
from hanse.runtime.audit import anchoring as anchorings
from hanse.runtime.audit.anchoring import Anchoring, Witnesses
from hanse.runtime.audit.merkle import TILE
from hanse.runtime.audit.tree import StoredNodes, kept_size
from hanse.runtime.journal import Journal
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import SystemClock

SIGNER = Signer("here", bytes(32))


@dataclass
class Witness:
    """An anchor in memory, which can be away and can be slow."""

    name: str = "witness"
    heads: list[SignedHead] = field(default_factory=list)
    is_away: bool = False
    held_up: asyncio.Event | None = None
    held: SignedHead | None = None
    attempts: int = 0
    is_closed: bool = False

    async def keep(self, head: SignedHead) -> None:
        self.attempts += 1
        if self.held_up:
            await self.held_up.wait()
        if self.is_away:
            raise Unavailable("it is away")
        self.heads.append(head)

    async def last(self, journal: str) -> SignedHead | None:
        return self.held

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class Shard:
    """A journal whose heads are handed out, as a coordinator puts it together."""

    store: SqliteStore
    journal: Journal
    anchoring: Anchoring
    stopped: bool = False

    async def write(self, entries: int, at_once: int = 10) -> None:
        for number in range(entries):
            self.journal.append(Kind.COORDINATOR_STARTED, None, None, {"number": number})
            if number % at_once == 0:
                await self.journal.durable()
        await self.journal.durable()

    async def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        await self.journal.stop()
        await self.anchoring.stop()
        await self.store.close()


def _fail(error: BaseException) -> None:
    raise error


Open = Callable[..., Shard]


@pytest.fixture
async def open(tmp_path: Path) -> AsyncIterator[Open]:
    opened: list[Shard] = []

    def make(*witnesses: Witness, every_seconds: float = 3600, path: Path = tmp_path / "journal.sqlite") -> Shard:
        store = SqliteStore.open(path, "journal")
        journal = Journal(store, SystemClock(), _fail)
        witnessed = Witnesses(witnesses, every_seconds=every_seconds)
        anchoring = witnessed.of(journal, "coordinator-0", "here", bytes(32), SystemClock())
        anchoring.start()
        opened.append(Shard(store, journal, anchoring))
        return opened[-1]

    yield make
    for shard in opened:
        await shard.stop()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.001)


async def turns() -> None:
    """Enough of the loop for a head to reach a witness in memory."""
    for _ in range(50):
        await asyncio.sleep(0)


def check(shard: Shard, heads: list[SignedHead]) -> None:
    """Every head is signed, and the journal as it is on disk holds it, chain and tree."""
    assert all(head.is_signed_by(SIGNER.public) for head in heads)
    audit = Audit(shard.store, [head.head for head in heads], has_subtrees=True)
    while audit.read_on():
        pass
    assert audit.report().problems == []


async def test_a_hundred_entries_are_in_a_head_soon(open: Open):
    witness = Witness()
    shard = open(witness)
    await shard.write(1000)
    await until(lambda: shard.anchoring.view().unanchored < 100)
    assert witness.heads[0].sequence < 900, "not all at the end"
    check(shard, witness.heads)


async def test_a_few_entries_are_in_a_head_when_the_time_is_up(open: Open):
    witness = Witness()
    shard = open(witness, every_seconds=0.01)
    await shard.write(3)
    await until(lambda: witness.heads and witness.heads[-1].sequence == 3)
    handed = len(witness.heads)
    shard.anchoring._time_is_up()
    await turns()
    assert len(witness.heads) == handed, "nothing new is nothing to hand out"
    await shard.write(1)
    await until(lambda: witness.heads[-1].sequence == 4)
    check(shard, witness.heads)


async def test_under_load_each_hundred_entries_have_a_head_of_their_own(open: Open):
    witness = Witness()
    shard = open(witness)
    await shard.anchoring._starting  # pyright: ignore[reportGeneralTypeIssues]
    for _ in range(20):
        await shard.write(100, at_once=100)
        await turns()
    gaps = [b.sequence - a.sequence for a, b in pairwise(witness.heads)]
    assert len(gaps) == 19
    assert set(gaps) == {100}
    check(shard, witness.heads)


async def test_a_slow_anchor_holds_nobody_up_and_gets_the_newest_head(open: Open):
    slow, quick = Witness("slow", held_up=asyncio.Event()), Witness("quick")
    shard = open(slow, quick)
    await shard.write(1000)
    await until(lambda: quick.heads and quick.heads[-1].sequence > 900)
    assert (slow.heads, slow.attempts) == ([], 1)
    assert slow.held_up
    slow.held_up.set()
    await until(lambda: slow.heads and slow.heads[-1].sequence > 900)
    assert slow.attempts == 2, "what came meanwhile went out at once"
    check(shard, [*slow.heads, *quick.heads])


async def test_an_anchor_that_is_away_is_an_alarm_and_is_tried_again(
    open: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(anchorings, "FIRST_PAUSE_SECONDS", 0.001)
    witness = Witness(is_away=True)
    shard = open(witness)
    with caplog.at_level(logging.ERROR):
        await shard.write(150)
        await until(lambda: witness.attempts > 2)
    (view,) = shard.anchoring.view().anchors
    assert (view.error, view.sequence, view.at) == ("it is away", 0, None)
    assert shard.anchoring.view().unanchored == 150
    assert any(record.__dict__["action"] == "anchor.failed" for record in caplog.records)
    witness.is_away = False
    await until(lambda: shard.anchoring.view().unanchored == 0)
    (view,) = shard.anchoring.view().anchors
    assert (view.error, view.sequence) == ("", 150)
    check(shard, witness.heads)


async def test_an_anchor_that_breaks_in_an_unforeseen_way_is_tried_again(open: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(anchorings, "FIRST_PAUSE_SECONDS", 0.001)
    witness = Witness()
    kept, witness.keep = witness.keep, _broken  # pyright: ignore[reportAttributeAccessIssue]
    shard = open(witness)
    await shard.write(120)
    await until(lambda: shard.anchoring.view().anchors[0].error == "ZeroDivisionError: division by zero")
    witness.keep = kept
    await until(lambda: shard.anchoring.view().unanchored == 0)


async def _broken(head: SignedHead) -> None:
    raise ZeroDivisionError("division by zero")


async def test_an_orderly_stop_hands_out_the_last_head(open: Open):
    witness = Witness()
    shard = open(witness)
    await shard.write(7)
    await shard.stop()
    assert witness.heads[-1].sequence == 7
    assert witness.is_closed


async def test_a_stop_does_not_wait_for_an_anchor_that_is_away(open: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(anchorings, "STOP_SECONDS", 0.01)
    witness = Witness(held_up=asyncio.Event())  # for ever
    shard = open(witness)
    await shard.write(7)
    await shard.stop()
    assert witness.heads == []
    assert witness.is_closed


async def test_the_tree_goes_on_after_a_restart_and_its_roots_are_kept(open: Open):
    first, second = Witness(), Witness()
    shard = open(first)
    await shard.write(3 * TILE + 5, at_once=50)
    await until(lambda: first.heads and first.heads[-1].sequence >= 2 * TILE)
    await shard.journal.durable()
    await shard.stop()
    shard = open(second)
    assert kept_size(shard.store) >= 2 * TILE, "but for what was only known when the journal had stopped"
    await shard.write(TILE, at_once=50)
    await until(lambda: shard.anchoring.view().unanchored < 100)
    await shard.journal.durable()
    assert kept_size(shard.store) >= 3 * TILE
    check(shard, [*first.heads, *second.heads])


async def test_a_journal_from_before_there_were_trees_gets_one(open: Open, tmp_path: Path):
    path = tmp_path / "old.sqlite"
    store = SqliteStore.open(path, "journal")
    journal = Journal(store, SystemClock(), _fail)
    for number in range(2 * TILE + 9):
        journal.append(Kind.COORDINATOR_STARTED, None, None, {"number": number})
    await journal.stop()
    await store.close()
    witness = Witness()
    shard = open(witness, path=path)
    await shard.write(200)
    await until(lambda: shard.anchoring.view().unanchored < 100)
    await shard.journal.durable()
    assert kept_size(shard.store) == 2 * TILE
    check(shard, witness.heads)


async def test_a_burst_while_the_tree_is_caught_up_is_not_lost(open: Open, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(anchorings, "_MAX_FRESH", 8)
    witness = Witness()
    shard = open(witness)
    await shard.write(300, at_once=60)
    await until(lambda: shard.anchoring.view().unanchored < 100)
    check(shard, witness.heads)


async def test_a_journal_that_was_rolled_back_is_an_alarm_at_the_start(open: Open, caplog: pytest.LogCaptureFixture):
    witness = Witness(held=SIGNER.sign("coordinator-0", 50, b"h" * 32, b"r" * 32, 1))
    shard = open(witness)
    await until(lambda: shard.anchoring.view().alarm)
    assert "holds a head of entry 50, and coordinator-0 ends at entry 0" in shard.anchoring.view().alarm
    assert any(record.__dict__["action"] == "anchor.alarm" for record in caplog.records)


async def test_a_journal_that_was_written_anew_is_an_alarm_at_the_start(open: Open):
    shard = open(Witness())
    await shard.write(60)
    await shard.stop()
    held = SIGNER.sign("coordinator-0", 50, b"h" * 32, b"r" * 32, 1)
    shard = open(Witness(held=held))
    await until(lambda: "has another entry 50" in shard.anchoring.view().alarm)


async def test_a_journal_that_goes_on_is_no_alarm(open: Open):
    witness = Witness()
    shard = open(witness)
    await shard.write(60)
    await shard.stop()
    again = Witness(held=witness.heads[-1])
    shard = open(again)
    await until(lambda: again.heads)
    assert shard.anchoring.view().alarm == ""


async def test_kept_roots_that_are_missing_are_computed(open: Open):
    witness = Witness()
    shard = open(witness)
    await shard.write(3 * TILE, at_once=50)
    await shard.journal.durable()
    shard.store._writer.execute("DELETE FROM subtree WHERE number = 1")
    nodes, bare = StoredNodes(shard.store), StoredNodes(shard.store, has_subtrees=False)
    assert [nodes.node(8, number) for number in range(3)] == [bare.node(8, number) for number in range(3)]
