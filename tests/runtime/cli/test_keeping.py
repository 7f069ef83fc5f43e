"""`hanse memory snapshot`, `restore`, `rebuild`, `tidy` and `certificates`, over real stores on disk."""

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from rich.console import Console
from typer.testing import CliRunner

from hanse.contracts.memory import Draft
from hanse.contracts.plain import pack, unpack
from hanse.runtime.cli.app import app
from hanse.runtime.cli.keeping import watched
from hanse.runtime.cli.output import Output
from hanse.runtime.data_lock import DataLock
from hanse.runtime.federation import Federation
from hanse.runtime.world import SystemClock

from ...memory.plain import WordEmbedder
from ...support.memory import MemoryClient, clean_memory

KEY = "the key lies under the mat"


class Shell:
    """Runs `hanse memory …` against a service that is opened for each command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @asynccontextmanager
    async def reach(self, options: Any) -> AsyncIterator[MemoryClient]:
        path, snapshots = self.folder / "memory.sqlite", self.folder / "s"
        async with clean_memory(path, SystemClock(), snapshots=snapshots) as service:
            yield MemoryClient(service, "shop", "ann")

    def __call__(self, *words: str, code: int = 0, reached: bool = True):
        environment = {"HANSE_URL": "http://there" if reached else "", "HANSE_TOKEN": ""}
        result = CliRunner(env=environment).invoke(app, ["memory", *words], obj=self.reach)
        assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
        return result

    def lose(self) -> None:
        for file in self.folder.glob("memory.sqlite*"):
            file.unlink()


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path)


# In a running federation


def test_a_lost_memory_is_brought_back(shell):
    shell("remember", KEY)
    assert shell("snapshot").stdout.startswith("1 versions of records in 1 files")
    shell.lose()
    assert shell("restore").stdout.startswith("shop: 1 records in 1 versions as of 20")
    assert "1 were known already" in shell("restore").stdout
    assert KEY in shell("search", "key").stdout


def test_what_came_after_the_loss_is_not_covered_up(shell):
    shell("remember", KEY)
    shell("snapshot")
    shell.lose()
    shell("remember", "The shop in Kiel opens at nine.")
    assert "hanse memory restore" in shell("snapshot", code=1).stderr
    assert "--merge" in shell("restore", code=1).stderr
    assert "shop: 1 records" in shell("restore", "--merge").stdout
    assert "2 versions" in shell("snapshot").stdout


def test_what_was_erased_after_the_loss_is_left_out_and_the_person_hears_of_the_snapshot(shell):
    shell("remember", KEY, "--subject", "ann lee")
    shell("remember", "The shop in Kiel opens at nine.")
    shell("snapshot")
    shell.lose()
    shell("erase", "ann lee", "--yes")
    restored = shell("restore")
    assert "1 stay forgotten" in restored.stdout
    assert "the snapshot still has what was left out" in restored.stderr
    assert KEY not in shell("search", "key").stdout


def test_indexes_are_made_anew_and_what_is_over_the_budget_goes(shell):
    for text in (KEY, "The shop in Kiel opens at nine.", "Ann prefers green tea."):
        shell("remember", text)
    assert shell("rebuild").stdout == "3 records are indexed anew\n"
    assert shell("tidy", "--records", "2").stdout == "0 summaries made, 1 records gone, 2 kept\n"
    assert json.loads(shell("tidy", "--json").stdout)["evicted"] == []


async def test_a_person_sees_how_far_it_is():
    out, shown, go = Output(json=False), io.StringIO(), asyncio.Event()
    out.remarks = Console(file=shown, force_terminal=True, width=100)
    looked: list[int] = []

    async def look() -> list[dict[str, Any]]:
        looked.append(len(looked))
        if len(looked) == 2:
            go.set()
        return [{"verb": "other", "done": 1, "of": 2}, {"verb": "rebuild", "done": 250, "of": 1000}]

    async def work() -> str:
        await go.wait()
        return "done"

    assert await watched(out, "rebuild", work(), look) == "done"
    assert "25%" in shown.getvalue()


# Certificates


def test_certificates_are_listed_shown_and_hold(shell, tmp_path):
    id = json.loads(shell("remember", KEY, "--json").stdout)["record"]["id"]
    made = json.loads(shell("forget", id, "--reason", "moved", "--yes", "--json").stdout)
    listed = shell("certificates", "list").stdout
    assert made["id"] in listed
    assert "moved" in listed
    assert KEY not in listed
    file = tmp_path / "certificate.json"
    file.write_text(shell("certificates", "show", made["id"]).stdout)
    assert json.loads(file.read_text()) == made
    assert shell("certificates", "verify").stdout == "1 of 1 certificates hold\n"
    checked = shell("certificates", "verify", str(file), "--key", made["key"], reached=False)
    assert (checked.stdout, checked.stderr) == ("1 of 1 certificates hold\n", "")
    assert "another federation's key" in shell("certificates", "verify", str(file), "--key", "0" * 64, code=1).stderr


@pytest.mark.parametrize(("found", "instead"), [("ann", "eve"), ("moved", "asked")])
def test_a_changed_certificate_does_not_hold(shell, tmp_path, found, instead):
    id = json.loads(shell("remember", KEY, "--json").stdout)["record"]["id"]
    made = shell("forget", id, "--reason", "moved", "--yes", "--json").stdout
    file = tmp_path / "certificate.json"
    file.write_text(made.replace(f'"{found}"', f'"{instead}"'))
    assert "its digest is another" in shell("certificates", "verify", str(file), code=1, reached=False).stderr
    file.write_text("{}")
    assert "no certificate" in shell("certificates", "verify", str(file), code=2, reached=False).stderr


def test_one_that_was_changed_where_it_is_kept_does_not_hold(shell):
    id = json.loads(shell("remember", KEY, "--json").stdout)["record"]["id"]
    shell("forget", id, "--reason", "moved", "--yes")
    with closing(apsw.Connection(str(shell.folder / "memory.sqlite"))) as store:
        [(body,)] = store.execute("SELECT body FROM certificate")
        store.execute("UPDATE certificate SET body = ?", (pack(unpack(body) | {"by": "eve"}),))
    assert "its digest is another" in shell("certificates", "verify", code=1).stderr


def test_one_that_is_missing_is_missed(shell):
    for text in (KEY, "The shop in Kiel opens at nine."):
        id = json.loads(shell("remember", text, "--json").stdout)["record"]["id"]
        made = json.loads(shell("forget", id, "--yes", "--json").stdout)
    assert shell("certificates", "verify").stdout == "2 of 2 certificates hold\n"
    with closing(apsw.Connection(str(shell.folder / "memory.sqlite"))) as store:
        store.execute("DELETE FROM certificate WHERE id = ?", (made["id"],))
    checked = shell("certificates", "verify", code=1)
    assert checked.stdout == "1 of 2 certificates hold\n"
    assert f"{made['id']}: the journal says that it was made" in checked.stderr


def test_the_certificate_of_an_erasure_with_aliases_is_two(shell, tmp_path):
    shell("remember", "Ben is late.", "--subject", "ben")
    shell("remember", "Nobody saw Benny today.")
    file = tmp_path / "certificate.json"
    shell("erase", "ben", "--alias", "Benny", "--yes", "--certificate", str(file))
    assert shell("certificates", "verify", str(file), reached=False).stdout == "2 of 2 certificates hold\n"


# With no federation running


def federation(folder: Path, **memory: Any) -> Any:
    """Over a data folder, with its configuration beside it."""
    folder.mkdir(exist_ok=True)
    snapshots = str(folder / "snapshots")
    text = {"version": 1, "federation": {"name": "bank", "data": "./var"}, "memory": {"snapshots": snapshots} | memory}
    (folder / "hanse.yaml").write_text(json.dumps(text))
    return Federation.in_process(data=folder / "var", memory={"snapshots": snapshots} | memory)


def command(folder: Path, *words: str, code: int = 0):
    environment = {"HANSE_URL": "", "HANSE_TOKEN": ""}
    config = ("--config", str(folder / "hanse.yaml"))
    result = CliRunner(env=environment).invoke(app, ["memory", "restore", *words, *config])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stdout + result.stderr


@pytest.fixture(autouse=True)
def plain_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hanse.runtime.late_embedder._load", lambda folder: WordEmbedder())


@pytest.fixture
def old(tmp_path) -> Path:
    """The folder of a federation that has stopped, with a snapshot of what it remembers."""

    async def live() -> None:
        async with federation(tmp_path / "old") as running:
            await running.memory.remember([Draft(text=KEY), "the shop is in Kiel"])
            await running.memory.tell("snapshot")

    asyncio.run(live())
    return tmp_path / "old"


def texts(folder: Path) -> list[str]:
    async def look() -> list[str]:
        async with federation(folder) as running:
            found = await running.memory.recall("where is the key")
            assert (await running.memory.tell("stats"))["records"] == len(found.hits)
            return [hit.record.text for hit in found.hits]

    return asyncio.run(look())


def test_a_store_that_was_lost_comes_back_with_no_federation_running(old):
    [store] = (old / "var").glob("memory-0.sqlite")
    store.unlink()
    assert "default: 2 records in 2 versions" in command(old)
    assert texts(old)[0] == KEY
    assert "2 were known already" in command(old)


def test_what_comes_back_is_no_more_than_the_tenant_may_keep(old):
    text = json.loads((old / "hanse.yaml").read_text())
    text["memory"] |= {"records_per_tenant": 1}
    (old / "hanse.yaml").write_text(json.dumps(text))
    [store] = (old / "var").glob("memory-0.sqlite")
    store.unlink()
    assert "default: 2 records in 2 versions" in (told := command(old))
    assert "1 went again, over the tenant's budget" in told
    assert len(texts(old)) == 1


def test_a_new_federation_takes_over_with_the_key_of_the_old_one(old, tmp_path):
    async def begin() -> None:
        async with federation(tmp_path / "new"):
            pass

    asyncio.run(begin())
    new = tmp_path / "new"
    place = ("--from", str(old / "snapshots"))
    assert "another federation wrote it" in command(new, *place, code=3)
    assert "another federation's key" in command(new, *place, "--tenant", "default", code=1)
    assert "cannot be read" in command(new, *place, "--key", str(old), code=2)
    assert "2 records" in command(new, *place, "--key", str(old / "var" / "secret.key"))
    assert texts(new)[0] == KEY


def test_the_data_folder_may_be_named(old, tmp_path):
    shutil.copytree(old / "var", tmp_path / "copy")
    (tmp_path / "copy" / "memory-0.sqlite").unlink()
    assert "2 records in 2 versions" in command(old, "--data", str(tmp_path / "copy"))
    assert "remembers 2 records already" in command(old, code=1), "the store of the configured one was not lost"


def test_a_federation_that_keeps_nothing_says_so(old):
    text = json.loads((old / "hanse.yaml").read_text())
    (old / "hanse.yaml").write_text(json.dumps(text | {"federation": {"name": "bank", "data": ":memory:"}}))
    assert "this federation keeps nothing" in command(old, code=2)


def test_nothing_is_restored_beside_a_federation_that_runs(old):
    lock = DataLock(old / "var")
    assert "Stop it with: hanse down" in command(old, code=1)
    lock.release()
    shutil.rmtree(old / "snapshots")
    assert "there is no snapshot" in command(old, code=1)
