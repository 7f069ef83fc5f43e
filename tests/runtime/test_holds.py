"""Where trying again cannot help, a person chooses: unknown outcomes, half-done steps, compensations that keep failing.

And what is staged is confirmed or canceled, and what cannot be undone waits for all that may still fail.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hanse import Agent, Context, Federation, capability
from hanse.agents.connector import Connector, operation
from hanse.contracts import (
    Conflict,
    InvalidContract,
    InvalidInput,
    InvalidPlan,
    Kind,
    OutcomeUnknown,
    PersonNeeded,
    Refusal,
    RetryPolicy,
    TaskStatus,
    TaskView,
    Unavailable,
)

_QUICK = RetryPolicy(initial_interval=0.01, max_interval=0.02, max_attempts=2)


class Sent(BaseModel):
    number: int


class Pigeons(Connector):
    """An outside that nobody can ask. What it does is decided by the test."""

    flown: ClassVar[Counter[str]] = Counter()
    answer: ClassVar[Callable[[str], None]] = staticmethod(lambda what: None)

    @operation()
    async def fly(self, key: str, *, what: str) -> Sent:
        """Carry something away, whether or not an answer comes back."""
        type(self).flown[what] += 1
        type(self).answer(what)
        return Sent(number=type(self).flown[what])


class Letter(BaseModel):
    what: str


class Loft(Agent):
    """Sends pigeons."""

    domain = "loft"

    @capability(effect="irreversible", retry=_QUICK)
    async def send(self, request: Letter, context: Context) -> Sent:
        """Send one pigeon."""
        sent = await context.connectors.pigeons.fly(what=request.what)
        await context.state.put("sent", request.what, sent.number)
        return sent

    @capability(effect="irreversible", retry=_QUICK)
    async def send_two(self, request: Letter, context: Context) -> Sent:
        """Send two pigeons, one after the other."""
        await context.connectors.pigeons.fly(what=request.what)
        return await context.connectors.pigeons.fly(what=f"{request.what} again")


class Coins(BaseModel):
    cents: int


class Till(Agent):
    """Holds money, takes it, lets it go."""

    domain = "till"
    did: ClassVar[list[str]] = []
    broken: ClassVar[set[str]] = set()

    def _do(self, what: str) -> None:
        if what in type(self).broken:
            raise Refusal(f"{what} is stuck")
        type(self).did.append(what)

    @capability(effect="reversible", compensation="pay_back", retry=_QUICK)
    async def pay(self, request: Coins) -> Coins:
        """Take money."""
        self._do("pay")
        return request

    @capability(effect="irreversible", retry=_QUICK)
    async def pay_back(self, request: Coins) -> Coins:
        """Give money back."""
        self._do("pay_back")
        return request

    @capability(effect="reversible", compensation="release", confirmation="capture", retry=_QUICK)
    async def hold(self, request: Coins) -> Coins:
        """Set money aside."""
        self._do("hold")
        return request

    @capability(effect="irreversible", retry=_QUICK)
    async def capture(self, request: Coins) -> Coins:
        """Take what was set aside."""
        self._do("capture")
        return request

    @capability(effect="irreversible", retry=_QUICK)
    async def release(self, request: Coins) -> Coins:
        """Let go what was set aside."""
        self._do("release")
        return request

    @capability(effect="irreversible", retry=_QUICK)
    async def ring(self, request: Coins) -> Coins:
        """Ring the bell, which nobody can take back."""
        self._do("ring")
        return request

    @capability(effect="read", retry=_QUICK)
    async def count(self, request: Coins) -> Coins:
        """Count, for some time."""
        for _ in range(request.cents):
            await asyncio.sleep(0)
        self._do("count")
        return request


_CONNECTORS = {"pigeons": {"kind": "class", "class": f"{__name__}:Pigeons"}}


@pytest.fixture
async def federation() -> AsyncIterator[Federation]:
    async with _federation() as federation:
        yield federation


def _federation(data: str | Path = ":memory:") -> Federation:
    return Federation.in_process([Loft, Till], data=data, connectors=_CONNECTORS)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Pigeons.flown.clear()
    Pigeons.answer = staticmethod(lambda what: None)
    Till.did.clear()
    Till.broken.clear()


def _silent(what: str) -> None:
    raise OutcomeUnknown("no answer came back")


async def _held(federation: Federation, **asked: Any) -> TaskView:
    """A new task, as it waits for a person."""
    task = await federation.submit(**asked)
    return await federation.client.wait(task.id, 20)


async def _resume(federation: Federation, view: TaskView, choice: str, **said: Any) -> TaskView:
    """The task as it is when it has ended, or waits again."""
    await federation.client.resume(view.id, choice, **said)
    return await federation.client.wait(view.id, 20)


async def _kinds(federation: Federation, view: TaskView) -> list[str]:
    return [str(event.kind) for event in await federation.client.events(view.id)]


class TestUnknownOutcomes:
    async def _unknown(self, federation: Federation) -> TaskView:
        Pigeons.answer = staticmethod(_silent)
        view = await _held(federation, call="loft.send", input={"what": "news"})
        Pigeons.answer = staticmethod(lambda what: None)
        return view

    async def test_a_person_is_asked_with_both_answers_spelled_out(self, federation: Federation):
        view = await self._unknown(federation)
        assert view.status is TaskStatus.INPUT_REQUIRED
        (held,) = view.held
        assert (held.step, held.why) == ("call", "outcome_unknown")
        assert held.question.startswith("Did loft.send (step call) happen?")
        assert "it happened" in held.choices["happened"]
        assert "did not happen" in held.choices["not_happened"]
        assert Pigeons.flown["news"] == 1, "it is never tried again blindly"

    async def test_when_it_happened_the_agent_finishes_and_does_it_no_more(self, federation: Federation):
        view = await _resume(
            federation, await self._unknown(federation), "happened", result={"number": 41}, note="saw it"
        )
        assert (view.status, view.output) == (TaskStatus.COMPLETED, {"number": 41})
        assert Pigeons.flown["news"] == 1

    async def test_when_it_did_not_happen_it_is_done_now(self, federation: Federation):
        view = await _resume(federation, await self._unknown(federation), "not_happened")
        assert (view.status, view.output) == (TaskStatus.COMPLETED, {"number": 2})

    @pytest.mark.parametrize("step", [None, "call"])
    async def test_the_same_answer_again_changes_nothing_and_another_one_is_refused(
        self, step: str | None, federation: Federation
    ):
        """Whoever heard nothing of his first answer, because the coordinator died, must be able to ask again."""
        asked, said = await self._unknown(federation), {"step": step, "result": {"number": 41}, "note": "saw it"}
        await _resume(federation, asked, "happened", **said)
        view = await _resume(federation, asked, "happened", **said)
        assert (view.status, view.output) == (TaskStatus.COMPLETED, {"number": 41})
        assert (await _kinds(federation, view)).count("step.resumed") == 1
        for other in ({"choice": "not_happened"}, {"choice": "happened", "note": "heard of it"}):
            with pytest.raises(Conflict, match="held up"):
                await federation.client.resume(view.id, **{**said, **other})

    async def test_an_answer_that_the_agent_can_make_nothing_of_asks_again_and_says_what_it_needs(
        self, federation: Federation
    ):
        view = await _resume(federation, await self._unknown(federation), "happened")
        assert view.status is TaskStatus.INPUT_REQUIRED
        assert "pigeons.fly gives" in view.held[0].question
        assert "number" in view.held[0].question
        view = await _resume(federation, view, "happened", result={"number": 1})
        assert (view.status, Pigeons.flown["news"]) == (TaskStatus.COMPLETED, 1)

    async def test_an_answer_of_which_the_agent_has_no_record_is_refused(self, federation: Federation):
        """The handler did not go through the ledger, so there is nothing that could be finished."""

        class Forgetful(Agent):
            """Does things by itself."""

            domain = "forgetful"

            @capability(effect="irreversible", retry=_QUICK)
            async def act(self, request: Coins) -> Coins:
                """Act."""
                raise OutcomeUnknown("who knows")

        async with Federation.in_process([Forgetful]) as federation:
            view = await _held(federation, call="forgetful.act", input={"cents": 1})
            view = await _resume(federation, view, "happened")
            assert "by_hand" in view.held[0].question
            with pytest.raises(InvalidInput, match="cents"):
                await federation.client.resume(view.id, "by_hand", output={"euros": 1})
            view = await _resume(federation, view, "by_hand", output={"cents": 1})
            assert (view.status, view.output) == (TaskStatus.COMPLETED, {"cents": 1})

    async def test_a_canceled_task_learns_first_what_it_has_to_undo(self, federation: Federation):
        """What the step did is known when its agent has finished it, and only then the others are undone."""
        Pigeons.answer = staticmethod(_silent)
        steps = [
            {"id": "pay", "call": "till.pay", "input": {"cents": 5}},
            {"id": "send", "call": "loft.send", "input": {"what": "x"}},
        ]
        view = await _held(federation, plan={"steps": steps})
        await federation.client.cancel(view.id, "enough")
        view = await federation.client.wait(view.id, 5)
        assert (view.status, Till.did) == (TaskStatus.INPUT_REQUIRED, ["pay"])
        view = await _resume(federation, view, "happened", result={"number": 1})
        assert (view.status, Till.did) == (TaskStatus.CANCELED, ["pay", "pay_back"])
        assert (await federation.client.steps(view.id))[1].status == "completed"

    async def test_it_waits_across_a_restart(self, tmp_path: Path):
        async with _federation(tmp_path) as federation:
            asked = await self._unknown(federation)
        async with _federation(tmp_path) as federation:
            view = await federation.client.task(asked.id)
            assert (view.status, view.held) == (asked.status, asked.held)
            view = await _resume(federation, view, "happened", result={"number": 1})
            assert (view.status, Pigeons.flown["news"]) == (TaskStatus.COMPLETED, 1)

    async def test_what_was_reserved_for_it_stays_reserved(self):
        class Dear(Agent):
            """Costs something."""

            domain = "dear"

            @capability(effect="irreversible", retry=_QUICK, price_cents=6)
            async def act(self, request: Coins) -> Coins:
                """Act."""
                raise OutcomeUnknown("who knows")

            @capability(effect="read", retry=_QUICK, price_cents=6)
            async def look(self, request: Coins) -> Coins:
                """Look."""
                return request

        act = {"id": "act", "call": "dear.act", "input": {"cents": 1}}
        after = {"id": "look", "call": "dear.look", "input": {"cents": {"$from": "act.cents"}}}
        async with Federation.in_process([Dear]) as federation:
            view = await _held(federation, plan={"steps": [act, after]}, budget={"cents": 10})
            view = await _resume(federation, view, "by_hand", output={"cents": 1})
            assert (view.status, view.cost_cents) == (TaskStatus.FAILED, 6)
            assert view.error
            assert view.error.code == "budget_exhausted"


class TestHalfDone:
    async def test_a_step_that_did_some_of_its_effects_is_not_just_failed(self, federation: Federation):
        def second_fails(what: str) -> None:
            if what.endswith("again"):
                raise Refusal("no more pigeons")

        Pigeons.answer = staticmethod(second_fails)
        view = await _held(federation, call="loft.send_two", input={"what": "news"})
        assert [held.why for held in view.held] == ["half_done"]
        Pigeons.answer = staticmethod(lambda what: None)
        view = await _resume(federation, view, "again")
        assert (view.status, Pigeons.flown["news"]) == (TaskStatus.COMPLETED, 1)

    async def test_it_may_be_left_as_it_stands(self, federation: Federation):
        def second_fails(what: str) -> None:
            if what.endswith("again"):
                raise Refusal("no more pigeons")

        Pigeons.answer = staticmethod(second_fails)
        view = await _held(federation, call="loft.send_two", input={"what": "news"})
        view = await _resume(federation, view, "give_up")
        assert (view.status, view.error and view.error.code) == (TaskStatus.FAILED, "refused")


class TestModelsAnswers:
    async def test_when_no_answer_was_good_enough_a_person_answers(self):
        class Reader(Agent):
            """Reads letters."""

            domain = "reader"

            @capability(effect="read", retry=_QUICK)
            async def amount(self, request: Letter) -> Coins:
                """Find the amount in a letter."""
                raise PersonNeeded("no tier's answer was accepted")

        async with Federation.in_process([Reader]) as federation:
            view = await _held(federation, call="reader.amount", input={"what": "You owe me five."})
            assert [held.why for held in view.held] == ["person_needed"]
            with pytest.raises(InvalidInput):
                await federation.client.resume(view.id, "by_hand", output={"cents": "five"})
            view = await _resume(federation, view, "by_hand", output={"cents": 500})
            assert (view.status, view.output) == (TaskStatus.COMPLETED, {"cents": 500})


_STUCK = {
    "steps": [
        {"id": "first", "call": "till.pay", "input": {"cents": 1}},
        {"id": "second", "call": "till.pay", "input": {"cents": 2}, "after": ["first"]},
        {"id": "third", "call": "till.count", "input": {"cents": 0}, "after": ["second"]},
    ]
}


class TestStuckCompensations:
    async def _stuck(self, federation: Federation) -> TaskView:
        Till.broken |= {"count", "pay_back"}
        return await _held(federation, plan=_STUCK)

    async def test_it_stops_with_an_alarm_and_says_what_still_stands(
        self, federation: Federation, caplog: pytest.LogCaptureFixture
    ):
        view = await self._stuck(federation)
        (held,) = view.held
        assert (held.step, held.why) == ("second~", "compensation_failed")
        assert "second, first stand as done" in held.question
        assert any(record.levelname == "ERROR" and view.id in record.getMessage() for record in caplog.records)

    async def test_it_goes_on_when_the_cause_is_mended(self, federation: Federation):
        view = await self._stuck(federation)
        Till.broken.clear()
        view = await _resume(federation, view, "again")
        assert (view.status, Till.did) == (TaskStatus.FAILED, ["pay", "pay", "pay_back", "pay_back"])
        assert view.error
        assert view.error.code == "refused", "it failed for what it failed for"

    async def test_somebody_may_have_done_it_by_hand(self, federation: Federation):
        view = await _resume(federation, await self._stuck(federation), "by_hand", note="gave it back at the door")
        assert [held.step for held in view.held] == ["first~"]
        Till.broken.clear()
        view = await _resume(federation, view, "again")
        assert (view.status, Till.did) == (TaskStatus.FAILED, ["pay", "pay", "pay_back"])
        statuses = {step.id: str(step.status) for step in await federation.client.steps(view.id)}
        assert statuses["second"] == statuses["first"] == "compensated"

    async def test_giving_up_ends_the_task_and_says_so(self, federation: Federation):
        view = await _resume(federation, await self._stuck(federation), "give_up")
        assert view.error
        assert view.error.code == "compensation_failed"
        assert view.error.ids["left"] == ["second", "first"]


class TestStagedEffects:
    async def test_they_become_final_after_everything_that_can_fail(self, federation: Federation):
        steps = [
            {"id": "hold", "call": "till.hold", "input": {"cents": 7}},
            {"id": "count", "call": "till.count", "input": {"cents": 3}, "after": ["hold"]},
            {"id": "ring", "call": "till.ring", "input": {"cents": 1}},
        ]
        view = await _held(federation, plan={"steps": steps})
        assert (view.status, Till.did) == (TaskStatus.COMPLETED, ["hold", "count", "ring", "capture"])
        shown = [step.id for step in await federation.client.steps(view.id)]
        assert shown == ["hold", "hold+", "count", "ring"]

    async def test_they_are_canceled_when_the_plan_fails(self, federation: Federation):
        Till.broken.add("count")
        steps = [
            {"id": "hold", "call": "till.hold", "input": {"cents": 7}},
            {"id": "count", "call": "till.count", "input": {"cents": 3}, "after": ["hold"]},
        ]
        view = await _held(federation, plan={"steps": steps})
        assert (view.status, Till.did) == (TaskStatus.FAILED, ["hold", "release"])

    async def test_past_the_point_of_no_return_nobody_cancels(self, federation: Federation):
        Till.broken.add("capture")
        view = await _held(federation, call="till.hold", input={"cents": 7})
        assert [(held.step, held.why) for held in view.held] == [("call+", "confirmation_failed")]
        with pytest.raises(Conflict, match="point of no return"):
            await federation.client.cancel(view.id)
        Till.broken.clear()
        view = await _resume(federation, view, "again")
        assert (view.status, Till.did) == (TaskStatus.COMPLETED, ["hold", "capture"])

    async def test_a_plan_that_could_not_be_confirmed_is_refused(self):
        class Half(Agent):
            """Stages what nobody confirms."""

            domain = "half"

            @capability(effect="reversible", compensation="drop", confirmation="elsewhere.take")
            async def stage(self, request: Coins) -> Coins:
                """Stage."""
                return request

            @capability(effect="irreversible")
            async def drop(self, request: Coins) -> Coins:
                """Drop."""
                return request

        async with Federation.in_process([Half]) as federation:
            with pytest.raises(InvalidPlan, match=r"confirmed by elsewhere\.take, which no agent offers"):
                await federation.submit(call="half.stage", input={"cents": 1})

    def test_only_what_can_be_canceled_can_be_confirmed(self):
        with pytest.raises(InvalidContract, match="names a confirmation but is irreversible"):

            class Wrong(Agent):
                """Wrong."""

                domain = "wrong"

                @capability(effect="irreversible", confirmation="take")
                async def stage(self, request: Coins) -> Coins:
                    """Stage."""
                    return request


class TestPointsOfNoReturn:
    async def test_what_cannot_be_undone_waits_for_all_that_may_fail(self, federation: Federation):
        """Though it depends on nothing, and stands first in the plan."""
        steps = [
            {"id": "ring", "call": "till.ring", "input": {"cents": 1}},
            {"id": "pay", "call": "till.pay", "input": {"cents": 1}},
            {"id": "count", "call": "till.count", "input": {"cents": 5}, "after": ["pay"]},
            {"id": "later", "call": "till.count", "input": {"cents": 0}, "after": ["ring"]},
        ]
        view = await _held(federation, plan={"steps": steps})
        assert (view.status, Till.did) == (TaskStatus.COMPLETED, ["pay", "count", "ring", "count"])

    async def test_nothing_irreversible_was_done_when_something_fails(self, federation: Federation):
        Till.broken.add("count")
        steps = [
            {"id": "ring", "call": "till.ring", "input": {"cents": 1}},
            {"id": "pay", "call": "till.pay", "input": {"cents": 1}},
            {"id": "count", "call": "till.count", "input": {"cents": 5}, "after": ["pay"]},
        ]
        view = await _held(federation, plan={"steps": steps})
        assert (view.status, Till.did) == (TaskStatus.FAILED, ["pay", "pay_back"])


class TestResuming:
    async def test_what_is_not_held_cannot_be_resumed(self, federation: Federation):
        view = await _held(federation, call="till.count", input={"cents": 1})
        with pytest.raises(Conflict, match="nothing of task"):
            await federation.client.resume(view.id, "again")

    async def test_only_its_own_choices(self, federation: Federation):
        Till.broken |= {"count", "pay_back"}
        view = await _held(federation, plan=_STUCK)
        with pytest.raises(InvalidInput, match="Choose one of again, by_hand, give_up"):
            await federation.client.resume(view.id, "happened")
        with pytest.raises(InvalidInput, match="has no step"):
            await federation.client.resume(view.id, "again", step="fourth")
        with pytest.raises(Conflict, match="is not held up"):
            await federation.client.resume(view.id, "again", step="first")
        assert Kind.STEP_RESUMED not in await _kinds(federation, view)

    async def test_an_agent_that_is_away_for_a_while_is_no_hold(self, federation: Federation):
        """What may work later and has done nothing simply fails when its attempts are used up."""

        class Away(Agent):
            """Is away."""

            domain = "away"

            @capability(effect="irreversible", retry=_QUICK)
            async def act(self, request: Coins) -> Coins:
                """Act."""
                raise Unavailable("gone fishing")

        async with Federation.in_process([Away]) as federation:
            view = await _held(federation, call="away.act", input={"cents": 1})
            assert (view.status, view.error and view.error.code) == (TaskStatus.FAILED, "unavailable")
