"""A small bank for tests with real processes: a ledger, a porter whose work the test holds up, an agent that cannot
start."""

import asyncio

from pydantic import BaseModel

from hanse import Agent, Context, Refusal, capability

from .gate import pass_gate


class Amount(BaseModel):
    account: str
    cents: int = 0


class Balance(BaseModel):
    cents: int


class Ledger(Agent):
    """Keeps accounts."""

    domain = "ledger"

    @capability(version="1.0", effect="reversible", compensation="withdraw", risk="low", price_cents=1)
    async def deposit(self, request: Amount, context: Context) -> Balance:
        """Add money to an account."""
        balance = await context.state.get("balance", request.account, default=0)
        await context.state.put("balance", request.account, balance + request.cents)
        return Balance(cents=balance + request.cents)

    @capability(version="1.0", effect="reversible", compensation="deposit", risk="low", price_cents=1)
    async def withdraw(self, request: Amount, context: Context) -> Balance:
        """Take money from an account."""
        balance = await context.state.get("balance", request.account, default=0)
        if balance < request.cents:
            raise Refusal(f"{request.account} has only {balance} cents")
        await context.state.put("balance", request.account, balance - request.cents)
        return Balance(cents=balance - request.cents)

    @capability(version="1.0", effect="read")
    async def balance(self, request: Amount, context: Context) -> Balance:
        """What is in an account."""
        return Balance(cents=await context.state.get("balance", request.account, default=0))


class Entry(BaseModel):
    text: str
    seconds: float


class Clerk(Agent):
    """Writes entries, which takes him a while, and strikes them out again."""

    domain = "clerk"

    @capability(version="1.0", effect="reversible", compensation="strike", risk="low", price_cents=1)
    async def post(self, request: Entry, context: Context) -> Entry:
        """Write an entry."""
        await asyncio.sleep(request.seconds)
        await context.state.put("entry", request.text, request.seconds)
        return request

    @capability(version="1.0", effect="reversible", compensation="post", risk="low")
    async def strike(self, request: Entry, context: Context) -> Entry:
        """Strike it out."""
        await context.state.put("entry", request.text, 0)
        return request


class PorterOptions(BaseModel):
    gate: int
    """Port of the test's gate."""


class Porter(Agent):
    """Carries money, and waits at the gate each time."""

    domain = "porter"
    Options = PorterOptions
    options: PorterOptions

    @capability(version="1.0", effect="reversible", compensation="take_back", timeout_seconds=120)
    async def carry(self, request: Amount, context: Context) -> Balance:
        """Add to what was carried."""
        carried = request.cents + await context.state.get("carried", request.account, default=0)
        await pass_gate(self.options.gate)
        await context.state.put("carried", request.account, carried)
        return Balance(cents=carried)

    @capability(version="1.0", effect="reversible", compensation="carry")
    async def take_back(self, request: Amount, context: Context) -> Balance:
        """Take from what was carried."""
        carried = await context.state.get("carried", request.account, default=0) - request.cents
        await context.state.put("carried", request.account, carried)
        return Balance(cents=carried)

    @capability(version="1.0", effect="read")
    async def carried(self, request: Amount, context: Context) -> Balance:
        """What was carried."""
        return Balance(cents=await context.state.get("carried", request.account, default=0))


class Lender(Porter):
    """Lends money, and has it fetched back in the open, where the test holds him up."""

    domain = "lender"

    @capability(version="1.0", effect="reversible", compensation="fetch_back")
    async def lend(self, request: Amount, context: Context) -> Balance:
        """Add to what is lent."""
        return Balance(cents=await self._lent(request.account, request.cents, context))

    @capability(version="1.0", effect="irreversible", timeout_seconds=120)
    async def fetch_back(self, request: Amount, context: Context) -> Balance:
        """Say so in the square, wait at the gate, and take from what is lent."""
        await context.connectors.square.cry(words=f"{request.account} owes nothing")
        await pass_gate(self.options.gate)
        return Balance(cents=await self._lent(request.account, -request.cents, context))

    @capability(version="1.0", effect="read")
    async def lent(self, request: Amount, context: Context) -> Balance:
        """What is lent."""
        return Balance(cents=await self._lent(request.account, 0, context))

    async def _lent(self, account: str, cents: int, context: Context) -> int:
        lent = cents + await context.state.get("lent", account, default=0)
        if cents:
            await context.state.put("lent", account, lent)
        return lent


class Late(Porter):
    """Waits at the gate before it starts, and does not start when it is sent away."""

    domain = "late"

    async def on_start(self, context: Context) -> None:
        await pass_gate(self.options.gate)


class Sick(Agent):
    """Cannot start."""

    domain = "sick"

    async def on_start(self, context: Context) -> None:
        raise Refusal("the strongroom is locked")

    @capability(version="1.0", effect="read")
    async def nothing(self, request: Amount, context: Context) -> Balance:
        """Never called."""
        return Balance(cents=0)


class Broken(Sick):
    """Cannot start, by a mistake in its code."""

    domain = "broken"

    async def on_start(self, context: Context) -> None:
        raise ValueError("no such strongroom")
