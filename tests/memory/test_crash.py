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
from pathlib import Path

import pytest

from hanse.contracts import Conflict, IdempotencyKey, NotFound
from hanse.contracts.memory import Draft, Query, State
from hanse.memory import faults
from hanse.memory.books import node_of
from hanse.memory.service import MemoryService
from hanse.runtime.world import CRASH_VARIABLE

from .crash_child import MANY, SECRET
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


async def life(folder: Path, *arguments: str, crash_at: str = "") -> tuple[int, list[str]]:
    """Return code and printed lines of one life of the memory."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(folder), *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {CRASH_VARIABLE: crash_at},
        cwd=ROOT,
    )
    printed, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, printed.decode().splitlines()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder to be copied, the id of the record that is forgotten, and of the one that is revised."""
    folder = tmp_path_factory.mktemp("prepared")
    code, (line,) = asyncio.run(life(folder, "prepare"))
    assert code == 0
    _, root, first = line.split()
    return folder, root, first


def test_every_point_is_reached_by_something():
    assert {point.partition(":")[0] for points in ACTS.values() for point in points} == {*faults.POINTS}


@pytest.mark.parametrize(("act", "point"), [(act, point) for act, points in ACTS.items() for point in points])
async def test_killed_anywhere_the_memory_comes_back_whole(
    tmp_path: Path, prepared: tuple[Path, str, str], act: str, point: str
):
    source, root, first = prepared
    folder = tmp_path / "memory"
    shutil.copytree(source, folder)
    code, printed = await life(folder, act, root, first, crash_at=point)
    assert (code, printed) == (-signal.SIGKILL, []), f"it did not die at {point}"
    clock = Clock(Clock().ms + (2000 if act == "expire" else 0))
    store = "new.sqlite" if act == "restore" else "m.sqlite"
    async with memory(folder / store, clock=clock, snapshots=folder / "s") as service:
        for tenant in list(service.log.unclean):
            await service.upkeep.cleaned(tenant)
        assert await service.check(SHOP) == SOUND
        await CHECKS[act](service, folder, root, first, point)
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
