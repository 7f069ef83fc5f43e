"""The catalogue agent: keeps the products and says what an item costs now and whether it is there."""

from collections.abc import AsyncIterator

from pydantic import Field

from ...contracts import capability
from ..agent import Agent
from ..context import Context
from . import dataset
from .document import Document, Request
from .product import Line, Product, Swap, Variant, difference
from .refusals import ItemNotFound, NotAvailable, ProductNotFound, VariantNotFound
from .register import Page, PageRequest, Register, StoreOptions, opened


class OfProduct(Request):
    product_id: str


class OfItem(Request):
    item_id: str


class Nothing(Request):
    """No input."""


class Types(Document):
    """Product ids by name, in the order of names."""

    types: dict[str, str]


class QuoteRequest(Request):
    swaps: list[Swap] = Field(min_length=1)
    """As the checks of `orders` give them."""


class Quote(Document):
    lines: list[Line]
    difference: float
    """What the new items cost more, in dollars; negative when they cost less."""


class Catalogue(Agent):
    """Keeps the products: their variants, prices and availability."""

    domain = "catalogue"
    Options = StoreOptions
    options = StoreOptions()
    _products = Register("products", Product)

    async def on_start(self, context: Context) -> None:
        if not await opened(context):
            for key, product in dataset.initial(self.options.data)["products"].items():
                await self._add(context, key, Product.model_validate(product))

    @capability(version="1.0", effect="read", latency_ms=5)
    async def product(self, request: OfProduct, context: Context) -> Product:
        """A product with all its variants."""
        return await self._product(request.product_id, context)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def item(self, request: OfItem, context: Context) -> Variant:
        """One variant of a product, by its item id."""
        product_id = await context.state.get("items", request.item_id)
        if product_id is None:
            raise ItemNotFound(item=request.item_id)
        return (await self._product(product_id, context)).variants[request.item_id]

    @capability(version="1.0", effect="read", latency_ms=5)
    async def types(self, request: Nothing, context: Context) -> Types:
        """The names of all types of products and their product ids."""
        products = [product async for product in self._all(context)]
        return Types(types={each.name: each.product_id for each in sorted(products, key=lambda each: each.name)})

    @capability(version="1.0", effect="read", latency_ms=5)
    async def quote(self, request: QuoteRequest, context: Context) -> Quote:
        """What it costs to put other items in the place of bought ones: available ones of the same products."""
        lines = [await self._line(swap, context) for swap in request.swaps]
        extra = difference([swap.price for swap in request.swaps], [line.price for line in lines])
        return Quote(lines=lines, difference=extra)

    @capability(version="1.0", effect="read", latency_ms=20)
    async def export(self, request: PageRequest, context: Context) -> Page:
        """All products as documents, page by page."""
        return await self._products.page(context, request)

    async def _add(self, context: Context, key: str, product: Product) -> None:
        await self._products.add(context, key, product)
        for item_id in product.variants:
            await context.state.put("items", item_id, key)

    async def _all(self, context: Context) -> AsyncIterator[Product]:
        async for _, row in context.state.scan("products"):
            yield Product.model_validate(row["document"])

    async def _product(self, product_id: str, context: Context) -> Product:
        product = await self._products.get(context, product_id)
        if product is None:
            raise ProductNotFound(product=product_id)
        return product

    async def _line(self, swap: Swap, context: Context) -> Line:
        variant = (await self._product(swap.product_id, context)).variants.get(swap.new_item_id)
        if variant is None:
            raise VariantNotFound(product=swap.product_id, item=swap.new_item_id)
        if not variant.available:
            raise NotAvailable(f"New item {variant.item_id} not found or available", item=variant.item_id)
        return Line(
            product_id=swap.product_id,
            item_id=swap.item_id,
            new_item_id=variant.item_id,
            price=variant.price,
            options=variant.options,
        )
