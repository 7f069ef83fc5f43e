"""Links between nodes: the frames of `link.py` as Ray actor calls, because a socket would need a port of its own.

Hosts and coordinators are actors both, so each end calls the other one (`RayLink`). A client is none, so it can only
ask (`AskLink`). `answer` is the one border where Ray's errors become ours.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayError

from ..contracts import HanseError, Unavailable
from ..contracts.messages import Drop, Piece, Request
from ..contracts.wire import decode, encode
from .link import Link, Receiver

KEEPALIVE_SECONDS = 1.0
SILENCE_SECONDS = 15.0
"""An end that has answered nothing for so long is taken to be gone: frozen, or cut off."""


class RayLink:
    """One end of a link over actor calls.

    Ray promises no order between calls, so each carries its number and early ones wait. A call each second finds out
    whether the other end is still there, from `begin` on, which is when the other end knows of this one.
    """

    def __init__(self, name: str, peer: ActorHandle, receiver: Receiver, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self._peer = peer
        self._receiver = receiver
        self._loop = loop
        self._frames: list[bytes] = []
        self._sent = 0
        self._taken = 0
        self._early: dict[int, Sequence[bytes]] = {}
        self._heard = loop.time()
        self._open = True

    def begin(self) -> None:
        self._heard = self._loop.time()
        self._beat()

    def send(self, message: Any) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append(encode(message))

    def close(self, reason: str = "closed") -> None:
        if self._open:
            self._open = False
            self._receiver.closed(self, reason)

    def deliver(self, number: int, frames: Sequence[bytes]) -> None:
        """Takes the frames of one call, in the order of the numbers."""
        self._early[number] = frames
        while (ready := self._early.pop(self._taken, None)) is not None:
            self._taken += 1
            self._take(ready)

    def _take(self, frames: Sequence[bytes]) -> None:
        try:
            for frame in frames:
                if self._open:
                    self._receiver.received(self, decode(frame))
        except HanseError as error:
            self.close(str(error))

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        if self._open:
            self._post(frames)

    def _beat(self) -> None:
        if not self._open:
            return
        if self._loop.time() - self._heard > SILENCE_SECONDS:
            self.close(f"the other end has answered nothing for {SILENCE_SECONDS:g} s")
        else:
            self._post([])
            self._loop.call_later(KEEPALIVE_SECONDS, self._beat)

    def _post(self, frames: list[bytes]) -> None:
        number, self._sent = self._sent, self._sent + 1
        try:
            future = self._peer.receive.remote(self.name, number, frames).future()
        except RayError as error:
            self.close(_words(error))
            return
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._posted, done))

    def _posted(self, done: "Future[Any]") -> None:
        if error := done.exception():
            self.close(_words(error))
        elif not done.result():
            self.close("the other end does not know this link")
        else:
            self._heard = self._loop.time()


class Switchboard:
    """The links of one actor by name. Frames come in on Ray's threads and are taken on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._links: dict[str, RayLink] = {}

    def link(self, name: str, peer: ActorHandle, receiver: Receiver) -> RayLink:
        """A new end, which is forgotten when it closes. Its peer is told by whoever wanted the link."""
        link = self._links[name] = RayLink(name, peer, _Forgetting(receiver, self._links), self._loop)
        return link

    def forget(self, link: RayLink) -> None:
        """An end that never came to be."""
        self._links.pop(link.name, None)

    def deliver(self, name: str, number: int, frames: Sequence[bytes]) -> bool:
        """Whether there is such a link. May be called from any thread."""
        link = self._links.get(name)
        if link is not None:
            self._loop.call_soon_threadsafe(link.deliver, number, frames)
        return link is not None


class _Forgetting:
    """Passes on what a link brings, and forgets the link when it closes."""

    def __init__(self, receiver: Receiver, links: dict[str, RayLink]) -> None:
        self._receiver = receiver
        self._links = links

    def received(self, link: Link, message: Any) -> None:
        self._receiver.received(link, message)

    def closed(self, link: Link, reason: str) -> None:
        self._links.pop(link.name, None)
        self._receiver.closed(link, reason)


async def answered(receiver: Receiver, frame: bytes) -> bytes:
    """What comes of one question that came as an actor call, on the receiver's event loop."""
    question = _Question()
    receiver.received(question, decode(frame))
    return await question.answer


class _Question:
    """The receiver's end of it."""

    name = "ask"

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def send(self, message: Any) -> None:
        if not isinstance(message, Piece) and not self.answer.done():  # the answer has all that its pieces had
            self.answer.set_result(encode(message))

    def close(self, reason: str = "closed") -> None:
        if not self.answer.done():
            self.answer.set_exception(Unavailable(reason))


class AskLink:
    """A client's end where there is no socket: each question is one actor call."""

    name = "ask"

    def __init__(self, coordinator: ActorHandle, receiver: Receiver) -> None:
        self._coordinator = coordinator
        self._receiver = receiver
        self._asking: set[asyncio.Task[None]] = set()

    def send(self, message: Any) -> None:
        if isinstance(message, Drop):  # the call goes on, and its answer is dropped here
            return
        task = asyncio.get_running_loop().create_task(self._ask(message))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _ask(self, message: Request) -> None:
        try:
            frame = await answer(self._coordinator.ask, encode(message))
        except HanseError as error:
            self._receiver.closed(self, error.detail)
        else:
            self._receiver.received(self, decode(frame))

    def close(self, reason: str = "closed") -> None:
        for task in list(self._asking):
            task.cancel()


async def answer(method: Any, *arguments: Any) -> Any:
    """What an actor's method returns. Raises what it raised, when that is ours, and Unavailable when the actor is gone:
    whether the call ran is then not known.
    """
    try:
        called = asyncio.wrap_future(method.remote(*arguments).future())
        return await asyncio.shield(called)  # Ray wants to say how it ended also when nobody listens any more
    except RayError as error:
        raise _ours(error) from error


def _ours(error: RayError) -> HanseError:
    """What a handler of an actor raised, when it is ours; else that the actor could not answer, and why."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, HanseError):
        return cause
    return Unavailable(f"{type(cause).__name__}: {cause}" if cause else _words(error))


def _words(error: BaseException) -> str:
    """Ray explains at length; its first line says what happened."""
    return (str(error).splitlines() or [type(error).__name__])[0]
