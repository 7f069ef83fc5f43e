"""The chain of steps on one peer: a program that `peers` runs in the peer's own environment, with nothing of Hanse.

It takes one JSON object as its argument, and its last line is another: the seconds of the whole, the seconds of each
task, and how many steps are in the peer's database when all is over. The peers are imported by name, because where this
module belongs they are not installed.
"""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from importlib import import_module
from pathlib import Path
from typing import Any, TypedDict

WARM_UP = 20
"""Tasks before the clock runs."""
Chain = Callable[[int], Awaitable[int]]
"""Runs the task of that number and gives the number that its last step came to."""


class Parcel(TypedDict):
    number: int
    payload: str


@asynccontextmanager
async def dbos(folder: Path, steps: int, payload: str, at_once: int) -> AsyncIterator[Chain]:
    """A workflow that calls a step so many times, with SQLite as its system database. In threads: its coroutines come
    to less than half of their steps per second, because they wait for the database's lock in one pool.
    """
    module: Any = import_module("dbos")
    configuration = {"name": "chain", "system_database_url": f"sqlite:///{folder / 'peer.sqlite'}"}
    module.DBOS(config=configuration)

    @module.DBOS.step()
    def step(parcel: Parcel) -> Parcel:
        return {"number": parcel["number"] + 1, "payload": parcel["payload"]}

    @module.DBOS.workflow()
    def chain() -> int:
        parcel: Parcel = {"number": 0, "payload": payload}
        for _ in range(steps):
            parcel = step(parcel)
        return parcel["number"]

    module.DBOS.launch()
    with ThreadPoolExecutor(at_once) as threads:
        yield lambda task: asyncio.get_running_loop().run_in_executor(threads, chain)
    module.DBOS.destroy()


@asynccontextmanager
async def langgraph(folder: Path, steps: int, payload: str, at_once: int) -> AsyncIterator[Chain]:
    """A graph of so many nodes in a row, with a checkpoint after each before the next begins (`durability="sync"`)."""
    graph: Any = import_module("langgraph.graph")
    saver: Any = import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver

    async def step(parcel: Parcel) -> Parcel:
        return {"number": parcel["number"] + 1, "payload": parcel["payload"]}

    drawn = graph.StateGraph(Parcel)
    for i in range(steps):
        drawn.add_node(f"s{i}", step)
        drawn.add_edge(f"s{i - 1}" if i else graph.START, f"s{i}")
    drawn.add_edge(f"s{steps - 1}", graph.END)
    async with saver.from_conn_string(str(folder / "peer.sqlite")) as checkpointer:
        compiled = drawn.compile(checkpointer=checkpointer)

        async def run(task: int) -> int:
            thread = {"configurable": {"thread_id": str(task)}, "recursion_limit": steps + 5}
            done = await compiled.ainvoke({"number": 0, "payload": payload}, thread, durability="sync")
            return done["number"]

        yield run


PEERS = {
    "dbos": (dbos, "SELECT count(*) FROM operation_outputs"),
    "langgraph": (langgraph, "SELECT count(*) FROM checkpoints WHERE json_extract(metadata, '$.step') > 0"),
}
"""How each runs the chain, and how many steps it has on disk."""


async def work(chain: Chain, first: int, tasks: int, steps: int, concurrency: int) -> list[float]:
    """Seconds of each task."""
    left, times = iter(range(first, first + tasks)), list[float]()

    async def worker() -> None:
        for task in left:
            started = time.perf_counter()
            assert await chain(task) == steps, f"task {task} did not do all its steps"
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return times


async def measured(order: dict[str, Any]) -> dict[str, Any]:
    make, count = PEERS[order["peer"]]
    folder, steps = Path(order["folder"]), order["steps"]
    async with make(folder, steps, order["payload"], order["concurrency"]) as chain:
        await work(chain, 0, WARM_UP, steps, 4)
        started = time.perf_counter()
        times = await work(chain, WARM_UP, order["tasks"], steps, order["concurrency"])
        seconds = time.perf_counter() - started
    with closing(sqlite3.connect(folder / "peer.sqlite")) as database:
        (found,) = database.execute(count).fetchone()
    return {"seconds": seconds, "times": times, "durable_steps": found}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(json.loads(sys.argv[1])))))
