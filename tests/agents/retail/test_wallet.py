"""What may be charged and paid back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.agents.retail.money import cents, dollars, spoken
from hanse.agents.retail.refusals import AlreadySpent, InsufficientBalance, MethodNotFound, NotOriginalMethod
from hanse.agents.retail.wallet import PaymentMethod, Wallet

GIFT = PaymentMethod(source="gift_card", id="gift", balance=20.0)
CARD = PaymentMethod(source="credit_card", id="card", brand="visa", last_four="1234")
WALLET = Wallet(user_id="ada", payment_methods={"gift": GIFT, "card": CARD})


def balance(wallet: Wallet) -> float | None:
    return wallet.method("gift").balance


def test_a_gift_card_pays_down_to_its_last_cent() -> None:
    assert balance(WALLET.charged("gift", 20.0, "order")) == 0


@pytest.mark.parametrize("purpose", ["price difference", "new item", "order"])
def test_a_gift_card_does_not_pay_more_than_it_has(purpose: str) -> None:
    with pytest.raises(InsufficientBalance, match=f"Insufficient gift card balance to pay for the {purpose}"):
        WALLET.charged("gift", 20.01, purpose)  # pyright: ignore[reportArgumentType]


def test_less_than_a_cent_that_floats_left_behind_does_not_count() -> None:
    assert balance(WALLET.charged("gift", 20.000000000000004, "order")) == 0


def test_a_card_pays_anything_and_has_no_balance() -> None:
    assert WALLET.charged("card", 1e6, "order") == WALLET


def test_a_refund_raises_a_gift_card_at_once() -> None:
    assert balance(WALLET.refunded("gift", 0.1)) == 20.1
    assert WALLET.refunded("card", 5.0) == WALLET


def test_money_that_comes_back_needs_no_cover_but_a_method() -> None:
    assert WALLET.check_cover("gift", -99.0, "new item") == GIFT
    with pytest.raises(MethodNotFound, match="Payment method not found"):
        WALLET.check_cover("paypal", -99.0, "new item")


def test_a_refund_goes_to_the_method_that_paid_or_to_a_gift_card() -> None:
    assert WALLET.check_payee("card", "card") == CARD
    assert WALLET.check_payee("gift", "card") == GIFT
    with pytest.raises(NotOriginalMethod, match="Payment method should be the original payment method"):
        WALLET.check_payee("card", "gift")
    with pytest.raises(MethodNotFound):
        WALLET.check_payee("paypal", "paypal")


def test_a_refund_is_taken_back_unless_it_was_spent() -> None:
    refunded = WALLET.refunded("gift", 5.0)
    assert refunded.refund_taken_back("gift", 5.0) == WALLET
    with pytest.raises(AlreadySpent):
        refunded.charged("gift", 21.0, "order").refund_taken_back("gift", 5.0)


@given(st.integers(0, 10**13))
def test_cents_and_dollars_convert_without_loss(amount: int) -> None:
    assert cents(dollars(amount)) == amount


def test_letters_write_dollars_without_sign() -> None:
    assert (spoken(1234.5), spoken(-0.049999999)) == ("$1,234.50", "$0.05")
