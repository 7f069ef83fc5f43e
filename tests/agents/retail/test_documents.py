"""The document set and its parts."""

from hanse.agents.retail import dataset, documents
from hanse.agents.retail.customer import Customer, folded
from hanse.agents.retail.wallet import Wallet


def test_the_parts_make_the_whole_again() -> None:
    whole = documents.completed(dataset.initial())
    users = whole["users"].values()
    profiles = [Customer.model_validate(documents.profile(user)).to_data() for user in users]
    wallets = [Wallet.model_validate(documents.wallet(user)).to_data() for user in users]
    again = documents.joined(
        orders=whole["orders"].values(), profiles=profiles, wallets=wallets, products=whole["products"].values()
    )
    assert again == whole


def test_only_documents_that_differ_are_changed() -> None:
    before = {"orders": {"a": {"x": 1}, "b": {"x": 2}}, "users": {"c": {}}}
    after = {"orders": {"a": {"x": 1}, "b": {"x": 3}}, "users": {"c": {}}}
    assert documents.changed(before, after) == {"orders": {"b": {"x": 3}}}


def test_the_shipped_data_is_the_store_of_the_reference() -> None:
    store = dataset.initial()
    assert {kind: len(each) for kind, each in store.items()} == {"products": 50, "users": 500, "orders": 1000}
    assert len(dataset.tasks()) == len(dataset.expected()) == 74
    assert sum(bool(each["changed"]) for each in dataset.expected().values()) == 67


def test_names_are_compared_as_they_sound() -> None:
    assert folded(" Vázquez ") == folded("VAZQUEZ")
