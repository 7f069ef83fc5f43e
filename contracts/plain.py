"""Plain data: what JSON, msgpack and every store can carry, and nothing else.

That is null, booleans, integers of 64 bits, finite floats, text without lone surrogates, lists, and objects with text
keys, at most `MAX_DEPTH` deep. Whatever crosses the border of the federation is checked here once, with a pointer to
the first thing that is something else; a value that one format takes and the next refuses would otherwise be found out
by the journal, after the caller was told that all is well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Any, cast

import msgpack
import orjson

from .errors import Corrupt, InvalidInput

MAX_DEPTH = 100
"""Lists and objects within one another. Python's and msgpack's own limits lie above, and depend on who asks."""

MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 64) - 1
"""What msgpack has room for."""

_STRICT = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
)
_pack_strictly = cast("Callable[[Any], bytes]", msgpack.Packer(strict_types=True, autoreset=True).pack)
_pack = cast("Callable[[Any], bytes]", msgpack.Packer(use_bin_type=True, autoreset=True).pack)


def check(value: Any, at: str = "") -> bytes | None:
    """The JSON with sorted keys that was made on the way, where one was made.

    Raises InvalidInput with a pointer, below `at`, to the first thing that is not plain data.
    """
    text = plain_json(value) if _is_packable(value) else None
    if text is None and not _is_clearly_plain(value):
        for where, what in _objections(value, at):
            raise InvalidInput(f"{where or '/'}: {what}", pointer=where)
    return text


def _is_packable(value: Any) -> bool:
    """Whether everything in it is of exactly a type that msgpack knows: no tuple, no enum, no subclass."""
    try:
        return bool(_pack_strictly(value))
    except (TypeError, ValueError, OverflowError):
        return False


def plain_json(value: Any) -> bytes | None:
    """JSON with sorted keys where it shows at once that `value` is plain data; None where that takes a closer look.

    The writer refuses most of what is not plain, but writes NaN as null and goes deeper than we do, so a text with a
    null or with that many brackets tells nothing. It is ten times as fast as looking at every value in Python, and
    every input, output and argument digest comes by here.
    """
    try:
        text = orjson.dumps(value, option=_STRICT)
    except (TypeError, RecursionError):
        return None
    return None if b"null" in text or text.count(b"[") + text.count(b"{") > MAX_DEPTH else text


def pointer(*path: str | int) -> str:
    """RFC 6901 JSON pointer of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def pack(value: Any) -> bytes:
    """msgpack of plain data, and of bytes. Raises TypeError for anything else."""
    try:
        return _pack(value)
    except (ValueError, OverflowError) as error:
        raise TypeError(f"cannot be packed: {error}") from error


def unpack(data: bytes) -> Any:
    """The value of msgpack. Raises Corrupt for anything else."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise Corrupt(f"not msgpack: {type(error).__name__}") from error


def _is_clearly_plain(value: Any) -> bool:
    """The quick look that every input and output gets: exact types only, no paths. Long on purpose: it is hot."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            kind = each.__class__
            if kind is str:
                if not each.isascii() and _has_surrogates(each):
                    return False
            elif kind is dict:
                for key in each:
                    if type(key) is not str or not (key.isascii() or not _has_surrogates(key)):
                        return False
                below += each.values()
            elif kind is list:
                below += each
            elif kind is int:
                if not MIN_INTEGER <= each <= MAX_INTEGER:
                    return False
            elif kind is float:
                if not isfinite(each):
                    return False
            elif kind is not bool and each is not None:
                return False
        if not below:
            return True
        level = below
    return False


def _objections(value: Any, at: str) -> Iterator[tuple[str, str]]:
    level: list[tuple[str, Any]] = [(at, value)]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[str, Any]] = []
        for where, each in level:
            if what := _objection(each):
                yield where, what
            below += [(f"{where}{pointer(key)}", inner) for key, inner in _inside(each)]
        level = below
    if level:
        yield at, f"is nested deeper than {MAX_DEPTH}"


def _inside(value: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, dict):
        return cast("dict[Any, Any]", value).items()
    return enumerate(cast("Iterable[Any]", value)) if isinstance(value, (list, tuple)) else ()


def _objection(value: Any) -> str:
    """What is wrong with one value, whatever is in it; empty when nothing is."""
    if value is None or isinstance(value, (bool, list, tuple)):
        return ""
    if isinstance(value, int):
        return "" if MIN_INTEGER <= value <= MAX_INTEGER else "an integer has at most 64 bits. Write it as text"
    if isinstance(value, float):
        return "" if isfinite(value) else f"{value} is no number in JSON. Write null or text"
    if isinstance(value, str):
        return "the text has half of a surrogate pair, which is no Unicode" if _has_surrogates(value) else ""
    if isinstance(value, dict):
        keys = cast("dict[Any, Any]", value)
        return "" if _are_texts(keys) else "the keys of an object are texts. Write them in quotes"
    return f"{type(value).__name__} is not plain data. Write null, true, false, a number, text, a list or an object"


def _are_texts(keys: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) and (key.isascii() or not _has_surrogates(key)) for key in keys)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
