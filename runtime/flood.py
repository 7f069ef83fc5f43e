"""Many questions as few prompts: what the same rule asks about the same capability is shown as one, with its sums.

A thousand requests made to tire a person out become one prompt per rule and capability, which are as few as their
configuration. Grouping decides nothing: a group is decided by naming every question that was seen in it, each with its
own digest, so one that came later is not decided unseen.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ..contracts import ApprovalView, GroupView, HanseError

NAMED = 10
AT_ONCE = 32
"""Decisions under way together."""


class Decider(Protocol):
    """A client, as far as deciding goes."""

    async def decide(self, approval: str, *, approve: bool, digest: str, note: str = "") -> ApprovalView: ...


def grouped(views: Iterable[ApprovalView]) -> list[GroupView]:
    """The groups, largest first."""
    found: dict[tuple[str, str], list[ApprovalView]] = {}
    for view in views:
        found.setdefault((view.capability, view.about or view.rule), []).append(view)
    return sorted((_group(*key, each) for key, each in found.items()), key=lambda group: (-group.count, group.id))


async def decide_all(
    client: Decider, seen: Mapping[str, str], *, approve: bool, note: str = ""
) -> tuple[list[ApprovalView], dict[str, HanseError]]:
    """Decides every question that was seen, by itself. Those that could not be, with the reason: the others are."""
    places, refused = asyncio.Semaphore(AT_ONCE), dict[str, HanseError]()

    async def one(id: str, digest: str) -> ApprovalView | None:
        async with places:
            try:
                return await client.decide(id, approve=approve, digest=digest, note=note)
            except HanseError as error:
                refused[id] = error
                return None

    views = await asyncio.gather(*(one(*each) for each in seen.items()))
    return [view for view in views if view is not None], refused


def group_id(capability: str, about: str) -> str:
    """The same for as long as the rule is."""
    return hashlib.sha256(f"{capability}\0{about}".encode()).hexdigest()[:12]


def _group(capability: str, about: str, views: Sequence[ApprovalView]) -> GroupView:
    amounts = [view.amount for view in views if view.amount is not None]
    oldest = min(views, key=lambda view: (view.requested_at, view.id))
    return GroupView(
        id=group_id(capability, about),
        capability=capability,
        about=about,
        count=len(views),
        sum=round(sum(amounts), 6) if amounts else None,
        min=min(amounts, default=None),
        max=max(amounts, default=None),
        requested_by=sorted({view.requested_by for view in views})[:NAMED],
        oldest=oldest.requested_at,
        expires_at=min((view.expires_at for view in views if view.expires_at), default=None),
        example=max(views, key=lambda view: view.amount or 0) if amounts else oldest,
        seen={view.id: view.digest for view in views},
    )
