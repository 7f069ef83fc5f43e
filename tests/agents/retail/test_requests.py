"""Customers' requests as whole plans: what negotiation decides, who is asked, and what is undone."""

from typing import Any

import pytest

from hanse.agents.retail import Action, Outcome, outcomes, plan_of
from hanse.agents.retail.identity import identities_in
from hanse.contracts import StepStatus, TaskStatus

from .conftest import PATIENCE_SECONDS, Ran, Store, address

FIND = Action("find_user_id_by_email", {"email": "ada@example.com"})
MOVE = Action("modify_user_address", {"user_id": "ada", **address("OH")})
PLENTY = "#BIG"
"""An order whose refund waits for a person."""


def cancel(order_id: str) -> Action:
    return Action("cancel_pending_order", {"order_id": order_id, "reason": "no longer needed"})


def swap(name: str, order_id: str, new_item_id: str, method: str = "card") -> Action:
    return Action(
        name,
        {
            "order_id": order_id,
            "item_ids": ["lamp_red"],
            "new_item_ids": [new_item_id],
            "payment_method_id": method,
        },
    )


def modify(order_id: str, new_item_id: str, method: str = "card") -> Action:
    return swap("modify_pending_order_items", order_id, new_item_id, method)


def exchange(order_id: str, new_item_id: str = "lamp_blue", method: str = "card") -> Action:
    return swap("exchange_delivered_order_items", order_id, new_item_id, method)


def pay_with(order_id: str, method: str) -> Action:
    return Action("modify_pending_order_payment", {"order_id": order_id, "payment_method_id": method})


async def ran(store: Store, *actions: Action) -> tuple[Ran, list[Outcome]]:
    done = await store.run(plan_of(actions))
    assert done.task.status is TaskStatus.COMPLETED, done.task.error
    return done, outcomes(actions, done.errors)


async def order(store: Store, order_id: str) -> Any:
    return await store.call("orders.get", {"order_id": order_id})


async def gift_balance(store: Store) -> float:
    return (await store.call("payments.methods", {"user_id": "ada"}))["payment_methods"]["gift"]["balance"]


async def ledger(store: Store) -> list[tuple[str, str, int, bool]]:
    entries = (await store.call("payments.ledger", {}))["documents"]
    return [(each["kind"], each["payment_method_id"], each["cents"], each["reversed"]) for each in entries]


# Negotiation


@pytest.mark.parametrize(
    ("order_id", "carrier", "refused"), [("#D", "harbour_post", set()), ("#WEST", "prairie_express", {"harbour_post"})]
)
async def test_the_cheaper_carrier_gets_the_label_where_it_drives(
    order_id: str, carrier: str, refused: set[str], store: Store
) -> None:
    done, (outcome,) = await ran(store, exchange(order_id))
    assert outcome.ok
    label = done.steps["a0_label"]
    assert label.agent == carrier
    assert {bid.agent for bid in label.bids if bid.refusal} == refused
    assert label.output["number"] in store.mailbox.bodies()[0]


async def test_where_no_carrier_drives_the_letter_says_what_to_do(store: Store) -> None:
    done, (outcome,) = await ran(store, exchange("#ABROAD"))
    assert outcome.ok
    assert done.steps["a0_label"].status is StepStatus.FAILED
    assert "bring the items to any of our stores" in store.mailbox.bodies()[0]


# Refusals


async def test_a_refused_action_leaves_nothing_and_stops_no_other(store: Store) -> None:
    before = await order(store, "#P")
    _, (dear, other, fine) = await ran(store, modify("#P", "lamp_gold", "gift"), cancel("#B?"), cancel("#G"))
    assert (dear.ok, dear.error) == (False, "Insufficient gift card balance to pay for the new item")
    assert (other.ok, other.error) == (False, "Order not found")
    assert fine.ok
    assert await order(store, "#P") == before
    assert await ledger(store) == [("refund", "gift", 35000, False)]
    assert store.mailbox.subjects() == ["Your order #G is cancelled"]


async def test_an_identified_customer_cannot_touch_the_orders_of_another(store: Store) -> None:
    _, (_, foreign, own) = await ran(store, FIND, cancel("#B"), cancel("#P"))
    assert not foreign.ok
    assert own.ok
    assert (await order(store, "#B"))["status"] == "pending"


async def test_a_request_for_somebody_else_than_who_asks_is_refused_as_the_policy_says(store: Store) -> None:
    wanted = [cancel("#B"), Action("modify_user_address", {"user_id": "bob", **address("OH")}), cancel("#P")]
    done = await store.run(plan_of(wanted, identities_in("You are Ada, ada@example.com.")))
    codes = {id: step.error.code for id, step in done.steps.items() if step.error}
    assert codes == {"a0_change": "customers.other", "a1_change": "customers.other"}
    assert (await order(store, "#B"))["status"] == "pending"
    assert (await order(store, "#P"))["status"] == "cancelled"


async def test_whoever_is_not_identified_gets_nothing_done(store: Store) -> None:
    nobody = Action("find_user_id_by_email", {"email": "nobody@example.com"})
    _, (found, cancelled) = await ran(store, nobody, cancel("#P"))
    assert (found.error, cancelled.ok) == ("User not found", False)
    assert (await order(store, "#P"))["status"] == "pending"


async def test_the_second_of_two_changes_meets_what_the_first_has_left(store: Store) -> None:
    _, (first, second) = await ran(store, modify("#P", "lamp_blue"), cancel("#P"))
    assert first.ok
    assert second.error == "Non-pending order cannot be cancelled"


async def test_after_its_items_an_order_is_not_modified_any_more_in_no_respect(store: Store) -> None:
    """ "The agent will not be able to modify or cancel the order anymore" (policy, Modify items)."""
    move = Action("modify_pending_order_address", {"order_id": "#P", **address("OH")})
    _, (first, *later) = await ran(store, modify("#P", "lamp_blue"), move, pay_with("#P", "gift"))
    assert first.ok
    assert [each.error for each in later] == ["Non-pending order cannot be modified"] * 2


# Money


async def test_a_dearer_item_is_charged_and_a_cheaper_one_refunded(store: Store) -> None:
    await ran(store, modify("#P", "lamp_blue", "gift"), modify("#G", "lamp_tin", "gift"))
    assert await ledger(store) == [("charge", "gift", 1000, False), ("refund", "gift", 4950, False)]
    assert await gift_balance(store) == 139.5


async def test_another_method_pays_and_the_first_is_refunded(store: Store) -> None:
    _, (outcome,) = await ran(store, pay_with("#G", "card"))
    assert outcome.ok
    assert await ledger(store) == [("charge", "card", 35000, False), ("refund", "gift", 35000, False)]
    assert await gift_balance(store) == 450.0


async def test_a_gift_card_that_does_not_cover_the_order_does_not_pay_it(store: Store) -> None:
    _, (outcome,) = await ran(store, pay_with("#P", "gift"))
    assert outcome.error == "Insufficient gift card balance to pay for the order"
    assert await ledger(store) == []


# People


async def asked(store: Store, *actions: Action) -> tuple[Any, Any]:
    """The task, waiting, and the question it waits for."""
    task = await store.federation.submit(plan=plan_of(actions))
    waiting = await store.federation.client.wait(task.id, PATIENCE_SECONDS)
    assert waiting.status is TaskStatus.INPUT_REQUIRED
    (question,) = await store.federation.client.approvals()
    return task, question


async def decided(store: Store, question: Any, task: Any, *, approve: bool) -> dict[str, Any]:
    await store.federation.client.decide(question.id, approve=approve, digest=question.digest)
    assert (await task.wait(PATIENCE_SECONDS)).status is TaskStatus.COMPLETED
    return {step.id: step for step in await task.steps()}


async def test_an_order_is_stopped_while_its_refund_waits_for_a_person(store: Store) -> None:
    task, question = await asked(store, cancel(PLENTY))
    assert question.capability == "payments.refund"
    assert question.input["amount"] == 600.0
    assert (await order(store, PLENTY))["status"] == "cancelled"
    assert store.mailbox.letters == []

    await decided(store, question, task, approve=True)
    assert await ledger(store) == [("refund", "card", 60000, False)]
    assert store.mailbox.subjects() == [f"Your order {PLENTY} is cancelled"]


async def test_a_denied_refund_leaves_the_order_as_it_was_and_the_other_wishes_are_served(store: Store) -> None:
    before = await order(store, PLENTY)
    actions = (cancel(PLENTY), cancel("#P"))
    task, question = await asked(store, *actions)
    steps = await decided(store, question, task, approve=False)

    errors = {id: each.error and each.error.detail for id, each in steps.items() if each.status != StepStatus.SKIPPED}
    denied, fine = outcomes(actions, errors)
    assert (denied.ok, fine.ok) == (False, True)
    assert await order(store, PLENTY) == before
    assert await ledger(store) == [("refund", "card", 35000, False)]
    assert store.mailbox.subjects() == ["Your order #P is cancelled"]


async def test_a_denied_refund_of_the_first_method_takes_the_charge_of_the_second_back(store: Store) -> None:
    before = await order(store, PLENTY)
    await store.call("payments.refund", {"user_id": "ada", "payment_method_id": "gift", "amount": 500, "order_id": "x"})
    task, question = await asked(store, pay_with(PLENTY, "gift"))
    assert await gift_balance(store) == 0.0
    await decided(store, question, task, approve=False)
    assert await order(store, PLENTY) == before
    assert await gift_balance(store) == 600.0


# Undoing


def with_thief(plan: dict[str, Any]) -> dict[str, Any]:
    """Somebody else empties the gift card between the check and the charge."""
    theft = {"user_id": "ada", "payment_method_id": "gift", "amount": 95, "order_id": "x", "purpose": "order"}
    thief = {"id": "thief", "call": "payments.charge", "input": theft, "after": ["a0_change"]}
    steps = [step | {"after": ["thief"]} if step["id"] == "a0_charge" else step for step in plan["steps"]]
    return {**plan, "steps": [*steps, thief]}


def with_end(plan: dict[str, Any]) -> dict[str, Any]:
    """Before the letters, something fails that the request cannot do without."""
    letters = [step | {"after": [*step["after"], "end"]} for step in plan["steps"] if "_notice" in step["id"]]
    others = [step for step in plan["steps"] if "_notice" not in step["id"]]
    last = [step["id"] for step in others if not step["id"].endswith("_contact")]
    end = {"id": "end", "call": "catalogue.product", "input": {"product_id": "?"}, "after": last}
    return {**plan, "steps": [*others, end, *letters]}


async def test_a_charge_that_is_refused_after_all_takes_the_change_back(store: Store) -> None:
    before = await order(store, "#P")
    actions = [modify("#P", "lamp_blue", "gift")]
    done = await store.run(with_thief(plan_of(actions)))
    (outcome,) = outcomes(actions, done.errors)
    assert outcome.error == "Insufficient gift card balance to pay for the new item"
    assert done.steps["a0_undo"].output == {"restored": True}
    assert await order(store, "#P") == before
    assert store.mailbox.letters == []


@pytest.mark.parametrize(
    "actions",
    [
        (cancel("#G"), modify("#P", "lamp_tin", "gift")),
        (exchange("#WEST"), exchange("#D")),
        (pay_with("#G", "card"), cancel("#G")),
        (modify("#P", "lamp_blue", "gift"), MOVE),
    ],
    ids=["refunds", "labels", "the same order twice", "address"],
)
async def test_an_aborted_request_leaves_the_store_as_it_was(actions: tuple[Action, ...], store: Store) -> None:
    before = await store.documents()
    done = await store.run(with_end(plan_of(actions)))
    assert done.task.status is TaskStatus.FAILED
    assert done.task.error
    assert done.task.error.code == "catalogue.product_not_found"
    assert await store.documents() == before
    assert all(reversed for *_, reversed in await ledger(store))
    assert {step.status for id, step in done.steps.items() if id.endswith("_label")} <= {StepStatus.COMPENSATED}
    assert store.mailbox.letters == []


async def test_what_the_plan_has_undone_itself_is_not_undone_again(store: Store) -> None:
    before = await order(store, "#P")
    plan = with_end(with_thief(plan_of([modify("#P", "lamp_blue", "gift")])))
    done = await store.run(plan)
    assert done.task.status is TaskStatus.FAILED
    assert done.task.error
    assert done.task.error.code == "catalogue.product_not_found"
    assert await order(store, "#P") == before
    assert await gift_balance(store) == 100.0
