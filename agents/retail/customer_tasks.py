"""The 74 customers' tasks of the data set, each as a request in words and as a plan."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from . import dataset
from .identity import identities_in
from .plans import Action, plan_of


@dataclass(frozen=True)
class CustomerTask:
    """One customer's request."""

    id: str
    wish: str
    """What the customer said."""
    known: str
    """What the customer says of themselves."""
    actions: tuple[Action, ...]
    customers: frozenset[str]
    """Whose documents it may change. Tasks of different customers do not meet and may run at once."""

    @cached_property
    def plan(self) -> dict[str, Any]:
        """Plan JSON, see `plans`. Whom no action identifies is identified first, by what they say of themselves."""
        identified = any(action.identifies for action in self.actions)
        return plan_of(self.actions, () if identified else identities_in(self.known))


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
    said = data["user_scenario"]["instructions"]
    customers = frozenset(_customers(actions, owners))
    return CustomerTask(data["id"], said["reason_for_call"], said["known_info"] or "", actions, customers)


def _customers(actions: tuple[Action, ...], owners: Mapping[str, str]) -> Iterator[str]:
    for action in actions:
        if "user_id" in action.arguments:
            yield action.arguments["user_id"]
        elif (owner := owners.get(action.arguments.get("order_id", ""))) is not None:
            yield owner
