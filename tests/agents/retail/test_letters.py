"""What the store writes."""

from typing import Any

import pytest

from hanse.agents.retail.letters import KINDS, Notice, written


def notice(kind: str, **details: Any) -> Notice:
    return Notice.model_validate({"kind": kind, "to": "ada@example.com", "name": "Ada", "order_id": "#W1", **details})


@pytest.mark.parametrize("kind", KINDS)
def test_every_letter_addresses_the_customer_and_has_no_gaps(kind: str) -> None:
    letter = written(notice(kind, amount=-1234.5, arrives="immediately", how="Wait for the carrier."))
    assert letter.body.startswith("Dear Ada,\n\n")
    assert "{" not in letter.subject + letter.body
    assert "  " not in letter.body


def test_a_cancellation_says_what_comes_back_and_when() -> None:
    body = written(notice("cancelled", amount=30.0, arrives="in 5 to 7 business days")).body
    assert "$30.00 goes back to the payment method you used, in 5 to 7 business days." in body


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (-2.5, "You get back the difference of $2.50."),
        (2.5, "You pay the difference of $2.50."),
        (0, "The price stays the same."),
    ],
)
def test_a_difference_says_who_pays_it(amount: float, words: str) -> None:
    assert words in written(notice("items_modified", amount=amount)).body


def test_a_return_says_what_to_do_with_the_goods() -> None:
    assert "Wait for the carrier." in written(notice("return_requested", how="Wait for the carrier.")).body
