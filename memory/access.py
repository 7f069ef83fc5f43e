"""Who may see and do what, within a tenant. Between tenants there is nothing to decide: each has a shelf of its own.

| scope | who reads | who writes |
|---|---|---|
| federation, subject | everybody of the tenant | everybody |
| domain | everybody | agents of the domain, people |
| agent | the agent, and whom it was granted to | the agent; people may forget |
| task | callers within the task | callers within the task; people may forget |

A person is a caller with a name and without an agent. Only people pin, and what is pinned only people change.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..contracts import InvalidInput, NotAllowed
from ..contracts.caller import Caller
from ..contracts.ids import domain_of
from ..contracts.memory import MAX_TEXT, Draft, Layer, Provenance, Record, Scope
from ..contracts.plain import check, pack, pointer

MAX_PAYLOAD = 64_000
"""Bytes of a record's payload, and of its labels."""
MAX_NAME = 500
"""Characters of an owner, a subject, an episode, a document, a label."""


@dataclass(frozen=True, slots=True)
class View:
    """What one caller may read of its tenant."""

    owners: frozenset[str] = frozenset()
    """Agents whose private records it may read."""
    task: str | None = None
    everything: bool = False
    """For hygiene itself, which has to reach what no single caller may."""

    def shows(self, record: Draft) -> bool:
        if self.everything or record.scope not in (Scope.AGENT, Scope.TASK):
            return True
        return record.owner in self.owners if record.scope is Scope.AGENT else record.owner == self.task


EVERYTHING = View(everything=True)


def is_person(caller: Caller) -> bool:
    return bool(caller.by) and caller.agent is None and caller.task is None


def check_person(caller: Caller, verb: str) -> None:
    """Raises NotAllowed."""
    if not is_person(caller):
        raise NotAllowed(f"only people may {verb} a memory. Ask with a credential of a person")


def view_of(caller: Caller, grants: Mapping[str, Collection[str]]) -> View:
    """`grants` are the owners that a reader may read, by the reader's name."""
    name = caller.agent or caller.by
    own = {caller.agent} if caller.agent else set[str]()
    return View(frozenset({*own, *grants.get(name, ())} if name else own), caller.task)


def check_read(record: Record, view: View) -> None:
    """Raises NotAllowed."""
    if not view.shows(record):
        raise NotAllowed(f"this record is private to the {record.scope} {record.owner}", record=record.id)


def check_write(record: Record, caller: Caller, *, forget: bool = False) -> None:
    """Raises NotAllowed when the caller may not change, or forget, the record."""
    if is_person(caller) and (forget or record.scope not in (Scope.AGENT, Scope.TASK)):
        return
    if record.pinned:
        raise NotAllowed("this record is pinned: only people change it", record=record.id)
    if not _may_own(record.scope, record.owner, caller):
        raise NotAllowed(f"this record belongs to the {record.scope} {record.owner}", record=record.id)


def check_pin(caller: Caller) -> None:
    if not is_person(caller):
        raise NotAllowed("only people pin. Ask with a credential of a person, not from an agent or a task")


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long what lives when nobody says. Seconds; None is for ever."""

    working_seconds: float = 3600
    max_working_seconds: float = 7 * 86_400
    """Working memory is for the task at hand: it may not be asked to live longer."""
    by_layer: Mapping[Layer, float | None] = field(default_factory=dict[Layer, "float | None"])

    def of(self, draft: Draft) -> float | None:
        """Raises InvalidInput."""
        if draft.layer is not Layer.WORKING:
            return draft.ttl_seconds or self.by_layer.get(draft.layer)
        seconds = draft.ttl_seconds or self.working_seconds
        if seconds > self.max_working_seconds:
            raise InvalidInput(
                f"working memory lives for {self.max_working_seconds:g} s at most. Ask for less, or remember it as "
                "episodic or semantic",
                pointer="/ttl_seconds",
            )
        return seconds


def prepared(draft: Draft, caller: Caller, lifetimes: Lifetimes) -> Draft:
    """The draft with its owner, its provenance and its labels filled in from the caller, and its time to live.

    Raises InvalidInput for what cannot be meant, NotAllowed for what the caller may not say.
    """
    if draft.pinned:
        check_pin(caller)
    check_plain(draft)
    owner = draft.owner or _own(draft.scope, caller)
    _check_owner(draft.scope, owner, caller)
    return draft.model_copy(
        update={
            "owner": owner,
            "subject": draft.subject or (owner if draft.scope is Scope.SUBJECT else None),
            "labels": tuple(sorted({*draft.labels, *caller.labels})),
            "ttl_seconds": lifetimes.of(draft),
            "provenance": _provenance(draft.provenance, caller),
        }
    )


def check_plain(draft: Draft) -> None:
    """Raises InvalidInput unless every text is Unicode and every value can be kept."""
    check(draft.payload, "/payload")
    data = draft.model_dump(mode="json")
    check(data)
    for name in ("owner", "subject", "episode"):
        _check_name(data[name], name)
    for each in data["labels"]:
        _check_name(each, "labels")
    _check_name(data["provenance"]["document"], "provenance", "document")
    if len(pack(data["payload"])) > MAX_PAYLOAD:
        raise InvalidInput(f"a payload has at most {MAX_PAYLOAD} bytes. Keep the rest in the text", pointer="/payload")
    if not draft.text.strip():
        raise InvalidInput("the text is empty", pointer="/text")
    if draft.valid_to_ms is not None and draft.valid_from_ms is not None and draft.valid_to_ms < draft.valid_from_ms:
        raise InvalidInput("it ends to be so before it begins", pointer="/valid_to_ms")


def check_text(text: str) -> None:
    """Raises InvalidInput for what is asked or said in words."""
    check(text, "/text")
    if len(text) > MAX_TEXT:
        raise InvalidInput(f"a text has at most {MAX_TEXT} characters", pointer="/text")


def _check_name(value: Any, *path: str) -> None:
    if value is not None and not 0 < len(value) <= MAX_NAME:
        raise InvalidInput(f"{path[-1]} has 1 to {MAX_NAME} characters", pointer=pointer(*path))


def _own(scope: Scope, caller: Caller) -> str | None:
    """The owner that a caller means when it names none."""
    match scope:
        case Scope.AGENT:
            return caller.agent
        case Scope.TASK:
            return caller.task
        case Scope.DOMAIN:
            return domain_of(caller.capability) if caller.capability else None
        case Scope.FEDERATION | Scope.SUBJECT:
            return None


def _check_owner(scope: Scope, owner: str | None, caller: Caller) -> None:
    if scope is Scope.FEDERATION:
        if owner is not None:
            raise InvalidInput("what belongs to the federation has no owner. Leave it out", pointer="/owner")
        return
    if not owner:
        raise InvalidInput(f"say whose it is: owner names the {scope}", pointer="/owner")
    if not (_may_own(scope, owner, caller) or (scope is Scope.DOMAIN and is_person(caller))):
        raise NotAllowed(f"only the {scope} {owner} itself may say this")


def _may_own(scope: Scope, owner: str | None, caller: Caller) -> bool:
    match scope:
        case Scope.AGENT:
            return owner == caller.agent
        case Scope.TASK:
            return owner == caller.task
        case Scope.DOMAIN:
            return caller.capability is not None and owner == domain_of(caller.capability)
        case Scope.FEDERATION | Scope.SUBJECT:
            return True


def _provenance(said: Provenance, caller: Caller) -> Provenance:
    """What the caller says of model, document and sources; who and where is not for it to say."""
    where = {"task": caller.task, "step": caller.step, "agent": caller.agent, "by": caller.by}
    return said.model_copy(update={**where, "derived_from": tuple(dict.fromkeys(said.derived_from))})
