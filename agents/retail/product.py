"""A product and its variants, and what it means to put one item in the place of another."""

from .document import Document


class Variant(Document):
    """What can be bought: one choice of every option, with its price in dollars."""

    item_id: str
    options: dict[str, str]
    available: bool
    price: float


class Product(Document):
    """A type of product. Product ids and item ids have nothing to do with one another."""

    name: str
    product_id: str
    variants: dict[str, Variant]


class Swap(Document):
    """A wish: this item of an order, bought at this price, for that variant of the same product."""

    product_id: str
    item_id: str
    price: float
    new_item_id: str


class Line(Document):
    """An answered wish: the new item with the price and options it has now."""

    product_id: str
    item_id: str
    new_item_id: str
    price: float
    options: dict[str, str]


def difference(old_prices: list[float], new_prices: list[float]) -> float:
    """What the new items cost more than the old, in dollars; negative when they cost less.

    Added up one by one in floats and not rounded, because the store writes this very number into an order's payment
    history. `sum` will not do: from Python 3.12 on it compensates the rounding that has to be kept.
    """
    total = 0.0
    for old, new in zip(old_prices, new_prices, strict=True):
        total += new - old
    return total
