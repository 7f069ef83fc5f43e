"""The evidence of one task in one file: task, plan, bids, award, token, approval, effect, receipt, models, memory.

    journals   of the coordinator, the model pool, the memory: the task's entries, byte for byte, each with its path to
               the root of the journal's tree, and the signed head of that tree
    receipts   what the agents' own stores keep of the task's steps: digests of input and output, the award
    effects    what their ledgers keep of outside calls: connector, operation, status, digests
    children   the bundles of the child tasks that its steps asked for, and in them those of theirs

What a good bundle proves, to somebody with the public key and nothing else: each of these entries stood in the journal,
at its place, when the head was signed; they are a legal history of the task; every award was about the input that plan
and earlier outputs give; every approval was about the very input that was awarded; whoever holds the federation's key
put the bundle together.

What it does not prove: that the journal holds nothing else about the task, beyond that without a left-out entry the
history would have to be legal too; that an agent told the truth about what it did; receipts and effects are the agents'
own word, which stands in no chain, vouched for by the signature under the bundle alone. That nobody holds another
version of the journal is shown by comparing the head with the anchors (`hanse audit check --anchors`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ...contracts import Event, HanseError, InvalidInput, JsonObject, Kind, NotFound, TaskId, digest
from ...contracts.events import timestamp
from ...contracts.ids import StepId, coordinator_name, shard_of, step_key
from ...contracts.plain import unpack
from ...contracts.wire import decode_event
from ..store.place import Place, Reader
from .folder import journals
from .head import SignedHead, Signer
from .proofs import Prover
from .stones import is_stone

BUNDLE = "hanse.audit.bundle"
_MAX_ENTRIES = 100_000


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Of one journal."""

    data: JsonObject
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Notary:
    """What heads a bundle is proved against: one that an anchor holds, where it covers the task, else a new one."""

    signer: Signer
    now_ms: int
    anchored: Mapping[str, SignedHead]
    """The newest of each journal."""

    def head(self, prover: Prover, journal: str, last: int) -> SignedHead:
        """`last` is the sequence of the last entry that it must cover."""
        held = self.anchored.get(journal)
        return held if held and held.sequence >= last else prover.head(self.signer, self.now_ms)


def make_bundle(place: Place, task: TaskId, notary: Notary) -> JsonObject:
    """The bundle of a task, from the stores of a federation; what cannot be had is named in it.

    Blocks while it reads. Raises NotFound for an unknown task or one that was compacted, StorageError.
    """
    return _bundle(place, journals(place), task, notary)


def _bundle(place: Place, stores: Sequence[str], task: TaskId, notary: Notary) -> JsonObject:
    """`stores` are those with a journal. To find them opens every store: once for a task and its children."""
    owner, missing = _owner(task), list[str]()
    evidence = {name: _evidence(place, name, task, notary, missing) for name in stores}
    own = evidence.get(owner)
    if own is None or not own.events:
        raise NotFound(f"there is no task {task} in {owner}, or it was compacted", task=task)
    receipts, effects = _of_agents(place, task, own.events, missing)
    body = {
        "kind": BUNDLE,
        "version": 1,
        "task": task,
        "made_at": timestamp(notary.now_ms),
        "journals": [each.data for each in evidence.values() if each and each.events],
        "receipts": receipts,
        "effects": effects,
        "children": [*_of_children(place, stores, own.events, notary, missing)],
        "missing": missing,
    }
    return {**body, "key": notary.signer.public.hex(), "signature": notary.signer.sign_text(text_of(body)).hex()}


def text_of(body: Mapping[str, Any]) -> bytes:
    """What is signed of a bundle: the digest of its canonical JSON without key and signature."""
    held = {name: value for name, value in body.items() if name not in ("key", "signature")}
    canonical = json.dumps(held, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return b"hanse audit bundle v1\n" + sha256(canonical).hexdigest().encode() + b"\n"


def _owner(task: TaskId) -> str:
    try:
        return coordinator_name(shard_of(task))
    except ValueError as error:
        raise NotFound(f"there is no task {task!r:.80}") from error


def _evidence(place: Place, name: str, task: TaskId, notary: Notary, missing: list[str]) -> _Evidence | None:
    """None for a journal that cannot be read, which is then named as missing."""
    try:
        with closing(place.reader(name, "journal")) as store:
            return _entries(store, name, task, notary)
    except HanseError as error:
        missing.append(f"{name}: {error.detail}")
        return None


def _entries(store: Reader, name: str, task: TaskId, notary: Notary) -> _Evidence:
    rows = [row for row in store.read("entries_of_task", (task, 0, _MAX_ENTRIES)) if not is_stone(row[1])]
    if not rows:
        return _Evidence({}, [])
    prover = Prover(store, name, has_subtrees=store.has("subtree"))
    head = notary.head(prover, name, rows[-1][0])
    proved = [prover.included(sequence, head.sequence).to_data() for sequence, *_ in rows]
    return _Evidence({"head": head.to_data(), "entries": proved}, [decode_event(entry) for _, entry, _ in rows])


def _of_agents(
    place: Place, task: TaskId, events: list[Event], missing: list[str]
) -> tuple[list[JsonObject], list[JsonObject]]:
    receipts, effects = list[JsonObject](), list[JsonObject]()
    for agent, steps in _steps_by_agent(events).items():
        try:
            with closing(place.reader(f"agents/{agent}", "agent")) as store:
                receipts += _receipts(store, agent, task, steps)
                effects += [_effect(agent, row) for row in store.read("step_effects", (f"{task}/", f"{task}0"))]
        except HanseError as error:
            missing.append(f"the store of {agent}: {error.detail}")
    return receipts, effects


def _of_children(
    place: Place, stores: Sequence[str], events: list[Event], notary: Notary, missing: list[str]
) -> Iterator[JsonObject]:
    for event in events:
        if event.kind is Kind.STEP_DELEGATED:
            child = TaskId(event.data["child"])
            try:
                yield _bundle(place, stores, child, notary)
            except HanseError as error:
                missing.append(f"child task {child}: {error.detail}")


def _steps_by_agent(events: list[Event]) -> dict[str, list[StepId]]:
    found: dict[str, dict[StepId, None]] = {}
    for event in events:
        if event.kind is Kind.STEP_AWARDED and event.step:
            found.setdefault(event.data["agent"], {})[event.step] = None
    return {agent: list(steps) for agent, steps in found.items()}


def _receipts(store: Reader, agent: str, task: TaskId, steps: list[StepId]) -> Iterator[JsonObject]:
    """A capability that only reads has none."""
    for step in steps:
        for capability, wanted, output, award in store.read("receipt", (step_key(task, step),)):
            said = {"capability": capability, "input": wanted, "output": digest(unpack(output)), "award": award}
            yield {"agent": agent, "step": step, **said}


def _effect(agent: str, row: tuple[Any, ...]) -> JsonObject:
    key, connector, operation, request, status, _, result, at_ms = row
    return {
        "agent": agent,
        "key": key,
        "connector": connector,
        "operation": operation,
        "status": status,
        "request": _digest_of(request),
        "result": _digest_of(result),
        "at": timestamp(at_ms),
    }


def _digest_of(stored: bytes | None) -> str | None:
    """Of the bytes as they lie in the store: what was sent may be nobody else's business."""
    return None if stored is None else f"sha256:{sha256(stored).hexdigest()}"


def read_bundle(text: str) -> JsonObject:
    """The JSON of a proof or a bundle. Raises InvalidInput."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"this is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput("this is neither a proof nor a bundle")
    return found
