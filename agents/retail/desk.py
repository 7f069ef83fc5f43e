"""The service desk: reckons, hands over to people, and acknowledges requests that ask for nothing."""

from pydantic import Field

from ...contracts import capability
from ..agent import Agent
from ..context import Context
from .arithmetic import calculate
from .document import Document, Request
from .refusals import HandoverNotFound
from .register import Restored


class Expression(Request):
    expression: str


class Value(Document):
    value: str
    """Rounded to cents."""


class Summary(Request):
    summary: str = Field(max_length=5000)
    """What the customer wants, for the person who takes over."""


class Transfer(Document):
    handover: str
    """Its id, for withdrawing it."""
    result: str
    message: str
    """What to say to the customer."""


class Handover(Request):
    handover: str


class Silence(Request):
    """No input."""


class Acknowledged(Document):
    message: str


class Desk(Agent):
    """The service desk: a calculator, and the way to a human agent."""

    domain = "desk"

    @capability(version="1.0", effect="pure", latency_ms=2)
    async def calculate(self, request: Expression) -> Value:
        """The value of an expression of numbers, + - * / and parentheses."""
        return Value(value=calculate(request.expression))

    @capability(version="1.0", effect="pure", latency_ms=2)
    async def acknowledge(self, request: Silence) -> Acknowledged:
        """Answer a customer for whom nothing is to be done."""
        return Acknowledged(message="Nothing was changed.")

    @capability(version="1.0", effect="reversible", compensation="withdraw")
    async def transfer(self, request: Summary, context: Context) -> Transfer:
        """Hand a customer over to a human agent, with a summary of what is wanted."""
        await context.state.put("handovers", context.idempotency_key, request.to_data())
        return Transfer(
            handover=context.idempotency_key,
            result="Transfer successful",
            message="YOU ARE BEING TRANSFERRED TO A HUMAN AGENT. PLEASE HOLD ON.",
        )

    @capability(version="1.0", effect="irreversible")
    async def withdraw(self, request: Handover, context: Context) -> Restored:
        """Take a handover back, before a person has taken it up."""
        if await context.state.get("handovers", request.handover) is None:
            raise HandoverNotFound(handover=request.handover)
        await context.state.delete("handovers", request.handover)
        return Restored(restored=True)
