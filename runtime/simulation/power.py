"""Power cuts and bad disks, for SQLite: a VFS between it and the files that knows what is on the platter.

SQLite writes into real files, so that it sees what any process would see. Beside them the disk keeps what a power cut
would leave: what was synced, and apart from it what was written since. `after_power_cut` makes a new folder with what
was synced, and of the rest nothing, all, or whatever a seed says: any of the writes, in any order, the last one torn.

The machine stops at a chosen operation (`cut_at`), in the middle of whatever SQLite is doing: this and every later
operation of its VFS fails. A bad disk (`fail`) refuses the chosen operation with ENOSPC or EIO, once or for ever. A
sync that fails loses what it should have written, as Linux does: the next one succeeds, and the bytes are not there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Literal

import apsw

Operation = Literal["write", "sync"]
_names = count(1)


@dataclass
class _File:
    """One file as the platter has it."""

    synced: bytearray = field(default_factory=bytearray)
    exists: bool = False
    """Its entry in the folder is synced. SQLite syncs the folder with the first sync of a new file."""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    """Writes since the last sync: offset and bytes; None for bytes is a truncation to the offset."""

    def sync(self) -> None:
        for write in self.pending:
            apply(self.synced, write)
        self.pending.clear()
        self.exists = True

    def lose(self) -> None:
        self.pending.clear()


class Disk:
    """A disk that can fail, as a VFS named `name`. One machine's life; after a power cut comes a new one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"disk {next(_names)}"
        self.operations = 0
        """Writes and syncs so far."""
        self.is_off = self.is_buried = False
        self.cut_at: int | None = None
        """The operation at which the power goes."""
        self.before: Callable[[Operation], None] = lambda operation: None
        """Called before each write and sync, on the thread that does it: a place to wait."""
        self.lies = False
        """A sync is said to be done and is not: what a program that forgets to sync would have."""
        self._files: dict[str, _File] = {}
        self._fail: Callable[[Operation, str], apsw.Error | None] = lambda operation, path: None
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            self._files[str(path)] = _File(bytearray(path.read_bytes()), exists=True)
        self._vfs = _Vfs(self)

    def path(self, name: str = "store.sqlite") -> Path:
        return self.folder / name

    def cut(self) -> None:
        """The power goes now."""
        self.is_off = True

    @contextmanager
    def power(self) -> Iterator["Disk"]:
        """Until the end of the block, when the power goes if it has not gone before."""
        try:
            yield self
        finally:
            self.cut()

    def fail(
        self, operation: Operation, nth: int, error: type[apsw.Error], *, times: int = 1, suffix: str = ""
    ) -> None:
        """The nth such operation from now, counted from 1, on a file with this suffix fails, and `times - 1` more."""
        seen = 0

        def decide(kind: Operation, path: str) -> apsw.Error | None:
            nonlocal seen
            seen += kind == operation and path.endswith(suffix)
            is_hit = kind == operation and path.endswith(suffix) and nth <= seen < nth + times
            return error(f"the disk fails {operation} {seen}") if is_hit else None

        self._fail = decide

    def heal(self) -> None:
        self._fail = lambda operation, path: None

    def after_power_cut(self, seed: int | None = None) -> "Disk":
        """The disk as the next start finds it. Without a seed all that was not synced is lost.

        What is left of the process that used this one may tidy up in peace: nobody will look.
        """
        self.is_buried = True
        chance = Random(seed) if seed is not None else None
        after = self.folder.with_name(f"{self.folder.name.partition('~')[0]}~{next(_names)}")
        after.mkdir()
        for path, file in self._files.items():
            if file.exists or (chance and chance.random() < 0.5):
                (after / Path(path).name).write_bytes(left_over(file, chance))
        return Disk(after)

    # What the VFS tells

    def file(self, path: str) -> _File:
        return self._files.setdefault(path, _File())

    def operate(self, operation: Operation, path: str) -> None:
        """Counts, and raises when this operation does not come about."""
        if self.is_buried:
            return
        self.before(operation)
        self.check_power()
        self.operations += 1
        if self.operations == self.cut_at:
            self.cut()
        self.check_power()
        if (error := self._fail(operation, path)) is not None:
            if operation == "sync":
                self.file(path).lose()
            raise error

    def check_power(self) -> None:
        if self.is_off and not self.is_buried:
            raise apsw.IOError("the power is off")

    def delete(self, path: str) -> None:
        self.check_power()
        self._files.pop(path, None)


def left_over(file: _File, chance: Random | None) -> bytes:
    """What is on the platter: what was synced and, as chance has it, some of what was not."""
    content = bytearray(file.synced)
    for write in _that_made_it(file.pending, chance):
        apply(content, write)
    return bytes(content)


def _that_made_it(pending: list[tuple[int, bytes | None]], chance: Random | None) -> list[tuple[int, bytes | None]]:
    match chance and chance.choice(["none", "all", "some", "torn"]):
        case "all":
            return list(pending)
        case "some" if chance:
            return chance.sample(pending, chance.randint(0, len(pending)))
        case "torn" if chance and pending:
            *whole, (offset, last) = pending[: chance.randint(1, len(pending))]
            return [*whole, (offset, last and last[: chance.randint(0, len(last))])]
    return []


def apply(content: bytearray, write: tuple[int, bytes | None]) -> None:
    offset, data = write
    if data is None:
        del content[offset:]
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class _Vfs(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> "_VfsFile":
        self._disk.check_power()
        return _VfsFile(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._disk.delete(filename)
        super().xDelete(filename, syncdir)


class _VfsFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._only_reads = bool(flags[0] & apsw.SQLITE_OPEN_READONLY)
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.operate("write", self._path)
        super().xWrite(data, offset)
        self._disk.file(self._path).pending.append((offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self._disk.operate("write", self._path)
        super().xTruncate(newsize)
        self._disk.file(self._path).pending.append((newsize, None))

    def xSync(self, flags: int) -> None:
        """The real file is not synced: that is the platter's business, and slow."""
        self._disk.operate("sync", self._path)
        if not self._disk.lies:
            self._disk.file(self._path).sync()

    def xLock(self, level: int) -> None:
        """The last connection to close wants this lock to tidy up, and one that only reads cannot have it."""
        if self._only_reads and level > apsw.SQLITE_LOCK_SHARED:
            raise apsw.BusyError("this connection only reads")
        super().xLock(level)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.check_power()
        return super().xRead(amount, offset)
