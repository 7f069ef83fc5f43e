"""Links: how messages get from one process to another, and how one learns that the other is gone.

A link carries messages both ways, in order, until it closes; what was sent shortly before may be lost with it. So a
message that matters is sent again by whoever waits for the answer, and receivers recognise it by its key.

Three links keep this promise: `pipe` inside one process (it still speaks bytes, so every unit test exercises the
wire), a Unix-domain socket between processes of one node (a tenth of a millisecond there and back, where a Ray call
takes nine), and Ray actor calls between nodes (`ray_link.py`), where a socket would need a port of its own.
"""

import asyncio
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from ..contracts import HanseError, Unavailable
from ..contracts.wire import MAX_FRAME, decode, encode

_log = logging.getLogger(__name__)
LINGER_SECONDS = 1.0
"""How long what was sent may take to be read by the other side once this one has closed."""
_LENGTH = struct.Struct(">I")


class Receiver(Protocol):
    """Whoever sits at an end of a link."""

    def received(self, link: "Link", message: Any) -> None: ...

    def closed(self, link: "Link", reason: str) -> None:
        """Called once. Nothing is received afterwards."""
        ...


class Link(Protocol):
    """One end."""

    name: str

    def send(self, message: Any) -> None:
        """Hands the message over and returns. A message sent on a closed link is lost, as in flight it would be."""
        ...

    def close(self, reason: str = "closed") -> None: ...


class PipeLink:
    """One end of a pipe within a process."""

    def __init__(self, name: str, receiver: Receiver) -> None:
        self.name = name
        self._receiver = receiver
        self._other: PipeLink | None = None
        self._loop = asyncio.get_running_loop()

    def send(self, message: Any) -> None:
        if self._other is not None:
            self._loop.call_soon(self._other._deliver, encode(message))

    def close(self, reason: str = "closed") -> None:
        if other := self._other:
            self._other = other._other = None
            self._loop.call_soon(self._receiver.closed, self, reason)
            self._loop.call_soon(other._receiver.closed, other, reason)

    def _deliver(self, frame: bytes) -> None:
        if self._other is not None:
            self._receiver.received(self, decode(frame))


def pipe(near: Receiver, far: Receiver, name: str = "pipe") -> tuple[PipeLink, PipeLink]:
    """Two ends that hear one another."""
    here, there = PipeLink(name, near), PipeLink(name, far)
    here._other, there._other = there, here
    return here, there


class SocketLink(asyncio.Protocol):
    """One end of a stream socket: frames with four bytes of length before them, big-endian."""

    def __init__(self, receiver: Callable[["SocketLink"], Receiver], name: str) -> None:
        self.name = name
        self._make_receiver = receiver
        self._receiver: Receiver | None = None
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._reason = "the other side is gone"
        self._loop = asyncio.get_running_loop()

    def send(self, message: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            frame = encode(message)
            self._transport.write(_LENGTH.pack(len(frame)) + frame)

    def close(self, reason: str = "closed") -> None:
        self._reason = reason
        if (transport := self._transport) is not None:
            transport.close()
            if transport.get_write_buffer_size():  # a side that hangs would never read it
                self._loop.call_later(LINGER_SECONDS, transport.abort)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._receiver = self._make_receiver(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (message := self._next()) is not None:
            if self._receiver is not None:
                self._receiver.received(self, message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._receiver is not None:
            self._receiver.closed(self, str(exc) if exc else self._reason)

    def _next(self) -> Any:
        """The next message, or None while its frame is not complete. Nothing follows what is no frame."""
        try:
            return self._take_frame()
        except HanseError as error:
            _log.warning("closing %s: %s", self.name, error, extra={"action": "link.refused"})
            self._buffer.clear()
            self.close(str(error))
            return None

    def _take_frame(self) -> Any:
        """Raises Unavailable or Corrupt."""
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        (length,) = _LENGTH.unpack_from(buffer)
        if length > MAX_FRAME:
            raise Unavailable(f"a frame of {length} bytes is over the limit of {MAX_FRAME}")
        if len(buffer) < 4 + length:
            return None
        frame = bytes(buffer[4 : 4 + length])
        del buffer[: 4 + length]
        return decode(frame)


def socket_path(data: Path, name: str) -> Path:
    """Where the actor of that name listens. A socket's path has at most 107 bytes, which a deep folder exceeds."""
    return data / "run" / f"{name}.sock"


async def listen(path: Path, receiver: Callable[[Link], Receiver]) -> asyncio.Server:
    """Takes links on a Unix-domain socket that only this user may open."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    with _short(path) as short:
        server = await loop.create_unix_server(lambda: SocketLink(receiver, path.name), short)
    path.chmod(0o600)
    return server


async def dial(path: Path, receiver: Receiver) -> Link:
    """A link to whoever listens there. Raises Unavailable when nobody does."""
    loop = asyncio.get_running_loop()
    try:
        with _short(path) as short:
            _, link = await loop.create_unix_connection(lambda: SocketLink(lambda _: receiver, path.name), short)
    except OSError as error:
        raise Unavailable(f"nobody listens at {path.name}: {error.strerror or error}") from error
    return link


class _short:
    """A path of at most 107 bytes to the same socket: through a descriptor of its folder where it is longer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: int | None = None

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= 107:
            return str(self._path)
        self._folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._folder}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            os.close(self._folder)
