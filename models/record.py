"""What a call leaves behind: its entry in the journal, its words once, and the figures of its tenant's day."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..contracts import (
    Clock,
    Event,
    HanseError,
    JsonObject,
    Kind,
    NotFound,
    Recorder,
    Store,
    Tenant,
    Write,
    canonical,
)
from ..contracts.caller import Caller
from ..contracts.pool import Answer, Ask, Attempt, Cached, CallView, Judgement, Message, Usage, UsageView
from ..contracts.wire import decode_event
from .backend import Raw
from .budget import Owner, Used, day_of
from .cascade import Outcome, Try
from .price import to_cents
from .proposal import Proposal, words_digest
from .router import Result

MAX_WORDS = 1_000_000
"""Bytes of a prompt or an answer that are kept. Of a longer one only the digest is."""
JUDGE = "judge"
"""The purpose of a call in which one validator looked at a text."""
LAST = "~"
"""After every call's id."""


class Records:
    """Writes calls down and finds them again."""

    def __init__(self, store: Store, recorder: Recorder, clock: Clock) -> None:
        self._store, self._recorder, self._clock = store, recorder, clock

    def call(
        self,
        answer: Answer,
        ask: Ask,
        caller: Caller,
        subject: str,
        tries: Sequence[Try],
        outcome: Outcome,
        beside: Used,
    ) -> None:
        """A call that was answered; `outcome` is rejected for what had left before it was judged. `beside` is what
        tiers took for it beside its attempts.
        """
        self._keep_tries(caller.tenant, tries)
        said = Raw(answer.text, answer.tool_calls)
        data = _of_ask(answer.id, ask, caller, subject) | _of_tries(tries, beside)
        data |= {
            "answer": words_digest(Proposal(ask, said).words),
            "outcome": str(outcome),
            "tier": answer.tier,
            "model": str(answer.model),
        }
        data |= {"cached": str(answer.cached), "scores": answer.scores, "latency_ms": answer.usage.latency_ms}
        self._write(answer.id, prompt_bytes(ask), caller, data)

    def failure(
        self,
        call: str,
        error: HanseError,
        ask: Ask,
        caller: Caller,
        subject: str,
        tries: Sequence[Try],
        ms: float,
        scores: Mapping[str, float],
        beside: Used,
    ) -> None:
        """A call that ended in an error. `scores` are those of what went in."""
        self._keep_tries(caller.tenant, tries)
        last = tries[-1] if tries else None
        data = _of_ask(call, ask, caller, subject) | _of_tries(tries, beside)
        data |= {"answer": "", "outcome": error.code, "tier": last.tier if last else "", "cached": str(Cached.NO)}
        data |= {"model": last.work.model if last else "", "latency_ms": round(ms, 3)}
        data |= {"scores": {**scores, **(last.opinion.scores if last else {})}}
        self._write(call, prompt_bytes(ask), caller, data)

    def judgement(
        self,
        call: str,
        validator: str,
        text: str,
        sources: Sequence[str],
        caller: Caller,
        said: Judgement | HanseError,
        used: Used,
        ms: float,
    ) -> None:
        """What a validator said of a text, or that it said nothing. In the place of a prompt stands what it saw."""
        data = _of_caller(call, caller, caller.capability or JUDGE) | _of_tries((), used)
        data |= {"purpose": JUDGE, "template": None, "answer": "", "tier": validator, "model": "", "latency_ms": ms}
        data |= {"outcome": str(Outcome.ACCEPTED), "cached": str(Cached.NO), "scores": {}}
        if isinstance(said, Judgement):
            data["scores"] = {validator: said.score}
        else:
            data["outcome"] = said.code
        self._write(call, canonical({"text": text, "sources": list(sources)}), caller, data)

    def note(self, kind: Kind, caller: Caller | None, data: Mapping[str, Any]) -> Event:
        """Another entry, under the caller's task."""
        task, step = (caller.task, caller.step) if caller else (None, None)
        return self._recorder.append(kind, task, step, data)

    def calls(self, tenant: Tenant, limit: int, before: str | None) -> list[CallView]:
        rows = self._store.read("calls", (tenant, before or LAST, max(0, min(limit, 1000))))
        return [_view(decode_event(entry)) for _, entry in rows]

    def text(self, tenant: Tenant, of: str) -> str:
        rows = self._store.read("words", (tenant, of))
        if not rows:
            raise NotFound(f"no words are kept under {of[:80]}", digest=of[:80])
        return bytes(rows[0][0]).decode()

    def usage(self, tenant: Tenant, days: int, *, by_task: bool) -> list[UsageView]:
        first = day_of(self._clock.now_ms() - (max(1, days) - 1) * 86_400_000)
        rows = self._store.read("usage_by_task" if by_task else "usage_by_day", (tenant, first))
        return [_usage(tenant, row) for row in rows]

    def totals(self) -> dict[str, tuple[int, int, float]]:
        """Tier to its attempts, tokens and cents of all time."""
        return {
            tier: (calls, tokens, to_cents(cost)) for tier, calls, tokens, cost in self._store.read("usage_by_tier")
        }

    def count_call(self, owner: Owner, tier: str) -> None:
        """One more answered call, at the tier that answered it."""
        row = (owner.tenant, owner.day, owner.task, owner.step, tier, 1, 0, 0, 0, 0)
        self._recorder.write(Write("add_usage", row))

    def forget_words(self, days: int) -> None:
        """Of prompts and answers that nobody used for so many days."""
        self._recorder.write(Write("forget_words", (self._clock.now_ms() - days * 86_400_000,)))

    def history(self, entries: int) -> Iterator[Event]:
        """The calls among the last `entries` of the journal, oldest first."""
        rows = self._store.read("head")
        after = max(0, rows[0][0] - entries) if rows else 0
        while page := self._store.read("entries", (after, 5000)):
            events = [decode_event(entry) for _, entry, _ in page]
            yield from (event for event in events if event.kind is Kind.MODEL_CALLED)
            after = page[-1][0]

    def _keep_tries(self, tenant: Tenant, tries: Sequence[Try]) -> None:
        for proposal in (each.work.proposal for each in tries):
            if proposal is not None:
                self.keep_words(tenant, proposal.words)

    def _write(self, call: str, asked: bytes, caller: Caller, data: dict[str, Any]) -> None:
        data["prompt"] = self.keep_words(caller.tenant, asked)
        event = self._recorder.append(Kind.MODEL_CALLED, caller.task, caller.step, data)
        self._recorder.write(Write("insert_call", (caller.tenant, call, event.sequence)))

    def keep_words(self, tenant: Tenant, words: bytes) -> str:
        """The digest under which they are kept."""
        of = words_digest(words)
        if 0 < len(words) <= MAX_WORDS:
            self._recorder.write(Write("keep_words", (tenant, of, self._clock.now_ms(), words)))
        return of


def prompt_bytes(ask: Ask) -> bytes:
    """What an engine is asked, as canonical JSON: messages, schema and tools."""
    said = {"messages": [_message(each) for each in ask.messages]}
    more = {"answer": ask.answer, "tools": [tool.model_dump() for tool in ask.tools]}
    return canonical(said | {name: value for name, value in more.items() if value})


def attempts_of(tries: Sequence[Try]) -> list[JsonObject]:
    """As the journal has them."""
    return [_attempt(each) for each in tries]


def lessons(attempts: Sequence[Mapping[str, Any]], second_cents: float) -> list[Result]:
    """What a call's attempts teach the router: one result a tier, repairs together. A tier that could not be reached
    taught nothing about its answers.
    """
    found: dict[str, Result] = {}
    for attempt in attempts:
        if attempt["outcome"] != Outcome.FAILED:
            tier = str(attempt["tier"])
            cents = to_cents(attempt["microcents"]) + attempt["latency_ms"] / 1000 * second_cents
            before = found[tier].cents if tier in found else 0.0
            found[tier] = Result(tier, attempt["outcome"] == Outcome.ACCEPTED, before + cents)
    return list(found.values())


def _attempt(one: Try) -> JsonObject:
    work, used = one.work, one.work.used
    return {
        "tier": one.tier,
        "model": work.model,
        "outcome": str(one.outcome),
        "reason": one.reason,
        "scores": dict(one.opinion.scores),
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "microcents": used.microcents,
        "latency_ms": round(work.latency_ms, 3),
        "answer": one.answer,
    }


def _of_ask(call: str, ask: Ask, caller: Caller, subject: str) -> JsonObject:
    return _of_caller(call, caller, subject) | {"purpose": str(ask.purpose), "template": ask.prompt}


def _of_caller(call: str, caller: Caller, subject: str) -> JsonObject:
    return {
        "call": call,
        "tenant": caller.tenant,
        "by": caller.by,
        "agent": caller.agent,
        "capability": caller.capability,
        "subject": subject,
    }


def _of_tries(tries: Sequence[Try], beside: Used) -> JsonObject:
    used = [beside, *(each.work.used for each in tries)]
    return {
        "prompt_tokens": sum(each.prompt_tokens for each in used),
        "completion_tokens": sum(each.completion_tokens for each in used),
        "microcents": sum(each.microcents for each in used),
        "shortened": max((each.work.shortened for each in tries), default=0),
        "attempts": attempts_of(tries),
    }


def _message(message: Message) -> JsonObject:
    return {name: value for name, value in message.model_dump().items() if value not in (None, ())}


def _view(event: Event) -> CallView:
    data = event.data
    return CallView(
        id=data["call"],
        at_ms=event.at_ms,
        tenant=data["tenant"],
        by=data["by"],
        task=event.task,
        step=event.step,
        agent=data["agent"],
        capability=data["capability"],
        purpose=data["purpose"],
        template=data["template"],
        prompt=data["prompt"],
        answer=data["answer"],
        outcome=data["outcome"],
        tier=data["tier"],
        model=data["model"],
        cached=Cached(data["cached"]),
        scores=data["scores"],
        usage=_usage_of(data),
        attempts=tuple(_attempt_view(each) for each in data["attempts"]),
    )


def _attempt_view(data: Mapping[str, Any]) -> Attempt:
    words = {name: data[name] for name in ("tier", "model", "outcome", "reason", "scores", "answer")}
    return Attempt(usage=_usage_of(data), **words)


def _usage_of(data: Mapping[str, Any]) -> Usage:
    return Usage(
        prompt_tokens=data["prompt_tokens"],
        completion_tokens=data["completion_tokens"],
        cents=to_cents(data["microcents"]),
        latency_ms=data["latency_ms"],
    )


def _usage(tenant: Tenant, row: tuple[Any, ...]) -> UsageView:
    day, task, tier, calls, attempts, prompt_tokens, completion_tokens, microcents = row
    return UsageView(
        tenant=tenant,
        day=day,
        task=task,
        tier=tier,
        calls=calls,
        attempts=attempts,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cents=to_cents(microcents),
    )
