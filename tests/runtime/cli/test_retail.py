"""`hanse run retail` without Ray: the same store, mail server and journal, in this process."""

import io
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from rich.console import Console

from hanse.agents.retail.customer_tasks import customer_tasks
from hanse.contracts import ApprovalView, Conflict, TaskStatus
from hanse.runtime import config
from hanse.runtime.cli import retail
from hanse.runtime.cli.output import Output
from hanse.runtime.cli.retail import RULE, Store, put_aside
from hanse.runtime.client import Client
from hanse.runtime.config import default_heads
from hanse.runtime.federation import Federation
from hanse.runtime.mailbox import Mailbox, deliveries
from hanse.runtime.report import Tally, effects_of


@asynccontextmanager
async def store(folder: Path) -> AsyncIterator[Client]:
    """The configuration that `hanse run retail` uses, with its mail kept in a folder."""
    with as_file(files("hanse.agents.retail") / "federation.yaml") as file:
        read = config.load(file, {}, folder=folder)
    async with Mailbox(folder / "mail") as mailbox:
        mail = {"kind": "smtp", "host": "127.0.0.1", "port": mailbox.port, "sender": "store@example.com"}
        approvals = [rule.model_dump(exclude_none=True) for rule in read.approvals]
        async with Federation.in_process(read.agents, connectors={"mail": mail}, approvals=approvals) as federation:
            yield federation.client


async def test_customers_are_served_people_stand_in_and_letters_go_out_once(tmp_path, capsys):
    tasks = customer_tasks()[:30]
    async with store(tmp_path) as client:
        run = Store(Output(json=False), client, Tally(effects_of(await client.capabilities())))
        views = await run.serve(tasks)
        decided = await client.approvals(pending=False)
    said = capsys.readouterr()
    assert [view.status for view in views] == [TaskStatus.COMPLETED] * 30
    assert [view.labels["customer task"] for view in views] == [task.id for task in tasks]
    report = run.tally.report()
    assert report.tasks == {"completed": 30}
    assert (report.effects > 30, report.effects_doubled) == (True, 0)
    assert set(deliveries(tmp_path / "mail").values()) == {1}
    assert decided
    assert all(each.note == RULE and each.decision in ("approved", "denied") for each in decided)
    assert f"nobody is at the terminal, so {RULE}" in said.err
    assert " 30 customer task" in said.out
    assert re.search(r"approval\.decided a\d+_refund: denied by local \(customer task 16\)", said.out)


async def test_a_person_at_the_terminal_decides_until_a_rule_may(tmp_path, monkeypatch):
    keyboard, terminal = pty.openpty()
    os.write(keyboard, b"n\nr\n")
    out, screen = Output(json=False), io.StringIO()
    out.console = Console(file=screen, force_terminal=True, width=120, height=40)
    with os.fdopen(terminal) as stdin, os.fdopen(keyboard, "wb"):
        monkeypatch.setattr(sys, "stdin", stdin)
        async with store(tmp_path) as client:
            run = Store(out, client, Tally(effects_of(await client.capabilities())))
            views = await run.serve(customer_tasks()[:40])
            decided = await client.approvals(pending=False)
    assert [view.status for view in views] == [TaskStatus.COMPLETED] * 40
    assert [each.decision for each in decided if each.note != RULE] == ["denied"]
    assert len(decided) > 2
    assert screen.getvalue().count("Let it run?") == 2


@pytest.mark.parametrize(("input", "approved"), [({"amount": 1500}, True), ({"amount": 1501}, False), ({}, False)])
def test_the_rule_approves_up_to_its_limit_and_nothing_that_it_cannot_judge(input, approved):
    seen = ApprovalView(
        id="t:s",
        task="t",
        step="s",
        capability="c",
        input=input,
        digest="d",
        rule="r",
        requested_at="2026-11-21T09:00:00Z",
    )
    assert retail._rule_says(seen) is approved


def test_who_may_not_find_the_program_is_told_where_it_is(tmp_path, monkeypatch):
    (program := tmp_path / "hanse").touch(mode=0o700)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert retail.program() == "hanse"
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert retail.program() == str(program)


def test_a_taken_port_says_how_to_choose_another(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise Conflict("127.0.0.1:8000 is taken. Write another port, or 0 for a free one", port=8000)

    monkeypatch.setattr(retail.up, "start", refuse)
    with pytest.raises(Conflict, match=r"8000 is taken\. Choose another: HANSE_PORT=0"):
        retail._begin(Output(json=False), tmp_path / "retail")


async def test_tasks_of_one_customer_run_one_after_the_other(tmp_path):
    first = next(task for task in customer_tasks() if len(task.customers) == 1)
    again = replace(first, id=f"{first.id}-again")
    async with store(tmp_path) as client:
        run = Store(Output(json=True), client, Tally())
        views = await run.serve([first, again])
    assert views[0].updated_at <= views[1].created_at


def test_what_the_last_run_left_is_put_aside_with_its_heads(tmp_path: Path):
    """Beside a new journal, the heads of the old one would say that somebody wrote it anew."""
    data = tmp_path / "retail"
    for run in ("first", "second"):
        data.mkdir()
        (data / "journal").write_text(run)
        default_heads(data).write_text(f"heads of the {run}")
        put_aside(data)
        assert not data.exists()
        assert not default_heads(data).exists()
        kept = tmp_path / "retail.before"
        assert (kept / "journal").read_text() == run
        assert default_heads(kept).read_text() == f"heads of the {run}"
    put_aside(data)
    assert kept.exists(), "there was nothing to put in its place"
