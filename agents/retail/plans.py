"""A customer's request as one plan: which steps over which agents answer each of its actions.

An action such as an exchange spans agents that do not see one another's state, so every action has the same shape:

    checks        reads; each refuses or says what follows (orders, catalogue, payments)
    change        the one reversible change of the order, with the rules checked again where the order lives
    money         charge or refund, where any moves now; a refund may wait for a person's approval
    undo          only if the money did not move: the change is taken back
    label         return label from whichever carrier serves the region best; none is no reason to fail
    notice        the mail, irreversible, after the last change of the whole request

Nothing half-done remains of a refused action. Every step is `optional`, so that a refused action does not stop the
customer's other ones; what refers to a refused step is skipped, and that is how a failed check stops its action. The
order is changed before the money moves, so an order that waits for a refund's approval is already stopped; if the
approval is denied or expires, or the charge is refused after all, `undo` restores the order as it was. If the whole
task is aborted (canceled, out of time) the steps' own compensations do the same.

Actions that touch the same order or the same customer run in the order given; the rest runs in parallel. Once a
request identifies a customer, everything else in it is bound to that customer and refused for anybody else's. Who asks
is found by an action of the request, or before all of them (`identities`): by email, or by name and zip code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .draft import CUSTOMER, Draft, Part, StepData, Template

WHO = "who"
"""What the steps that find the customer before all actions are called, where those are called by number."""
NO_LABEL = "Please bring the items to any of our stores; they will be registered there."
"""What the letter says when no carrier could be found."""
_NOTHING: StepData = {"id": "nothing", "call": "desk.acknowledge", "input": {}}
"""The plan of a request in which nothing is to be done: a plan has at least one step."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing done for a customer, named as in the store's task list, with its arguments."""

    name: str
    arguments: Mapping[str, Any]

    @property
    def identifies(self) -> bool:
        """Whether it says who the customer is."""
        return self.name in _IDENTIFICATIONS

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Action":
        return Action(data["name"], data["arguments"])


def plan_of(actions: Sequence[Action], identities: Sequence[Action] = ()) -> dict[str, Any]:
    """The plan of one customer's request, in which `identities` are looked up first of all; the first that is known is
    the customer. Without them, and before an action that finds one, the request is bound to nobody: that is for
    whoever knows whom they serve.

    Raises KeyError for an action the store does not know.
    """
    draft = Draft()
    for number, each in reversed([*enumerate(identities)]):
        _identify(Part(draft, f"{WHO}{number}", each.arguments), _IDENTIFICATIONS[each.name])
    for number, action in enumerate(actions):
        _ACTIONS[action.name](Part(draft, f"a{number}", action.arguments))
    return {"steps": draft.steps + draft.notices() or [_NOTHING], "output": draft.results}


def known_actions() -> list[str]:
    return list(_ACTIONS)


# Who is it?


def _find(call: str) -> Callable[[Part], None]:
    def build(part: Part) -> None:
        _identify(part, call)
        part.result("find")

    return build


def _identify(part: Part, call: str) -> None:
    step = part.read("find", call, dict(part.arguments), CUSTOMER)
    part.draft.identifications.insert(0, step)


# What is there?


def _order_details(part: Part) -> None:
    part.read("get", "orders.get", part.for_customer(part.arguments), part.arguments["order_id"])
    part.result("get")


def _user_details(part: Part) -> None:
    wanted = part.for_customer(part.arguments)
    part.read("get", "customers.get", wanted, CUSTOMER)
    part.read("methods", "payments.methods", wanted, CUSTOMER)
    part.draft.results[part.prefix] = {"profile": part.of("get"), "payment_methods": part.of("methods")}


def _lookup(call: str) -> Callable[[Part], None]:
    def build(part: Part) -> None:
        part.add("get", call, dict(part.arguments))
        part.result("get")

    return build


# What is to change?


def _cancel(part: Part) -> None:
    keys = (part.arguments["order_id"], CUSTOMER)
    part.add("change", "orders.cancel", part.for_customer(part.arguments), after=part.before(*keys))
    part.add("refund", "payments.refund", _payment(part, part.of("change", "payment_method_id")))
    paid_back = {"$ok": part.id("refund")}
    _undo(part, unless=paid_back)
    part.changes(keys, "change", "refund", "undo")
    part.letter("cancelled", when=paid_back, amount=part.of("change", "amount"), arrives=part.of("refund", "arrives"))
    part.result("change")


def _modify_items(part: Part) -> None:
    keys = (part.arguments["order_id"], CUSTOMER)
    _check_items(part, "orders.check_modification", "new item", keys)
    part.add("change", "orders.modify_items", _with_lines(part))
    extra = part.of("change", "difference")
    payment = _payment(part, part.arguments["payment_method_id"])
    part.add("charge", "payments.charge", {**payment, "purpose": "new item"}, when={"$gt": [extra, 0]})
    part.add("refund", "payments.refund", payment, when={"$le": [extra, 0]})
    settled = {"$or": [{"$ok": part.id("charge")}, {"$ok": part.id("refund")}]}
    _undo(part, unless=settled)
    part.changes(keys, "change", "charge", "refund", "undo")
    part.letter("items_modified", when=settled, amount=extra)
    part.result("change")


def _modify_address(part: Part) -> None:
    keys = (part.arguments["order_id"], CUSTOMER)
    part.add("change", "orders.modify_address", part.for_customer(_addressed(part)), after=part.before(*keys))
    part.changes(keys, "change")
    part.letter("order_readdressed", when={"$ok": part.id("change")})
    part.result("change")


def _modify_payment(part: Part) -> None:
    keys = (part.arguments["order_id"], CUSTOMER)
    method = part.arguments["payment_method_id"]
    part.add("check", "orders.check_payment", part.for_customer(part.arguments), after=part.before(*keys))
    _check_cover(part, part.of("check", "amount"), "order")
    change = part.for_customer(part.arguments)
    part.add("change", "orders.modify_payment", change, when={"$ok": part.id("cover")})
    charge = {**_payment(part, method), "purpose": "order"}
    part.add("charge", "payments.charge", charge)
    refund = _payment(part, part.of("check", "payment_method_id"))
    part.add("refund", "payments.refund", refund, when={"$ok": part.id("charge")})
    settled = {"$ok": part.id("refund")}
    unpaid = {"$and": [{"$ok": part.id("charge")}, {"$not": settled}]}
    part.add("reverse", "payments.reverse", {"entry": part.of("charge", "entry")}, when=unpaid)
    _undo(part, unless=settled)
    part.changes(keys, "change", "charge", "refund", "reverse", "undo")
    part.letter("payment_modified", when=settled, amount=part.of("change", "amount"))
    part.result("change")


def _modify_user_address(part: Part) -> None:
    input = part.for_customer({"user_id": part.arguments["user_id"], "address": _address(part)})
    part.add("change", "customers.modify_address", input, after=part.before(CUSTOMER))
    part.changes([CUSTOMER], "change")
    part.letter("customer_readdressed", when={"$ok": part.id("change")})
    part.result("change")


def _return(part: Part) -> None:
    keys = (part.arguments["order_id"], CUSTOMER)
    wanted = {name: part.arguments[name] for name in ("order_id", "item_ids")}
    part.add("check", "orders.check_return", part.for_customer(wanted), after=part.before(*keys))
    payee = {**_account(part), "paid_with": part.of("check", "payment_method_id")}
    part.add("payee", "payments.check_payee", payee)
    part.add("change", "orders.return_items", part.for_customer(part.arguments), when={"$ok": part.id("payee")})
    part.changes(keys, "change")
    _label_and_letter(part, "return_requested", amount=part.of("check", "amount"))
    part.result("change")


def _exchange(part: Part) -> None:
    keys = (part.arguments["order_id"], CUSTOMER)
    _check_items(part, "orders.check_exchange", "price difference", keys)
    part.add("change", "orders.exchange_items", _with_lines(part))
    part.changes(keys, "change")
    _label_and_letter(part, "exchange_requested", amount=part.of("change", "difference"))
    part.result("change")


# Pieces that several actions share


def _check_items(part: Part, call: str, purpose: str, keys: Sequence[str]) -> None:
    """The wishes fit the order, the new items are there, and the payment method covers the difference."""
    wanted = {name: part.arguments[name] for name in ("order_id", "item_ids", "new_item_ids")}
    part.add("check", call, part.for_customer(wanted), after=part.before(*keys))
    part.add("quote", "catalogue.quote", {"swaps": part.of("check", "swaps")})
    _check_cover(part, part.of("quote", "difference"), purpose)


def _check_cover(part: Part, amount: Template, purpose: str) -> None:
    part.add("cover", "payments.check_cover", {**_account(part), "amount": amount, "purpose": purpose})


def _account(part: Part) -> dict[str, Template]:
    return {"user_id": part.of("check", "user_id"), "payment_method_id": part.arguments["payment_method_id"]}


def _with_lines(part: Part) -> Template:
    """The change of an order's items. It takes the method from the check, so it is skipped when that refused."""
    return part.for_customer(
        {
            "order_id": part.arguments["order_id"],
            "lines": part.of("quote", "lines"),
            "payment_method_id": part.of("cover", "payment_method_id"),
        }
    )


def _payment(part: Part, method: Template) -> dict[str, Template]:
    return {
        "order_id": part.arguments["order_id"],
        "user_id": part.of("change", "user_id"),
        "payment_method_id": method,
        "amount": part.of("change", "amount"),
    }


def _undo(part: Part, *, unless: Any) -> None:
    changed = {"$ok": part.id("change")}
    input = {"order_id": part.arguments["order_id"], "change": part.of("change", "change")}
    part.add("undo", "orders.restore", input, when={"$and": [changed, {"$not": unless}]})


def _label_and_letter(part: Part, kind: str, *, amount: Template) -> None:
    done = {"$ok": part.id("change")}
    sender = {
        "order_id": part.arguments["order_id"],
        "address": part.of("change", "order.address"),
        "items": len(part.arguments["item_ids"]),
    }
    part.add("label", "carriers.label", sender, when=done)
    part.letter(kind, when=done, amount=amount, how={"$first": [part.of("label", "instructions"), NO_LABEL]})


def _address(part: Part) -> dict[str, Any]:
    names = ("address1", "address2", "city", "country", "state", "zip")
    return {name: part.arguments[name] for name in names}


def _addressed(part: Part) -> dict[str, Any]:
    return {"order_id": part.arguments["order_id"], "address": _address(part)}


_IDENTIFICATIONS = {
    "find_user_id_by_email": "customers.find_by_email",
    "find_user_id_by_name_zip": "customers.find_by_name",
}
_ACTIONS: dict[str, Callable[[Part], None]] = {
    **{name: _find(call) for name, call in _IDENTIFICATIONS.items()},
    "get_order_details": _order_details,
    "get_user_details": _user_details,
    "get_product_details": _lookup("catalogue.product"),
    "get_item_details": _lookup("catalogue.item"),
    "list_all_product_types": _lookup("catalogue.types"),
    "calculate": _lookup("desk.calculate"),
    "transfer_to_human_agents": _lookup("desk.transfer"),
    "cancel_pending_order": _cancel,
    "modify_pending_order_items": _modify_items,
    "modify_pending_order_address": _modify_address,
    "modify_pending_order_payment": _modify_payment,
    "modify_user_address": _modify_user_address,
    "return_delivered_order_items": _return,
    "exchange_delivered_order_items": _exchange,
}
