"""The payments agent: keeps the payment methods, charges and refunds them, and writes every move into a ledger."""

from typing import Any, Literal

from pydantic import Field

from ...contracts import capability
from ..agent import Agent
from ..context import Context
from . import dataset, documents, policy
from .document import Document, ForCustomer, Request
from .money import cents, dollars
from .refusals import CustomerNotFound, EntryNotFound
from .register import Page, PageRequest, Register, Restored, StoreOptions, opened
from .wallet import PaymentMethod, Purpose, Wallet

AT_ONCE = "immediately"
BY_BANK = "in 5 to 7 business days"


class OfCustomer(ForCustomer):
    user_id: str


class OfMethod(Request):
    """A request about one payment method of one customer."""

    user_id: str
    payment_method_id: str


class CheckCover(OfMethod):
    amount: float
    """Dollars. Negative when money is to come back; then the method only has to exist."""
    purpose: Purpose


class CheckPayee(OfMethod):
    paid_with: str
    """The payment method that paid what is to be refunded."""


class Refund(OfMethod):
    order_id: str
    amount: float = Field(ge=0, allow_inf_nan=False)
    """Dollars, counted in whole cents."""


class Charge(Refund):
    purpose: Purpose


class Checked(Document):
    payment_method_id: str
    source: str


class Methods(Document):
    user_id: str
    payment_methods: dict[str, PaymentMethod]


class Moved(Document):
    """Money that moved."""

    entry: str
    """Its entry in the ledger, for taking it back."""
    amount: float
    """Dollars."""
    balance: float | None
    """Dollars left on a gift card; null for every other method."""


class Refunded(Moved):
    arrives: str


class Reverse(Request):
    entry: str


class Entry(Document):
    """One line of the ledger."""

    entry: str
    kind: Literal["charge", "refund"]
    user_id: str
    payment_method_id: str
    order_id: str
    cents: int
    reversed: bool = False


class Payments(Agent):
    """Keeps the payment methods and gift-card balances: charges, refunds, and a ledger of both."""

    domain = "payments"
    Options = StoreOptions
    options = StoreOptions()
    _wallets = Register("wallets", Wallet)
    _ledger = Register("ledger", Entry)

    async def on_start(self, context: Context) -> None:
        if not await opened(context):
            for key, user in dataset.initial(self.options.data)["users"].items():
                await self._wallets.add(context, key, Wallet.model_validate(documents.wallet(user)))

    # Reads and checks

    @capability(version="1.0", effect="read", latency_ms=5)
    async def methods(self, request: OfCustomer, context: Context) -> Methods:
        """A customer's payment methods, with the balances of gift cards."""
        policy.check_owner(request.user_id, request.customer)
        wallet = await self._wallet(request.user_id, context)
        return Methods(user_id=wallet.user_id, payment_methods=wallet.payment_methods)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def check_cover(self, request: CheckCover, context: Context) -> Checked:
        """Whether the customer has this payment method and, when it is a gift card, whether it covers the amount."""
        wallet = await self._wallet(request.user_id, context)
        return _checked(wallet.check_cover(request.payment_method_id, request.amount, request.purpose))

    @capability(version="1.0", effect="read", latency_ms=5)
    async def check_payee(self, request: CheckPayee, context: Context) -> Checked:
        """Whether a refund may go there: to the method that paid, or to a gift card the customer has."""
        wallet = await self._wallet(request.user_id, context)
        return _checked(wallet.check_payee(request.payment_method_id, request.paid_with))

    @capability(version="1.0", effect="read", latency_ms=20)
    async def export(self, request: PageRequest, context: Context) -> Page:
        """All customers' payment methods as documents, page by page."""
        return await self._wallets.page(context, request)

    @capability(version="1.0", effect="read", latency_ms=20)
    async def ledger(self, request: PageRequest, context: Context) -> Page:
        """All charges and refunds, page by page, in cents."""
        return await self._ledger.page(context, request)

    # Changes

    @capability(version="1.0", effect="reversible", compensation="reverse", risk="medium")
    async def charge(self, request: Charge, context: Context) -> Moved:
        """Take money for an order. A gift card must cover it."""
        wallet = await self._wallet(request.user_id, context)
        after = wallet.charged(request.payment_method_id, request.amount, request.purpose)
        return Moved(**await self._moved(context, "charge", request, after))

    @capability(version="1.0", effect="reversible", compensation="reverse", risk="medium")
    async def refund(self, request: Refund, context: Context) -> Refunded:
        """Pay money back for an order: at once to a gift card, by the bank's pace to any other method."""
        wallet = await self._wallet(request.user_id, context)
        after = wallet.refunded(request.payment_method_id, request.amount)
        moved = await self._moved(context, "refund", request, after)
        return Refunded(**moved, arrives=BY_BANK if moved["balance"] is None else AT_ONCE)

    @capability(version="1.0", effect="irreversible", risk="medium")
    async def reverse(self, request: Reverse, context: Context) -> Restored:
        """Take back a charge or a refund. Taking it back again does nothing."""
        entry = await self._ledger.get(context, request.entry)
        if entry is None:
            raise EntryNotFound(entry=request.entry)
        if not entry.reversed:
            await self._reverse(context, entry)
        return Restored(restored=not entry.reversed)

    # What they share

    async def _wallet(self, user_id: str, context: Context) -> Wallet:
        wallet = await self._wallets.get(context, user_id)
        if wallet is None:
            raise CustomerNotFound(customer=user_id)
        return wallet

    async def _moved(self, context: Context, kind: str, request: Refund, after: Wallet) -> dict[str, Any]:
        """Writes the wallet and the ledger, and says what moved."""
        moved = {"user_id": request.user_id, "order_id": request.order_id, "cents": cents(request.amount)}
        method, name = after.method(request.payment_method_id), context.idempotency_key
        entry = Entry.model_validate({**moved, "entry": name, "kind": kind, "payment_method_id": method.id})
        await self._wallets.add(context, after.user_id, after)
        await self._ledger.add(context, name, entry)
        return {"entry": name, "amount": dollars(entry.cents), "balance": method.balance}

    async def _reverse(self, context: Context, entry: Entry) -> None:
        wallet, amount = await self._wallet(entry.user_id, context), dollars(entry.cents)
        back = wallet.refunded if entry.kind == "charge" else wallet.refund_taken_back
        await self._wallets.add(context, entry.user_id, back(entry.payment_method_id, amount))
        await self._ledger.add(context, entry.entry, entry.evolve(reversed=True))


def _checked(method: PaymentMethod) -> Checked:
    return Checked(payment_method_id=method.id, source=method.source)
