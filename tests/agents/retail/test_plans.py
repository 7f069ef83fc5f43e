"""Customers' requests as plans."""

import pytest

from hanse.agents.retail import Action, CustomerTask, customer_tasks, dataset, of_different_customers, outcomes, plan_of
from hanse.agents.retail.identity import identities_in
from hanse.agents.retail.plans import known_actions
from hanse.contracts import Plan, StepId

TASKS = customer_tasks()
CANCEL = Action("cancel_pending_order", {"order_id": "#W1", "reason": "no longer needed"})
RETURN = Action(
    "return_delivered_order_items", {"order_id": "#W1", "item_ids": ["a"], "payment_method_id": "gift_card_1"}
)
GET = Action("get_order_details", {"order_id": "#W1"})
FIND = Action("find_user_id_by_email", {"email": "ada@example.com"})


def parsed(*actions: Action) -> Plan:
    return Plan.parse(plan_of(actions))


def waits_for(plan: Plan, step: str) -> set[str]:
    """Everything that comes before a step."""
    direct = plan.dependencies[StepId(step)]
    return set(direct).union(*(waits_for(plan, each) for each in direct))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_every_task_of_the_data_set_is_a_plan(task: CustomerTask) -> None:
    plan = Plan.parse(task.plan)
    assert all(step.optional for step in plan.steps) or task.actions == ()


def test_the_store_knows_every_action_of_the_data_set() -> None:
    assert {action.name for task in TASKS for action in task.actions} <= set(known_actions())


def test_a_request_for_nothing_is_acknowledged() -> None:
    assert [step.call for step in parsed().steps] == ["desk.acknowledge"]


def test_letters_come_after_every_change_of_the_request() -> None:
    plan = parsed(CANCEL, RETURN)
    changing = {"a0_change", "a0_refund", "a0_undo", "a1_change"}
    assert changing <= waits_for(plan, "a0_notice") & waits_for(plan, "a1_notice")


def test_the_order_changes_before_the_money_moves() -> None:
    assert "a0_change" in waits_for(parsed(CANCEL), "a0_refund")


def test_what_touches_the_same_order_runs_in_the_order_given() -> None:
    plan = parsed(GET, CANCEL, GET)
    assert "a0_get" in waits_for(plan, "a1_change")
    assert {"a1_change", "a1_undo"} <= waits_for(plan, "a2_get")


def test_a_customers_changes_run_one_after_another() -> None:
    other = Action("cancel_pending_order", {"order_id": "#W2", "reason": "no longer needed"})
    assert {"a0_refund", "a0_undo"} <= waits_for(parsed(CANCEL, other), "a1_change")


def test_what_only_reads_runs_at_once() -> None:
    other = Action("get_order_details", {"order_id": "#W2"})
    assert waits_for(parsed(GET, other), "a1_get") == set()


def test_a_request_is_bound_to_the_customer_it_identifies() -> None:
    steps = parsed(FIND, FIND, CANCEL).by_id
    assert steps[StepId("a2_change")].input["customer"] == {
        "$first": [{"$from": "a1_find.user_id"}, {"$from": "a0_find.user_id"}]
    }
    assert "customer" not in parsed(CANCEL).by_id[StepId("a0_change")].input


def test_who_says_who_they_are_is_looked_up_before_anything_else_and_the_first_that_is_known_counts() -> None:
    plan = plan_of([CANCEL], identities_in("You are Ada Pier, ada@example.org or ada@example.com, zip 02108."))
    assert [(step["call"], step["input"]) for step in plan["steps"][:2]] == [
        ("customers.find_by_email", {"email": "ada@example.com"}),
        ("customers.find_by_email", {"email": "ada@example.org"}),
    ]
    steps = Plan.parse(plan).by_id
    assert steps[StepId("a0_change")].input["customer"] == {
        "$first": [{"$from": "who0_find.user_id"}, {"$from": "who1_find.user_id"}]
    }
    assert plan["output"].keys() == {"a0"}, "what nobody asked for is not answered"


@pytest.mark.parametrize("words", ["You are {} in zip code 19122.", "You name is {}, 19122.", "You're {} (19122)."])
def test_without_an_address_a_name_and_a_zip_code_will_do(words: str) -> None:
    (identity,) = identities_in(words.format("Yusuf Rossi"))
    assert identity == Action("find_user_id_by_name_zip", {"first_name": "Yusuf", "last_name": "Rossi", "zip": "19122"})


@pytest.mark.parametrize("words", ["", "You are Yusuf Rossi.", "You are yusuf_rossi_9620, 19122.", "Zip 19122."])
def test_a_user_id_or_half_of_it_identifies_nobody(words: str) -> None:
    assert identities_in(words) == ()


def test_an_unknown_action_is_no_plan() -> None:
    with pytest.raises(KeyError):
        plan_of([Action("give_away_the_store", {})])


def test_an_action_is_refused_with_the_error_of_its_first_failed_step() -> None:
    steps = {"a0_find": None, "a1_check": None, "a1_payee": "Payment method not found", "a2_change": None}
    found, returned, cancelled = outcomes([FIND, RETURN, CANCEL], steps)
    assert (found.ok, cancelled.ok) == (True, True)
    assert (returned.ok, returned.error) == (False, "Payment method not found")


def test_an_action_that_was_never_reached_is_refused_too() -> None:
    assert not outcomes([CANCEL], {})[0].ok


def test_a_missing_label_refuses_nothing() -> None:
    assert outcomes([RETURN], {"a0_check": None, "a0_payee": None, "a0_change": None, "a0_label": "none"})[0].ok


def test_tasks_of_different_customers_do_not_meet() -> None:
    chosen = of_different_customers(TASKS)
    customers = [customer for task in chosen for customer in task.customers]
    assert len(customers) == len(set(customers))
    assert len(chosen) > 40


def test_the_tasks_know_whose_documents_they_change() -> None:
    owners = {key: order["user_id"] for key, order in dataset.initial()["orders"].items()}
    for task in TASKS:
        changed = dataset.expected()[task.id]["changed"]
        touched = set(changed.get("users", {})) | {owners[order] for order in changed.get("orders", {})}
        assert touched <= task.customers, task.id
