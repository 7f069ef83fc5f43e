"""The 74 customers' tasks, each alone from the initial data: same documents afterwards, same actions refused."""

import asyncio

import pytest

from hanse.agents.retail import CustomerTask, customer_tasks, dataset, documents, of_different_customers, outcomes
from hanse.contracts import StepStatus, TaskStatus

from .conftest import Store

TASKS = customer_tasks()
BEFORE = documents.completed(dataset.initial())
EXPECTED = dataset.expected()
CHANGES = ("cancel_", "modify_", "return_", "exchange_")


def successes(task: CustomerTask, *prefixes: str) -> int:
    """How many actions of these names the record says were done."""
    return sum(each["ok"] and each["name"].startswith(prefixes) for each in EXPECTED[task.id]["actions"])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
async def test_a_task_leaves_the_documents_and_the_refusals_on_record(task: CustomerTask, full_store: Store) -> None:
    ran = await full_store.run(task.plan, key=task.id)
    assert ran.task.status is TaskStatus.COMPLETED

    assert documents.changed(BEFORE, await full_store.documents()) == EXPECTED[task.id]["changed"]

    became = [(each.ok, each.error) for each in outcomes(task.actions, ran.errors)]
    assert became == [(each["ok"], each.get("error")) for each in EXPECTED[task.id]["actions"]]

    labels = [step for id, step in ran.steps.items() if id.endswith("_label") and step.status is StepStatus.COMPLETED]
    assert len(labels) == successes(task, "return_", "exchange_")
    assert len(full_store.mailbox.letters) == successes(task, *CHANGES)


def test_nobody_is_served_before_it_is_known_who_asks() -> None:
    """The policy's first rule, in all 74: what belongs to somebody is asked for in the name of who was found."""
    unbound = {
        (task.id, step["id"])
        for task in TASKS
        for step in task.plan["steps"]
        if step["id"].endswith(("_get", "_check", "_change")) and {"order_id", "user_id"} & step["input"].keys()
        if "customer" not in step["input"]
    }
    assert unbound == set()


async def test_tasks_of_different_customers_at_once_and_twice_leave_what_each_leaves_alone(full_store: Store) -> None:
    chosen = of_different_customers(TASKS)
    ran = await asyncio.gather(*(full_store.run(task.plan, key=task.id) for task in chosen * 2))
    assert len({each.task.id for each in ran}) == len(chosen)
    assert {each.task.status for each in ran} == {TaskStatus.COMPLETED}

    together: documents.DocumentSet = {}
    for task in chosen:
        for kind, changed in EXPECTED[task.id]["changed"].items():
            together.setdefault(kind, {}).update(changed)
    assert documents.changed(BEFORE, await full_store.documents()) == together
    assert len(full_store.mailbox.letters) == sum(successes(task, *CHANGES) for task in chosen)


async def test_a_store_that_did_nothing_exports_what_it_began_with(full_store: Store) -> None:
    assert await full_store.documents() == BEFORE


async def test_the_same_task_under_the_same_key_changes_nothing_more(full_store: Store) -> None:
    task = next(task for task in TASKS if task.id == "16")
    first = await full_store.run(task.plan, key="once")
    again = await full_store.run(task.plan, key="once")
    assert first.task.id == again.task.id
    assert documents.changed(BEFORE, await full_store.documents()) == EXPECTED["16"]["changed"]
    assert len(full_store.mailbox.letters) == successes(task, *CHANGES)
