"""The store as one document set, and the parts of it that each agent keeps.

One set is `{"orders": {id: …}, "users": {id: …}, "products": {id: …}}`. No agent has it: customers keep profiles,
payments keep the payment methods, orders the orders, catalogue the products.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from .order import Order

Documents = dict[str, Any]
DocumentSet = dict[str, Documents]


def profile(user: Mapping[str, Any]) -> Documents:
    """A user without the payment methods: what `customers` keeps."""
    return {name: value for name, value in user.items() if name != "payment_methods"}


def wallet(user: Mapping[str, Any]) -> Documents:
    """A user's payment methods: what `payments` keeps."""
    return {"user_id": user["user_id"], "payment_methods": user["payment_methods"]}


def joined(
    *,
    orders: Iterable[Documents],
    profiles: Iterable[Documents],
    wallets: Iterable[Documents],
    products: Iterable[Documents] = (),
) -> DocumentSet:
    """One document set from what the agents export. Every profile has a wallet of the same user."""
    methods = {each["user_id"]: each["payment_methods"] for each in wallets}
    return {
        "orders": {each["order_id"]: each for each in orders},
        "users": {each["user_id"]: _user(each, methods[each["user_id"]]) for each in profiles},
        "products": {each["product_id"]: each for each in products},
    }


def completed(documents: DocumentSet) -> DocumentSet:
    """The set with every field of every order present, null where nothing happened, as the agents export it."""
    orders = {key: Order.model_validate(order).to_data() for key, order in documents["orders"].items()}
    return {**documents, "orders": orders}


def changed(before: DocumentSet, after: DocumentSet) -> DocumentSet:
    """The documents of `after` that differ from `before`, without kinds in which nothing does."""
    kinds = {kind: _changed(before.get(kind, {}), documents) for kind, documents in after.items()}
    return {kind: documents for kind, documents in kinds.items() if documents}


def _changed(before: Documents, after: Documents) -> Documents:
    return {key: document for key, document in after.items() if before.get(key) != document}


def _user(profile: Documents, payment_methods: Documents) -> Documents:
    return {**profile, "payment_methods": {key: _present(method) for key, method in payment_methods.items()}}


def _present(method: Documents) -> Documents:
    return {name: value for name, value in method.items() if value is not None}
