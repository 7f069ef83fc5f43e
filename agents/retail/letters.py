"""What the store writes to its customers: one letter per kind of change, as pure text."""

from typing import Literal, get_args

from .document import Document, Request
from .money import spoken

Kind = Literal[
    "cancelled",
    "items_modified",
    "order_readdressed",
    "payment_modified",
    "customer_readdressed",
    "return_requested",
    "exchange_requested",
]
KINDS: tuple[str, ...] = get_args(Kind)


class Notice(Request):
    """What a letter is made of. What a kind does not need may be left out."""

    kind: Kind
    to: str
    """Email address."""
    name: str
    """First name, for the salutation."""
    order_id: str = ""
    amount: float = 0
    """Dollars. A difference is negative when the customer gets money back."""
    arrives: str = ""
    """When a refund arrives."""
    how: str = ""
    """What to do with the goods."""


class Letter(Document):
    subject: str
    body: str


_SUBJECTS: dict[Kind, str] = {
    "cancelled": "Your order {order} is cancelled",
    "items_modified": "Your order {order} has been changed",
    "order_readdressed": "Your order {order} goes to a new address",
    "payment_modified": "Your order {order} is paid another way",
    "customer_readdressed": "Your address has been changed",
    "return_requested": "How to return items of your order {order}",
    "exchange_requested": "How to exchange items of your order {order}",
}
_BODIES: dict[Kind, str] = {
    "cancelled": "we have cancelled your order {order}. {amount} goes back to the payment method you used, {arrives}.",
    "items_modified": "the items of your order {order} have been changed. {difference} They cannot be changed again.",
    "order_readdressed": "your order {order} will be sent to the address you gave us.",
    "payment_modified": "your order {order} is now paid by the method you chose; {amount} go back to the first one.",
    "customer_readdressed": "we have changed the default address in your profile. If that was not you, please call us.",
    "return_requested": "we have noted your return for order {order}. {how}\n\n{amount} follow once we have the items.",
    "exchange_requested": "we have noted your exchange for order {order}. {how}\n\n{difference}",
}


def written(notice: Notice) -> Letter:
    words = {
        "order": notice.order_id,
        "amount": spoken(notice.amount),
        "difference": _difference(notice.amount),
        "arrives": notice.arrives,
        "how": notice.how,
    }
    body = _BODIES[notice.kind].format_map(words)
    return Letter(
        subject=_SUBJECTS[notice.kind].format_map(words), body=f"Dear {notice.name},\n\n{body}\n\nYour store\n"
    )


def _difference(amount: float) -> str:
    if spoken(amount) == spoken(0):
        return "The price stays the same."
    who = "You get back" if amount < 0 else "You pay"
    return f"{who} the difference of {spoken(amount)}."
