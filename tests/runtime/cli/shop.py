"""A small federation for tests of commands: accounts, and two carriers that compete for one capability."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel

from hanse import Agent, Context, Refusal, capability
from hanse.contracts.pool import Administration
from hanse.runtime.cli.reach import Options
from hanse.runtime.client import Client
from hanse.runtime.config import AgentEntry
from hanse.runtime.federation import Federation


class Amount(BaseModel):
    account: str
    cents: int


class Balance(BaseModel):
    cents: int


class Parcel(BaseModel):
    to: str


class Label(BaseModel):
    carrier: str


class Ledger(Agent):
    """Keeps accounts."""

    domain = "ledger"

    @capability(effect="reversible", compensation="withdraw")
    async def deposit(self, request: Amount, context: Context) -> Balance:
        """Add money to an account."""
        return await self._add(request, 1, context)

    @capability(effect="reversible", compensation="deposit", risk="medium")
    async def withdraw(self, request: Amount, context: Context) -> Balance:
        """Take money from an account that has it."""
        if await context.state.get("balance", request.account, default=0) < request.cents:
            raise Refusal(f"{request.account} has not so much")
        return await self._add(request, -1, context)

    @capability(effect="read")
    async def stall(self, request: Parcel, context: Context) -> Balance:
        """Never answer."""
        await asyncio.Event().wait()
        return Balance(cents=0)

    async def _add(self, request: Amount, sign: int, context: Context) -> Balance:
        balance = await context.state.get("balance", request.account, default=0) + sign * request.cents
        await context.state.put("balance", request.account, balance)
        return Balance(cents=balance)


class Carrier(Agent):
    """Ships parcels."""

    domain = "carriers"

    @capability(effect="irreversible", price_cents=3)
    async def ship(self, request: Parcel, context: Context) -> Label:
        """Ship a parcel."""
        return Label(carrier=self.name)


AGENTS = [
    AgentEntry.model_validate(each)
    for each in ({"class": Ledger}, {"class": Carrier, "name": "north"}, {"class": Carrier, "name": "south"})
]
RULES = [{"capability": "ledger.withdraw", "above": {"field": "cents", "limit": 100}, "expires_seconds": 3600}]


class Shop:
    """Reaches the federation over one data folder: the real engine and stores, opened anew for each command."""

    def __init__(self, data: Path, pool: Administration | None = None) -> None:
        self.data = data
        self.pool = pool

    @asynccontextmanager
    async def __call__(self, options: Options) -> AsyncIterator[Client]:
        async with Federation.in_process(AGENTS, data=self.data, approvals=RULES, pool=self.pool) as federation:
            yield federation.client
