"""What a step leaves behind goes with its last reference. What stands in a circle waits for the collector, which looks
at everything that is young: with circles, that took a fifth of an agent's time."""

import gc
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from hanse import Agent, Context, Federation, Refusal, capability


class Ask(BaseModel):
    what: str


class Desk(Agent):
    """Answers."""

    domain = "desk"

    @capability(effect="reversible", compensation="forget")
    async def keep(self, request: Ask, context: Context) -> Ask:
        """Keep something."""
        await context.state.put("kept", request.what, 1)
        return request

    @capability(effect="reversible", compensation="keep")
    async def forget(self, request: Ask, context: Context) -> Ask:
        """Forget it."""
        await context.state.delete("kept", request.what)
        return request

    @capability(effect="read")
    async def look(self, request: Ask) -> Ask:
        """Look."""
        return request

    @capability(effect="read")
    async def refuse(self, request: Ask) -> Ask:
        """Refuse."""
        raise Refusal("no")


@pytest.mark.parametrize("call", ["keep", "look", "refuse"])
async def test_a_step_leaves_nothing_for_the_collector(call: str):
    steps = [{"id": f"s{i}", "call": f"desk.{call}", "input": {"what": str(i)}, "optional": True} for i in range(5)]
    plan = {"steps": steps, "output": None}
    async with Federation.in_process([Desk]) as federation:
        await _done(federation, plan)
        gc.collect()
        gc.freeze()  # what other tests have left is theirs, also where it goes only now
        gc.disable()
        try:
            for _ in range(10):
                await _done(federation, plan)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = Counter(type(each).__qualname__ for each in gc.garbage if type(each).__module__.startswith("hanse."))
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
            gc.unfreeze()
    assert left == {}


async def _done(federation: Federation, plan: dict[str, Any]) -> None:
    task = await federation.submit(plan=plan)
    assert (await task.wait(20)).status == "completed"
