"""What the coordinator does about an outcome that nobody knows: it asks the same agent again, and nobody else."""

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from hanse import Agent, Context, Federation, capability
from hanse.contracts import HanseError, Kind, OutcomeUnknown, RetryPolicy, Unavailable

_QUICK = RetryPolicy(initial_interval=0.01, max_interval=0.02, max_attempts=3)


class Parcel(BaseModel):
    number: int


class _Carrier(Agent):
    """Takes parcels. What went wrong with it is decided by the test."""

    troubles: Iterator[HanseError] = iter(())

    @capability(effect="irreversible", retry=_QUICK)
    async def take(self, request: Parcel, context: Context) -> Parcel:
        """Take a parcel along."""
        for trouble in type(self).troubles:
            raise trouble
        return request


class Near(_Carrier):
    """The carrier that wins every award."""

    domain = "carrier"
    name = "near"

    def price_cents(self, capability: str) -> float:
        return 1


class Far(_Carrier):
    """The carrier that is asked when the first one may not."""

    domain = "carrier"
    name = "far"

    def price_cents(self, capability: str) -> float:
        return 100


async def agents_asked(*troubles: HanseError) -> tuple[list[str], str]:
    """Who was awarded the step, in order, and how the task ended."""
    Near.troubles = iter(troubles)
    async with Federation.in_process(agents=[Near, Far]) as federation:
        task = await federation.submit(call="carrier.take", input={"number": 1})
        view = await federation.client.wait(task.id, 10)
        events = await federation.client.events(task.id)
    awarded = [event.data["agent"] for event in events if event.kind is Kind.STEP_AWARDED]
    return awarded, view.error.code if view.error else view.status


async def test_an_unknown_outcome_is_asked_of_the_same_agent_again():
    unknown = OutcomeUnknown("no answer came", stay_with="near")
    assert await agents_asked(unknown) == (["near", "near"], "completed")


async def test_an_outcome_that_stays_unknown_becomes_a_question_to_a_person():
    unknown = [OutcomeUnknown("no answer came", stay_with="near") for _ in range(9)]
    assert await agents_asked(*unknown) == (["near"] * 3, "input_required")


async def test_a_failure_after_an_effect_began_stays_with_its_agent():
    assert await agents_asked(Unavailable("gone for a moment", stay_with="near")) == (["near", "near"], "completed")


async def test_a_failure_before_any_effect_goes_to_another_agent():
    assert await agents_asked(Unavailable("gone for a moment")) == (["near", "far"], "completed")


@pytest.fixture(autouse=True)
def _no_troubles_left() -> Iterator[None]:
    yield
    Near.troubles = iter(())
