"""The 74 customers' tasks of the data set, each as a request in words and as a plan."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import dataset
from .plans import Action, plan_of


@dataclass(frozen=True)
class CustomerTask:
    """One customer's request."""

    id: str
    wish: str
    """What the customer said."""
    actions: tuple[Action, ...]
    customers: frozenset[str]
    """Whose documents it may change. Tasks of different customers do not meet and may run at once."""

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Plan JSON, see `plans`."""
        return plan_of(self.actions)


def customer_tasks() -> list[CustomerTask]:
    """In the order of the data set."""
    owners = {key: order["user_id"] for key, order in dataset.initial()["orders"].items()}
    return [_task(each, owners) for each in dataset.tasks()]


def of_different_customers(tasks: list[CustomerTask]) -> list[CustomerTask]:
    """The first task of each customer, in the order given: no two of them meet."""
    chosen: list[CustomerTask] = []
    for task in tasks:
        if not any(task.customers & other.customers for other in chosen):
            chosen.append(task)
    return chosen


def _task(data: Mapping[str, Any], owners: Mapping[str, str]) -> CustomerTask:
    actions = tuple(Action.from_data(each) for each in data["evaluation_criteria"]["actions"])
    wish = data["user_scenario"]["instructions"]["reason_for_call"]
    return CustomerTask(data["id"], wish, actions, frozenset(_customers(actions, owners)))


def _customers(actions: tuple[Action, ...], owners: Mapping[str, str]) -> Iterator[str]:
    for action in actions:
        if "user_id" in action.arguments:
            yield action.arguments["user_id"]
        elif (owner := owners.get(action.arguments.get("order_id", ""))) is not None:
            yield owner
