"""The orders agent: keeps every order and applies the store's policy to each change of one."""

from pydantic import Field

from ...contracts import capability
from ..agent import Agent
from ..context import Context
from . import dataset, policy
from .address import Address
from .document import Document, ForCustomer
from .order import Order
from .product import Line, Swap
from .refusals import OrderNotFound
from .register import Change, Page, PageRequest, Register, Restored, StoreOptions, opened

ItemIds = list[str]


class OfOrder(ForCustomer):
    """A request about one order."""

    order_id: str


class Cancel(OfOrder):
    reason: str
    """`no longer needed` or `ordered by mistake`."""


class Readdress(OfOrder):
    address: Address


class Repay(OfOrder):
    payment_method_id: str


class Items(OfOrder):
    item_ids: ItemIds = Field(min_length=1)
    """May name the same item several times, as often as the order has it."""


class Swaps(Items):
    new_item_ids: ItemIds
    """Each takes the place of the item at the same position."""


class Return(Items):
    payment_method_id: str


class Replace(OfOrder):
    lines: list[Line] = Field(min_length=1)
    """As `catalogue.quote` gives them."""
    payment_method_id: str


class CheckedSwaps(Document):
    user_id: str
    swaps: list[Swap]


class CheckedAmount(Document):
    """Dollars, and the payment method they were paid with."""

    user_id: str
    amount: float
    payment_method_id: str


class Changed(Document):
    """A change that was made."""

    order_id: str
    user_id: str
    change: str
    """Its id, for taking it back."""
    order: Order


class Settled(Changed):
    """A change after which money moves."""

    amount: float
    """Dollars, never negative."""
    payment_method_id: str


class Repriced(Changed):
    """A change of items."""

    difference: float
    """What the new items cost more, in dollars; negative when they cost less."""
    amount: float
    """The same without sign."""


class Orders(Agent):
    """Keeps the orders: cancels and modifies pending ones, takes returns and exchanges of delivered ones."""

    domain = "orders"
    Options = StoreOptions
    options = StoreOptions()
    _orders = Register("orders", Order)

    async def on_start(self, context: Context) -> None:
        if not await opened(context):
            for key, order in dataset.initial(self.options.data)["orders"].items():
                await self._orders.add(context, key, Order.model_validate(order))

    # Reads and checks

    @capability(version="1.0", effect="read", latency_ms=5)
    async def get(self, request: OfOrder, context: Context) -> Order:
        """Status and details of an order."""
        return await self._order(request, context)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def check_modification(self, request: Swaps, context: Context) -> CheckedSwaps:
        """Whether items of a pending order may be modified, and which product each new item must belong to."""
        order = await self._order(request, context)
        swaps = policy.check_modification(order, request.item_ids, request.new_item_ids)
        return CheckedSwaps(user_id=order.user_id, swaps=swaps)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def check_exchange(self, request: Swaps, context: Context) -> CheckedSwaps:
        """Whether items of a delivered order may be exchanged, and which product each new item must belong to."""
        order = await self._order(request, context)
        swaps = policy.check_exchange(order, request.item_ids, request.new_item_ids)
        return CheckedSwaps(user_id=order.user_id, swaps=swaps)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def check_return(self, request: Items, context: Context) -> CheckedAmount:
        """Whether items of a delivered order may be returned, what they are worth and how they were paid."""
        order = await self._order(request, context)
        amount = policy.check_return(order, request.item_ids)
        paid_with = order.payment_history[0].payment_method_id
        return CheckedAmount(user_id=order.user_id, amount=amount, payment_method_id=paid_with)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def check_payment(self, request: Repay, context: Context) -> CheckedAmount:
        """Whether a pending order may be paid by another method, how much that is and what paid it so far."""
        order = await self._order(request, context)
        payment = policy.check_payment(order, request.payment_method_id)
        return CheckedAmount(user_id=order.user_id, amount=payment.amount, payment_method_id=payment.payment_method_id)

    @capability(version="1.0", effect="read", latency_ms=20)
    async def export(self, request: PageRequest, context: Context) -> Page:
        """All orders as documents, page by page."""
        return await self._orders.page(context, request)

    # Changes

    @capability(version="1.0", effect="reversible", compensation="restore", risk="medium")
    async def cancel(self, request: Cancel, context: Context) -> Settled:
        """Cancel a pending order. What was paid is to be refunded to the method that paid it."""
        order = await self._order(request, context)
        return await self._settled(
            context, policy.cancelled(order, request.reason), policy.paid(order).payment_method_id
        )

    @capability(version="1.0", effect="reversible", compensation="restore", risk="medium")
    async def modify_items(self, request: Replace, context: Context) -> Repriced:
        """Replace items of a pending order by other variants of the same products. Only once per order."""
        order = await self._order(request, context)
        after = policy.modified(order, request.lines, request.payment_method_id)
        return await self._repriced(context, after, policy.price_difference(order, request.lines))

    @capability(version="1.0", effect="reversible", compensation="restore")
    async def modify_address(self, request: Readdress, context: Context) -> Changed:
        """Send a pending order to another address."""
        order = await self._order(request, context)
        return await self._changed(context, policy.readdressed(order, request.address))

    @capability(version="1.0", effect="reversible", compensation="restore", risk="medium")
    async def modify_payment(self, request: Repay, context: Context) -> Settled:
        """Let another payment method pay a pending order. The first is to be refunded."""
        order = await self._order(request, context)
        return await self._settled(context, policy.repaid(order, request.payment_method_id), request.payment_method_id)

    @capability(version="1.0", effect="reversible", compensation="restore", risk="medium")
    async def return_items(self, request: Return, context: Context) -> Changed:
        """Note that items of a delivered order come back. The refund follows when they have arrived."""
        order = await self._order(request, context)
        return await self._changed(context, policy.returned(order, request.item_ids, request.payment_method_id))

    @capability(version="1.0", effect="reversible", compensation="restore", risk="medium")
    async def exchange_items(self, request: Replace, context: Context) -> Repriced:
        """Note that items of a delivered order are exchanged. The difference is settled with the goods."""
        order = await self._order(request, context)
        after = policy.exchanged(order, request.lines, request.payment_method_id)
        return await self._repriced(context, after, policy.price_difference(order, request.lines))

    @capability(version="1.0", effect="irreversible")
    async def restore(self, request: Change, context: Context) -> Restored:
        """Take back the latest change of an order. Taking it back again does nothing."""
        return Restored(restored=await self._orders.restore(context, request.order_id, request.change))

    # What they share

    async def _order(self, request: OfOrder, context: Context) -> Order:
        order = await self._orders.get(context, request.order_id)
        if order is None:
            raise OrderNotFound(order=request.order_id)
        policy.check_owner(order.user_id, request.customer)
        return order

    async def _changed(self, context: Context, after: Order) -> Changed:
        change = await self._orders.change(context, after.order_id, after)
        return Changed(order_id=after.order_id, user_id=after.user_id, change=change, order=after)

    async def _settled(self, context: Context, after: Order, payment_method_id: str) -> Settled:
        changed = await self._changed(context, after)
        amount = after.payment_history[-1].amount
        return Settled(**dict(changed), amount=amount, payment_method_id=payment_method_id)

    async def _repriced(self, context: Context, after: Order, difference: float) -> Repriced:
        changed = await self._changed(context, after)
        return Repriced(**dict(changed), difference=difference, amount=abs(difference))
