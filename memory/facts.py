"""Typed facts: when two of them are about the same thing, when they say the same, and which of two ends the other.

    Fact(entity="ORD-17", attribute="status", value="shipped")

A fact is about its key: entity and attribute, each in one spelling. Most attributes have one value at a time, and a new
value ends the old one where the new begins to hold: the old record gets another version that says until when it was so,
and is found by queries of that time. An attribute of several values, such as `allergies`, only ever adds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ..contracts.memory import Change, Draft, Fact, Record, State
from .wording import plain_text

MULTIPLE = "multiple"
"""In a draft's payload, `{"values": "multiple"}` says that its attribute has several values at a time."""

_SEPARATORS = re.compile(r"[\s_\-./:]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ARTICLES = re.compile(r"^(?:the|a|an|my|your|his|her|their|our)\s+")
_SEVERAL = re.compile(
    r"(?:^|_)(?:aliases|allergies|children|siblings|pets|hobbies|interests|languages|skills|tags|friends|members|"
    r"likes|dislikes|emails|phones|addresses|items|owns|has|knows|visited|speaks|member_of|part_of)$"
)
_TRUE, _FALSE = frozenset({"true", "yes", "y", "on"}), frozenset({"false", "no", "n", "off"})


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a new fact does to those of the same key."""

    contradicts: tuple[str, ...] = ()
    """Live facts that say otherwise about the same time."""
    supersedes: tuple[str, ...] = ()
    """Those of them that end where the new one begins."""
    against_pinned: tuple[str, ...] = ()
    """Those of them that a person pinned: they end only by a person's hand."""
    reason: str = ""


def key(fact: Fact) -> str:
    """What the fact is about, the same for every spelling: `MyShop`/`deliveryAddress` is `myshop|delivery_address`."""
    return f"{_entity(fact.entity)}|{attribute_of(fact)}"


def attribute_of(fact: Fact) -> str:
    """The attribute in one spelling: `deliveryAddress`, `Delivery address` and `delivery-address` are one."""
    return _SEPARATORS.sub("_", plain_text(_CAMEL.sub("_", fact.attribute))).strip("_")


def same_fact(one: Fact, other: Fact) -> bool:
    """Whether both say the same of the same."""
    return key(one) == key(other) and same_value(one.value, other.value)


def same_value(one: str | bool | int | float, other: str | bool | int | float) -> bool:
    """Values as people write them: `"1,000"` is 1000, `"Yes"` is true, and spelling does not matter."""
    return _value(one) == _value(other)


def has_several(fact: Fact, payload: Mapping[str, object] | None = None) -> bool:
    """Whether its attribute may have several values at a time: as the payload says, else as its name does."""
    said = (payload or {}).get("values")
    return said == MULTIPLE if isinstance(said, str) else bool(_SEVERAL.search(attribute_of(fact)))


def ruling(draft: Draft, facts: Sequence[Record], now_ms: int) -> Ruling:
    """What a draft does to live facts. Those of another key, and those that hold at another time, are passed over.

    A draft that says nothing of it holds from `now_ms` on.
    """
    fact = draft.fact
    if fact is None or has_several(fact, draft.payload):
        return Ruling()
    if draft.valid_from_ms is None:
        draft = draft.model_copy(update={"valid_from_ms": now_ms})
    against = [record for record in facts if _contradicts(draft, fact, record)]
    pinned = tuple(record.id for record in against if record.pinned and not draft.pinned)
    ended = () if pinned else tuple(record.id for record in against if _ends(draft, record))
    reason = _words(fact, against, ended)
    return Ruling(tuple(record.id for record in against), ended, pinned, reason)


def contradictions(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Pairs of live facts that say otherwise about the same time, each record with the first that it contradicts."""
    groups: dict[tuple[str, str, str | None], list[Record]] = {}
    for record in records:
        if record.fact and record.state is State.LIVE and not has_several(record.fact, record.payload):
            groups.setdefault((key(record.fact), record.scope, record.owner), []).append(record)
    return [pair for group in groups.values() for pair in _pairs(group)]


def ending(by: Draft, now_ms: int) -> Change:
    """What changes in a fact when another takes its place: it holds until that one begins to. Nothing is deleted."""
    return Change(valid_to_ms=now_ms if by.valid_from_ms is None else by.valid_from_ms)


def _pairs(group: Sequence[Record]) -> list[tuple[Record, Record]]:
    found: list[tuple[Record, Record]] = []
    for i, record in enumerate(group):
        other = next((each for each in group[:i] if _differs(record, each) and _overlaps(record, each)), None)
        if other is not None:
            found.append((other, record))
    return found


def _contradicts(draft: Draft, fact: Fact, record: Record) -> bool:
    return (
        record.fact is not None
        and record.state is State.LIVE
        and key(record.fact) == key(fact)
        and not same_value(record.fact.value, fact.value)
        and _overlaps(draft, record)
    )


def _differs(one: Record, other: Record) -> bool:
    return one.fact is not None and other.fact is not None and not same_value(one.fact.value, other.fact.value)


def _overlaps(one: Draft, other: Draft) -> bool:
    """Whether both hold at some time. What has no beginning or end given holds from or for ever."""
    return not (_before(one, other) or _before(other, one))


def _before(one: Draft, other: Draft) -> bool:
    return one.valid_to_ms is not None and other.valid_from_ms is not None and one.valid_to_ms <= other.valid_from_ms


def _ends(draft: Draft, record: Record) -> bool:
    """A fact ends an older one of the same scope. One about an earlier time, or one that is believed much less, only
    contradicts it, and so does one that fewer can read."""
    begins_later = (
        draft.valid_from_ms is None or record.valid_from_ms is None or draft.valid_from_ms >= record.valid_from_ms
    )
    same_readers = (draft.scope, draft.owner) == (record.scope, record.owner)
    return begins_later and same_readers and draft.confidence >= 0.5 * record.confidence


def _words(fact: Fact, against: Sequence[Record], ended: Sequence[str]) -> str:
    if not against:
        return ""
    verb = "takes the place of" if ended else "contradicts"
    return f"{fact.attribute} of {fact.entity} {verb} {', '.join(record.id for record in against)}"


def _entity(text: str) -> str:
    return _SEPARATORS.sub(" ", _ARTICLES.sub("", plain_text(text))).strip()


def _value(value: str | bool | int | float) -> tuple[Literal["truth", "number", "text"], bool | Decimal | str]:
    if isinstance(value, bool):
        return "truth", value
    if isinstance(value, int | float):
        return "number", Decimal(str(value))
    text = plain_text(value).strip(" .!\"'")
    if text in _TRUE | _FALSE:
        return "truth", text in _TRUE
    return _number(text) or ("text", text)


def _number(text: str) -> tuple[Literal["number"], Decimal] | None:
    """Not for what begins with a zero: `007` is a name."""
    if re.fullmatch(r"[+-]?(?:[1-9]\d{0,2}(?:,\d{3})+|0|[1-9]\d*)(?:\.\d+)?", text):
        return "number", Decimal(text.replace(",", ""))
    return None
