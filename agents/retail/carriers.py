"""Two carriers that offer the same capability, a return label, at another price, in another time, for other regions.

Both capabilities ask for proposals. A carrier that does not serve a region does not bid for its labels, and only the
carrier that made a label bids for voiding it. The refusals in the handlers are there for whoever calls without asking.
"""

import hashlib
from typing import Any

from pydantic import Field

from ...contracts import Bid, capability
from ...contracts.messages import Proposal
from ..agent import Agent
from ..context import Context
from .address import Address
from .document import Document, Request
from .refusals import LabelNotFound, RegionNotServed
from .register import Restored


class LabelRequest(Request):
    order_id: str
    address: Address
    """Where the items are fetched."""
    items: int = Field(ge=1)
    """How many."""


class Label(Document):
    carrier: str
    number: str
    """For tracking, and for voiding the label."""
    days: int
    """Until the items are back."""
    instructions: str
    """What the customer is told."""


class LabelNumber(Request):
    number: str


class Carrier(Agent):
    """Makes return labels for the regions it serves."""

    domain = "carriers"
    title = ""
    days = 0
    states: frozenset[str] | None = None
    """The states served, by their two letters; None serves all."""

    async def propose(self, proposal: Proposal, context: Context) -> Bid:
        """Bids for labels where the carrier drives, and for voiding the labels it has made."""
        if proposal.capability.endswith(".label"):
            self._check_region(LabelRequest.model_validate(proposal.input).address)
        else:
            await self._row(LabelNumber.model_validate(proposal.input), context)
        return await super().propose(proposal, context)

    async def _label(self, request: LabelRequest, context: Context) -> Label:
        self._check_region(request.address)
        label = self._printed(_number(context.idempotency_key))
        await context.state.put("labels", label.number, {**request.to_data(), "voided": False})
        return label

    async def _void(self, request: LabelNumber, context: Context) -> Restored:
        row = await self._row(request, context)
        await context.state.put("labels", request.number, {**row, "voided": True})
        return Restored(restored=not row["voided"])

    async def _row(self, request: LabelNumber, context: Context) -> dict[str, Any]:
        row = await context.state.get("labels", request.number)
        if row is None:
            raise LabelNotFound(carrier=self.title, number=request.number)
        return row

    def _check_region(self, address: Address) -> None:
        if address.country != "USA" or (self.states is not None and address.state not in self.states):
            raise RegionNotServed(f"{self.title} does not serve {address.state}, {address.country}")

    def _printed(self, number: str) -> Label:
        instructions = (
            f"{self.title} will fetch the items at your address within {self.days} days; write {number} on the parcel."
        )
        return Label(carrier=self.title, number=number, days=self.days, instructions=instructions)


def _number(key: str) -> str:
    """Twelve digits that are the same whenever the same step is tried again."""
    return f"{int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], 'big') % 10**12:012d}"


class HarbourPost(Carrier):
    """Cheap and without haste, between the Atlantic and the Great Lakes."""

    name = "harbour_post"
    title = "Harbour Post"
    days = 5
    states = frozenset({"DC", "FL", "IL", "IN", "MA", "NC", "NJ", "NY", "OH", "PA", "VA"})

    @capability(
        version="1.0",
        effect="reversible",
        compensation="void",
        price_cents=45,
        latency_ms=60,
        negotiation="proposals",
    )
    async def label(self, request: LabelRequest, context: Context) -> Label:
        """Make a return label and have the items fetched."""
        return await self._label(request, context)

    @capability(version="1.0", effect="irreversible", negotiation="proposals")
    async def void(self, request: LabelNumber, context: Context) -> Restored:
        """Void a return label. Voiding it again does nothing."""
        return await self._void(request, context)


class PrairieExpress(Carrier):
    """Fast and everywhere, for a little more."""

    name = "prairie_express"
    title = "Prairie Express"
    days = 2

    @capability(
        version="1.0",
        effect="reversible",
        compensation="void",
        price_cents=55,
        latency_ms=10,
        negotiation="proposals",
    )
    async def label(self, request: LabelRequest, context: Context) -> Label:
        """Make a return label and have the items fetched."""
        return await self._label(request, context)

    @capability(version="1.0", effect="irreversible", negotiation="proposals")
    async def void(self, request: LabelNumber, context: Context) -> Restored:
        """Void a return label. Voiding it again does nothing."""
        return await self._void(request, context)
