"""The bytes: one version byte, then msgpack of a string tag and the fields in order.

Tags are explicit strings, never module paths, so code can move. Fields are positional: a newer writer may add fields
at the end, which an older reader ignores, and an older writer may leave them out, which take their defaults. The
version byte changes only if this very rule does. Golden files in the tests keep yesterday's bytes readable.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

import msgpack

from . import messages as m
from .errors import Corrupt
from .events import Event, Kind
from .ids import Epoch, Sequence

VERSION = 1
MAX_FRAME = 64 * 1024 * 1024
"""Bytes. A longer frame is refused before it is read."""

_PREFIX = bytes([VERSION])
_pack: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, autoreset=True).pack  # pyright: ignore[reportAssignmentType]

_TAGS: dict[str, type] = {
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
}
_tag_of = {cls: tag for tag, cls in _TAGS.items()}


def encode(message: Any) -> bytes:
    """The frame of a message. Raises TypeError for something that is no message or holds no plain data."""
    cls = type(message)
    return _PREFIX + _pack((_tag_of[cls], _row(message)))


def decode(frame: bytes) -> Any:
    """The message of a frame. Raises Corrupt for foreign bytes, an unknown version or an unknown tag."""
    if not frame or frame[0] != VERSION:
        raise Corrupt(f"frame of version {frame[:1].hex() or 'none'}, this side speaks {VERSION}")
    try:
        tag, row = unpack(frame[1:])
        return _message(_TAGS[tag], row)
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"not a frame: {type(error).__name__}: {error}") from error


def pack(value: Any) -> bytes:
    """msgpack of plain data."""
    return _pack(value)


def unpack(data: bytes) -> Any:
    """Plain data of msgpack. Raises Corrupt for anything else."""
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as error:
        raise Corrupt(f"not msgpack: {type(error).__name__}") from error


def encode_event(event: Event) -> bytes:
    """What the journal's hash chain runs over."""
    return _PREFIX + _pack((event.sequence, event.epoch, event.at_ms, event.kind, event.task, event.step, event.data))


def decode_event(data: bytes) -> Event:
    """Raises Corrupt when these are not the bytes of an event."""
    if data[:1] != _PREFIX:
        raise Corrupt(f"journal entry of version {data[:1].hex() or 'none'}, this side reads {VERSION}")
    try:
        sequence, epoch, at_ms, kind, task, step, body, *_ = unpack(data[1:])
        return Event(Sequence(sequence), Epoch(epoch), at_ms, Kind(kind), task, step, body)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"not a journal entry: {error}") from error


def _row(message: Any) -> Any:
    cls = type(message)
    if cls is m.Calls:
        return [[_ROWS[m.Call](call) for call in message.calls]]
    if cls is m.Results:
        return [[_ROWS[m.Result](result) for result in message.results]]
    return _ROWS[cls](message)


def _message(cls: type, row: list[Any]) -> Any:
    if cls is m.Calls:
        return m.Calls([_build(m.Call, each) for each in row[0]])
    if cls is m.Results:
        return m.Results([_build(m.Result, each) for each in row[0]])
    return _build(cls, row)


def _build(cls: type, row: list[Any]) -> Any:
    width = _WIDTHS[cls]
    return cls(*row) if len(row) <= width else cls(*row[:width])


def _reader(cls: type) -> Callable[[Any], Any]:
    names = [field.name for field in fields(cls)]
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda message: (get(message),)


_ROWS: Mapping[type, Callable[[Any], Any]] = {cls: _reader(cls) for cls in _TAGS.values()}
_WIDTHS: Mapping[type, int] = {cls: len(fields(cls)) for cls in _TAGS.values()}
