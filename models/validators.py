"""Validators that count and compare: they need no model, say the same every time, and their scores are 1 or 0.

Each is a function from a text and its sources to what is wrong; `DETERMINISTIC` makes validators of them. They are
heuristics all the same: a number that a model adds up correctly is not in the sources, and a name may be written in
another way. Thresholds are the policy's.
"""

import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from ..contracts.pool import Judgement
from .validator import LooksAt, Validator

Look = Callable[[str, Sequence[str]], str]
"""What is wrong with a text, given its sources; empty when nothing is."""

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?![\w])")
_ID = re.compile(r"#?[A-Za-z0-9]+(?:[-_:/.#][A-Za-z0-9]+)*", re.ASCII)
_NAME = re.compile(r"\b[A-Z][\w'’]+(?:\s+(?:of|de|van|von|la|the)\s+[A-Z][\w'’]+|\s+[A-Z][\w'’]+)+")
_REFUSAL = re.compile(
    r"\s*(?:i['’]?m sorry|sorry,|i apologi[sz]e|i (?:can(?:no|['’])t|am (?:unable|not able)|won['’]t)"
    r"|as an ai\b|i must decline)",
    re.IGNORECASE,
)
LOOP_CHARS, LOOP_TIMES = 120, 5
"""An end that repeats itself so often, over at least so many characters, is a loop."""
_LOOKED_AT = 4_000
_DENSE = 0.08
"""A long text that deflate makes so much smaller says nothing new. English prose stays above 0.3."""
_SHOWN = 5


def empty(text: str, sources: Sequence[str] = ()) -> str:
    """No letter, number or sign to see."""
    return "" if text.strip(" \t\r\n\u200b\u2060\ufeff\u00a0\x00") else "the answer is empty"


def refusal(text: str, sources: Sequence[str] = ()) -> str:
    """Begins like a refusal to answer."""
    return "the answer refuses to answer" if _REFUSAL.match(text) else ""


def repetition(text: str, sources: Sequence[str] = ()) -> str:
    """Goes in circles: a loop at its end, or hardly anything new in a long text."""
    if period := _period(text[-_LOOKED_AT:]):
        return f"the answer repeats itself: {_shown(text[-period:])!r} again and again"
    if len(text) > 1_000 and len(zlib.compress(text[:200_000].encode(errors="replace"))) < _DENSE * len(text[:200_000]):
        return "the answer says the same again and again"
    return ""


def unicode(text: str, sources: Sequence[str] = ()) -> str:
    """Signs that make a text look like another: direction overrides, invisible letters, words of two alphabets."""
    hidden = sorted({f"U+{ord(char):04X}" for at, char in enumerate(text) if _is_hidden(text, at, char)})
    if hidden:
        return f"the answer has signs that cannot be seen: {', '.join(hidden[:_SHOWN])}. Write plain text"
    if "\ufffd" in text:
        return "the answer has characters that are broken (U+FFFD). Write them again"
    mixed = [word for word in re.findall(r"\w+", text) if not word.isascii() and _mixes_alphabets(word)]
    return f"the answer mixes alphabets in one word: {', '.join(_listed(mixed))}" if mixed else ""


def numbers(text: str, sources: Sequence[str] = ()) -> str:
    """Numbers that stand in no source. With no sources there is nothing to compare."""
    if not sources:
        return ""
    known = {number for source in sources for number in _numbers(source)}
    invented = [number for number in _numbers(text) if number not in known]
    return f"these numbers are in no source: {', '.join(_listed(invented))}" if invented else ""


def ids(text: str, sources: Sequence[str] = ()) -> str:
    """Identifiers, such as `#W123` or `a3-7f`, that stand in no source."""
    if not sources:
        return ""
    known = {id.lower() for source in sources for id in _ids(source)}
    invented = [id for id in _ids(text) if id.lower() not in known]
    return f"these identifiers are in no source: {', '.join(_listed(invented))}" if invented else ""


def entities(text: str, sources: Sequence[str] = ()) -> str:
    """Names of several capitalised words that stand in no source."""
    if not sources:
        return ""
    known = " ".join(" ".join(source.split()) for source in sources).casefold()
    invented = [name for name in _NAME.findall(text) if " ".join(name.split()).casefold() not in known]
    return f"these names are in no source: {', '.join(_listed(invented))}" if invented else ""


DETERMINISTIC: dict[str, Look] = {
    look.__name__: look for look in (empty, refusal, repetition, unicode, numbers, ids, entities)
}


class Deterministic:
    """One of them as a validator."""

    looks_at = LooksAt.ANSWER

    def __init__(self, look: Look) -> None:
        self._look = look
        self.name: str = look.__name__

    async def judge(self, text: str, sources: Sequence[str] = ()) -> Judgement:
        reason = self._look(text, sources)
        return Judgement(validator=self.name, score=1.0 if reason else 0.0, reason=reason)


def deterministic() -> dict[str, Validator]:
    """All of them by name."""
    return {name: Deterministic(look) for name, look in DETERMINISTIC.items()}


def _period(text: str) -> int:
    """Length of what the end of `text` repeats; 0 when it does not.

    The prefix function (Knuth, Morris and Pratt, 1977) of the text read backwards gives the period of each of its
    ends in linear time.
    """
    backwards, borders = text[::-1], [0] * len(text)
    best = 0
    for at in range(1, len(backwards)):
        border = borders[at - 1]
        while border and backwards[at] != backwards[border]:
            border = borders[border - 1]
        borders[at] = border + (backwards[at] == backwards[border])
        period = at + 1 - borders[at]
        if at + 1 >= LOOP_CHARS and (at + 1) >= LOOP_TIMES * period:
            best = period
    return best


_HIDDEN_RANGES = (
    *((0x00AD, 0x00AD), (0x061C, 0x061C), (0x115F, 0x1160), (0x180E, 0x180E), (0x200B, 0x200B), (0x200E, 0x200F)),
    *((0x202A, 0x202E), (0x2060, 0x2064), (0x2066, 0x206F), (0x3164, 0x3164), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0)),
    (0xE0000, 0xE007F),
)
"""Soft hyphens, direction marks and overrides, invisible operators and fillers, byte order marks, tags."""
_HIDDEN = frozenset(code for first, last in _HIDDEN_RANGES for code in range(first, last + 1))
_JOINERS = frozenset("\u200c\u200d")


def _is_hidden(text: str, at: int, char: str) -> bool:
    """Joiners are needed between emoji and in scripts such as Devanagari and Persian, and nowhere else."""
    if char < "\x7f":
        return char < " " and char not in "\t\n\r"
    if char in _JOINERS:
        around = text[max(0, at - 2) : at + 3]
        return all(each in _JOINERS or each.isascii() or _alphabet(each) == "LATIN" for each in around)
    return ord(char) in _HIDDEN or 0x7F <= ord(char) < 0xA0


_LOOKALIKES = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE"})


def _mixes_alphabets(word: str) -> bool:
    return len({alphabet for char in word if char.isalpha() and (alphabet := _alphabet(char)) in _LOOKALIKES}) > 1


@lru_cache(maxsize=4096)
def _alphabet(char: str) -> str:
    """The first word of the character's name: `LATIN` of `LATIN SMALL LETTER A`."""
    return "GREEK" if char in "µΩ" and char == "Ω" else unicodedata.name(char, "").partition(" ")[0]


def _numbers(text: str) -> list[str]:
    return [_plain_number(found) for found in _NUMBER.findall(text)]


def _plain_number(text: str) -> str:
    """One way of writing for 1,000 and 1000.00 and +1000."""
    digits = text.replace(",", "").lstrip("+")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    whole = digits.lstrip("0") or "0"
    whole = f"0{whole}" if whole.startswith(".") else whole
    return whole if whole == "0" else sign + whole


def _ids(text: str) -> Iterable[str]:
    """Words with letters and digits, or behind a #; also digits in a long row."""
    for word in _ID.findall(text):
        letters, digits = any(map(str.isalpha, word)), any(map(str.isdigit, word))
        if digits and (letters or word.startswith("#") or sum(map(str.isdigit, word)) >= 7):
            yield word.rstrip(".:/-")


def _listed(found: Iterable[str]) -> list[str]:
    return [_shown(each) for each in dict.fromkeys(found)][:_SHOWN]


def _shown(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
