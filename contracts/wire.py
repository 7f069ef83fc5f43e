"""The bytes: one version byte, then msgpack of a string tag and the fields in order.

Tags are explicit strings, never module paths, so code can move. Fields are positional: a newer writer may add fields
at the end, which an older reader ignores, and an older writer may leave them out, which take their defaults. The
version byte changes only if this very rule does. Golden files in the tests keep yesterday's bytes readable.
"""

from collections.abc import Mapping
from typing import Any, cast

from . import messages as m
from .errors import Corrupt, TooLarge
from .events import Event, Kind
from .ids import Epoch, Sequence
from .plain import pack, unpack

VERSION = 1
MAX_FRAME = 64 * 1024 * 1024
"""Bytes. A longer frame is not written, and refused before it is read."""

_PREFIX = bytes([VERSION])

_TAGS: Mapping[str, type[Any]] = {
    "hello": m.Hello,
    "welcome": m.Welcome,
    "offers": m.Offers,
    "call": m.Call,
    "calls": m.Calls,
    "result": m.Result,
    "results": m.Results,
    "stop": m.Stop,
    "progress": m.Progress,
    "proposal": m.Proposal,
    "proposed": m.Proposed,
    "request": m.Request,
    "response": m.Response,
    "piece": m.Piece,
    "drop": m.Drop,
}
_tag_of = {cls: tag for tag, cls in _TAGS.items()}


def encode(message: Any) -> bytes:
    """The frame of a message. Raises TypeError for what is no message or holds no plain data, TooLarge for too much."""
    cls = message.__class__
    if cls not in _tag_of:
        raise TypeError(f"{cls.__name__} is no message")
    frame = _PREFIX + pack((_tag_of[cls], message))
    if len(frame) > MAX_FRAME:
        raise TooLarge(f"a frame has at most {MAX_FRAME} bytes, this {_tag_of[cls]} has {len(frame)}")
    return frame


def decode(frame: bytes) -> Any:
    """The message of a frame. Raises Corrupt for foreign bytes, an unknown version or an unknown tag."""
    if not frame or frame[0] != VERSION:
        raise Corrupt(f"frame of version {frame[:1].hex() or 'none'}, this side speaks {VERSION}")
    try:
        tag, row = unpack(frame[1:])
        return _message(_TAGS[tag], row)
    except (LookupError, TypeError, ValueError) as error:
        raise Corrupt(f"not a frame: {type(error).__name__}: {str(error)[:200]}") from error


def encode_event(event: Event) -> bytes:
    """What the journal's hash chain runs over: the event's fields in their order. Raises TypeError when the data is not
    plain.
    """
    return _PREFIX + pack(event)


def decode_event(data: bytes) -> Event:
    """Raises Corrupt when these are not the bytes of an event."""
    if data[:1] != _PREFIX:
        raise Corrupt(f"journal entry of version {data[:1].hex() or 'none'}, this side reads {VERSION}")
    try:
        sequence, epoch, at_ms, kind, task, step, body, *_ = _list(unpack(data[1:]))
        if not (isinstance(sequence, int) and isinstance(epoch, int) and isinstance(at_ms, int)):
            raise TypeError("sequence, epoch and time are integers")
        return Event(Sequence(sequence), Epoch(epoch), at_ms, Kind(kind), task, step, _dict(body))
    except (TypeError, ValueError) as error:
        raise Corrupt(f"not a journal entry: {str(error)[:200]}") from error


def _message(cls: type, row: Any) -> Any:
    if cls is m.Calls:
        return m.Calls([_build(m.Call, each) for each in _list(_list(row)[0])])
    if cls is m.Results:
        return m.Results([_build(m.Result, each) for each in _list(_list(row)[0])])
    return _build(cls, row)


def _build(cls: type, row: Any) -> Any:
    width = _WIDTHS[cls]
    return cls(*row) if len(_list(row)) <= width else cls(*row[:width])


def _list(value: Any) -> list[Any]:
    """A text or a map can be unpacked into fields too, which would make a message of anything."""
    if type(value) is list:
        return cast("list[Any]", value)
    raise TypeError(f"a list of fields, not {type(value).__name__}")


def _dict(value: Any) -> dict[str, Any]:
    if type(value) is dict:
        return cast("dict[str, Any]", value)
    raise TypeError(f"a map, not {type(value).__name__}")


_WIDTHS: Mapping[type, int] = {cls: len(cls._fields) for cls in _TAGS.values()}
