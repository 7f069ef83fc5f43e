"""Proof that an entry is in a journal, and that a journal only grew, for somebody who has nothing but the proof.

A proof holds the entry's own bytes, the path from it to the root of the journal's tree, and the head that this root was
signed in. It shows that the entry was in the journal when the head was signed, at that place, with those bytes. It does
not show what else is in the journal; that two people hold heads of the same journal is what anchors are for.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...contracts import Corrupt, Event, InvalidInput, JsonObject, NotFound
from ...contracts.wire import decode_event
from ..journal import GENESIS
from ..store.place import place_of
from .archive import ARCHIVE, find_archived
from .head import SignedHead, Signer
from .merkle import consistency, inclusion, is_consistent, root_from_inclusion, root_of
from .readable import Readable
from .stones import is_stone
from .tree import StoredNodes

PROOF = "hanse.audit.proof"


@dataclass(frozen=True, slots=True)
class Included:
    """An entry and the path from it to the root of its journal's tree."""

    sequence: int
    entry: bytes
    path: Sequence[bytes]

    def is_in(self, head: SignedHead) -> bool:
        """Whether the path leads from these bytes, at this place, to the root of the head."""
        try:
            return root_from_inclusion(self.sequence - 1, head.sequence, self.entry, self.path) == head.root
        except ValueError:
            return False

    def event(self) -> Event:
        """Raises Corrupt when the bytes are none, or say that they are another entry."""
        event = decode_event(self.entry)
        if event.sequence != self.sequence:
            raise Corrupt(f"entry {self.sequence} says it is {event.sequence}")
        return event

    def to_data(self) -> JsonObject:
        entry = base64.b64encode(self.entry).decode()
        return {"sequence": self.sequence, "entry": entry, "path": [each.hex() for each in self.path]}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Included":
        """Raises InvalidInput."""
        try:
            path = [bytes.fromhex(each) for each in data["path"]]
            return Included(int(data["sequence"]), base64.b64decode(data["entry"], validate=True), path)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is no proof of an entry: {type(error).__name__}: {str(error)[:200]}") from error


class Prover:
    """Proves what is in one stored journal, as it is now."""

    def __init__(self, store: Readable, journal: str, *, has_subtrees: bool = True) -> None:
        self._store = store
        self._journal = journal
        self._nodes = StoredNodes(store, has_subtrees=has_subtrees)

    def head(self, signer: Signer, at_ms: int) -> SignedHead:
        """Of the last entry on disk."""
        rows = self._store.read("head")
        sequence, hash = rows[0] if rows else (0, GENESIS)
        return signer.sign(self._journal, sequence, hash, root_of(self._nodes, sequence), at_ms)

    def included(
        self, sequence: int, size: int, archived: Callable[[int], bytes | None] = lambda sequence: None
    ) -> Included:
        """An entry in the tree of the first `size`. `archived` gives the bytes of one of which only hashes are left.

        Raises NotFound when the entry is not there, or its bytes are not.
        """
        rows = self._store.read("chain", (sequence - 1, 1))
        if not (0 < sequence <= size and rows and rows[0][0] == sequence):
            raise NotFound(f"{self._journal} has no entry {sequence} among its first {size}")
        entry = archived(sequence) if is_stone(rows[0][2]) else rows[0][2]
        if entry is None:
            raise NotFound(f"entry {sequence} of {self._journal} was compacted, and no archive here has it")
        return Included(sequence, entry, inclusion(self._nodes, sequence - 1, size))

    def root(self, size: int) -> bytes:
        return root_of(self._nodes, size)

    def growth(self, old: int, new: int) -> list[bytes]:
        """Proof that the first `new` entries begin with the first `old`. Raises InvalidInput."""
        try:
            return consistency(self._nodes, old, new)
        except ValueError as error:
            raise InvalidInput(str(error)) from error


@dataclass(frozen=True, slots=True)
class Growth:
    """That the tree of a head only adds to an older one."""

    size: int
    root: bytes
    path: Sequence[bytes]

    def leads_to(self, head: SignedHead) -> bool:
        return is_consistent(self.size, self.root, head.sequence, head.root, self.path)

    def to_data(self) -> JsonObject:
        return {"size": self.size, "root": self.root.hex(), "path": [each.hex() for each in self.path]}

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "Growth":
        """Raises InvalidInput."""
        try:
            path = [bytes.fromhex(each) for each in data["path"]]
            return Growth(int(data["size"]), bytes.fromhex(data["root"]), path)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is no proof of growth: {type(error).__name__}: {str(error)[:200]}") from error


def prove(
    data: Path,
    journal: str,
    sequence: int,
    signer: Signer,
    at_ms: int,
    *,
    head: SignedHead | None = None,
    since: int = 0,
) -> JsonObject:
    """The proof of one entry as a file holds it, under `head` or under one of the journal's end that is signed now.

    `since` adds the proof that the journal begins with the first so many entries, as an older head had them. Raises
    NotFound, InvalidInput, StorageError.
    """
    store = place_of(data).reader(journal, "journal")
    try:
        prover = Prover(store, journal, has_subtrees=store.has("subtree"))
        head = head or prover.head(signer, at_ms)
        included = prover.included(sequence, head.sequence, partial(find_archived, data / ARCHIVE, journal))
        growth = Growth(since, prover.root(since), prover.growth(since, head.sequence)) if since else None
    finally:
        store.close()
    more = {"growth": growth.to_data()} if growth else {}
    event = included.event().to_json()
    return {"kind": PROOF, "version": 1, "head": head.to_data(), "included": included.to_data(), "event": event, **more}


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check came to."""

    lines: list[str]
    """What is shown, for people."""
    problems: list[str]


def check_proof(data: Mapping[str, Any], key: bytes | None) -> Findings:
    """Whether a proof holds. Without `key` only that it holds for whoever's key it names. Raises InvalidInput."""
    head = SignedHead.from_data(_part(data, "head"))
    included = Included.from_data(_part(data, "included"))
    growth = Growth.from_data(data["growth"]) if data.get("growth") else None
    problems = problems_of_head(head, key)
    if not included.is_in(head):
        problems.append(f"the path does not lead from entry {included.sequence} to the root of the head")
    if growth and not growth.leads_to(head):
        problems.append(f"the head's tree does not begin with the {growth.size} entries of root {growth.root.hex()}")
    return Findings([] if problems else _shown(head, included, growth), problems)


def problems_of_head(head: SignedHead, key: bytes | None) -> list[str]:
    if key is not None and head.key != key:
        return [f"the head of {head.journal} is signed by {head.key.hex()}, and not by {key.hex()}"]
    if not head.is_signed_by(head.key):
        return [f"the signature of the head of {head.journal} is not that of the head"]
    return []


def _shown(head: SignedHead, included: Included, growth: Growth | None) -> list[str]:
    event = included.event()
    about = f" of task {event.task}" if event.task else ""
    lines = [
        f"entry {included.sequence} of {head.journal} is {event.kind}{about}",
        f"it is among the {head.sequence} entries of the tree {head.root.hex()}",
        f"whose head {head.federation} signed with {head.key.hex()}",
    ]
    return [*lines, f"and which begins with the {growth.size} entries of {growth.root.hex()}"] if growth else lines


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(data.get(name), dict):
        raise InvalidInput(f"this is no proof: it has no {name}")
    return data[name]
