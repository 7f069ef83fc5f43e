"""The model pool: tiers from small to large behind one door, which keeps `contracts.pool.Models` and `Administration`.

A call goes: the prompt file is filled, the caches are looked into where the ask is pure, the router says where to
begin, the cascade climbs, and what happened is on disk before the answer leaves. Everything that the pool needs of the
world comes in through ports; it knows no Ray.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from ..contracts import (
    Clock,
    DeadlineExceeded,
    Entropy,
    HanseError,
    InvalidInput,
    JsonObject,
    Kind,
    ModelUnavailable,
    NotAllowed,
    NotFound,
    Overloaded,
    Recorder,
    Store,
    Tenant,
    TooLarge,
)
from ..contracts.caller import Caller
from ..contracts.ids import uuid7
from ..contracts.pool import (
    Answer,
    Ask,
    Cached,
    CacheView,
    CallView,
    Embedder,
    Judgement,
    Piece,
    PromptView,
    TierState,
    TierView,
    UsageView,
)
from .backend import Backend, Condition
from .budget import Budget, CallBudget, Used
from .caches import Caches, Keys
from .cascade import Try, Work
from .course import Call, Courses, agrees
from .gate import SchemaAllowance
from .jury import Jury
from .policy import Policy
from .pooled import PooledEmbedder
from .price import guess_tokens
from .prompt import Prompt, PromptBook
from .purse import Purse
from .record import Records, lessons
from .router import Router
from .rung import Rung
from .schemas import check_schema
from .tier import Kind as TierKind
from .tier import Tier, embedding
from .validator import Validator

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

MAX_TEXTS = 4_096
MAX_TEXT_CHARS = 4_000_000
"""Of all texts of one request to be embedded or judged, and of all messages of an ask."""
REMEMBERED_ENTRIES = 100_000
"""Of the journal's end, from which the router learns again after a start."""
YIELD_EVERY = 500
SHADOWS = 8
"""Shadows under way at once. More are not begun."""
TIDY_SECONDS = 3_600.0


class Pool:
    """All tiers together."""

    def __init__(
        self,
        tiers: Sequence[Tier],
        backends: Mapping[str, Backend],
        *,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        entropy: Entropy,
        embedder: Embedder | None = None,
        validators: Mapping[str, Validator] | None = None,
        policy: Policy | None = None,
        prompts: PromptBook | None = None,
        conditions: Mapping[str, Callable[[], Condition]] | None = None,
        trouble: Condition | None = None,
    ) -> None:
        """`tiers` are in the order of the file; `embedder` stands for the first that embeds. `backends` by the names
        of the generative tiers, `validators` by their names on top of the deterministic ones; `conditions` say how
        tiers are that do not generate, `trouble` why those that do answer nobody. `recorder` journals into `store`,
        which is the one of `models.sql`. Blocks on reading `store` and the prompt files. Raises NotFound for a policy
        that names a tier that is not there, InvalidConfiguration for one that names such a validator, and KeyError for
        a generative tier without a backend.
        """
        self._policy = policy or Policy()
        self._recorder, self._clock, self._entropy = recorder, clock, entropy
        self._embedder, self._conditions = embedder, dict(conditions or {})
        self._embeds = embedding(tiers)
        self._tiers = sorted(tiers, key=lambda tier: tier.rank)
        self._rungs = {
            tier.name: Rung(tier, backends[tier.name], clock, self._policy, recorder.durable)
            for tier in self._tiers
            if tier.kind is TierKind.GENERATE
        }
        self._jury = Jury(validators or {}, self._policy)
        self._prompts = prompts or PromptBook.load(shadows=self._policy.shadows)
        self._router = Router()
        self._records = Records(store, recorder, clock)
        self._budget = Budget(store, recorder, clock, self._policy)
        self._caches = Caches(clock, self._policy, embedder)
        self._allowance = SchemaAllowance(clock)
        self._courses = Courses(
            self._policy, self._jury, self._router, self._prompts, self._records, recorder, clock, entropy
        )
        self._trouble = trouble
        self._beside: set[asyncio.Task[None]] = set()
        self._tidied = clock.monotonic()
        self._closed: str = "has not started yet"
        self._check_floors()

    # Life

    async def start(self) -> None:
        """Learns again what the journal knows. Asks are refused before."""
        for number, event in enumerate(self._records.history(REMEMBERED_ENTRIES)):
            results = lessons(event.data["attempts"], self._policy.second_cents)
            self._router.learn(event.data["tenant"], event.data["subject"], results)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)  # a long journal holds nobody else up
        self._closed = ""

    async def stop(self) -> None:
        """Refuses what comes and what waits; what is in the engines goes on for whoever still waits for it."""
        self._closed = "is stopping"
        for rung in self._rungs.values():
            rung.queue.close(self._away())
        if isinstance(self._embedder, PooledEmbedder):
            self._embedder.close(self._away())
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._recorder.durable()

    # Asking

    async def ask(self, ask: Ask, caller: Caller) -> Answer:
        call = self._begin(ask, caller)
        try:
            with call.purse.open():
                return await self._answered(call)
        except HanseError as error:
            raise error.about(call=call.id) from None

    async def stream(self, ask: Ask, caller: Caller) -> AsyncGenerator[Piece, None]:
        """What has a schema, tools, or validators of its own choice is judged before its first piece leaves, and so is
        what may come from a cache, and all that a required validator looks at. The rest leaves as it is written, and is
        judged at its end: a refusal then shows as the `finish_reason` `content_filter`, since nothing that was said can
        be taken back.
        """
        if ask.answer is not None or ask.tools or ask.validators or ask.pure or self._jury.must_look_first(ask):
            answer = await self.ask(ask, caller)
            yield Piece(text=answer.text, answer=answer)
            return
        call = self._begin(ask, caller)
        await self._courses.guard(call)
        async with aclosing(self._courses.written(call)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, texts: Sequence[str], caller: Caller) -> "NDArray[float32]":
        self._check_open(caller)
        if len(texts) > MAX_TEXTS or sum(map(len, texts)) > MAX_TEXT_CHARS:
            raise TooLarge(f"at most {MAX_TEXTS} texts of {MAX_TEXT_CHARS} characters together are embedded at once")
        if self._embedder is None:
            raise ModelUnavailable("no embedder is configured. Add a tier with `kind: embed` under `models:`")
        tier = self._embeds or Tier("embedder", TierKind.EMBED, "")
        return await self._embedded(texts, caller, tier, self._embedder)

    async def judge(self, validator: str, text: str, caller: Caller, sources: Sequence[str] = ()) -> Judgement:
        self._check_open(caller)
        validator = self._validator_of(validator)
        if len(text) + sum(map(len, sources)) > MAX_TEXT_CHARS:
            raise TooLarge(f"a text and its sources have at most {MAX_TEXT_CHARS} characters together")
        _check_unicode([text, *sources])
        return await self._judged(validator, text, caller, sources)

    async def tiers(self) -> list[TierView]:
        totals = self._records.totals()
        return [self._view(tier, *totals.get(tier.name, (0, 0, 0.0))) for tier in self._tiers]

    # Keeping

    async def calls(self, tenant: Tenant, limit: int = 50, before: str | None = None) -> list[CallView]:
        return self._records.calls(tenant, limit, before)

    async def text(self, tenant: Tenant, digest: str) -> str:
        return self._records.text(tenant, digest)

    async def usage(self, tenant: Tenant, days: int = 1, *, by_task: bool = False) -> list[UsageView]:
        return self._records.usage(tenant, days, by_task=by_task)

    async def caches(self, tenant: Tenant | None = None) -> list[CacheView]:
        return self._caches.views(tenant)

    async def purge(self, tenant: Tenant | None, by: str) -> int:
        gone = self._caches.purge(tenant)
        self._records.note(Kind.MODEL_PURGED, None, {"tenant": tenant, "by": by, "entries": gone})
        await self._recorder.durable()
        return gone

    async def prompts(self) -> list[PromptView]:
        return self._prompts.views()

    @property
    def validators(self) -> list[str]:
        """Names of those that may be asked for."""
        return self._jury.names

    # The beginning of a call

    def _begin(self, ask: Ask, caller: Caller) -> Call:
        self._check_open(caller)
        if self._trouble:
            raise ModelUnavailable(f"the model pool is in trouble: {self._trouble.detail}. {self._trouble.remedy}")
        self._tidy()
        template = self._prompts.find(ask.prompt) if ask.prompt and ask.inputs is not None else None
        came, ask = ask, self._courses.shown(ask, template)
        self._check_ask(ask)
        id = self._new_id()
        subject = caller.capability or (template.name if template else str(ask.purpose))
        money, rungs = self._budget.open_call(id, caller), self._rungs_for(ask, caller)
        return Call(id, ask, caller, subject, money, self._purse(money), rungs, self._clock.monotonic(), came, template)

    def _purse(self, money: CallBudget) -> Purse:
        return Purse(money, self._recorder.durable)

    def _new_id(self) -> str:
        return uuid7(self._clock.now_ms(), self._entropy.bytes(8))

    def _check_open(self, caller: Caller) -> None:
        if self._closed:
            raise self._away()
        if caller.deadline_ms and self._clock.now_ms() >= caller.deadline_ms:
            raise DeadlineExceeded("the deadline had passed when the model pool was asked")

    def _away(self) -> ModelUnavailable:
        return ModelUnavailable(f"the model pool {self._closed}")

    def _check_ask(self, ask: Ask) -> None:
        """Raises InvalidInput for what no tier could answer, NotFound for a validator that nobody has."""
        texts = [each.content or "" for each in ask.messages] + list(ask.sources)
        if sum(map(len, texts)) > MAX_TEXT_CHARS:
            raise TooLarge(f"messages and sources have at most {MAX_TEXT_CHARS} characters together")
        _check_unicode(texts)
        for schema in _schemas(ask):
            check_schema(schema)
        self._jury.named_by(ask)

    def _rungs_for(self, ask: Ask, caller: Caller) -> list[Rung]:
        """The tiers that may work for an ask, lowest first."""
        if not self._rungs:
            raise ModelUnavailable("no generative tier is configured. Add one under `models:` in hanse.yaml")
        if ask.tier is not None and ask.tier not in self._rungs:
            raise NotFound(f"there is no generative tier {ask.tier[:60]!r}. There is {', '.join(self._rungs)}")
        floor = self._policy.floor_of(caller.capability)
        lowest = self._rungs[floor].tier.rank if floor else None
        rungs = [rung for rung in self._rungs.values() if lowest is None or rung.tier.rank >= lowest]
        if not (ask.only and ask.tier):
            return rungs
        if self._rungs[ask.tier] not in rungs:
            raise NotAllowed(f"{caller.capability} is not done by a tier below {floor!r}", tier=ask.tier)
        return [self._rungs[ask.tier]]

    def _check_floors(self) -> None:
        for pattern, tier in self._policy.floors.items():
            if tier not in self._rungs:
                raise NotFound(f"the floor of {pattern!r} is {tier!r}, and there is {', '.join(self._rungs) or 'none'}")

    def _tidy(self) -> None:
        """Now and then: forgets words that nobody used for long, and ends what nobody settled."""
        if self._clock.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = self._clock.monotonic()
            self._records.forget_words(self._policy.keep_days)
            self._budget.lapse()

    # Its course

    async def _answered(self, call: Call) -> Answer:
        """An answer to other words, of the same meaning, is given to nobody whose own words the guards refuse."""
        keys, kept = self._keys(call), None
        if keys is not None:
            kept = await self._caches.get(call.caller.tenant, keys, interactive=call.caller.interactive)
        if kept is None or kept[1] is not Cached.EXACT:
            await self._courses.guard(call)
        if kept is not None:
            return self._courses.found(call, *kept)
        await self._admit(call)
        answer = await self._courses.run(call)
        if keys is not None:
            await self._caches.put(call.caller.tenant, keys, answer)
        self._shadow(call, answer)
        return answer

    async def _admit(self, call: Call) -> None:
        """Counts what the engines would have to compile for its tenant: nothing for an answer that was kept."""
        try:
            for schema in _schemas(call.ask):
                self._allowance.admit(call.caller.tenant, schema)
        except Overloaded as error:
            raise await self._courses.refused(call, error) from None

    def _keys(self, call: Call) -> Keys | None:
        """Where its answer is kept; None when the ask is not pure."""
        if not call.ask.pure:
            return None
        models = [(rung.name, rung.model) for rung in call.rungs]
        template = str(call.template.digest) if call.template else ""
        return self._caches.keys(call.ask, call.caller, models, self._jury.named_by(call.ask), template)

    # Shadows

    def _shadow(self, call: Call, answer: Answer) -> None:
        """Lets the other version of the prompt run beside, at the same tier. Its answer goes to nobody."""
        other = self._prompts.shadow_of(call.template) if call.template else None
        if other is None or len(self._beside) >= SHADOWS or self._entropy.fraction() >= self._policy.shadow_share:
            return
        task = asyncio.create_task(self._shadowed(call, answer, other))
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _shadowed(self, call: Call, answer: Answer, other: Prompt) -> None:
        """On the tenant's account, not on the task's."""
        caller = Caller(tenant=call.caller.tenant, by="shadow", labels=call.caller.labels)
        money = self._budget.open_call(f"{call.id}~", caller)
        rung = next(rung for rung in call.rungs if rung.name == answer.tier)
        said = {"call": call.id, "tenant": caller.tenant, "template": call.template.id if call.template else ""}
        said |= {"shadow": other.id, "tier": rung.name}
        try:
            beside = self._courses.shown(call.came, other)
        except InvalidInput as error:
            said |= {"outcome": error.code, "answer": "", "agrees": False, "scores": {}, "microcents": 0}
        else:
            with self._purse(money).open():
                said |= await self._compared(await rung.attempt(beside, caller, money), beside, answer, call)
        self._records.note(Kind.MODEL_SHADOWED, call.caller, said)

    async def _compared(self, work: Work, asked: Ask, answer: Answer, call: Call) -> JsonObject:
        if work.proposal is None or work.error is not None:
            outcome = work.error.code if work.error else "failed"
            return {"outcome": outcome, "answer": "", "agrees": False, "scores": {}, "microcents": work.used.microcents}
        one = Try(work, await self._jury.opinion(work.proposal, asked, call.guarded))
        return {
            "outcome": str(one.outcome),
            "answer": self._records.keep_words(call.caller.tenant, work.proposal.words),
            "agrees": agrees(work.proposal, answer),
            "scores": dict(one.opinion.scores),
            "microcents": work.used.microcents,
        }

    # The other tiers

    def _validator_of(self, name: str) -> str:
        """A tier of one validator stands for it. Raises InvalidInput for one of several."""
        heads = [head for tier in self._tiers if tier.name == name for head in tier.heads]
        if not heads or name in self._jury.names:
            return name
        if len(heads) > 1:
            raise InvalidInput(f"{', '.join(heads)} judge by {name}: ask for one of them", validator=name)
        return heads[0]

    async def _embedded(self, texts: Sequence[str], caller: Caller, tier: Tier, by: Embedder) -> "NDArray[float32]":
        """A tier on an engine takes what it costs from the purse that is open; what this process does is paid too."""
        purse = self._purse(self._budget.open_call(self._new_id(), caller))
        if isinstance(by, PooledEmbedder):
            tenant, deadline = caller.tenant, caller.deadline_ms
            with purse.open():
                return await by.embed(texts, interactive=caller.interactive, tenant=tenant, deadline_ms=deadline)
        async with purse.paying(tier, texts):
            return await by.embed(texts, interactive=caller.interactive)

    async def _judged(self, validator: str, text: str, caller: Caller, sources: Sequence[str]) -> Judgement:
        """Counted under the validator's name, or under that of the tier which judged for it, and written down as other
        calls are, also when it has no opinion.
        """
        id, began = self._new_id(), self._clock.monotonic()
        purse = self._purse(self._budget.open_call(id, caller))
        said: Judgement | ModelUnavailable
        try:
            with purse.open():
                said = await self._jury.judge(validator, text, sources)
        except ModelUnavailable as error:
            said = error
        here = Used() if purse.used.prompt_tokens else Used(guess_tokens((text, *sources)))
        used = purse.used if purse.used.prompt_tokens else here
        milliseconds = round((self._clock.monotonic() - began) * 1000, 3)
        self._records.judgement(id, validator, text, sources, caller, said, used, milliseconds)
        self._budget.use(self._budget.owner(caller), validator, here, calls=1)
        await self._recorder.durable()
        if isinstance(said, ModelUnavailable):
            raise said.about(call=id)
        return said

    def _view(self, tier: Tier, calls: int, tokens: int, cents: float) -> TierView:
        if tier.name in self._rungs:
            return _troubled(self._rungs[tier.name].view(calls, tokens, cents), self._trouble)
        condition = self._conditions.get(tier.name, _no_condition)()
        of_embedder, is_ready = self._embedder if tier is self._embeds else None, condition.state is TierState.READY
        return TierView(
            name=tier.name,
            kind=tier.kind,
            state=condition.state,
            model=tier.source,
            digest=condition.digest or (str(of_embedder.digest) if of_embedder and is_ready else ""),
            progress=condition.progress,
            detail=condition.detail,
            remedy=condition.remedy,
            replicas=condition.replicas,
            queued=condition.queued,
            in_flight=condition.in_flight,
            context_window=tier.context_window,
            instead=self._instead(tier),
            validators=tier.heads,
            cents_per_1k_prompt=tier.cents_per_1k_prompt,
            cents_per_1k_completion=tier.cents_per_1k_completion,
            calls=calls,
            tokens=tokens,
            cents=cents,
        )

    def _instead(self, tier: Tier) -> str:
        other = self._embeds if tier.kind is TierKind.EMBED and tier is not self._embeds else None
        return other.name if other else ""


def _schemas(ask: Ask) -> list[JsonObject]:
    """Of the answer and of tools: each costs an engine a grammar."""
    return [each for each in (ask.answer, *(tool.parameters for tool in ask.tools)) if each]


def _troubled(view: TierView, trouble: Condition | None) -> TierView:
    """A tier is no better than the pool that it stands in."""
    if trouble is None:
        return view
    return view.model_copy(update={"state": trouble.state, "detail": trouble.detail, "remedy": trouble.remedy})


def _no_condition() -> Condition:
    return Condition(TierState.ABSENT, "nothing stands behind it")


def _check_unicode(texts: Sequence[str]) -> None:
    if not all(map(_is_unicode, texts)):
        raise InvalidInput("a text has half of a surrogate pair, which is no Unicode")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
