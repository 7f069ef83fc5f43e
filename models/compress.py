"""Makes a conversation fit: its beginning and its end stay, its middle is condensed, then dropped.

System messages, pinned messages and the newest turns are kept as they are. An older turn is replaced by those of its
sentences that carry most (extractive: nothing is put into words that were not said), or left out with all that belongs
to it: a tool's answer never stands without the call that it answers. The same conversation and the same room give the
same result.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ..contracts.pool import Message

KEPT_SHARE = 0.3
"""Of an older turn's sentences, before turns are left out altogether."""
MARK = "[shortened] "
NEWEST = 2
"""Turns at the end that are never condensed, and of which only the last cannot be left out."""

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"\w+")
Count = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class Shortened:
    """What is left. `dropped` and `condensed` count messages."""

    messages: tuple[Message, ...]
    tokens: int
    dropped: int = 0
    condensed: int = 0

    @property
    def changed(self) -> int:
        return self.dropped + self.condensed


@dataclass(frozen=True, slots=True)
class _Turn:
    """Messages that stand or fall together."""

    messages: tuple[Message, ...]
    fixed: bool


def shorten(messages: Sequence[Message], room: int, count: Count, pinned: Iterable[int] = ()) -> Shortened:
    """At most `room` tokens by `count`, if what must stay has as many. Else everything that must stay, and no more:
    the caller looks at `tokens`.
    """
    turns = _turns(messages, frozenset(pinned))
    condensed = dropped = 0
    for at in _oldest_first(turns, NEWEST):
        if count(_all(turns)) <= room:
            break
        shorter = tuple(map(_condense, turns[at].messages))
        condensed += sum(one is not other for one, other in zip(shorter, turns[at].messages, strict=True))
        turns[at] = _Turn(shorter, False)
    for at in _oldest_first(turns, 1):
        if count(_all(turns)) <= room:
            break
        dropped += len(turns[at].messages)
        condensed -= sum((each.content or "").startswith(MARK) for each in turns[at].messages)
        turns[at] = _Turn((), False)
    kept = _all(turns)
    return Shortened(kept, count(kept), dropped, max(0, condensed))


def _turns(messages: Sequence[Message], pinned: frozenset[int]) -> list[_Turn]:
    """Calls of tools together with their answers."""
    turns: list[_Turn] = []
    for at, message in enumerate(messages):
        fixed = message.role == "system" or at in pinned or at - len(messages) in pinned
        if message.role == "tool" and turns and _awaits(turns[-1], message):
            turns[-1] = _Turn((*turns[-1].messages, message), turns[-1].fixed or fixed)
        else:
            turns.append(_Turn((message,), fixed))
    return turns


def _awaits(turn: _Turn, answer: Message) -> bool:
    return any(call.id == answer.tool_call_id for message in turn.messages for call in message.tool_calls)


def _oldest_first(turns: Sequence[_Turn], but_newest: int) -> list[int]:
    loose = [at for at, turn in enumerate(turns) if not turn.fixed]
    last = len(turns) - but_newest
    return [at for at in loose if at < last]


def _all(turns: Iterable[_Turn]) -> tuple[Message, ...]:
    return tuple(message for turn in turns for message in turn.messages)


def _condense(message: Message) -> Message:
    """The sentences that carry most, in their order. One with few sentences stays as it is."""
    sentences = [each for each in _SENTENCE.split(message.content or "") if each.strip()]
    keep = max(1, round(KEPT_SHARE * len(sentences)))
    if len(sentences) <= keep + 1 or (message.content or "").startswith(MARK):
        return message
    weights = _weights(sentences)
    best = sorted(sorted(range(len(sentences)), key=lambda at: (-weights[at], at))[:keep])
    return message.model_copy(update={"content": MARK + " … ".join(sentences[at].strip() for at in best)})


def _weights(sentences: Sequence[str]) -> list[float]:
    """Mean frequency of a sentence's words in the turn (SumBasic: Nenkova and Vanderwende, 2005), more for the first
    sentence, and for numbers and names, which cannot be guessed when they are gone.
    """
    words = [[word.lower() for word in _WORD.findall(sentence)] for sentence in sentences]
    often = Counter(word for each in words for word in each if len(word) > 3)
    total = max(1, sum(often.values()))
    return [_weight(at, sentence, words[at], often, total) for at, sentence in enumerate(sentences)]


def _weight(at: int, sentence: str, words: Sequence[str], often: Counter[str], total: int) -> float:
    frequency = sum(often[word] for word in words) / total / max(1, len(words))
    facts = len(re.findall(r"\d[\w.,-]*|(?<=\s)[A-Z]\w+", sentence)) / max(1, len(words))
    return frequency + 0.5 * facts + (0.2 if at == 0 else 0)
