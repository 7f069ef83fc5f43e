"""The jury: all who look at a proposal, and what the policy makes of what they say.

Guards look at what goes in, the material and the request, once a call and before any engine is asked: what they refuse
costs no token. Of what a tier then proposes, structure (size, tools, schema) is looked at first and always: what fails
there is not shown to anybody else. The other validators look at the answer. All look side by side, each for a limited
time.
"""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..contracts import HanseError, InvalidConfiguration, ModelUnavailable, NotFound
from ..contracts.pool import Ask, Judgement
from . import checks
from .cascade import Opinion
from .policy import KNOWN, Policy
from .proposal import Finding, Proposal, texts_of
from .validator import LooksAt, Validator
from .validators import deterministic

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    """One text that a validator is handed."""

    text: str
    place: str = ""
    """Where it stands, when there may be several."""
    sources: Sequence[str] = ()


class Jury:
    """Judges proposals and texts."""

    def __init__(self, validators: Mapping[str, Validator], policy: Policy) -> None:
        """`validators` come on top of the deterministic ones, in whose place they stand where they have their name.
        Raises InvalidConfiguration for a policy that names one whom nobody has.
        """
        self._validators: dict[str, Validator] = {**deterministic(), **validators}
        self._policy = policy
        self._check_policy()

    @property
    def names(self) -> list[str]:
        return sorted({*self._validators, *checks.ADVICE})

    def named_by(self, ask: Ask) -> tuple[str, ...]:
        """Who looks: those whom the ask names, or else the policy. Those that the policy requires, and guards that it
        names, no ask can send away. Raises NotFound for a name that nobody has.
        """
        usual = self._policy.validators.get(ask.purpose, ())
        names = usual if ask.validators is None else ask.validators
        for name in names:
            if name not in self._validators and name not in checks.ADVICE:
                raise self._not_found(name)
        return tuple(dict.fromkeys([*names, *filter(self._guards, usual), *sorted(self._policy.required)]))

    def must_look_first(self, ask: Ask) -> bool:
        """Whether nobody may see an answer before it was judged: one who looks at answers is required."""
        return any(name in self._policy.required for name in self._named(ask, guards=False))

    async def guard(self, ask: Ask) -> Opinion:
        """Of all who look at what goes in."""
        guards = [self._validators[name] for name in self._named(ask, guards=True)]
        return self._weighed(await asyncio.gather(*(self._of(each, _given(each.looks_at, ask)) for each in guards)))

    async def opinion(self, proposal: Proposal, asked: Ask, guarded: Opinion) -> Opinion:
        """Of all who look at answers, after what the guards thought. `asked` is the ask as it came: a tier may have
        seen it shortened, or with a repair added.
        """
        broken = self._structure(proposal)
        if broken:
            return Opinion(tuple(broken), {"structure": 1.0}).after(guarded)
        names = self._named(asked, guards=False)
        judgements = await asyncio.gather(*(self._of_answer(name, proposal, asked) for name in names))
        return self._weighed(judgements).after(guarded)

    async def judge(self, name: str, text: str, sources: Sequence[str]) -> Judgement:
        """One validator's. Raises NotFound, and ModelUnavailable when it has no opinion."""
        validator = self._validators.get(name)
        if validator is None:
            raise self._not_found(name)
        return await self._asked(validator, text, sources)

    def _check_policy(self) -> None:
        """A required validator that is misspelt would refuse every answer, or none; one with a threshold would refuse
        nothing. Those whose parts are not installed may have one.
        """
        named = {*self._policy.required, *(name for names in self._policy.validators.values() for name in names)}
        misspelt = set(self._policy.thresholds) - KNOWN
        if unknown := sorted((named | misspelt).difference(self.names)):
            raise InvalidConfiguration(f"the policy names {', '.join(unknown)} as validators. {self._known()}")

    def _structure(self, proposal: Proposal) -> list[Finding]:
        found = checks.endless(proposal, self._policy.max_answer_chars)
        return found or [finding for check in checks.STRUCTURE.values() for finding in check(proposal)]

    def _named(self, ask: Ask, *, guards: bool) -> list[str]:
        return [name for name in self.named_by(ask) if self._guards(name) is guards]

    def _guards(self, name: str) -> bool:
        """Whether it looks at what goes in."""
        validator = self._validators.get(name)
        return validator is not None and validator.looks_at is not LooksAt.ANSWER

    async def _of_answer(self, name: str, proposal: Proposal, asked: Ask) -> Judgement | str:
        if name in checks.ADVICE and name not in self._validators:
            reason = "; ".join(map(str, checks.ADVICE[name](proposal)))
            return Judgement(validator=name, score=1.0 if reason else 0.0, reason=reason)
        return await self._of(self._validators[name], _answered(proposal, asked))

    async def _of(self, validator: Validator, pieces: Sequence[_Shown]) -> Judgement | str:
        """What it says, or its name when it says nothing."""
        return self._worst(validator.name, await asyncio.gather(*(self._of_piece(validator, each) for each in pieces)))

    async def _of_piece(self, validator: Validator, piece: _Shown) -> Judgement | None:
        try:
            said = await self._asked(validator, piece.text, piece.sources)
        except HanseError:
            return None
        if not piece.place:
            return said
        return said.model_copy(update={"reason": f"{piece.place}: {said.reason or f'{said.score:.2f}'}"})

    def _worst(self, name: str, said: Sequence[Judgement | None]) -> Judgement | str:
        """A piece that was not judged may be the worst of all: there is no opinion then, unless another is refused."""
        judged = [each for each in said if each is not None]
        worst = max(judged, key=lambda each: each.score, default=Judgement(validator=name, score=0.0))
        heard = len(judged) == len(said) or self._policy.refuses(worst.validator, worst.score)
        return worst if heard else name

    async def _asked(self, validator: Validator, text: str, sources: Sequence[str]) -> Judgement:
        """Its judgement, whatever it does: it may hang, fail, or say what is no probability."""
        try:
            async with asyncio.timeout(self._policy.judge_seconds):
                said = await validator.judge(text, sources)
            if _is_judgement(said):
                return said
            problem = "its score is no probability"
        except TimeoutError:
            problem = f"it said nothing in {self._policy.judge_seconds:g} seconds"
        except HanseError as error:
            problem = error.detail
        except Exception as error:
            _log.error("validator %s failed", validator.name, exc_info=error, extra={"action": "validator.failed"})
            problem = type(error).__name__
        raise ModelUnavailable(f"validator {validator.name!r} has no opinion: {problem}", validator=validator.name)

    def _weighed(self, judgements: Sequence[Judgement | str]) -> Opinion:
        findings: list[Finding] = []
        notes: list[str] = []
        scores: dict[str, float] = {}
        for judgement in judgements:
            if isinstance(judgement, str):
                self._silent(judgement, findings, notes)
                continue
            scores[judgement.validator] = judgement.score
            if self._policy.refuses(judgement.validator, judgement.score):
                findings.append(Finding(judgement.reason or f"{judgement.validator} says {judgement.score:.2f}"))
            elif judgement.reason and judgement.score >= 0.5:
                notes.append(judgement.reason)
        return Opinion(tuple(findings), scores, tuple(notes))

    def _silent(self, name: str, findings: list[Finding], notes: list[str]) -> None:
        text = f"validator {name} has no opinion"
        if name in self._policy.required:
            findings.append(Finding(text))
        else:
            notes.append(text)

    def _not_found(self, name: str) -> NotFound:
        return NotFound(f"there is no validator {name[:60]!r}. {self._known()}", validator=name[:60])

    def _known(self) -> str:
        return f"There is {', '.join(self.names)}"


def _answered(proposal: Proposal, asked: Ask) -> list[_Shown]:
    """Nothing where there are no words to look at."""
    silent = proposal.raw.tool_calls and not proposal.text.strip()
    return [] if silent else [_Shown(_words(proposal), sources=asked.sources)]


def _given(looks_at: LooksAt, ask: Ask) -> list[_Shown]:
    """The material, or the request."""
    pieces = _material(ask) if looks_at is LooksAt.MATERIAL else _request(ask)
    return [piece for piece in pieces if piece.text.strip()]


def _request(ask: Ask) -> list[_Shown]:
    return [_Shown(each.content or "") for each in ask.messages if each.role == "user"][-1:]


def _material(ask: Ask) -> list[_Shown]:
    """What comes from outside: sources, and what tools gave back."""
    sources = [_Shown(text, f"source {number}") for number, text in enumerate(ask.sources, 1)]
    numbered = enumerate(ask.messages, 1)
    return sources + [_Shown(m.content or "", f"message {n}, of a tool") for n, m in numbered if m.role == "tool"]


def _words(proposal: Proposal) -> str:
    """What an answer says: of data its texts and numbers, of words the words."""
    return proposal.text if proposal.data is None else "\n".join(texts_of(proposal.data))


def _is_judgement(said: object) -> bool:
    """Built with care or not: a validator is other people's code."""
    score = getattr(said, "score", None)
    return isinstance(said, Judgement) and isinstance(score, int | float) and math.isfinite(score) and 0 <= score <= 1
