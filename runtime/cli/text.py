"""How values are written for people: times, money, durations, and text that came from elsewhere."""

import codecs
import json
import re
from typing import Any

import orjson

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
SPELLED = "hanse.spelled"
"""What to do with characters that a stream cannot write, by the name that `codecs` knows it under."""
_SPELLINGS = {"✓": "+", "✗": "x", "▶": ">", "↻": "~", "↶": "<", "·": ".", "–": "-", "→": "->", "…": "...", "¢": "c"} | {
    "━": "=", "╌": "-", "■": "#", "—": "-", "×": "x"
}  # fmt: skip
"""Marks stay different from one another in ASCII too."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_SPELLINGS.get(each, "?") for each in error.object[error.start : error.end]), error.end


codecs.register_error(SPELLED, _spell)


def plain(text: Any, limit: int | None = None) -> str:
    """Text from an agent, a model or a caller, made harmless for a terminal: one line, no control characters.

    Such text could otherwise move the cursor, recolour the screen or reverse the reading order of an approval.
    """
    line = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", " ".join(str(text).split()))
    return shortened(line, limit) if limit else line


def shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def count(number: int, one: str, many: str) -> str:
    """`1 agent`, `2 agents`."""
    return f"{number} {one if number == 1 else many}"


def money(cents: float) -> str:
    """Cents as they are: `12¢`, `0.25¢`; nothing for nothing."""
    return f"{cents:g}¢" if cents else ""


def duration(ms: float | None) -> str:
    """`0.4 ms`, `12 ms`, `3.1 s`, `2:05 min`."""
    if ms is None:
        return ""
    if ms < 10:
        return f"{ms:.1f} ms"
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 60_000 else f"{int(ms // 60_000)}:{int(ms / 1000) % 60:02d} min"


def clock(timestamp: str) -> str:
    """Hours, minutes and seconds of an RFC 3339 timestamp, in UTC as it is written."""
    return timestamp.partition("T")[2].partition(".")[0].rstrip("Z")


def json_text(value: Any, *, pretty: bool = False) -> str:
    """JSON of plain data and of views."""
    options = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(value, default=_plain_data, option=options).decode()


def writable(json_document: str, encoding: str) -> str:
    """The same document for a stream of that encoding, escaped where it has no such characters: data is never lost."""
    try:
        json_document.encode(encoding)
    except UnicodeEncodeError:
        return re.sub(r"[^\x00-\x7f]", lambda found: json.dumps(found[0])[1:-1], json_document)
    return json_document


def inline(value: Any, limit: int = 80) -> str:
    """A value in one short line."""
    return plain(json_text(value), limit)


def _plain_data(value: Any) -> Any:
    for method in ("model_dump", "to_json", "to_data"):
        if dump := getattr(value, method, None):
            return dump(mode="json") if method == "model_dump" else dump()
    raise TypeError(f"{type(value).__name__} is not JSON")
