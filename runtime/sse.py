"""Reads server-sent events: lines in, events out. The other half is `gateway/events.py`."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sent:
    """One event as it was sent."""

    id: str
    """Of this event, or of the last one that had an id."""
    name: str
    data: str


async def read(lines: AsyncIterable[str], last_id: str = "") -> AsyncIterator[Sent]:
    """Events of a stream, as the HTML standard parses them. One that broke off before its empty line is dropped."""
    name, data = "", list[str]()
    async for line in lines:
        if not line:
            if data:
                yield Sent(last_id, name or "message", "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id" and "\0" not in value:
            last_id = value
