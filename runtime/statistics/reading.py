"""Reading on in the journals: from where the projection stands to their ends, page by page."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ...contracts import Corrupt, Event
from ...contracts.ids import coordinator_name
from ...contracts.wire import decode_event
from ..store.place import Place, Reader
from .facts import Batch
from .projection import Projection

_log = logging.getLogger(__name__)
PAGE = 5000
"""Entries of one batch."""
MODELS = "models"


class Readable(Protocol):
    """A store with a journal: a coordinator's, or the model pool's."""

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...


Sources = Mapping[str, Readable]
"""Journals by name. The name stays the same as long as the journal does."""


def read_on(projection: Projection, sources: Sources) -> Iterator[int]:
    """Takes in what was written since; gives the entries of each batch, once it is merged. Raises StorageError.

    A journal that does not hold the entry that was read last is another one, restored from a copy perhaps: then
    everything is read anew.
    """
    if any(_is_another(projection, name, source) for name, source in sources.items()):
        _log.warning(
            "a journal is not the one that was read: the statistics begin anew", extra={"action": "stats.anew"}
        )
        projection.clear()
    for name, source in sources.items():
        while rows := source.read("entries", (projection.position(name)[0], PAGE)):
            projection.absorb(name, _batch(rows), rows[-1][0], rows[-1][2])
            yield len(rows)


def readers(place: Place, shards: int) -> dict[str, Reader]:
    """Those journals of a place that are there, the coordinators' and the model pool's. Raises StorageError."""
    names, there = [*(coordinator_name(shard) for shard in range(shards)), MODELS], set(place.names())
    return {name: place.reader(name, "journal") for name in names if name in there}


def _is_another(projection: Projection, name: str, source: Readable) -> bool:
    sequence, hash = projection.position(name)
    return sequence > 0 and source.read("hash_of", (sequence,)) != [(hash,)]


def _batch(rows: Sequence[tuple[Any, ...]]) -> Batch:
    batch = Batch()
    for _, entry, _ in rows:
        if (event := _event(entry)) is not None:
            batch.take(event)
    return batch


def _event(entry: bytes) -> Event | None:
    """None for an entry of a kind that only a later version knows, and for a damaged one, which an audit will tell."""
    try:
        return decode_event(entry)
    except Corrupt:
        return None
