"""A proposal: what a tier made of an ask, read once, before anybody judges it."""

import hashlib
from dataclasses import dataclass
from typing import Any

import orjson

from ..contracts.pool import Ask
from .backend import Raw

KEPT_CHARS = 2_000
"""Of an answer that is too long to be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in words that a model can act on. `pointer` says where in the answer's data."""

    detail: str
    pointer: str = ""

    def __str__(self) -> str:
        return f"{self.pointer}: {self.detail}" if self.pointer else self.detail


@dataclass(frozen=True, slots=True)
class Proposal:
    """An answer that nobody has accepted yet."""

    ask: Ask
    raw: Raw
    data: Any = None
    """The parsed answer, where the ask has a schema and the text is JSON."""
    unreadable: str = ""
    """Why the text is no JSON."""
    chars: int = 0
    """How long the text was, of which an endless one is cut."""

    @property
    def text(self) -> str:
        return self.raw.text

    @property
    def words(self) -> bytes:
        """What was written, tool calls included, as it is kept."""
        calls = [call.model_dump() for call in self.raw.tool_calls]
        return orjson.dumps({"text": self.text, "tool_calls": calls}) if calls else self.text.encode()


def words_digest(words: bytes) -> str:
    """The name of a prompt's or an answer's words; empty for none."""
    return f"sha256:{hashlib.sha256(words).hexdigest()}" if words else ""


def propose(ask: Ask, raw: Raw, max_chars: int) -> Proposal:
    """Reads an engine's answer. An endless one is cut at once, so that it takes no more room."""
    chars = len(raw.text) + sum(len(call.arguments) for call in raw.tool_calls)
    if chars > max_chars:
        return Proposal(ask, Raw(raw.text[:KEPT_CHARS], (), raw.finish_reason), chars=chars)
    if ask.answer is None or raw.tool_calls:
        return Proposal(ask, raw, chars=chars)
    try:
        return Proposal(ask, raw, orjson.loads(raw.text), chars=chars)
    except orjson.JSONDecodeError as error:
        where = f" at line {error.lineno}, column {error.colno}" if raw.text.strip() else ""
        return Proposal(ask, raw, unreadable=f"the answer is no JSON: {error.msg}{where}", chars=chars)


def sane(raw: Raw, prompt_tokens: int, max_tokens: int) -> Raw:
    """An engine's answer with its oddest garbage taken out: text that is no Unicode, counts that are no counts.

    A count that cannot be is replaced by the largest that can: nobody gets tokens for nothing.
    """
    return Raw(
        mended(raw.text) if isinstance(raw.text, str) else "",
        tuple(raw.tool_calls or ()),
        str(raw.finish_reason or "stop")[:32],
        _count(raw.prompt_tokens, prompt_tokens),
        _count(raw.completion_tokens, max_tokens),
    )


def mended(text: str) -> str:
    """Text that is Unicode: halves of a pair that belong together are joined, others become U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(tokens: Any, most: int) -> int:
    return tokens if type(tokens) is int and 0 <= tokens <= most else most


def texts_of(data: Any) -> list[str]:
    """All texts and numbers in plain data, as texts: what an answer says, without the names of its fields."""
    found: list[str] = []
    level: list[Any] = [data]
    while level:
        each = level.pop()
        if isinstance(each, dict):
            level.extend(each.values())
        elif isinstance(each, list):
            level.extend(each)
        elif isinstance(each, str):
            found.append(each)
        elif isinstance(each, int | float) and not isinstance(each, bool):
            found.append(repr(each))
    return found
