"""The model pool on behalf of one step: it pays from the step's budget, and what was answered once stays answered.

A handler may run again, because what it read has changed or because its process died. What a model said to the same
question then must be the same: a second answer would cost again, and may be another one, after which the handler would
want other effects than those it has begun. So the answers of one step are kept for as long as it runs; in a step with
outside effects they go into the ledger with the first claim, like everything else that was looked up.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contracts import AgentId, BudgetExhausted, JsonObject, digest
from ..contracts.caller import Caller
from ..contracts.messages import Call
from ..contracts.pool import Answer, Ask, Judgement, Models, Piece, TierView
from .connector import Connector, operation
from .effects import Effects

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

PATIENCE_SECONDS = 24 * 3600.0
"""The handler's own time ends a question; the ledger's need not."""


@dataclass(slots=True)
class Purse:
    """What one step has spent on models and on child tasks, and the answers it got for it. Outlives a run of the
    handler.
    """

    cents: float = 0.0
    tokens: int = 0
    delegated: dict[str, float] = field(default_factory=dict[str, float])
    """Cents by child: what it may spend while it is open, then what it cost."""
    answers: dict[str, Any] = field(default_factory=dict[str, Any])
    """As plain data, by the question's digest and its place among equal ones."""

    def pay(self, answer: Answer) -> None:
        used = answer.usage
        self.cents += used.cents
        self.tokens += used.prompt_tokens + used.completion_tokens

    @property
    def given_away(self) -> float:
        """Cents that child tasks may spend or have cost."""
        return sum(self.delegated.values())

    @property
    def spoken_for(self) -> float:
        """Cents that nothing else can be paid with."""
        return self.cents + self.given_away


class Used(NamedTuple):
    """What models took for one run of a step, and the labels of what it has taken up."""

    cents: float
    tokens: int
    labels: JsonObject | None = None


NOTHING_USED = Used(0.0, 0)


class StepPool:
    """Keeps `agents.models.Pool` for one run of a handler."""

    def __init__(
        self,
        models: Models,
        call: Call,
        agent: AgentId,
        labels: Callable[[], tuple[str, ...]],
        purse: Purse,
        effects: Effects | None,
        alive: Callable[[], None],
        deadline_ms: Callable[[], int],
    ) -> None:
        """`alive` raises when the handler is over; `deadline_ms` gives the call's, which child tasks move."""
        self._models, self._call, self._purse, self._effects = models, call, purse, effects
        self._agent, self._labels = agent, labels
        self._alive, self._deadline_ms = alive, deadline_ms
        self._asked: dict[str, int] = {}

    async def ask(self, ask: Ask) -> Answer:
        ask = self._directed(ask)

        async def answer() -> JsonObject:
            self._check_tokens()
            given = await self._models.ask(ask, self._caller())
            self._purse.pay(given)
            return given.model_dump(mode="json")

        return Answer.model_validate(await self._once("ask", ask.model_dump(mode="json"), answer))

    async def stream(self, ask: Ask) -> AsyncIterator[Piece]:
        """Not kept: for what somebody watches, and nothing else depends on."""
        self._alive()
        self._check_tokens()
        async for piece in self._models.stream(self._directed(ask), self._caller()):
            self._alive()
            if piece.answer is not None:
                self._purse.pay(piece.answer)
            yield piece

    async def embed(self, texts: Sequence[str]) -> "NDArray[float32]":
        """Not kept: the same text has the same vector."""
        self._alive()
        return await self._models.embed(texts, self._caller())

    async def judge(self, validator: str, text: str, sources: Sequence[str] = ()) -> Judgement:
        async def judgement() -> JsonObject:
            given = await self._models.judge(validator, text, self._caller(), sources)
            return given.model_dump(mode="json")

        question = {"validator": validator, "text": text, "sources": list(sources)}
        return Judgement.model_validate(await self._once("judge", question, judgement))

    async def tiers(self) -> list[TierView]:
        self._alive()
        return await self._models.tiers()

    def _directed(self, ask: Ask) -> Ask:
        """To the tier that the task names, whatever the handler says: it was started to see what that one answers."""
        model = self._call.model
        return ask if model is None else ask.model_copy(update={"tier": model, "only": True})

    def _check_tokens(self) -> None:
        """Raises BudgetExhausted. What an answer takes is known when it is there, so the calls under way may go over
        it: by no more than what they may write.
        """
        limit, used = self._call.budget_tokens, self._purse.tokens
        if limit is not None and used >= limit:
            raise BudgetExhausted(
                f"the step has used {used} tokens of the {limit} it was given", limit=limit, level="step"
            )

    def _caller(self) -> Caller:
        """The budget is the step's whole without its child tasks': what models have spent of it, the pool knows, also
        after a crash.
        """
        call = self._call
        return Caller(
            tenant=call.tenant,
            task=call.task,
            step=call.step,
            capability=call.capability,
            budget_cents=max(0.0, call.budget_cents - self._purse.given_away),
            deadline_ms=self._deadline_ms(),
            agent=self._agent,
            by=self._agent,
            labels=self._labels(),
        )

    async def _once(self, kind: str, question: JsonObject, ask: Callable[[], Any]) -> JsonObject:
        """What was answered to this question in this step before, or now."""
        self._alive()
        name = self._name(kind, question)

        async def answer() -> JsonObject:
            if name not in self._purse.answers:
                self._purse.answers[name] = await ask()
            return self._purse.answers[name]

        if self._effects is None:
            return await answer()
        return await self._effects.perform(_Asked(answer), _Asked.operations["ask"], "", {"question": name})

    def _name(self, kind: str, question: JsonObject) -> str:
        """Equal questions of one run are different ones: a handler that asks three times wants three answers."""
        same = digest([kind, question])
        number = self._asked[same] = self._asked.get(same, 0) + 1
        return f"{same}#{number}"


class _Asked(Connector):
    """One question as the ledger sees it: a look at something outside, of which it keeps the digest and the answer."""

    name = "models"

    def __init__(self, answer: Callable[[], Any]) -> None:
        super().__init__(timeout_seconds=PATIENCE_SECONDS)
        self._answer = answer

    @operation(effect="read")
    async def ask(self, key: str, question: str) -> dict[str, Any]:
        return await self._answer()
