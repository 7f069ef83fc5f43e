"""What a handler is given."""

import datetime
import logging
from typing import Any

import pytest

from hanse.agents import Agent, Context
from hanse.contracts import Unavailable, capability

from .conftest import Start
from .desk import TurnedClock, answer, call_of, output


class Curious(Agent):
    """Looks around."""

    domain = "curious"

    @capability(effect="irreversible")
    async def look(self, request: str, context: Context) -> dict[str, Any]:
        """Say what is there."""
        assert context.now == context.now
        return {
            "key": context.idempotency_key,
            "task": context.task_id,
            "step": context.step_id,
            "tenant": context.tenant,
            "budget": context.budget.cents,
            "now": context.now,
            "deadline": context.deadline,
            "remaining": context.remaining_seconds if context.deadline else None,
            "random": context.random.random(),
            "connectors": list(context.connectors),
            "depth": context.offer.queue_depth,
        }

    @capability(effect="read")
    async def want(self, request: str, context: Context) -> Any:
        """Want what is not configured."""
        return getattr(context, request)

    @capability(effect="read")
    async def say(self, request: str, context: Context) -> None:
        """Say something in the log."""
        context.log.info("it says %s", request, extra={"action": "curious.said", "word": request})


async def test_a_context_says_who_asks_until_when_and_for_how_much(start: Start):
    clock = TurnedClock()
    engine = await start(Curious, clock=clock)
    call = call_of("curious.look", "", deadline_seconds=60, budget_cents=7, caveats={"cents": 7})
    seen = output(await engine.execute(call))
    assert (seen["key"], seen["task"], seen["step"]) == (call.key, call.task, "s1")
    assert (seen["tenant"], seen["budget"], seen["connectors"], seen["depth"]) == ("default", 7, [], 1)
    now, deadline = (datetime.datetime.fromisoformat(seen[name]) for name in ("now", "deadline"))
    assert datetime.timedelta(seconds=58) < deadline - now <= datetime.timedelta(seconds=60)
    assert 58 < seen["remaining"] <= 60
    assert 0 <= seen["random"] < 1


async def test_without_a_deadline_somebody_always_waits(start: Start):
    engine = await start(Curious)
    seen = output(await engine.execute(call_of("curious.look", "", deadline_ms=0)))
    assert seen["deadline"] is None


@pytest.mark.parametrize(("what", "remedy"), [("models", "Add `models:`"), ("memory", "Add `memory:`")])
async def test_what_is_not_configured_says_what_to_write(start: Start, what: str, remedy: str):
    with pytest.raises(Unavailable, match=remedy):
        await answer(await start(Curious), "curious.want", what)


async def test_the_log_says_which_step_speaks(start: Start, caplog: pytest.LogCaptureFixture):
    call = call_of("curious.say", "hello")
    with caplog.at_level(logging.INFO, logger="hanse.agents"):
        output(await (await start(Curious)).execute(call))
    [record] = [record for record in caplog.records if record.name == "hanse.agents"]
    said = vars(record)
    assert record.getMessage() == "it says hello"
    assert (said["action"], said["word"], said["task"], said["agent"]) == (
        "curious.said",
        "hello",
        call.task,
        "curious",
    )
