"""Which errors are tried again may stand in the contract: codes or branches, in place of the errors' types."""

from typing import ClassVar

import pytest
from pydantic import BaseModel

from hanse import Agent, Federation, capability
from hanse.contracts import Contract, HanseError, InvalidContract, InvalidInput, Refusal, RetryPolicy, Unavailable

_ONLY_CLOSED = RetryPolicy(
    initial_interval=0.01, max_interval=0.02, max_attempts=3, retry_on=("desk.closed", "permanent")
)


class Closed(Refusal):
    code = "desk.closed"


class Ask(BaseModel):
    what: str


class Desk(Agent):
    """Answers, when it is open."""

    domain = "desk"
    errors: ClassVar[list[HanseError]] = []
    asked: ClassVar[int] = 0

    @capability(effect="irreversible", retry=_ONLY_CLOSED)
    async def act(self, request: Ask) -> Ask:
        """Act."""
        type(self).asked += 1
        if type(self).errors:
            raise type(self).errors.pop()
        return request


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (Closed("come again"), 2),  # by its code, though the type says no
        (InvalidInput("not quite"), 2),  # by its branch
        (Unavailable("away"), 1),  # by its type it would be tried again
        (Refusal("never"), 1),
    ],
)
async def test_what_the_contract_names_is_tried_again_and_nothing_else(error: HanseError, asked: int):
    Desk.errors[:], Desk.asked = [error], 0
    async with Federation.in_process([Desk]) as federation:
        task = await federation.submit(call="desk.act", input={"what": "this"})
        view = await task.wait(20)
        report = await federation.client.replay(task.id)
    assert (Desk.asked, view.status) == (asked, "completed" if asked == 2 else "failed")
    assert report.ok, report.divergence


def test_a_contract_without_it_keeps_its_digest():
    contract = Desk.capabilities["desk.act"].contract  # type: ignore[index]
    assert contract.to_data()["retry"]["retry_on"] == ["desk.closed", "permanent"]
    assert Contract.from_data(contract.to_data()) == contract

    class Plain(Agent):
        """Plain."""

        domain = "plain"

        @capability(effect="read")
        async def look(self, request: Ask) -> Ask:
            """Look."""
            return request

    assert "retry_on" not in Plain.capabilities["plain.look"].contract.to_data()["retry"]  # type: ignore[index]


def test_one_text_is_not_several():
    with pytest.raises(InvalidContract, match=r"retry\.retry_on='unavailable' is not possible"):

        class Wrong(Agent):
            """Wrong."""

            domain = "wrong"

            @capability(effect="read", retry=RetryPolicy(retry_on="unavailable"))  # type: ignore[arg-type]
            async def look(self, request: Ask) -> Ask:
                """Look."""
                return request
