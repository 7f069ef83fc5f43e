"""`hanse audit prove`, `bundle` and `check` with no federation: proofs from the files of a data folder, and their check
from nothing but the proof."""

from collections.abc import Sequence
from pathlib import Path

from ...contracts import InvalidConfiguration, InvalidInput, JsonObject, NotFound, TaskId
from ..audit import SignedHead, Signer
from ..audit.anchors import read_anchors
from ..audit.bundle import Notary, make_bundle, read_bundle
from ..audit.head import read_key
from ..audit.proofs import Findings, prove
from ..audit.reasons import check
from ..secret_key import known_key
from ..store.place import place_of
from ..world import SystemClock
from .command import Session
from .journals import anchored


def proof_of(
    session: Session, data: Path, journal: str, sequence: int, since: int, anchors: Sequence[Path] | None
) -> JsonObject:
    """The proof of one entry, under the newest head that an anchor holds of it, else under one that is signed now."""
    held = _held(data, anchors, journal)
    head = held if held and held.sequence >= max(sequence, since) else None
    return prove(data, journal, sequence, _signer(session, data), SystemClock().now_ms(), head=head, since=since)


def bundle_of(session: Session, data: Path, task: str, anchors: Sequence[Path] | None) -> JsonObject:
    """The evidence of a task, as the files hold it."""
    heads = anchored(data, anchors, None).heads
    newest = {head.journal: head for head in sorted(heads, key=lambda head: head.sequence)}
    notary = Notary(_signer(session, data), SystemClock().now_ms(), newest)
    return make_bundle(place_of(data), TaskId(task), notary)


def checked(file: Path, key: str | None, anchors: Sequence[Path] | None) -> Findings:
    """What a check of a proof or a bundle came to. Raises InvalidInput for what is neither."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}") from error
    public = read_key(key) if key else None
    kept = read_anchors(anchors, public) if anchors else None
    found = check(read_bundle(text), public, kept.heads if kept else None)
    return Findings(found.lines, [*(kept.problems if kept else ()), *found.problems])


def _held(data: Path, anchors: Sequence[Path] | None, journal: str) -> SignedHead | None:
    heads = [head for head in anchored(data, anchors, None).heads if head.journal == journal]
    return max(heads, key=lambda head: head.sequence, default=None)


def _signer(session: Session, data: Path) -> Signer:
    if (secret := known_key(data)) is None:
        raise NotFound(f"there is no secret.key in {data}, which signs heads and bundles", data=str(data))
    return Signer(_name(session), secret)


def _name(session: Session) -> str:
    """Of the federation. A folder that is looked at far from its configuration has none."""
    try:
        return session.configuration().federation.name
    except InvalidConfiguration:
        return "local"
