"""An order as a document: what was bought, where it goes, how it was paid, what became of it."""

from enum import StrEnum
from typing import Literal

from .address import Address
from .document import Document


class Status(StrEnum):
    """Where an order is in its life."""

    PENDING = "pending"
    MODIFIED = "pending (item modified)"
    PROCESSED = "processed"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    RETURN_REQUESTED = "return requested"
    EXCHANGE_REQUESTED = "exchange requested"


class Item(Document):
    """One piece of one variant of a product, at the price it was bought for, in dollars."""

    name: str
    product_id: str
    item_id: str
    price: float
    options: dict[str, str]


class Fulfillment(Document):
    """A parcel and the items in it."""

    tracking_id: list[str]
    item_ids: list[str]


class Payment(Document):
    """Money that moved for an order, in dollars. Never negative: the type says which way."""

    transaction_type: Literal["payment", "refund"]
    amount: float
    payment_method_id: str


class Order(Document):
    """The whole document. The fields from `cancel_reason` on are null until something happened."""

    order_id: str
    user_id: str
    address: Address
    items: list[Item]
    status: Status
    fulfillments: list[Fulfillment]
    payment_history: list[Payment]
    cancel_reason: str | None = None
    exchange_items: list[str] | None = None
    exchange_new_items: list[str] | None = None
    exchange_payment_method_id: str | None = None
    exchange_price_difference: float | None = None
    return_items: list[str] | None = None
    return_payment_method_id: str | None = None

    def item(self, item_id: str) -> Item:
        """The first item with this id. There may be several of the same. Raises StopIteration when there is none."""
        return next(item for item in self.items if item.item_id == item_id)
