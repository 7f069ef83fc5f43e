"""The meaning of "a store" (`contracts.ports.Store`). Every adapter passes this suite.

A subclass says in `open` how its store is opened, in the same place each time. It speaks the agent's statements,
because they hold what matters here: an upsert, and an insert that may happen once.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from hanse.contracts import Fenced, StorageError, Store, Write

Open = Callable[[], Any]


def state(key: str, value: bytes | None, version: int = 1) -> Write:
    return Write("write_state", ("c", key, value, version))


def receipt(key: str) -> Write:
    return Write("insert_receipt", (key, "a.b", "digest", b"output", "award", 1))


def value(store: Store, key: str) -> bytes | None:
    rows = store.read("state", ("c", key))
    return rows[0][0] if rows else None


class StoreSuite:
    """What holds for every store."""

    @pytest.fixture
    def open(self) -> Open:
        """Opens the store; called again, it opens the same one again, if there is one to come back to."""
        raise NotImplementedError

    async def test_what_was_committed_is_read(self, open: Open):
        store = open()
        await store.commit([state("k", b"v")])
        assert store.read("state", ("c", "k")) == [(b"v", 1)]
        await store.close()

    async def test_a_commit_is_whole_or_not_at_all(self, open: Open):
        store = open()
        await store.commit([receipt("once")])
        with pytest.raises(StorageError):
            await store.commit([state("k", b"v"), receipt("once")])
        assert value(store, "k") is None
        await store.close()

    async def test_commits_take_effect_in_the_order_of_the_calls(self, open: Open):
        store = open()
        order: list[int] = []
        futures = [store.commit([state("k", b"%d" % i, i)]) for i in range(500)]
        for i, future in enumerate(futures):
            future.add_done_callback(lambda _, i=i: order.append(i))
        await asyncio.gather(*futures)
        assert order == list(range(500))
        assert store.read("state", ("c", "k")) == [(b"499", 499)]
        await store.close()

    async def test_what_resolves_first_was_committed_with_all_before_it(self, open: Open):
        store = open()
        futures = [store.commit([state(f"k{i}", b"v")]) for i in range(200)]
        for i, future in enumerate(futures):
            await future
            assert value(store, f"k{i}") == b"v"
        await store.close()

    async def test_the_rows_of_one_statement_run_in_the_order_given(self, open: Open):
        store = open()
        await store.commit([state("k", b"first", 1), state("other", b""), state("k", b"last", 2)])
        assert store.read("state", ("c", "k")) == [(b"last", 2)]
        await store.close()

    async def test_a_commit_of_nothing_comes_after_those_before_it(self, open: Open):
        store = open()
        before = store.commit([state("k", b"v")])
        await store.commit([])
        assert before.done()
        await store.close()

    async def test_an_unknown_statement_is_refused_and_nothing_is_written(self, open: Open):
        store = open()
        with pytest.raises(StorageError, match="no_such_statement"):
            await store.commit([state("k", b"v"), Write("no_such_statement", ())])
        assert value(store, "k") is None
        await store.close()

    @pytest.mark.parametrize(
        "bad",
        [
            Write("write_state", ("c", "k2", {"not": "bytes"}, 1)),
            Write("write_state", ("too", "few")),
            Write("write_state", ("c", "k2", b"v", 1 << 70)),
            Write("write_state", ("c", "half a pair \ud800", b"v", 1)),
            "no write at all",
        ],
        ids=["type", "width", "number", "text", "shape"],
    )
    async def test_a_row_that_cannot_be_written_is_an_error_and_not_a_silence(self, open: Open, bad: Any):
        store = open()
        with pytest.raises(StorageError):
            await asyncio.wait_for(store.commit([state("k", b"v"), bad]), 10)
        assert value(store, "k") is None
        await store.close()

    async def test_after_a_failure_nothing_more_is_accepted(self, open: Open):
        store = open()
        await store.commit([state("before", b"v")])
        doomed = [store.commit([Write("no_such_statement", ())]), store.commit([state("after", b"v")])]
        for future in doomed:
            with pytest.raises(StorageError):
                await future
        with pytest.raises(StorageError):
            await store.commit([state("later", b"v")])
        assert (value(store, "before"), value(store, "after"), value(store, "later")) == (b"v", None, None)
        await store.close()

    async def test_an_unknown_query_is_refused(self, open: Open):
        store = open()
        with pytest.raises(StorageError, match="no_such_query"):
            store.read("no_such_query")
        await store.close()

    async def test_closing_waits_for_what_was_submitted(self, open: Open):
        store = open()
        futures = []
        for i in range(50):
            futures.append(store.commit([state(f"k{i}", b"v")]))
            if i in (20, 21):
                await asyncio.sleep(0)  # some are under way, the others wait behind them
        await store.close()
        assert all(future.done() and future.exception() is None for future in futures)

    async def test_closing_twice_is_closing_once(self, open: Open):
        store = open()
        committing = store.commit([state("k", b"v")])
        await asyncio.gather(store.close(), store.close())
        await store.close()
        assert committing.done()
        assert committing.exception() is None

    async def test_each_close_waits_for_the_end(self, open: Open):
        store = open()
        first = asyncio.ensure_future(store.close())
        committing = [store.commit([state("k", b"v")])]
        await store.close()
        assert (await asyncio.gather(first, return_exceptions=True)) == [None]
        with pytest.raises(StorageError):
            store.read("receipt_count")
        await asyncio.gather(*committing, return_exceptions=True)

    async def test_a_closed_store_refuses(self, open: Open):
        store = open()
        await store.close()
        with pytest.raises(StorageError, match="closed"):
            await store.commit([state("k", b"v")])

    async def test_the_epoch_is_a_number_from_one(self, open: Open):
        store = open()
        assert store.epoch >= 1
        await store.close()


class DurableStoreSuite(StoreSuite):
    """What holds for every store that outlives its process."""

    @pytest.fixture
    def look(self) -> Open:
        """Opens the same store to read."""
        raise NotImplementedError

    async def test_what_was_committed_is_there_when_it_is_opened_again(self, open: Open):
        store = open()
        await store.commit([state("k", b"v"), receipt("r")])
        await store.close()
        again = open()
        assert value(again, "k") == b"v"
        assert again.read("receipt", ("r",)) == [("a.b", "digest", b"output", "award")]
        await again.close()

    async def test_each_opening_begins_a_reign(self, open: Open):
        epochs = []
        for _ in range(3):
            store = open()
            epochs.append(store.epoch)
            await store.close()
        assert epochs == [epochs[0], epochs[0] + 1, epochs[0] + 2]

    async def test_a_second_opener_fences_the_first(self, open: Open):
        old = open()
        await old.commit([state("k", b"old")])
        new = open()
        with pytest.raises(Fenced):
            await old.commit([state("k", b"usurped")])
        with pytest.raises(Fenced):
            await old.commit([])
        await new.commit([state("k2", b"new")])
        assert (value(new, "k"), value(new, "k2")) == (b"old", b"new")
        await old.close()
        await new.close()

    async def test_what_is_on_its_way_when_the_reign_ends_is_whole_or_refused(self, open: Open):
        old = open()
        futures = [old.commit([state(f"k{i}", b"v"), receipt(f"k{i}")]) for i in range(100)]
        new = open()
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        accepted = [i for i, outcome in enumerate(outcomes) if outcome is None]
        assert accepted == list(range(len(accepted)))
        assert all(isinstance(outcome, Fenced) for outcome in outcomes[len(accepted) :])
        assert new.read("receipt_count") == [(len(accepted),)]
        await old.close()
        await new.close()

    async def test_a_failed_store_can_be_opened_again(self, open: Open):
        store = open()
        await store.commit([state("k", b"v")])
        with pytest.raises(StorageError):
            await store.commit([Write("no_such_statement", ())])
        await store.close()
        again = open()
        await again.commit([state("k2", b"v")])
        assert (value(again, "k"), value(again, "k2")) == (b"v", b"v")
        await again.close()

    # Somebody who only looks at it, from another connection and mostly another process

    async def test_whoever_looks_at_it_sees_each_commit_when_it_is_acknowledged(self, open: Open, look: Open):
        store = open()
        with closing(look()) as reader:
            for i in range(100):
                await store.commit([state("k", b"%d" % i, i)])
                assert reader.read("state", ("c", "k")) == [(b"%d" % i, i)]
        await store.close()

    async def test_whoever_looks_at_it_sees_a_commit_whole_or_not_at_all(self, open: Open, look: Open):
        store = open()
        with closing(look()) as reader:
            futures = [store.commit([receipt(f"k{i}a"), receipt(f"k{i}b")]) for i in range(100)]
            counts = list[int]()
            while not futures[-1].done():
                counts.append(reader.read("receipt_count")[0][0])
                await asyncio.sleep(0)
        assert all(count % 2 == 0 for count in counts)
        assert counts == sorted(counts)
        await store.close()

    async def test_whoever_looks_at_it_holds_nobody_up(self, open: Open, look: Open):
        store = open()
        with closing(look()) as one, closing(look()) as other:
            for i in range(5):
                await store.commit([state("k", b"%d" % i, i)])
                assert one.read("state", ("c", "k")) == other.read("state", ("c", "k")) == [(b"%d" % i, i)]
                await store.scrub()
                await store.compact()
            assert one.read("state", ("c", "k")) == [(b"4", 4)]
        await store.close()

    async def test_whoever_looks_at_it_goes_on_with_the_next_writer(self, open: Open, look: Open):
        store = open()
        with closing(look()) as reader:
            await store.commit([state("k", b"old")])
            await store.close()
            assert reader.read("state", ("c", "k")) == [(b"old", 1)]
            again = open()
            await again.commit([state("k", b"new", 2)])
            assert reader.read("state", ("c", "k")) == [(b"new", 2)]
            assert again.epoch == store.epoch + 1, "looking begins no reign"
            await again.close()
