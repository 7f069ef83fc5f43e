"""What each agent of the store does and refuses, called one capability at a time."""

from typing import Any

import pytest

from hanse.agents.retail import refusals
from hanse.contracts import HanseError, InvalidInput, InvalidPlan

from .conftest import Store, address

LAMP = {"product_id": "lamp", "item_id": "lamp_red", "price": 300.0}
ADA = {"user_id": "ada"}


def line(new_item_id: str, price: float) -> dict[str, Any]:
    return {**LAMP, "new_item_id": new_item_id, "price": price, "options": {"kind": new_item_id}}


REFUSED = [
    ("orders.get", {"order_id": "#?"}, refusals.OrderNotFound, "Order not found"),
    ("orders.get", {"order_id": "#B", "customer": "ada"}, refusals.OtherCustomer, None),
    ("orders.cancel", {"order_id": "#D", "reason": "no longer needed"}, refusals.NotPending, None),
    ("orders.cancel", {"order_id": "#P", "reason": "bored"}, refusals.InvalidReason, "Invalid reason"),
    ("orders.modify_address", {"order_id": "#D", "address": address()}, refusals.NotPending, None),
    ("orders.check_payment", {"order_id": "#P", "payment_method_id": "card"}, refusals.SamePaymentMethod, None),
    ("orders.modify_payment", {"order_id": "#P", "payment_method_id": "card"}, refusals.SamePaymentMethod, None),
    (
        "orders.check_modification",
        {"order_id": "#P", "item_ids": ["lamp_red"], "new_item_ids": ["lamp_red"]},
        refusals.SameItem,
        None,
    ),
    (
        "orders.check_modification",
        {"order_id": "#P", "item_ids": ["lamp_red"], "new_item_ids": []},
        refusals.UnequalCounts,
        None,
    ),
    (
        "orders.check_exchange",
        {"order_id": "#P", "item_ids": ["lamp_red"], "new_item_ids": ["lamp_blue"]},
        refusals.NotDelivered,
        "Non-delivered order cannot be exchanged",
    ),
    (
        "orders.check_return",
        {"order_id": "#D", "item_ids": ["lamp_red", "lamp_red"]},
        refusals.OrderItemNotFound,
        "Some item not found",
    ),
    (
        "orders.return_items",
        {"order_id": "#P", "item_ids": ["lamp_red"], "payment_method_id": "card"},
        refusals.NotDelivered,
        "Non-delivered order cannot be returned",
    ),
    (
        "orders.exchange_items",
        {"order_id": "#D", "lines": [{**line("shoe_40", 50.0), "product_id": "shoe"}], "payment_method_id": "card"},
        refusals.OtherProduct,
        None,
    ),
    ("orders.restore", {"order_id": "#P", "change": "never"}, refusals.ChangeNotFound, None),
    ("catalogue.product", {"product_id": "?"}, refusals.ProductNotFound, "Product not found"),
    ("catalogue.item", {"item_id": "?"}, refusals.ItemNotFound, "Item not found"),
    ("catalogue.quote", {"swaps": [{**LAMP, "new_item_id": "?"}]}, refusals.VariantNotFound, "Variant not found"),
    (
        "catalogue.quote",
        {"swaps": [{**LAMP, "new_item_id": "lamp_gone"}]},
        refusals.NotAvailable,
        "New item lamp_gone not found or available",
    ),
    ("customers.find_by_email", {"email": "?"}, refusals.CustomerNotFound, "User not found"),
    (
        "customers.find_by_name",
        {"first_name": "Ada", "last_name": "Ray", "zip": "?"},
        refusals.CustomerNotFound,
        "User not found",
    ),
    ("customers.get", {"user_id": "?"}, refusals.CustomerNotFound, "User not found"),
    ("customers.get", {"user_id": "bob", "customer": "ada"}, refusals.OtherCustomer, None),
    ("payments.methods", {"user_id": "bob", "customer": "ada"}, refusals.OtherCustomer, None),
    (
        "payments.check_cover",
        {**ADA, "payment_method_id": "paypal", "amount": -1, "purpose": "new item"},
        refusals.MethodNotFound,
        "Payment method not found",
    ),
    (
        "payments.check_cover",
        {**ADA, "payment_method_id": "gift", "amount": 100.01, "purpose": "price difference"},
        refusals.InsufficientBalance,
        "Insufficient gift card balance to pay for the price difference",
    ),
    (
        "payments.check_payee",
        {**ADA, "payment_method_id": "card", "paid_with": "gift"},
        refusals.NotOriginalMethod,
        "Payment method should be the original payment method",
    ),
    (
        "payments.charge",
        {**ADA, "payment_method_id": "gift", "amount": 100.01, "order_id": "#P", "purpose": "order"},
        refusals.InsufficientBalance,
        "Insufficient gift card balance to pay for the order",
    ),
    (
        "payments.refund",
        {**ADA, "payment_method_id": "paypal", "amount": 1, "order_id": "#P"},
        refusals.MethodNotFound,
        None,
    ),
    ("payments.reverse", {"entry": "never"}, refusals.EntryNotFound, None),
    ("desk.calculate", {"expression": "1 / 0"}, refusals.InvalidExpression, None),
    ("desk.withdraw", {"handover": "never"}, refusals.HandoverNotFound, None),
]


@pytest.mark.parametrize(("capability", "input", "refusal", "words"), REFUSED)
async def test_a_rule_of_the_store_is_a_typed_refusal_that_changes_nothing(
    capability: str, input: dict[str, Any], refusal: type[HanseError], words: str | None, store: Store
) -> None:
    before = await store.documents()
    with pytest.raises(refusal) as refused:
        await store.call(capability, input)
    assert words is None or refused.value.detail == words
    assert await store.documents() == before


@pytest.mark.parametrize(
    ("capability", "input"),
    [
        ("payments.refund", {**ADA, "payment_method_id": "gift", "amount": -1, "order_id": "#P"}),
        ("orders.cancel", {"order_id": "#P", "reason": "no longer needed", "costumer": "ada"}),
        ("orders.export", {"limit": 0}),
        ("notices.send", {"kind": "advertisement", "to": "ada@example.com", "name": "Ada"}),
    ],
)
async def test_what_no_contract_takes_is_refused_before_it_starts(
    capability: str, input: dict[str, Any], store: Store
) -> None:
    with pytest.raises((InvalidInput, InvalidPlan)):
        await store.call(capability, input)


# Orders


async def test_a_change_of_an_order_can_be_taken_back_and_again_does_nothing(store: Store) -> None:
    before = await store.call("orders.get", {"order_id": "#P"})
    done = await store.call("orders.cancel", {"order_id": "#P", "reason": "no longer needed"})
    assert (done["amount"], done["payment_method_id"]) == (350.0, "card")
    undo = {"order_id": "#P", "change": done["change"]}
    assert await store.call("orders.restore", undo) == {"restored": True}
    assert await store.call("orders.get", {"order_id": "#P"}) == before
    assert await store.call("orders.restore", undo) == {"restored": False}


async def test_only_the_latest_change_of_an_order_is_taken_back(store: Store) -> None:
    changes = [
        (await store.call("orders.modify_address", {"order_id": "#P", "address": address(state)}))["change"]
        for state in ("OH", "FL")
    ]
    with pytest.raises(refusals.ChangedSince):
        await store.call("orders.restore", {"order_id": "#P", "change": changes[0]})
    for change in reversed(changes):
        await store.call("orders.restore", {"order_id": "#P", "change": change})
    assert (await store.call("orders.get", {"order_id": "#P"}))["address"] == address()


async def test_a_quote_and_a_change_agree_on_the_difference(store: Store) -> None:
    wanted = {"order_id": "#P", "item_ids": ["lamp_red"], "new_item_ids": ["lamp_tin"]}
    check = await store.call("orders.check_modification", wanted)
    quote = await store.call("catalogue.quote", {"swaps": check["swaps"]})
    change = {"order_id": "#P", "lines": quote["lines"], "payment_method_id": "card"}
    done = await store.call("orders.modify_items", change)
    assert quote["difference"] == done["difference"] == -49.5
    assert done["amount"] == 49.5


async def test_exports_come_in_pages(store: Store) -> None:
    first = await store.call("orders.export", {"limit": 5})
    rest = await store.call("orders.export", {"limit": 5, "after": first["next"]})
    assert [each["order_id"] for each in first["documents"] + rest["documents"]] == sorted(
        ["#P", "#G", "#BIG", "#D", "#WEST", "#ABROAD", "#B"]
    )
    assert rest["next"] is None


# Customers


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@Example.com "])
async def test_a_customer_is_found_by_email(email: str, store: Store) -> None:
    assert await store.call("customers.find_by_email", {"email": email}) == ADA


async def test_a_customer_is_found_by_name_and_the_zip_code_of_today(store: Store) -> None:
    ada = {"first_name": "ada", "last_name": "RAY"}
    moved = await store.call("customers.modify_address", {**ADA, "address": {**address(), "zip": "20002"}})
    assert await store.call("customers.find_by_name", {**ada, "zip": "20002"}) == ADA
    with pytest.raises(refusals.CustomerNotFound):
        await store.call("customers.find_by_name", {**ada, "zip": "10001"})
    for restored in (True, False):
        undo = {**ADA, "change": moved["change"]}
        assert await store.call("customers.restore", undo) == {"restored": restored}
    assert await store.call("customers.find_by_name", {**ada, "zip": "10001"}) == ADA
    with pytest.raises(refusals.CustomerNotFound):
        await store.call("customers.find_by_name", {**ada, "zip": "20002"})


# Catalogue


async def test_an_item_is_found_without_its_product(store: Store) -> None:
    item = await store.call("catalogue.item", {"item_id": "shoe_40"})
    assert item == {"item_id": "shoe_40", "options": {"kind": "shoe_40"}, "available": True, "price": 50.0}


async def test_types_come_in_the_order_of_their_names(store: Store) -> None:
    types = (await store.call("catalogue.types", {}))["types"]
    assert list(types.items()) == [("lamp", "lamp"), ("shoe", "shoe")]


# Payments


@pytest.mark.parametrize(("kind", "balance"), [("charge", 70.0), ("refund", 130.0)])
async def test_money_that_moved_is_in_the_ledger_and_can_be_taken_back(kind: str, balance: float, store: Store) -> None:
    request = {**ADA, "payment_method_id": "gift", "amount": 30.0, "order_id": "#P"}
    moved = await store.call(f"payments.{kind}", request | ({"purpose": "order"} if kind == "charge" else {}))
    assert moved["balance"] == balance
    assert [await store.call("payments.reverse", {"entry": moved["entry"]}) for _ in range(2)] == [
        {"restored": True},
        {"restored": False},
    ]
    methods = await store.call("payments.methods", ADA)
    assert methods["payment_methods"]["gift"]["balance"] == 100.0
    (entry,) = (await store.call("payments.ledger", {}))["documents"]
    assert (entry["kind"], entry["cents"], entry["order_id"], entry["reversed"]) == (kind, 3000, "#P", True)


@pytest.mark.parametrize(("method", "arrives"), [("gift", "immediately"), ("card", "in 5 to 7 business days")])
async def test_a_refund_says_when_it_arrives(method: str, arrives: str, store: Store) -> None:
    request = {**ADA, "payment_method_id": method, "amount": 30.0, "order_id": "#P"}
    assert (await store.call("payments.refund", request))["arrives"] == arrives


async def test_a_refund_that_was_spent_is_not_taken_back(store: Store) -> None:
    request = {**ADA, "payment_method_id": "gift", "order_id": "#P"}
    refund = await store.call("payments.refund", {**request, "amount": 30.0})
    await store.call("payments.charge", {**request, "amount": 125.0, "purpose": "order"})
    with pytest.raises(refusals.AlreadySpent):
        await store.call("payments.reverse", {"entry": refund["entry"]})


# Desk and notices


async def test_the_desk_reckons_and_hands_over(store: Store) -> None:
    assert await store.call("desk.calculate", {"expression": "652.61 + 473.43"}) == {"value": "1126.04"}
    transfer = await store.call("desk.transfer", {"summary": "wants a person"})
    assert transfer["message"] == "YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON."
    assert await store.call("desk.withdraw", {"handover": transfer["handover"]}) == {"restored": True}


async def test_a_letter_goes_out_and_is_remembered(store: Store) -> None:
    notice = {"kind": "order_readdressed", "to": "ada@example.com", "name": "Ada", "order_id": "#P"}
    sent = await store.call("notices.send", notice)
    (letter,) = store.mailbox.letters
    assert (letter["To"], letter["Subject"]) == ("ada@example.com", "Your order #P goes to a new address")
    assert (await store.call("notices.sent", {}))["documents"] == [sent]
