"""The customers agent: keeps the profiles and says who somebody is."""

from ...contracts import capability
from ..agent import Agent
from ..context import Context
from . import dataset, documents, policy
from .address import Address
from .customer import Customer, folded, name_key
from .document import Document, ForCustomer, Request
from .refusals import CustomerNotFound
from .register import Page, PageRequest, Register, Restored, StoreOptions, opened


class ByEmail(Request):
    email: str


class ByName(Request):
    first_name: str
    last_name: str
    zip: str


class Found(Document):
    user_id: str


class OfCustomer(ForCustomer):
    """A request about one profile."""

    user_id: str


class ChangeAddress(OfCustomer):
    address: Address


class ChangedCustomer(Document):
    """A change that was made."""

    user_id: str
    change: str
    """Its id, for taking it back."""
    profile: Customer


class CustomerChange(Request):
    """Which change of which profile is to be taken back."""

    user_id: str
    change: str


class Customers(Agent):
    """Keeps the customers' profiles: finds, shows and changes them."""

    domain = "customers"
    Options = StoreOptions
    options = StoreOptions()
    _customers = Register("customers", Customer)

    async def on_start(self, context: Context) -> None:
        if not await opened(context):
            for key, user in dataset.initial(self.options.data)["users"].items():
                await self._add(context, key, Customer.model_validate(documents.profile(user)))

    @capability(version="1.0", effect="read", latency_ms=5)
    async def find_by_email(self, request: ByEmail, context: Context) -> Found:
        """Who has this email address. Upper and lower case and accents do not matter."""
        return _found(await context.state.get("emails", folded(request.email)))

    @capability(version="1.0", effect="read", latency_ms=5)
    async def find_by_name(self, request: ByName, context: Context) -> Found:
        """Who has this name and lives in this zip code: for customers who do not remember their email address."""
        key = name_key(request.first_name, request.last_name, request.zip)
        ids = await context.state.get("names", key, default=[])
        return _found(ids[0] if ids else None)

    @capability(version="1.0", effect="read", latency_ms=5)
    async def get(self, request: OfCustomer, context: Context) -> Customer:
        """A customer's profile: name, default address, email and order ids."""
        return await self._customer(request, context)

    @capability(version="1.0", effect="read", latency_ms=20)
    async def export(self, request: PageRequest, context: Context) -> Page:
        """All profiles as documents, page by page."""
        return await self._customers.page(context, request)

    @capability(version="1.0", effect="reversible", compensation="restore")
    async def modify_address(self, request: ChangeAddress, context: Context) -> ChangedCustomer:
        """Change a customer's default address. Orders under way keep theirs."""
        before = await self._customer(request, context)
        after = before.evolve(address=request.address)
        await self._rename(context, before, after)
        change = await self._customers.change(context, after.user_id, after)
        return ChangedCustomer(user_id=after.user_id, change=change, profile=after)

    @capability(version="1.0", effect="irreversible")
    async def restore(self, request: CustomerChange, context: Context) -> Restored:
        """Take back the latest change of a profile. Taking it back again does nothing."""
        changed = await self._customers.get(context, request.user_id)
        restored = await self._customers.restore(context, request.user_id, request.change)
        before = await self._customers.get(context, request.user_id)
        if changed and before:
            await self._rename(context, changed, before)
        return Restored(restored=restored)

    async def _add(self, context: Context, key: str, customer: Customer) -> None:
        await self._customers.add(context, key, customer)
        await context.state.put("emails", customer.email_key, key)
        await self._name(context, customer)

    async def _customer(self, request: OfCustomer, context: Context) -> Customer:
        policy.check_owner(request.user_id, request.customer)
        customer = await self._customers.get(context, request.user_id)
        if customer is None:
            raise CustomerNotFound(customer=request.user_id)
        return customer

    async def _rename(self, context: Context, before: Customer, after: Customer) -> None:
        """Moves the entry by which a customer is found when the zip code changed."""
        if before.name_key != after.name_key:
            ids = await context.state.get("names", before.name_key, default=[])
            await context.state.put("names", before.name_key, [each for each in ids if each != before.user_id])
            await self._name(context, after)

    async def _name(self, context: Context, customer: Customer) -> None:
        ids = await context.state.get("names", customer.name_key, default=[])
        await context.state.put("names", customer.name_key, [*ids, customer.user_id])


def _found(user_id: str | None) -> Found:
    if user_id is None:
        raise CustomerNotFound
    return Found(user_id=user_id)
