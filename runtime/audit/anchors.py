"""Places outside of the federation that take the heads of its journals: a file, a syslog collector.

What they hold must be out of reach of whoever can write into the data folder, or it shows nothing: a file on another
disk that only appends (`chattr +a`), a collector on another machine. An HTTP service is in `http_anchor`.
"""

import asyncio
import errno
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Protocol

from ...contracts import HanseError, InvalidInput, StorageError, Unavailable
from ..files import sync_folder
from .head import SignedHead

_TAIL = 1 << 20
"""Bytes at the end of a file in which the last head of a journal is looked for."""
_CONNECT_SECONDS = 5.0


class Anchor(Protocol):
    """Keeps heads."""

    name: str
    """For status and logs; without anything secret."""

    async def keep(self, head: SignedHead) -> None:
        """Returns when the head is kept, as far as this kind of place can say. Raises HanseError."""
        ...

    async def last(self, journal: str) -> SignedHead | None:
        """The last head of a journal that it took, where it can be asked. Raises HanseError."""
        ...

    async def close(self) -> None: ...


class FileAnchor:
    """A file to which a line is appended for each head, on disk before it counts.

    It stays open, and each head is one write: a thread that comes back from a system call waits for its turn at Python,
    and opening, looking, writing, syncing and closing are ten of them, which took a twentieth of the processor time of
    all steps. Each time it is looked at whether the name still leads to the file, so it may be moved away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"file {path}"
        self._file: FileIO | None = None
        self._is: os.stat_result | None = None
        """Which file that is."""
        self._writing = threading.Lock()
        self._closed = False

    async def keep(self, head: SignedHead) -> None:
        await asyncio.to_thread(self._append, line_of(head))

    async def last(self, journal: str) -> SignedHead | None:
        return await asyncio.to_thread(self._last, journal)

    async def close(self) -> None:
        """A write that is under way closes the file at its end: a disk that hangs holds up no stop."""
        self._closed = True
        if self._writing.acquire(blocking=False):
            try:
                self._shut()
            finally:
                self._writing.release()

    def _append(self, line: bytes) -> None:
        with self._writing:
            try:
                self._write(line)
            except OSError as error:
                self._shut()
                raise StorageError(f"{self.path}: {error.strerror}", path=str(self.path)) from error
            if self._closed:
                self._shut()

    def _write(self, line: bytes) -> None:
        file, size = self._opened()
        whole = line if _ends_with_a_line(file, size) else b"\n" + line
        if file.write(whole) != len(whole):
            raise OSError(errno.ENOSPC, "only a part of the line was written")
        if not size:
            sync_folder(self.path.parent)

    def _opened(self) -> tuple[FileIO, int]:
        """The file of that name, and how long it is."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            found = None
        if self._file is None or self._is is None or found is None or not os.path.samestat(found, self._is):
            self._shut()
            self._file = FileIO(self.path, "ab+", opener=_open_synced)
            self._is = found = os.fstat(self._file.fileno())
        return self._file, found.st_size

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _last(self, journal: str) -> SignedHead | None:
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.path}: {error.strerror}", path=str(self.path)) from error
        found = (head for line in reversed(lines) if (head := _head_in(line)) and head.journal == journal)
        return next(found, None)


def _open_synced(path: str, flags: int) -> int:
    """What is written is on disk when the write returns."""
    return os.open(path, flags | os.O_DSYNC, 0o666)


def _ends_with_a_line(file: FileIO, size: int) -> bool:
    """Not when somebody, perhaps another process, died in the middle of one."""
    return not size or os.pread(file.fileno(), 1, size - 1) == b"\n"


class SyslogAnchor:
    """A syslog collector (RFC 5424), over UDP (RFC 5426) or over TCP with counted octets (RFC 6587 section 3.4.1).

    The facility is 13, log audit, the severity notice. No collector answers, so a head counts as kept when it was sent:
    over UDP it may be lost on the way.
    """

    def __init__(self, host: str, port: int, *, tcp: bool) -> None:
        self._address = (host, port)
        self._tcp = tcp
        self.name = f"syslog {host}:{port}/{'tcp' if tcp else 'udp'}"

    async def keep(self, head: SignedHead) -> None:
        frame = _syslog_frame(head)
        try:
            await asyncio.to_thread(self._send, b"%d %s" % (len(frame), frame) if self._tcp else frame)
        except OSError as error:
            raise Unavailable(f"{self.name}: {error.strerror or error}") from error

    async def last(self, journal: str) -> SignedHead | None:
        return None

    async def close(self) -> None:
        """A connection lives for one head."""

    def _send(self, data: bytes) -> None:
        if self._tcp:
            with socket.create_connection(self._address, _CONNECT_SECONDS) as stream:
                stream.sendall(data)
            return
        family, kind, protocol, _, address = socket.getaddrinfo(*self._address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as datagrams:
            datagrams.sendto(data, address)


def line_of(head: SignedHead) -> bytes:
    """One line of JSON."""
    return json.dumps(head.to_data(), separators=(",", ":")).encode() + b"\n"


def _syslog_frame(head: SignedHead) -> bytes:
    at = head.to_data()["at"]
    header = f"<109>1 {at} {socket.gethostname() or '-'} hanse {os.getpid()} audit-head - "
    return header.encode() + line_of(head).rstrip()


@dataclass(frozen=True, slots=True)
class Kept:
    """What files with heads hold."""

    heads: list[SignedHead] = field(default_factory=list[SignedHead])
    problems: list[str] = field(default_factory=list[str])


def read_anchors(files: Iterable[Path], key: bytes | None = None, own: bytes | None = None) -> Kept:
    """The heads in files of an anchor, or in the logs of a collector: whatever stands before the JSON is passed over.

    With `key`, only heads that say they are signed by it count, and each must be; a file may hold those of other
    federations beside them. Without it each must be signed by the key that it names, which is `own` where that is
    known. A line that breaks off in its middle was never acknowledged, and is passed over. Raises InvalidInput for a
    file that cannot be read.
    """
    kept = Kept()
    for file in files:
        for number, line in enumerate(_lines(file), 1):
            _take(kept, f"{file}:{number}", line, key, own)
        if key is not None and not kept.heads:
            kept.problems.append(f"{file} holds no head that is signed by {key.hex()}")
    return kept


def _take(kept: Kept, place: str, line: str, key: bytes | None, own: bytes | None) -> None:
    if "{" not in line or not line.rstrip().endswith("}"):
        return
    head = _head_in(line)
    if head is None:
        kept.problems.append(f"{place} is no head")
    elif key is not None and head.key != key:
        return
    elif not head.is_signed_by(head.key):
        kept.problems.append(f"{place}: the signature is not that of the head")
    elif key is None and own is not None and head.key != own:
        kept.problems.append(
            f"{place}: the head is signed by {head.key.hex()}, and the key of this data folder is {own.hex()}. If it "
            "was begun anew on purpose, move the file away; else give the right key with --key"
        )
    else:
        kept.heads.append(head)


def _head_in(line: str) -> SignedHead | None:
    try:
        return SignedHead.from_data(json.loads(line[line.index("{") :]))
    except (HanseError, ValueError, TypeError):
        return None


def _lines(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            yield from text
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}", file=str(file)) from error
