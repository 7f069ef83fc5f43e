"""The course of one call, from where it begins to what it leaves behind. The pool's door is `pool`."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from random import Random

from ..contracts import Canceled, Clock, Entropy, HanseError, Kind, PersonNeeded, Recorder
from ..contracts.caller import Caller
from ..contracts.pool import Answer, Ask, Cached, Message, Piece, ToolCall, Usage
from .budget import CallBudget
from .cascade import ELSEWHERE, Accept, Ladder, Opinion, Outcome, Rules, Try, Work, climb
from .jury import Jury
from .policy import Policy
from .price import to_cents
from .prompt import Prompt, PromptBook
from .proposal import Proposal
from .purse import Purse
from .record import Records, attempts_of, lessons
from .router import Router
from .rung import Rung

_SHOWN_TO_REPAIR = 4_000
"""Characters of a refused answer that the tier sees again."""
_SEED_BYTES = 8


@dataclass(slots=True)
class Call:
    """One call under way."""

    id: str
    ask: Ask
    caller: Caller
    subject: str
    """What the router learns of: the capability, else the prompt, else the purpose."""
    money: CallBudget
    purse: Purse
    """Of the same money, for what tiers do beside answering."""
    rungs: list[Rung]
    """That may work for it, lowest first."""
    started: float
    """On the monotonic clock."""
    came: Ask
    """The ask as it came: `ask` is what the engines see of it."""
    template: Prompt | None = None
    tries: list[Try] = field(default_factory=list[Try])
    guarded: Opinion = field(default_factory=Opinion)
    """What is thought of what goes in."""


class Courses:
    """Takes calls through their course."""

    def __init__(
        self,
        policy: Policy,
        jury: Jury,
        router: Router,
        prompts: PromptBook,
        records: Records,
        recorder: Recorder,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._policy, self._jury, self._router, self._prompts = policy, jury, router, prompts
        self._records, self._recorder, self._clock, self._entropy = records, recorder, clock, entropy

    def shown(self, ask: Ask, template: Prompt | None) -> Ask:
        """What the engines see: the prompt's turns in the place of its inputs, and a correction in words."""
        asked, corrected = filled(ask, template), ask.correction
        if corrected is None:
            return asked
        return self._again(asked, corrected.answer, f"- {corrected.problem}").model_copy(update={"correction": None})

    async def guard(self, call: Call) -> None:
        """Raises PersonNeeded for what goes in and is refused: no tier was asked to answer it. The pool's own words
        about an answer before are no part of that.
        """
        try:
            with call.purse.open():
                call.guarded = await self._jury.guard(filled(call.came, call.template))
        except asyncio.CancelledError:
            self._failed(call, Canceled("whoever asked went away"))
            raise
        if reasons := [str(finding)[:300] for finding in call.guarded.findings]:
            detail = f"no tier was asked, for what goes in was refused ({reasons[0]}). A person has to answer"
            raise await self.refused(call, PersonNeeded(detail, reasons=reasons))

    async def run(self, call: Call) -> Answer:
        """The accepted answer, when it is on disk. Raises what `Models.ask` raises."""
        rules = Rules(self._policy.repairs, self._policy.attempts)
        ladder, judge = self.ladder(call), partial(self._opinion, call)
        try:
            move = await climb(call.ask, ladder, rules, self._proposer(call), judge, self._repaired, call.tries)
        except asyncio.CancelledError:
            self._failed(call, Canceled("whoever asked went away"))
            raise
        if not isinstance(move, Accept):
            raise await self.refused(call, move.error)
        return await self._accepted(call, move.by)

    async def written(self, call: Call) -> AsyncGenerator[Piece, None]:
        """The pieces as they are written by the first tier that writes any, and the answer, judged, in the last."""
        try:
            async with aclosing(self._first_to_write(call)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, str):
                        yield Piece(text=piece)
                    else:
                        yield Piece(answer=await self._judged(call, piece))
        except HanseError as error:
            raise await self.refused(call, error) from None
        except (asyncio.CancelledError, GeneratorExit):
            if not call.tries:
                self._failed(call, Canceled("whoever asked went away"))
            raise

    def ladder(self, call: Call) -> Ladder:
        """From the tier that was asked for, or the one that the router says."""
        names = [rung.name for rung in call.rungs]
        start = call.ask.tier if call.ask.tier in names else (names[0] if call.ask.tier else self._start(call))
        at = names.index(start)
        return Ladder(tuple(names[at:]), tuple(reversed(names[:at])))

    def found(self, call: Call, kept: Answer, how: Cached) -> Answer:
        """An answer that was given before, as this call's."""
        beside = call.purse.used
        usage = Usage(
            prompt_tokens=beside.prompt_tokens, cents=to_cents(beside.microcents), latency_ms=self._milliseconds(call)
        )
        answer = kept.model_copy(update={"id": call.id, "usage": usage, "cached": how, "attempts": ()})
        self._records.call(answer, call.ask, call.caller, call.subject, (), Outcome.ACCEPTED, beside)
        self._records.count_call(call.money.owner, "")
        return answer

    async def refused(self, call: Call, error: HanseError) -> HanseError:
        """The error, when it is on disk."""
        self._learn(call)
        if isinstance(error, PersonNeeded):
            error = error.about(proposals=[each.answer for each in call.tries if each.answer])
        self._failed(call, error)
        await self._recorder.durable()
        return error

    async def _accepted(self, call: Call, by: Try) -> Answer:
        self._learn(call)
        answer = self._answer(call, by)
        beside = call.purse.used
        self._records.call(answer, call.ask, call.caller, call.subject, call.tries, by.outcome, beside)
        self._records.count_call(call.money.owner, answer.tier)
        await self._recorder.durable()
        return answer

    def _start(self, call: Call) -> str:
        """The router's choice among those that can be reached now; the lowest when none can, to say why."""
        away = not any(rung.available() for rung in call.rungs)
        ladder = [(rung.name, rung.guess_cents(call.ask)) for rung in call.rungs if away or rung.available()]
        if len(ladder) == 1 or away:
            return ladder[0][0]
        chance = Random(int.from_bytes(self._entropy.bytes(_SEED_BYTES), "big"))
        route = self._router.choose(call.caller.tenant, call.subject, ladder, chance)
        said = {"call": call.id, "tenant": call.caller.tenant, "subject": call.subject, "tier": route.tier}
        floor = self._policy.floor_of(call.caller.capability) or ""
        said |= {"floor": floor, "reason": route.reason, "expected": dict(route.expected)}
        self._records.note(Kind.MODEL_ROUTED, call.caller, said)
        return route.tier

    def _proposer(self, call: Call) -> Callable[[str, Ask], Awaitable[Work]]:
        rungs = {rung.name: rung for rung in call.rungs}

        async def propose(tier: str, ask: Ask) -> Work:
            return await rungs[tier].attempt(ask, call.caller, call.money)

        return propose

    def _repaired(self, ask: Ask, refused: Try) -> Ask:
        """The ask, the refused answer, and what is wrong with it."""
        assert refused.work.proposal is not None
        problems = "\n".join(f"- {finding}" for finding in refused.opinion.findings)
        return self._again(ask, refused.work.proposal.words.decode(), problems)

    def _again(self, ask: Ask, said: str, problems: str) -> Ask:
        again = self._prompts.find("repair").render({"problems": problems})
        messages = (*ask.messages, Message(role="assistant", content=said[:_SHOWN_TO_REPAIR]), *again)
        return ask.model_copy(update={"messages": messages})

    async def _first_to_write(self, call: Call) -> AsyncGenerator[str | Work, None]:
        """Another tier takes over only as long as nothing was written."""
        ladder, begun = self.ladder(call), False
        rungs = {rung.name: rung for rung in call.rungs}
        names = [*ladder.up, *ladder.down]
        for last, name in ((name == names[-1], name) for name in names):
            try:
                async with aclosing(rungs[name].stream(call.ask, call.caller, call.money)) as pieces:
                    async for piece in pieces:
                        begun = begun or (not isinstance(piece, Work) and bool(piece.text))
                        yield piece if isinstance(piece, Work) else piece.text
                return
            except ELSEWHERE as error:
                call.tries.append(Try(Work(name, rungs[name].model, error=error)))
                if begun or last:
                    raise

    async def _judged(self, call: Call, work: Work) -> Answer:
        assert work.proposal is not None
        one = Try(work, await self._opinion(call, work.proposal))
        call.tries.append(one)
        answer = await self._accepted(call, one)
        refused = one.outcome is Outcome.REJECTED
        return answer.model_copy(update={"finish_reason": "content_filter"}) if refused else answer

    async def _opinion(self, call: Call, proposal: Proposal) -> Opinion:
        with call.purse.open():
            return await self._jury.opinion(proposal, call.ask, call.guarded)

    def _answer(self, call: Call, by: Try) -> Answer:
        proposal, used = by.work.proposal, [call.purse.used, *(each.work.used for each in call.tries)]
        assert proposal is not None
        usage = Usage(
            prompt_tokens=sum(each.prompt_tokens for each in used),
            completion_tokens=sum(each.completion_tokens for each in used),
            cents=to_cents(sum(each.microcents for each in used)),
            latency_ms=self._milliseconds(call),
        )
        return Answer(
            id=call.id,
            text=proposal.text,
            data=proposal.data,
            tool_calls=proposal.raw.tool_calls,
            finish_reason=proposal.raw.finish_reason,
            tier=by.tier,
            model=by.work.model,
            usage=usage,
            scores=by.opinion.scores,
            attempts=tuple(each.attempt() for each in call.tries),
        )

    def _learn(self, call: Call) -> None:
        results = lessons(attempts_of(call.tries), self._policy.second_cents)
        self._router.learn(call.caller.tenant, call.subject, results)

    def _failed(self, call: Call, error: HanseError) -> None:
        milliseconds, scores = self._milliseconds(call), call.guarded.scores
        told, beside = (call.ask, call.caller, call.subject), call.purse.used
        self._records.failure(call.id, error, *told, call.tries, milliseconds, scores, beside)

    def _milliseconds(self, call: Call) -> float:
        return round((self._clock.monotonic() - call.started) * 1000, 3)


def filled(ask: Ask, template: Prompt | None) -> Ask:
    """The ask with its prompt's messages in the place of the inputs, and the version that they come from."""
    if template is None or ask.inputs is None:
        return ask
    messages = (*template.render(ask.inputs), *ask.messages)
    return ask.model_copy(update={"messages": messages, "inputs": None, "prompt": template.id})


def agrees(proposal: Proposal, answer: Answer) -> bool:
    """Whether both say the same: the same data, or the same words."""
    if proposal.data is not None or answer.data is not None:
        return proposal.data == answer.data
    same_words = proposal.text.split() == answer.text.split()
    return same_words and _calls(proposal.raw.tool_calls) == _calls(answer.tool_calls)


def _calls(calls: Sequence[ToolCall]) -> list[tuple[str, str]]:
    """Without their ids, which are never the same."""
    return [(call.name, call.arguments) for call in calls]
