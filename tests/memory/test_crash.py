"""The memory's process is killed at every point of its work and started again (F3).

I14: index, tables and log agree; what was acknowledged is there; a write is there whole or not at all; what was deleted
never comes back; and what a crash has kept from leaving the files leaves them at the next start. Each kill is a real
SIGKILL, and each test proves that its fault fired.
"""

import asyncio
import os
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from hanse.contracts import Conflict, IdempotencyKey, NotFound
from hanse.contracts.memory import Certificate, Draft, Query, State
from hanse.memory import faults
from hanse.memory.books import node_of
from hanse.memory.certificates import problems_of
from hanse.memory.service import MemoryService
from hanse.runtime.audit.head import Signer
from hanse.runtime.world import CRASH_VARIABLE

from ..support.postgres import Server
from .crash_child import MANY, SECRET, place_of
from .plain import SHOP, Clock, ann, memory
from .test_erasure_on_disk import SOUND, traces

ROOT = Path(__file__).resolve().parents[2]
CHILD = "import runpy; runpy.run_module('tests.memory.crash_child', run_name='__main__')"

ACTS = {
    "remember": (faults.before("remember"), faults.after("remember"), faults.REBUILDING),
    "revise": (faults.before("revise"), faults.after("revise")),
    "forget": (faults.before("forget"), faults.after("forget"), faults.SCRUBBED, faults.COMPACTING),
    "expire": (faults.before("expire"), faults.after("expire"), faults.SCRUBBED),
    "snapshot": (faults.SNAPSHOT_FILE, faults.SNAPSHOT_MANIFEST, faults.SNAPSHOT_DONE),
    "rebuild": (f"{faults.REBUILDING}:2",),
    "restore": (faults.RESTORING, f"{faults.RESTORING}:2", f"{faults.RESTORING}:3", faults.RESTORED),
}

IN_STORE = ("remember", "revise", "forget", "expire", "restore")
"""Acts whose outcome depends on the store: the others write files alone, or nothing."""


async def life(folder: Path, database: str, *arguments: str, crash_at: str = "") -> tuple[int, list[str]]:
    """Return code and printed lines of one life of the memory."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(folder), database, *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {CRASH_VARIABLE: crash_at},
        cwd=ROOT,
    )
    printed, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, printed.decode().splitlines()


@dataclass(frozen=True)
class Life:
    """Where a memory is: its folder, and its database where there is one."""

    folder: Path
    database: str
    root: str
    """The record that is forgotten."""
    first: str
    """The one that is revised."""


def prepared(folder: Path, database: str) -> Life:
    code, (line,) = asyncio.run(life(folder, database, "prepare"))
    assert code == 0
    _, root, first = line.split()
    return Life(folder, database, root, first)


@pytest.fixture(scope="module")
def in_files(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """To be copied."""
    return prepared(tmp_path_factory.mktemp("prepared"), "")


@pytest.fixture(scope="module")
def in_database(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Life:
    """To be copied."""
    return prepared(tmp_path_factory.mktemp("prepared"), new_database(server, "prepared"))


def new_database(server: Server, name: str, *, like: str = "template1") -> str:
    with psycopg.connect(server.url, autocommit=True) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        connection.execute(drop)
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(like))
        connection.execute(copy)
    return server.url.replace("/postgres?", f"/{name}?")


def test_every_point_is_reached_by_something():
    assert {point.partition(":")[0] for points in ACTS.values() for point in points} == {*faults.POINTS}


@pytest.mark.parametrize(("act", "point"), [(act, point) for act, points in ACTS.items() for point in points])
async def test_killed_anywhere_the_memory_comes_back_whole(tmp_path: Path, in_files: Life, act: str, point: str):
    folder = shutil.copytree(in_files.folder, tmp_path / "memory")
    await killed(replace(in_files, folder=folder), act, point)


@pytest.mark.parametrize(("act", "point"), [(act, point) for act in IN_STORE for point in ACTS[act]])
async def test_killed_anywhere_the_memory_in_a_database_comes_back_whole(
    tmp_path: Path, in_database: Life, server: Server, act: str, point: str
):
    folder = shutil.copytree(in_database.folder, tmp_path / "memory")
    database = new_database(server, "killed", like="prepared")
    await killed(replace(in_database, folder=folder, database=database), act, point)


async def killed(of: Life, act: str, point: str) -> None:
    """Kills it at the point, and looks at what comes back."""
    code, printed = await life(of.folder, of.database, act, of.root, of.first, crash_at=point)
    assert (code, printed) == (-signal.SIGKILL, []), f"it did not die at {point}"
    clock = Clock(Clock().ms + (2000 if act == "expire" else 0))
    async with memory(place_of(of.folder, of.database, act), clock=clock, snapshots=of.folder / "s") as service:
        for tenant in list(service.log.unclean):
            await service.upkeep.cleaned(tenant)
        assert await service.check(SHOP) == SOUND
        await CHECKS[act](service, of.folder, of.root, of.first, point)
        assert await service.check(SHOP) == SOUND


async def texts(service: MemoryService, text: str = "", **more: object) -> list[str]:
    query = Query.model_validate({"text": text, "limit": 100, **more})
    return [hit.record.text for hit in (await service.recall(query, ann())).hits]


async def after_remember(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    found = [text for text in await texts(service) if text.startswith("another")]
    assert len(found) == (3 if point == faults.after("remember") else 0)
    drafts = [Draft(text=f"another one {i}") for i in range(3)]
    await service.remember(drafts, ann(), key=IdempotencyKey("key"))
    assert len([text for text in await texts(service) if text.startswith("another")]) == 3


async def after_revise(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    history = await service.history(first, ann())
    done = point == faults.after("revise")
    assert [each.version for each in history] == ([1, 2, 3] if done else [1, 2])
    assert [each.state for each in history[:-1]] == [State.SUPERSEDED] * (len(history) - 1)
    found = await texts(service)
    assert ("record number null" in found, "record number zero" in found) == (done, not done)


async def after_forget(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    if point == faults.before("forget"):
        assert len([text for text in await texts(service) if SECRET in text]) == 2
        await service.forget([root], ann())
    [certificate] = (await service.tell("certificates", {}, ann()))["certificates"]
    assert certificate["records"] == [root], "also that of whoever was killed before it could be given"
    assert problems_of(Certificate.model_validate(certificate), Signer("shop", b"r" * 32).public) == []
    assert service.log.owed(SHOP) == []
    assert [text for text in await texts(service) if SECRET in text] == []
    assert traces(folder, SECRET) == []
    with pytest.raises(NotFound):
        await service.get(root, ann())


async def after_expire(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    assert "soon over" not in await texts(service)
    await service.upkeep._expire()
    assert service.log.count(SHOP) == MANY + 3
    [short] = service.log.derived_from(SHOP, node_of("soon"))
    [made] = service.log.derived_from(SHOP, short)
    assert (await service.get(made, ann())).text == "made of what ends"
    assert (await service.forget([short], ann())).derived == [made]
    assert service.log.derived_from(SHOP, node_of("soon")) == []
    assert traces(folder, "soon over") == []


async def after_snapshot(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    assert service.snapshots is not None
    async with service.snapshots.held(SHOP) as snapshot:
        found = [each async for page in snapshot.records() for each in page]
    assert {each.record.id for each in found} == service.log.live_ids(SHOP)
    manifest = await service.tell("snapshot", {}, ann())
    there = [file for file in (folder / "s").rglob("*") if file.is_file()]
    assert len(there) == len(manifest["files"]) + 1, "what was half done is gone"


async def after_rebuild(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    assert len(await texts(service)) == MANY + 4


async def after_restore(service: MemoryService, folder: Path, root: str, first: str, point: str) -> None:
    """Killed with some of it on disk: the snapshot stays, what comes next says so, and doing it again ends it."""
    half = len(await texts(service))
    assert (
        half
        == {faults.RESTORING: 0, f"{faults.RESTORING}:2": 9, f"{faults.RESTORING}:3": 19, faults.RESTORED: MANY + 4}[
            point
        ]
    )
    with pytest.raises(Conflict, match="hanse memory restore"):
        await service.tell("snapshot", {}, ann())
    told = await service.tell("restore", {}, ann())
    assert (told["records"], told["known"]) == (MANY + 4 - half, half)
    assert len(await texts(service)) == MANY + 4
    assert [each.version for each in await service.history(first, ann())] == [1, 2]
    assert (await service.tell("restore", {}, ann()))["records"] == 0
    await service.tell("snapshot", {}, ann())


CHECKS = {
    "remember": after_remember,
    "revise": after_revise,
    "forget": after_forget,
    "expire": after_expire,
    "snapshot": after_snapshot,
    "rebuild": after_rebuild,
    "restore": after_restore,
}
