"""The write gate: what becomes of a draft before it is a record. All it knows is handed to it.

In this order, and the first that applies decides:

1. What says what a record says already is merged into it; recalled text that comes back is an echo. Neither is stored
   again, and nothing is lost by it: a draft that brings a word, a number, a negation, a name or a typed fact of its own
   is new.
2. What comes from an untrusted source, and what says nothing, is quarantined: kept, and found by those who ask for it.
3. A typed fact that says otherwise than a pinned one is quarantined; otherwise than any other, it is stored and names
   what it contradicts (`facts.ruling` says which of those it supersedes).
4. The rest is stored.

The costs are not the same on both sides. A duplicate that slips through costs a little room and is found by the audit;
an update that is taken for a duplicate is lost, and nobody knows. So every doubt speaks for the draft. That is also why
vectors find what is compared here and merge nothing: to them `delivery in the morning` and `delivery in the evening`
are as alike as two ways to say the one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..contracts.caller import Caller
from ..contracts.memory import Draft, Hit, Layer, Record, Scope, State
from ..contracts.ports import Clock
from .facts import ending, ruling, same_fact
from .ports import Decision, Sought
from .wording import Wording, sentences, without_frame, wording
from .worth import objection

UNTRUSTED = "untrusted"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When two texts say the same. Each is a share in [0, 1], but for the counts."""

    order: float = 0.35
    """Neighbouring content words that must be neighbours in the other text too: a rewritten sentence moves its parts
    about, another sentence of the same words shares fewer."""
    order_of_a_part: float = 0.5
    """The same for a sentence, which is held against long texts that have nearly every common word."""
    like_nothing: float = 0.55
    """Cosine to what was set aside for saying nothing from which a short text is set aside too. With MiniLM no short
    fact of the benchmark came above 0.41, and of single sentences of real talks three in a hundred did: thanks."""
    short: int = 8
    """Content words that such a text has at most."""


class Gate:
    """Judges drafts. Keeps nothing."""

    def __init__(self, clock: Clock, thresholds: Thresholds | None = None) -> None:
        """`clock` says when a fact ends that another takes the place of."""
        self._clock = clock
        self._thresholds = thresholds or Thresholds()

    def seeks(self, draft: Draft) -> Sought:
        """Records that say the same; and those that are aside, where being like them speaks against the draft."""
        said = wording(without_frame(draft.text))
        return Sought(said.keys, aside=_says_little(draft, said, self._thresholds))

    def judge(
        self,
        draft: Draft,
        caller: Caller,
        near: Sequence[Hit] = (),
        recalled_lately: Sequence[Record] = (),
        facts: Sequence[Record] = (),
    ) -> Decision:
        """What becomes of a draft.

        `near` are the most similar records that the caller may read, `recalled_lately` what the tenant was given
        lately and the draft may come from, `facts` live facts with the draft's `facts.key`.
        """
        case = _Case(draft, caller, near, recalled_lately, facts)
        return self._known(case) or _kept_aside(case, self._thresholds) or _new(case, self._clock.now_ms())

    def _known(self, case: "_Case") -> Decision | None:
        if case.draft.pinned:
            return None
        return _same_fact(case) or self._said_before(case) or self._echo(case)

    def _said_before(self, case: "_Case") -> Decision | None:
        for record in case.known():
            if (why := self._same(case, record)) and case.is_kept_by(record):
                if record.id in case.given:
                    return _decision("echo", f"{why} {record.id}, which was recalled lately", case, record.id)
                return _decision("merged", f"{why} {record.id}", case, record.id)
        return None

    def _same(self, case: "_Case", record: Record) -> str:
        """How the draft says what the record says; empty when it does not."""
        other = wording(record.text)
        if case.words == other.words:
            return "is word for word"
        if not case.said.stems:
            return ""
        same = case.said.adds_nothing_to(other) and case.said.shared_order(other) >= self._thresholds.order
        return "says nothing beyond" if same else ""

    def _echo(self, case: "_Case") -> Decision | None:
        """Several recalled texts, or parts of them, put together: each sentence is one that a single record says.

        Sentence by sentence, because words of several records together say things that none of them says: `order 17`
        from one and `on hold` from another.
        """
        if case.draft.fact is not None or not case.recalled:
            return None
        parts = [part for part in map(wording, sentences(without_frame(case.draft.text))) if part.stems]
        found = list[str]()
        for part in parts:
            source = next((each for each in case.recalled if self._holds(each, part) and case.is_kept_by(each)), None)
            if source is None:
                return None
            found.append(source.id)
        if not found:
            return None
        names = ", ".join(dict.fromkeys(found))
        return _decision("echo", f"puts together what was recalled lately: {names}", case, found[0])

    def _holds(self, record: Record, part: Wording) -> bool:
        other = wording(record.text)
        return part.adds_nothing_to(other) and part.shared_order(other) >= self._thresholds.order_of_a_part


class _Case:
    """One draft and what is known around it."""

    def __init__(
        self, draft: Draft, caller: Caller, near: Sequence[Hit], recalled: Sequence[Record], facts: Sequence[Record]
    ) -> None:
        self.draft, self.caller, self.near, self.recalled, self.facts = draft, caller, near, recalled, facts
        self.said = wording(without_frame(draft.text))
        self.words = wording(draft.text).words
        self.given = {record.id for record in recalled}
        self.labels = {*draft.labels, *caller.labels}

    def known(self) -> Iterable[Record]:
        """Records that the draft may say again, the most similar first."""
        seen = {hit.record.id: hit.record for hit in self.near}
        for record in self.recalled:
            seen.setdefault(record.id, record)
        return seen.values()

    def is_kept_by(self, record: Record) -> bool:
        """Whether nothing but the words would be missing if the record stood for the draft."""
        return (
            record.tenant == self.caller.tenant
            and record.state is (State.QUARANTINED if UNTRUSTED in self.labels else State.LIVE)
            and self._holds_as_long(record)
            and self._is_seen_as_widely(record)
            and (self.draft.fact is None or (record.fact is not None and same_fact(record.fact, self.draft.fact)))
            and (not self.draft.payload or self.draft.payload == record.payload)
            and self._is_of_the_same_event(record)
        )

    def _holds_as_long(self, record: Record) -> bool:
        """A note that is gone tomorrow cannot stand for one that stays."""
        lasts = record.expires_ms is None or self.draft.ttl_seconds is not None or self.draft.layer is Layer.WORKING
        ends = record.valid_to_ms is None or record.valid_to_ms == self.draft.valid_to_ms
        return lasts and ends and (record.layer is not Layer.WORKING or self.draft.layer is Layer.WORKING)

    def _is_seen_as_widely(self, record: Record) -> bool:
        """Whoever may read the draft may read the record, and whoever is erased from the one is in the other."""
        if self.draft.subject is not None and self.draft.subject != record.subject:
            return False
        if record.scope is Scope.FEDERATION:
            return True
        return record.scope is self.draft.scope and record.owner == self._owner()

    def _owner(self) -> str | None:
        if self.draft.owner is not None:
            return self.draft.owner
        return {Scope.AGENT: self.caller.agent, Scope.TASK: self.caller.task}.get(self.draft.scope)

    def _is_of_the_same_event(self, record: Record) -> bool:
        """The same words in another course of events are another event."""
        if self.draft.layer is not Layer.EPISODIC or self.draft.episode is None:
            return True
        return record.layer is not Layer.EPISODIC or record.episode == self.draft.episode


def _same_fact(case: _Case) -> Decision | None:
    if case.draft.fact is None:
        return None
    for record in case.facts:
        same = record.fact and same_fact(record.fact, case.draft.fact) and case.is_kept_by(record)
        if same and not case.said.turns(wording(record.text)):
            return _decision("merged", f"is the fact of {record.id}", case, record.id)
    return None


def _kept_aside(case: _Case, thresholds: Thresholds) -> Decision | None:
    if case.draft.pinned:
        return None
    if UNTRUSTED in case.labels:
        return _decision("quarantined", "comes from an untrusted source", case)
    if case.draft.fact is None and (why := objection(case.draft.text) or _resemblance(case, thresholds)):
        return _decision("quarantined", why, case)
    return None


def _resemblance(case: _Case, thresholds: Thresholds) -> str:
    """Small talk has more words than any list: what is short, names nothing, and is like what was set aside for saying
    nothing, is set aside too. Not like what was set aside for being like it: that would drift."""
    if not _says_little(case.draft, case.said, thresholds):
        return ""
    for hit in case.near:
        aside = hit.record.state is State.QUARANTINED and hit.parts.get("vector", 0.0) >= thresholds.like_nothing
        if aside and objection(hit.record.text):
            return f"is like {hit.record.id}, which {objection(hit.record.text)}"
    return ""


def _says_little(draft: Draft, said: Wording, thresholds: Thresholds) -> bool:
    return len(said.stems) <= thresholds.short and not (said.marks or said.names or draft.payload)


def _new(case: _Case, now_ms: int) -> Decision:
    found = ruling(case.draft, case.facts, now_ms)
    if found.against_pinned and not case.draft.pinned:
        why = f"contradicts {found.against_pinned[0]}, which a person pinned"
        return _decision("quarantined", why, case, contradicts=found.contradicts)
    stored = _decision("stored", found.reason, case, contradicts=found.contradicts)
    if not found.supersedes:
        return stored
    return replace(stored, ends={id: ending(case.draft, now_ms) for id in found.supersedes})


def _decision(
    outcome: str, reason: str, case: _Case, target: str | None = None, contradicts: tuple[str, ...] = ()
) -> Decision:
    """With the labels of what the caller works on, and of what is echoed: they stay with the words."""
    labels = tuple(sorted(case.labels - set(case.draft.labels)))
    return Decision(outcome, reason, target, contradicts, labels)  # pyright: ignore[reportArgumentType]
