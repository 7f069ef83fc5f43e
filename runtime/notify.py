"""Telling people that they are wanted: what the journal put into the outbox goes out by webhook and by mail.

A notice is written in the commit of the event that it is about, and taken out when everybody who listens has got it: so
it is told at least once, also when the coordinator dies in between, and each time under the same id, by which whoever
listens can drop the second one. It is sent aside: a mail server that is slow, or gone, holds up nobody's work.

When many come at once they are one message, grouped as `flood` does it, and the next one waits: a flood of requests
becomes no flood of mail.
"""

import asyncio
import hashlib
import hmac
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from ..agents.connector import Connector
from ..contracts import ApprovalView, Clock, HanseError, JsonObject, Store, Tenant, Write
from ..contracts.events import milliseconds
from ..contracts.wire import unpack
from .flood import grouped
from .journal import Journal

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
SINGLY = 3
"""So many at once are messages of their own; more are one."""
QUIET_SECONDS = 30.0
"""After a message about many, until the next one."""
MAX_PAUSE_SECONDS = 60.0
KEPT_SECONDS = 86_400.0
"""What nobody would take for so long is given up, so that the outbox stays bounded."""
_PAGE = 2000


class Channel(Protocol):
    """One way to tell somebody."""

    name: str
    """Stands in the outbox beside what it has got."""
    tenant: Tenant | None
    """Whose notices it gets; everybody's when None."""

    async def send(self, id: str, notices: Sequence[JsonObject]) -> None:
        """Tells of one notice, or of several in one message. May be called again with the same id. Raises HanseError
        when it was not taken, or when that is not known.
        """
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A notice in the outbox."""

    id: str
    tenant: Tenant
    body: JsonObject
    told: frozenset[str]


@dataclass(slots=True)
class _Line:
    """A channel with its patience."""

    channel: Channel
    not_before: float = 0.0
    pause: float = LOOK_SECONDS
    got: set[str] = field(default_factory=set[str])
    """Notices that it has, whether or not that is on disk yet."""

    def wants(self, notice: Waiting) -> bool:
        channel = self.channel
        mine = channel.tenant in (None, notice.tenant)
        return mine and channel.name not in notice.told and notice.id not in self.got


class Notifier:
    """The outbox of one shard."""

    def __init__(self, store: Store, journal: Journal, clock: Clock, channels: Sequence[Channel]) -> None:
        self._store, self._journal, self._clock = store, journal, clock
        self._lines = [_Line(channel) for channel in channels]
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="notifier")

    async def stop(self) -> None:
        """What has not been told is told after the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for line in self._lines:
            await line.channel.close()

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:  # whatever goes wrong with telling must not end it
                _log.exception("the outbox could not be emptied", extra={"action": "notice.failed"})
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Tells what waits, every channel by itself."""
        waiting = [_notice(row) for row in self._store.read("notices", (_PAGE,))]
        await asyncio.gather(*(self._serve(line, waiting) for line in self._lines))
        for notice in waiting:
            self._note(notice)

    async def _serve(self, line: _Line, waiting: Sequence[Waiting]) -> None:
        mine = [notice for notice in waiting if line.wants(notice)]
        if not mine or self._clock.monotonic() < line.not_before:
            return
        try:
            for batch in [[each] for each in mine] if len(mine) <= SINGLY else [mine]:
                await line.channel.send(message_id(batch), [each.body for each in batch])
                line.got |= {each.id for each in batch}
        except HanseError as error:
            self._wait(line, error)
        else:
            line.pause = LOOK_SECONDS
            line.not_before = self._clock.monotonic() + (QUIET_SECONDS if len(mine) > SINGLY else 0)

    def _wait(self, line: _Line, error: HanseError) -> None:
        about = {"action": "notice.refused", "channel": line.channel.name}
        _log.warning("%s takes no notice: %s", line.channel.name, error.detail, extra=about)
        line.pause = min(2 * line.pause, MAX_PAUSE_SECONDS)
        line.not_before = self._clock.monotonic() + line.pause

    def _note(self, notice: Waiting) -> None:
        """Takes it out of the outbox when everybody has got it, or when it is too old to matter."""
        got = notice.told | {line.channel.name for line in self._lines if notice.id in line.got}
        if all(not line.wants(notice) for line in self._lines) or self._is_old(notice):
            self._journal.write(Write("delete_notice", (notice.id,)))
            for line in self._lines:
                line.got.discard(notice.id)
        elif got != notice.told:
            self._journal.write(Write("tell_notice", ("\n".join(sorted(got)), notice.id)))

    def _is_old(self, notice: Waiting) -> bool:
        return self._clock.now_ms() - milliseconds(notice.body["at"]) > KEPT_SECONDS * 1000


class Webhook:
    """POSTs JSON, signed. The receiver checks `X-Hanse-Signature` against HMAC-SHA256 of the body's bytes."""

    def __init__(self, url: str, secret: str | None, tenant: Tenant | None, connector: Connector) -> None:
        """`connector` is an HTTP connector to the URL's host."""
        self.name, self.tenant = f"webhook {url}", tenant
        self._path = urlsplit(url).path or "/"
        self._secret, self._connector = secret, connector

    async def send(self, id: str, notices: Sequence[JsonObject]) -> None:
        body = digest_of(id, notices)
        post: Any = self._connector.operations["post"].handler
        await post(self._connector, id, self._path, body=body, headers=self._signature(body))

    def _signature(self, body: JsonObject) -> dict[str, str]:
        if self._secret is None:
            return {}
        return {"X-Hanse-Signature": f"sha256={signature(self._secret, body)}"}

    async def close(self) -> None:
        await self._connector.close()


class Mail:
    """Writes to people."""

    def __init__(self, to: Sequence[str], tenant: Tenant | None, connector: Connector) -> None:
        """`connector` is an SMTP connector."""
        self.name, self.tenant = f"mail {', '.join(to)}", tenant
        self._to, self._connector = list(to), connector

    async def send(self, id: str, notices: Sequence[JsonObject]) -> None:
        subject, body = letter(notices)
        send: Any = self._connector.operations["send"].handler
        await send(self._connector, id, to=self._to, subject=subject, body=body)

    async def close(self) -> None:
        await self._connector.close()


def message_id(batch: Sequence[Waiting]) -> str:
    """Of one notice its own id, of several one made of theirs: the same ones are the same message."""
    if len(batch) == 1:
        return batch[0].id
    return "notices-" + hashlib.sha256("\n".join(sorted(each.id for each in batch)).encode()).hexdigest()[:32]


def digest_of(id: str, notices: Sequence[JsonObject]) -> JsonObject:
    """What a webhook gets: one notice as it is, several as groups with the ids of what is in them."""
    if len(notices) == 1:
        return {"id": id, **notices[0]}
    groups = [group.model_dump(mode="json") for group in grouped(views_of(notices))]
    what = sorted({notice["what"] for notice in notices})
    return {"id": id, "what": "approvals", "count": len(notices), "kinds": what, "groups": groups}


def signature(secret: str, body: JsonObject) -> str:
    """HMAC-SHA256 (RFC 2104) in hex over the bytes that the HTTP connector sends for `body`."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return hmac.digest(secret.encode(), content, "sha256").hex()


def letter(notices: Sequence[JsonObject]) -> tuple[str, str]:
    """Subject and text of a mail."""
    views = views_of(notices)
    if len(views) == 1:
        (view,), (notice,) = views, notices
        return _line(f"Hanse: {view.capability} {_WHAT[notice['what']]}"), _text_of(view)
    groups = grouped(views)
    parts = [
        f"{group.count} x {group.capability}\n  {group.about}\n{_amounts(group.sum, group.min, group.max)}"
        f"  hanse approvals approve --group {group.id}"
        for group in groups
    ]
    return f"Hanse: {len(views)} questions wait for a person", "\n\n".join(parts)


def views_of(notices: Sequence[JsonObject]) -> list[ApprovalView]:
    return [ApprovalView.model_validate(notice["approval"]) for notice in notices]


_WHAT = {
    "approval.requested": "waits for a person",
    "approval.escalated": "still waits for a person, and for you",
    "approval.expired": "was not decided in time",
}


def _text_of(view: ApprovalView) -> str:
    rows = [f"{_line(fact.label)}: {_line(fact.value)}" for fact in view.material]
    until = [f"until: {view.expires_at}"] if view.expires_at else []
    return "\n".join([*rows, *until, "", f"hanse approvals approve {view.id}", f"hanse approvals deny {view.id}"])


def _amounts(total: float | None, least: float | None, most: float | None) -> str:
    return "" if total is None else f"  together {total:g}, from {least:g} to {most:g}\n"


def _line(text: str) -> str:
    """Printable, and in one line: a value that somebody chose cannot write a header or a line of its own."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def _notice(row: tuple[Any, ...]) -> Waiting:
    id, tenant, body, told = row
    return Waiting(id, Tenant(tenant), unpack(body), frozenset(each for each in told.split("\n") if each))
