"""The store's policy, rule by rule."""

from typing import Any

import pytest

from hanse.agents.retail import policy
from hanse.agents.retail.address import Address
from hanse.agents.retail.order import Item, Order, Payment, Status
from hanse.agents.retail.product import Line, difference
from hanse.agents.retail.refusals import (
    InvalidReason,
    NotDelivered,
    NotPaidOnce,
    NotPending,
    OrderItemNotFound,
    OtherCustomer,
    OtherProduct,
    SameItem,
    SamePaymentMethod,
    UnequalCounts,
)

HOME = Address(address1="1 Pier", address2="", city="Boston", country="USA", state="MA", zip="02108")
AWAY = HOME.evolve(address1="2 Quay")
OVER = [status for status in Status if status is not Status.PENDING]


def item(item_id: str, price: float = 10.0, product_id: str = "lamp") -> Item:
    return Item(name="Lamp", product_id=product_id, item_id=item_id, price=price, options={"colour": item_id})


def line(old: str, new: str, price: float, product_id: str = "lamp") -> Line:
    return Line(product_id=product_id, item_id=old, new_item_id=new, price=price, options={"colour": new})


def order(status: Status = Status.PENDING, **changes: Any) -> Order:
    return Order(
        order_id="#W1",
        user_id="ada",
        address=HOME,
        items=changes.pop("items", [item("a"), item("b", 20.0)]),
        status=status,
        fulfillments=[],
        payment_history=changes.pop("paid", [payment(30.0)]),
        **changes,
    )


def payment(amount: float, method: str = "card", kind: Any = "payment") -> Payment:
    return Payment(transaction_type=kind, amount=amount, payment_method_id=method)


def test_only_the_identified_customer_is_served() -> None:
    policy.check_owner("ada", None)
    policy.check_owner("ada", "ada")
    with pytest.raises(OtherCustomer):
        policy.check_owner("ada", "bob")


# Cancel


@pytest.mark.parametrize("reason", policy.CANCEL_REASONS)
def test_a_cancelled_order_refunds_what_was_paid_to_what_paid_it(reason: str) -> None:
    after = policy.cancelled(order(), reason)
    assert after == order(Status.CANCELLED, cancel_reason=reason, paid=[payment(30.0), payment(30.0, kind="refund")])


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PENDING])
def test_only_a_pending_order_is_cancelled(status: Status) -> None:
    with pytest.raises(NotPending, match="Non-pending order cannot be cancelled"):
        policy.cancelled(order(status), "no longer needed")


def test_no_other_reason_cancels_an_order() -> None:
    with pytest.raises(InvalidReason):
        policy.cancelled(order(), "found it cheaper")


def test_after_a_change_of_payment_only_the_method_that_paid_last_is_refunded() -> None:
    after = policy.cancelled(policy.repaid(order(), "gift"), "no longer needed")
    assert after.payment_history[-1] == payment(30.0, "gift", "refund")
    assert len(after.payment_history) == 4


def test_an_order_paid_by_two_methods_is_left_to_people() -> None:
    with pytest.raises(NotPaidOnce):
        policy.cancelled(order(paid=[payment(10.0), payment(20.0, "gift")]), "no longer needed")


# Modify


def test_the_address_of_a_pending_order_changes() -> None:
    assert policy.readdressed(order(), AWAY) == order().evolve(address=AWAY)


@pytest.mark.parametrize("status", OVER)
def test_nothing_is_modified_in_an_order_that_is_not_pending(status: Status) -> None:
    for change in (
        lambda: policy.readdressed(order(status), AWAY),
        lambda: policy.repaid(order(status), "gift"),
        lambda: policy.modified(order(status), [line("a", "c", 12.0)], "card"),
    ):
        with pytest.raises(NotPending, match="Non-pending order cannot be modified"):
            change()


def test_items_are_modified_once() -> None:
    once = policy.modified(order(), [line("a", "c", 12.0)], "card")
    assert once.status is Status.MODIFIED
    with pytest.raises(NotPending):
        policy.modified(once, [line("b", "c", 12.0)], "card")


def test_a_dearer_item_is_paid_and_a_cheaper_one_paid_back() -> None:
    dearer = policy.modified(order(), [line("a", "c", 12.5)], "gift")
    cheaper = policy.modified(order(), [line("a", "c", 7.5)], "gift")
    assert dearer.payment_history == [payment(30.0), payment(2.5, "gift")]
    assert cheaper.payment_history == [payment(30.0), payment(2.5, "gift", "refund")]


def test_a_modified_item_keeps_its_place_and_takes_the_new_price_and_options() -> None:
    after = policy.modified(order(), [line("a", "c", 12.5)], "card")
    assert after.items == [item("c", 12.5), item("b", 20.0)]


def test_of_several_modified_items_all_get_price_and_options_of_the_last_as_the_store_records_it() -> None:
    after = policy.modified(order(), [line("a", "c", 12.5), line("b", "d", 21.0)], "card")
    assert [(each.item_id, each.price, each.options) for each in after.items] == [
        ("c", 21.0, {"colour": "d"}),
        ("d", 21.0, {"colour": "d"}),
    ]
    assert after.payment_history[-1] == payment(3.5)


def test_two_of_the_same_item_are_modified_one_by_one() -> None:
    twice = order(items=[item("a"), item("a")])
    after = policy.modified(twice, [line("a", "b", 10.0), line("a", "c", 10.0)], "card")
    assert [each.item_id for each in after.items] == ["b", "c"]


def test_an_item_is_not_modified_to_itself() -> None:
    with pytest.raises(SameItem):
        policy.check_modification(order(), ["a"], ["a"])


def test_an_item_is_not_modified_to_another_product() -> None:
    with pytest.raises(OtherProduct):
        policy.modified(order(), [line("a", "shoe", 10.0, product_id="shoes")], "card")
    with pytest.raises(OtherProduct):
        policy.exchanged(order(Status.DELIVERED), [line("a", "shoe", 10.0, product_id="shoes")], "card")


@pytest.mark.parametrize("ids", [["x"], ["a", "a"]])
def test_only_items_of_the_order_count_and_only_as_often_as_it_has_them(ids: list[str]) -> None:
    with pytest.raises(OrderItemNotFound, match=f"{ids[-1]} not found"):
        policy.check_modification(order(), ids, ["c"] * len(ids))
    with pytest.raises(OrderItemNotFound, match=f"Number of {ids[-1]} not found."):
        policy.check_exchange(order(Status.DELIVERED), ids, ["c"] * len(ids))
    with pytest.raises(OrderItemNotFound, match="Some item not found"):
        policy.check_return(order(Status.DELIVERED), ids)


def test_every_item_needs_one_new_item() -> None:
    with pytest.raises(UnequalCounts):
        policy.check_modification(order(), ["a", "b"], ["c"])
    with pytest.raises(UnequalCounts):
        policy.check_exchange(order(Status.DELIVERED), ["a"], ["c", "d"])


def test_a_check_says_of_which_product_each_new_item_must_be() -> None:
    swaps = policy.check_modification(order(), ["a"], ["c"])
    assert [each.to_data() for each in swaps] == [
        {"product_id": "lamp", "item_id": "a", "price": 10.0, "new_item_id": "c"}
    ]


# Pay another way


def test_another_method_pays_the_order_and_the_first_is_paid_back() -> None:
    after = policy.repaid(order(), "gift")
    assert after.status is Status.PENDING
    assert after.payment_history == [payment(30.0), payment(30.0, "gift"), payment(30.0, kind="refund")]


def test_the_other_method_must_be_another() -> None:
    with pytest.raises(SamePaymentMethod):
        policy.repaid(order(), "card")


@pytest.mark.parametrize("history", [[payment(30.0), payment(1.0)], [payment(30.0, kind="refund")], []])
def test_the_payment_of_an_order_is_changed_only_while_there_is_exactly_one(history: list[Payment]) -> None:
    with pytest.raises(NotPaidOnce):
        policy.repaid(order(paid=history), "gift")


# Return and exchange


def test_a_return_is_noted_with_its_items_sorted() -> None:
    after = policy.returned(order(Status.DELIVERED), ["b", "a"], "card")
    noted = order(Status.RETURN_REQUESTED, return_items=["a", "b"], return_payment_method_id="card")
    assert after == noted


def test_a_return_is_worth_what_the_items_cost() -> None:
    assert policy.check_return(order(Status.DELIVERED, items=[item("a", 0.1), item("b", 0.2)]), ["a", "b"]) == 0.3


def test_an_exchange_is_noted_with_its_difference_in_whole_cents() -> None:
    lines = [line("b", "d", 20.05), line("a", "c", 10.1)]
    after = policy.exchanged(order(Status.DELIVERED), lines, "gift")
    assert after == order(
        Status.EXCHANGE_REQUESTED,
        exchange_items=["a", "b"],
        exchange_new_items=["c", "d"],
        exchange_payment_method_id="gift",
        exchange_price_difference=0.15,
    )


def test_an_exchange_may_name_the_same_item_again() -> None:
    assert policy.exchanged(order(Status.DELIVERED), [line("a", "a", 10.0)], "card").exchange_price_difference == 0


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.DELIVERED])
def test_only_a_delivered_order_is_returned_or_exchanged(status: Status) -> None:
    with pytest.raises(NotDelivered, match="Non-delivered order cannot be returned"):
        policy.returned(order(status), ["a"], "card")
    with pytest.raises(NotDelivered, match="Non-delivered order cannot be exchanged"):
        policy.exchanged(order(status), [line("a", "c", 10.0)], "card")


def test_a_difference_is_added_up_in_floats_as_the_store_does() -> None:
    assert difference([268.77], [268.82]) == 268.82 - 268.77 != 0.05
    assert difference([0.3, 0.1], [0.1, 0.2]) == (0.0 + (0.1 - 0.3)) + (0.2 - 0.1)
