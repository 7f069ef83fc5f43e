"""What was recalled lately: the records that a tenant was given last, by whichever process answered.

The write gate asks for it, because what comes back in somebody's own words is an echo and not news. Whoever recalls
does not wait for that: what was given out is read when the gate asks, and a reader in another process tells ids and
versions alone. All of it is in memory: after a restart nothing was recalled lately.

A gate that compared each draft with all of them could be given few. So they are found by their words: what a draft says
is an echo of a record only if that has all words of one of its sentences at least, and thousands can be searched for
those in the time that a handful takes to be compared.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from ..contracts import Tenant
from ..contracts.memory import Record
from .wording import fingerprint, keys_in, sentences, tokens_of, without_frame, wording

KEPT = 4096
"""Records of a tenant that are remembered as given out, at most."""
AT_A_STRETCH = 64
"""Records that are read before others have their turn."""
KEPT_BYTES = 4 << 20
"""What they take for a tenant, at most, counted with what they are found by."""
COMPARED = 64
"""Records that one sentence of a draft is compared with, the latest."""
_RECORD_BYTES, _KEY_BYTES = 500, 80
"""About what a record takes beside its text, and each word that it is found by."""

Given = tuple[str, int]
"""Id and version of a record, as it was given out."""
LookUp = Callable[[str, int], Record | None]
"""The version of a record. None when it is gone."""


@dataclass(slots=True)
class _Entry:
    """One that was given out: of what a reader told the version alone. Without keys it was not read yet."""

    version: int
    at: int
    """The higher, the later."""
    record: Record | None = None
    keys: frozenset[str] = frozenset()

    @property
    def nbytes(self) -> int:
        text = 0 if self.record is None else len(self.record.text)
        return _RECORD_BYTES + text + _KEY_BYTES * len(self.keys)


class Lately:
    """One tenant's. What is given out again is there once, as the latest."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._given: OrderedDict[str, _Entry] = OrderedDict()
        self._holders: dict[str, set[str]] = {}
        """Ids of those that have a word, by its key."""
        self._unread: dict[str, None] = {}
        """Those that are not found by their words yet."""
        self._turns = count()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._given)

    def gave(self, records: Iterable[Record]) -> None:
        for record in records:
            if not self._again(record):
                self._put(record.id, _Entry(record.version, next(self._turns), record))
        self._make_room()

    def told(self, given: Iterable[Given]) -> None:
        """A reader gave these out."""
        for id, version in given:
            self._put(id, _Entry(version, next(self._turns)))
        self._make_room()

    def forget(self, ids: Iterable[str]) -> int:
        """How many of them were there."""
        return sum(self._drop(id) for id in ids)

    def rest(self) -> None:
        """Nobody has the tenant open: what can be looked up again needs no room."""
        resting = [(id, each.version) for id, each in self._given.items()]
        for id, version in resting:
            self._put(id, _Entry(version, next(self._turns)))

    async def read(self, look_up: LookUp) -> None:
        """Reads what was given out since the last time, for whoever is about to ask."""
        while self._unread:
            self._read(look_up, AT_A_STRETCH)
            await asyncio.sleep(0)

    def records(self, look_up: LookUp) -> list[Record]:
        """Oldest first, each as it was given out."""
        self._read(look_up)
        return [each.record for each in self._given.values() if each.record is not None]

    def said_in(self, text: str, look_up: LookUp) -> list[Record]:
        """Those that have all words of a sentence of the text, or are the text; the latest first. None where neither
        one of them has all words of the text nor each of its sentences has one that has its words.
        """
        self._read(look_up)
        if not self._may_be_said_in(text):
            return []
        found = {id for key in _asked(text) for id in self._latest(key)}
        entries = sorted((self._given[id] for id in found), key=lambda each: -each.at)
        return [each.record for each in entries if each.record is not None]

    def _may_be_said_in(self, text: str) -> bool:
        if not self._given:
            return False
        if _whole(text) in self._holders or self._with_all(wording(without_frame(text)).keys):
            return True
        parts = sorted(_of_sentences(text), key=len, reverse=True)  # the longest is said the least
        return all(map(self._with_all, parts))

    def _latest(self, keys: frozenset[str]) -> list[str]:
        """Of those that have all keys."""
        return sorted(self._with_all(keys), key=lambda id: -self._given[id].at)[:COMPARED]

    def _with_all(self, keys: frozenset[str]) -> set[str]:
        holders = [self._holders[key] for key in keys if key in self._holders]
        if len(holders) < len(keys) or not keys:
            return set()
        holders.sort(key=len)
        return holders[0].intersection(*holders[1:])

    def _read(self, look_up: LookUp, most: int = KEPT) -> None:
        for id in [*islice(self._unread, most)]:
            each = self._given[id]
            if (record := each.record or look_up(id, each.version)) is None:
                self._drop(id)
            else:
                self._replace(id, _Entry(each.version, each.at, record, _keys(record.text)))
        self._make_room()

    def _again(self, record: Record) -> bool:
        """Whether this very version is there, which is the latest then: most of it was recalled before."""
        found = self._given.get(record.id)
        if found is None or found.record is None or found.version != record.version:
            return False
        found.at, found.record = next(self._turns), record
        self._given.move_to_end(record.id)
        return True

    def _put(self, id: str, entry: _Entry) -> None:
        self._replace(id, entry)
        self._given.move_to_end(id)

    def _replace(self, id: str, entry: _Entry) -> None:
        """In its place, where it has one."""
        if (old := self._given.get(id)) is not None:
            self._unfound(id, old)
        self._given[id] = entry
        self.nbytes += entry.nbytes
        if not entry.keys:
            self._unread[id] = None
        for key in entry.keys:
            self._holders.setdefault(key, set()).add(id)

    def _drop(self, id: str) -> bool:
        if (old := self._given.pop(id, None)) is not None:
            self._unfound(id, old)
        return old is not None

    def _unfound(self, id: str, old: _Entry) -> None:
        self.nbytes -= old.nbytes
        self._unread.pop(id, None)
        for key in old.keys:
            holders = self._holders[key]
            holders.discard(id)
            if not holders:
                del self._holders[key]

    def _make_room(self) -> None:
        while len(self._given) > KEPT or self.nbytes > self._most_bytes:
            self._drop(next(iter(self._given)))


def _keys(text: str) -> frozenset[str]:
    """What a record is found by."""
    return wording(text).keys | {_whole(text)}


def _asked(text: str) -> Iterator[frozenset[str]]:
    """What it takes to say the same as a text, or as one of its sentences."""
    yield frozenset({_whole(text)})
    yield from _of_sentences(text)


def _of_sentences(text: str) -> set[frozenset[str]]:
    return {keys for part in sentences(without_frame(text)) if (keys := keys_in(tokens_of(part)))}


def _whole(text: str) -> str:
    return f"={fingerprint(text)}"


class LatelyOfAll:
    """That of each tenant, also of those whose shelf is closed: readers tell of them too."""

    def __init__(self, tenants: int, is_open: Callable[[Tenant], bool]) -> None:
        """So many `tenants` are remembered, beside those that are open."""
        self._most, self._is_open = tenants, is_open
        self._of: OrderedDict[Tenant, Lately] = OrderedDict()

    def of(self, tenant: Tenant) -> Lately:
        found = self._of.setdefault(tenant, Lately())
        self._of.move_to_end(tenant)
        self._make_room()
        return found

    def _make_room(self) -> None:
        if len(self._of) > self._most:
            for tenant in [each for each in self._of if not self._is_open(each)][: -self._most]:
                del self._of[tenant]
