"""The process that a crash test kills: one agent over its store, which executes one call and prints the result.

It is a host without Ray. `HANSE_CRASH_AT` says where it dies.
"""

import asyncio
import json
import sys
from typing import Any

from hanse.agents import Agent, Context
from hanse.agents.connectors import HttpConnector, SmtpConnector
from hanse.contracts import capability
from hanse.runtime.store import SqliteStore
from hanse.runtime.world import faults_from_environment
from tests.agents.desk import call_of, engine_of


class Shop(Agent):
    """Keeps orders, charges for them outside, and writes letters about them."""

    domain = "shop"

    @capability(effect="irreversible")
    async def count(self, request: int, context: Context) -> int:
        """Count up, with nothing outside."""
        number = await context.state.get("orders", "count", default=0) + request
        await context.state.put("orders", "count", number)
        return number

    @capability(effect="irreversible")
    async def charge(self, request: int, context: Context) -> int:
        """Count up and charge."""
        number = await self.count(request, context)
        await context.connectors.bank.post("/charges", body={"number": number})
        return number

    @capability(effect="irreversible")
    async def write(self, request: int, context: Context) -> int:
        """Count up and write a letter."""
        number = await self.count(request, context)
        await context.connectors.mail.send(to="anna@example.com", subject=f"Order {number}", body="Thank you.")
        return number


async def main(path: str, capability_: str, connectors: dict[str, Any]) -> None:
    kinds = {"bank": HttpConnector, "mail": SmtpConnector}
    made = {name: kinds[name](**options) for name, options in connectors.items()}
    store = SqliteStore.open(path, "agent")
    engine = engine_of(Shop(), store, connectors=made, faults=faults_from_environment())
    await engine.start()
    result = await engine.execute(call_of(capability_, 1, task="00000000-0000-7000-8000-000000000001"))
    print(json.dumps({"output": result.output, "error": result.error, "replayed": result.replayed}), flush=True)
    await engine.stop()
    for connector in made.values():
        await connector.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
