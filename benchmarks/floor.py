"""The floor under `steps`: the least that durable steps cost on this machine, with everything left out that makes a
federation.

A loop in this process journals a step's award, signs it, hands it to one of three actors on Ray in the next message
that goes there, and journals what came back before the next step of that chain begins. Group commit with fsync, a hash
chain, an HMAC checked by the actor, an actor that knows the keys it has seen: and no contracts, plans, bids, policy,
schemas, recovery, receipts on disk, tenants or clients. What `steps` reaches is to be read as a part of this.
"""

import argparse
import asyncio
import hashlib
import hmac
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import msgpack
import ray

from ..contracts import Write
from ..runtime.store import SqliteStore
from .machine import show

PAYLOAD = "x" * 300
KEY = b"k" * 32
ACTORS = 3
IN_FLIGHT = 2
"""Messages to one actor at once: while it works on one, the next is on its way."""


def _signed(key: str) -> bytes:
    return hmac.digest(KEY, key.encode(), "sha256")


@ray.remote(num_cpus=0)
class _Depot:
    """Checks, recognises, answers."""

    def __init__(self) -> None:
        self._seen: dict[str, Any] = {}

    def run(self, frame: bytes) -> bytes:
        return msgpack.packb([self._once(*call) for call in msgpack.unpackb(frame)])

    def _once(self, key: str, payload: dict[str, Any], signature: bytes) -> Any:
        assert hmac.compare_digest(signature, _signed(key))
        return self._seen.setdefault(key, {"number": payload["number"] + 1, "payload": payload["payload"]})


class _Way:
    """Micro-batches of calls to one actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor
        self._waiting: list[tuple[tuple[Any, ...], asyncio.Future[Any]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    def call(self, *call: Any) -> "asyncio.Future[Any]":
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._send)
        self._waiting.append((call, done))
        return done

    def _send(self) -> None:
        if self._waiting and len(self._under_way) < IN_FLIGHT:
            batch, self._waiting = self._waiting, []
            carrying = asyncio.ensure_future(self._carry(batch))
            self._under_way.add(carrying)
            carrying.add_done_callback(self._arrived)

    async def _carry(self, batch: list[tuple[tuple[Any, ...], "asyncio.Future[Any]"]]) -> None:
        answers = msgpack.unpackb(await self._actor.run.remote(msgpack.packb([call for call, _ in batch])))
        for (_, done), answer in zip(batch, answers, strict=True):
            done.set_result(answer)

    def _arrived(self, carried: "asyncio.Task[None]") -> None:
        self._under_way.discard(carried)
        self._send()


class _Chain:
    """A hash-chained journal: all that one turn of the loop appends is one commit."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._sequence, self._head = 0, bytes(32)
        self._writes: list[Write] = []
        self._done: asyncio.Future[None] | None = None

    def append(self, data: Any) -> "asyncio.Future[None]":
        """Resolves when it is on disk."""
        entry = msgpack.packb(data)
        self._sequence += 1
        self._head = hashlib.sha256(self._head + entry).digest()
        self._writes.append(Write("insert_entry", (self._sequence, None, entry, self._head)))
        if self._done is None:
            self._done = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(self._commit)
        return self._done

    def _commit(self) -> None:
        done, self._done = self._done, None
        writes, self._writes = self._writes, []
        assert done is not None
        self._store.commit(writes).add_done_callback(lambda _: done.set_result(None))


async def measure(concurrency: int, steps: int, folder: Path) -> dict[str, Any]:
    """Runs `steps` steps in `concurrency` chains, in the Ray that is there."""
    ways = [_Way(_Depot.remote()) for _ in range(ACTORS)]
    store = SqliteStore.open(folder / f"floor-{concurrency}-{os.urandom(4).hex()}.sqlite", "journal")
    journal = _Chain(store)
    await asyncio.gather(
        *(way.call(f"warm-{i}", {"number": 0, "payload": ""}, _signed(f"warm-{i}")) for i, way in enumerate(ways))
    )
    each = max(1, steps // concurrency)

    async def chain(name: int) -> None:
        parcel: Any = {"number": 0, "payload": PAYLOAD}
        for i in range(each):
            key = f"{name}/{i}"
            await journal.append(("awarded", key, parcel))
            parcel = await ways[i % ACTORS].call(key, parcel, _signed(key))
            await journal.append(("completed", key, parcel))
        assert parcel["number"] == each

    started = time.perf_counter()
    await asyncio.gather(*(chain(name) for name in range(concurrency)))
    seconds = time.perf_counter() - started
    await store.close()
    return {
        "concurrency": concurrency,
        "steps": each * concurrency,
        "steps_per_second": each * concurrency / seconds,
        "ms_per_step": seconds / each * 1000,
    }


async def floors(concurrency: list[int], folder: str) -> list[dict[str, Any]]:
    """One row per concurrency. Joins the Ray cluster of this process, or starts one for as long as it takes."""
    ours = not ray.is_initialized()
    if ours:
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        return [await measure(number, 400 if number == 1 else 30_000, place) for number in concurrency]
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if ours:
            ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--concurrency", type=lambda text: [int(part) for part in text.split(",")], default=[1, 64, 256]
    )
    parser.add_argument("--folder", default=".", help="where the store lies; a real disk")
    options = parser.parse_args()
    show("floor", asyncio.run(floors(options.concurrency, options.folder)))


if __name__ == "__main__":
    main()
