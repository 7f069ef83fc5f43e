"""The points of the memory's work at which a test may kill its process.

There are two for each write: when only memory knows of it, and when it is on disk and nobody has been told. Scrubbing,
compaction, snapshots and rebuilding have their own.
"""

from typing import Final

_WRITES = ("remember", "revise", "forget", "expire")


def before(write: str) -> str:
    """Appended, in memory only."""
    return f"memory.before.{write}"


def after(write: str) -> str:
    """On disk; nobody has been told."""
    return f"memory.after.{write}"


SCRUBBED: Final = "memory.scrubbed"
"""What was forgotten is out of the file; snapshots may still have it."""
COMPACTING: Final = "memory.compacting"
"""The file is about to be written anew."""
SNAPSHOT_FILE: Final = "memory.snapshot_file"
"""A snapshot's file is there under its name; no manifest names it."""
SNAPSHOT_MANIFEST: Final = "memory.snapshot_manifest"
"""The new manifest is written and not yet in its place."""
SNAPSHOT_DONE: Final = "memory.snapshot_done"
"""The new manifest is in its place; files of the one before are still there."""
REBUILDING: Final = "memory.rebuilding"
"""A tenant's projections are being made from the log."""
RESTORING: Final = "memory.restoring"
"""A snapshot is being brought back: what stands beside its records is on disk, and some of them, or none yet."""
RESTORED: Final = "memory.restored"
"""All its records are on disk, and nothing says yet that it is done."""

POINTS: Final = (
    *(side(write) for write in _WRITES for side in (before, after)),
    SCRUBBED,
    COMPACTING,
    SNAPSHOT_FILE,
    SNAPSHOT_MANIFEST,
    SNAPSHOT_DONE,
    REBUILDING,
    RESTORING,
    RESTORED,
)
