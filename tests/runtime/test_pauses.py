"""An error may say how long whoever failed wants to be left alone: no retry comes sooner, unless somebody else can."""

from math import inf, nan
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hanse import Agent, Federation, capability
from hanse.contracts import HanseError, Kind, OutcomeUnknown, Overloaded, RetryPolicy, Unavailable
from hanse.contracts.errors import MAX_PAUSE_SECONDS
from hanse.runtime.world import SystemClock

SOON = RetryPolicy(initial_interval=0.01, max_interval=0.02, max_attempts=2)
ASKED = 0.25


class Ask(BaseModel):
    what: str


class Desk(Agent):
    """Answers, when it is open."""

    domain = "desk"
    name = "any"
    errors: ClassVar[list[HanseError]] = []
    raised_ms: ClassVar[int] = 0

    @capability(effect="read", retry=SOON)
    async def answer(self, request: Ask) -> Ask:
        """Answer."""
        if Desk.errors:
            Desk.raised_ms = SystemClock().now_ms()
            raise Desk.errors.pop()
        return request


class North(Desk):
    """A desk."""

    name = "north"


class South(Desk):
    """Another desk."""

    name = "south"


@pytest.mark.parametrize(
    ("agents", "error", "least", "most"),
    [
        ([North], Unavailable("closed", retry_after_seconds=ASKED), ASKED, ASKED + 0.1),
        ([North], Overloaded("full", retry_after_seconds=ASKED), ASKED, ASKED + 0.1),
        ([North, South], Unavailable("closed", retry_after_seconds=ASKED), 0, 0.02),
        ([North, South], Unavailable("begun", retry_after_seconds=ASKED, stay_with="north"), ASKED, ASKED + 0.1),
        ([North], Unavailable("closed"), 0, 0.02),
    ],
    ids=["only-one", "overloaded", "somebody-else", "must-stay", "says-nothing"],
)
async def test_a_retry_waits_as_long_as_it_is_asked_to(agents: Any, error: HanseError, least: float, most: float):
    """That the coordinator means to wait, from when the error was raised at least, and from when it is in the journal
    at most. How long it does is the machine's affair.
    """
    Desk.errors[:] = [error]
    async with Federation.in_process(agents) as federation:
        task = await federation.submit(call="desk.answer", input={"what": "this"})
        view = await task.wait(20)
        events = await federation.client.events(task.id)
        report = await federation.client.replay(task.id)
    assert view.status == "completed"
    failed = next(event for event in events if event.kind is Kind.STEP_FAILED)
    assert failed.data["retry_at_ms"] >= Desk.raised_ms + least * 1000
    assert failed.data["retry_at_ms"] <= failed.at_ms + most * 1000 + 1
    assert report.ok, report.divergence


@pytest.mark.parametrize("asked", ["soon", None, True, nan, inf, -1, [5], 10**30, 7200])
def test_what_is_no_time_is_no_pause_and_nobody_is_left_alone_for_longer_than_an_hour(asked: Any):
    error = HanseError.from_data(Overloaded("full", retry_after_seconds=asked).to_data())
    assert error.pause_seconds == (MAX_PAUSE_SECONDS if asked == 7200 else 0)


def test_an_error_that_says_nothing_asks_for_no_pause():
    assert OutcomeUnknown("who knows").pause_seconds == 0
    assert Overloaded("full").retry_after_seconds == 1
    assert Overloaded("full", retry_after_seconds=0.1).retry_after_seconds == 0.1
