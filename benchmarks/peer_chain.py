"""The chain of steps on one peer: a program that `peers` runs in the peer's own environment, with nothing of Hanse.

It takes one JSON object as its argument, and its last line is another: the seconds of the whole, the seconds of each
task, and how many steps the peer has kept when all is over. The peers are imported by name, because where this module
belongs they are not installed.
"""

import asyncio
import json
import socket
import sqlite3
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Never, TypedDict
from urllib.parse import urlsplit

WARM_UP = 20
"""Tasks before the clock runs."""
Chain = Callable[[int], Awaitable[int]]
"""Runs the task of that number and gives the number that its last step came to."""


class Parcel(TypedDict):
    number: int
    payload: str


@dataclass(frozen=True)
class Place:
    """Where a peer keeps its steps."""

    folder: Path
    url: str = ""
    """Of a PostgreSQL database for this run alone; nothing for SQLite, or files, in the folder."""

    @property
    def sqlite(self) -> Path:
        return self.folder / "peer.sqlite"

    def count(self, query: str) -> int:
        """The one number that a query gives."""
        if self.url:
            with import_module("psycopg").connect(self.url) as database:
                return database.execute(query).fetchone()[0]
        with closing(sqlite3.connect(self.sqlite)) as database:
            return database.execute(query).fetchone()[0]


@asynccontextmanager
async def dbos(place: Place, steps: int, payload: str, at_once: int) -> AsyncIterator[Chain]:
    """A workflow that calls a step so many times. In threads: its coroutines come to less than half of their steps per
    second, because they wait for the database's lock in one pool.
    """
    module: Any = import_module("dbos")
    module.DBOS(config={"name": "chain", "system_database_url": place.url or f"sqlite:///{place.sqlite}"})

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
async def langgraph(place: Place, steps: int, payload: str, at_once: int) -> AsyncIterator[Chain]:
    """A graph of so many nodes in a row, with a checkpoint after each before the next begins (`durability="sync"`)."""
    graph: Any = import_module("langgraph.graph")

    async def step(parcel: Parcel) -> Parcel:
        return {"number": parcel["number"] + 1, "payload": parcel["payload"]}

    drawn = graph.StateGraph(Parcel)
    for i in range(steps):
        drawn.add_node(f"s{i}", step)
        drawn.add_edge(f"s{i - 1}" if i else graph.START, f"s{i}")
    drawn.add_edge(f"s{steps - 1}", graph.END)
    async with _checkpointer(place, at_once) as checkpointer:
        compiled = drawn.compile(checkpointer=checkpointer)

        async def run(task: int) -> int:
            thread = {"configurable": {"thread_id": str(task)}, "recursion_limit": steps + 5}
            done = await compiled.ainvoke({"number": 0, "payload": payload}, thread, durability="sync")
            return done["number"]

        yield run


@asynccontextmanager
async def _checkpointer(place: Place, at_once: int) -> AsyncIterator[Any]:
    """As its documentation makes them: one connection to SQLite, a pool of them to PostgreSQL."""
    if not place.url:
        sqlite: Any = import_module("langgraph.checkpoint.sqlite.aio").AsyncSqliteSaver
        async with sqlite.from_conn_string(str(place.sqlite)) as checkpointer:
            yield checkpointer
        return
    rows: Any = import_module("psycopg.rows").dict_row
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": rows}
    pool: Any = import_module("psycopg_pool").AsyncConnectionPool
    async with pool(place.url, min_size=min(20, at_once), max_size=20, kwargs=options, open=False) as connections:
        checkpointer = import_module("langgraph.checkpoint.postgres.aio").AsyncPostgresSaver(connections)
        await checkpointer.setup()
        yield checkpointer


@asynccontextmanager
async def agent_framework(place: Place, steps: int, payload: str, at_once: int) -> AsyncIterator[Chain]:
    """Microsoft Agent Framework: a workflow of so many executors in a row, with a checkpoint in a file of its own after
    each. A workflow runs once at a time, so each task has one.
    """
    module: Any = import_module("agent_framework")
    storage = module.FileCheckpointStorage(place.folder / "checkpoints")

    async def forward(parcel: Any, context: Any) -> None:
        await context.send_message({**parcel, "number": parcel["number"] + 1})

    async def finish(parcel: Any, context: Any) -> None:
        await context.yield_output(parcel["number"] + 1)

    forward.__annotations__ |= {"parcel": dict, "context": module.WorkflowContext[dict]}
    finish.__annotations__ |= {"parcel": dict, "context": module.WorkflowContext[Never, int]}

    def drawn(task: int) -> Any:
        chain = [module.FunctionExecutor(forward if i < steps - 1 else finish, f"s{i}") for i in range(steps)]
        builder = module.WorkflowBuilder(
            name=f"chain-{task}", start_executor=chain[0], checkpoint_storage=storage, output_from=[chain[-1]]
        )
        return builder.add_chain(chain).build()

    async def run(task: int) -> int:
        done = await drawn(task).run({"number": 0, "payload": payload})
        return done.get_outputs()[-1]

    yield run


@asynccontextmanager
async def autogen(place: Place, steps: int, payload: str, at_once: int) -> AsyncIterator[Chain]:
    """AutoGen core: an agent in one runtime, asked so many times in a row from another, over gRPC. Keeps nothing."""
    core: Any = import_module("autogen_core")
    grpc: Any = import_module("autogen_ext.runtimes.grpc")
    address = f"127.0.0.1:{_free_port()}"

    @dataclass
    class Message:
        number: int
        payload: str

    class Carrier(core.RoutedAgent):
        async def carry(self, message: Any, ctx: Any) -> Any:
            return Message(message.number + 1, message.payload)

        carry.__annotations__ |= {"message": Message, "ctx": core.MessageContext, "return": Message}
        carry = core.message_handler(carry)

    host = grpc.GrpcWorkerAgentRuntimeHost(address=address)
    host.start()
    home, away = (grpc.GrpcWorkerAgentRuntime(host_address=address) for _ in range(2))
    for each in (home, away):
        await each.start()
        each.add_message_serializer(core.try_get_known_serializers_for_type(Message))
    await Carrier.register(away, "carrier", lambda: Carrier("carries"))

    async def run(task: int) -> int:
        message = Message(0, payload)
        for _ in range(steps):
            message = await home.send_message(message, core.AgentId("carrier", str(task)))
        return message.number

    yield run
    for each in (home, away, host):
        await each.stop()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Peer:
    chain: Callable[[Place, int, str, int], AbstractAsyncContextManager[Chain]]
    kept: Callable[[Place], int | None]
    """How many steps it has on disk. None when it keeps none."""
    postgresql: bool = False
    """Whether it can keep them in PostgreSQL, too."""


def _agent_framework_kept(place: Place) -> int:
    """The first checkpoint of a task is of what it was given."""
    files = (place.folder / "checkpoints").glob("*.json")
    return sum(json.loads(file.read_text())["iteration_count"] > 0 for file in files)


def _dbos_kept(place: Place) -> int:
    return place.count(f"SELECT count(*) FROM {'dbos.' if place.url else ''}operation_outputs")


def _langgraph_kept(place: Place) -> int:
    step = "(metadata->>'step')::int" if place.url else "json_extract(metadata, '$.step')"
    return place.count(f"SELECT count(*) FROM checkpoints WHERE {step} > 0")


PEERS = {
    "agent_framework": Peer(agent_framework, _agent_framework_kept),
    "autogen": Peer(autogen, lambda place: None),
    "dbos": Peer(dbos, _dbos_kept, postgresql=True),
    "langgraph": Peer(langgraph, _langgraph_kept, postgresql=True),
}


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
    peer, steps = PEERS[order["peer"]], order["steps"]
    with _place(Path(order["folder"]), order["server"]) as place:
        async with peer.chain(place, steps, order["payload"], order["concurrency"]) as chain:
            await work(chain, 0, WARM_UP, steps, 4)
            started = time.perf_counter()
            times = await work(chain, WARM_UP, order["tasks"], steps, order["concurrency"])
            seconds = time.perf_counter() - started
        return {"seconds": seconds, "times": times, "durable_steps": peer.kept(place)}


@contextmanager
def _place(folder: Path, server: str) -> Iterator[Place]:
    """`server` is the URL of any database there, or nothing. What is made there goes again."""
    if not server:
        yield Place(folder)
        return
    name = f"chain_{uuid.uuid4().hex[:8]}"
    with import_module("psycopg").connect(server, autocommit=True) as database:
        database.execute(f"CREATE DATABASE {name}")
        try:
            yield Place(folder, urlsplit(server)._replace(path=f"/{name}").geturl())
        finally:
            database.execute(f"DROP DATABASE {name} WITH (FORCE)")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(json.loads(sys.argv[1])))))
