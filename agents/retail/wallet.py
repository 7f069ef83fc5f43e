"""A customer's payment methods as a value, with pure rules for what may be charged and paid back.

Only gift cards have a balance here. What is charged to a card or a paypal account is somebody else's money; the
ledger notes it.
"""

from typing import Literal

from .document import Document
from .money import cents, dollars
from .refusals import AlreadySpent, InsufficientBalance, MethodNotFound, NotOriginalMethod

Source = Literal["gift_card", "paypal", "credit_card"]
Purpose = Literal["price difference", "new item", "order"]
"""What a charge is for; it ends the sentence `Insufficient gift card balance to pay for the …`."""


class PaymentMethod(Document):
    """A way to pay, as the store's documents have it. Fields that do not apply are null."""

    source: Source
    id: str
    brand: str | None = None
    last_four: str | None = None
    balance: float | None = None
    """Dollars left on a gift card."""


class Wallet(Document):
    """The payment methods of one customer, by id."""

    user_id: str
    payment_methods: dict[str, PaymentMethod]

    def method(self, payment_method_id: str) -> PaymentMethod:
        """Raises MethodNotFound."""
        if payment_method_id not in self.payment_methods:
            raise MethodNotFound(customer=self.user_id, payment_method=payment_method_id)
        return self.payment_methods[payment_method_id]

    def check_cover(self, payment_method_id: str, amount: float, purpose: Purpose) -> PaymentMethod:
        """The method, when it can pay `amount` dollars. A negative amount only needs a method that exists."""
        method = self.method(payment_method_id)
        if method.balance is not None and cents(method.balance) < cents(amount):
            raise InsufficientBalance(
                f"Insufficient gift card balance to pay for the {purpose}", payment_method=payment_method_id
            )
        return method

    def check_payee(self, payment_method_id: str, paid_with: str) -> PaymentMethod:
        """A refund goes to the method that paid, or to a gift card the customer has. Raises NotOriginalMethod."""
        method = self.method(payment_method_id)
        if method.source != "gift_card" and payment_method_id != paid_with:
            raise NotOriginalMethod(payment_method=payment_method_id, paid_with=paid_with)
        return method

    def charged(self, payment_method_id: str, amount: float, purpose: Purpose) -> "Wallet":
        """The wallet after `amount` dollars were taken. Raises as `check_cover`."""
        self.check_cover(payment_method_id, amount, purpose)
        return self._moved(payment_method_id, -cents(amount))

    def refunded(self, payment_method_id: str, amount: float) -> "Wallet":
        """The wallet after `amount` dollars were paid back."""
        return self._moved(payment_method_id, cents(amount))

    def refund_taken_back(self, payment_method_id: str, amount: float) -> "Wallet":
        """The wallet as if the refund had not been. Raises AlreadySpent rather than leave a card below zero."""
        method = self.method(payment_method_id)
        if method.balance is not None and cents(method.balance) < cents(amount):
            raise AlreadySpent(payment_method=payment_method_id)
        return self._moved(payment_method_id, -cents(amount))

    def _moved(self, payment_method_id: str, change_cents: int) -> "Wallet":
        method = self.method(payment_method_id)
        if method.balance is None:
            return self
        balance = dollars(cents(method.balance) + change_cents)
        return self.evolve(payment_methods={**self.payment_methods, method.id: method.evolve(balance=balance)})
