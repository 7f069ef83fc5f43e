"""An agent that dies of one dish, for real."""

import asyncio
import os
import signal

from pydantic import BaseModel

from hanse import Agent, Context, capability


class Dish(BaseModel):
    name: str
    poisoned: bool = False


class Taster(Agent):
    """Tastes what is served."""

    domain = "taster"

    @capability(effect="irreversible")
    async def taste(self, request: Dish, context: Context) -> Dish:
        """Taste a dish, and die of it when it is poisoned."""
        await asyncio.sleep(0.05)
        if request.poisoned:
            os.kill(os.getpid(), signal.SIGKILL)
        await context.state.put("dish", request.name, True)
        return request
