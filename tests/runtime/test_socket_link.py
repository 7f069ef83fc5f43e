"""A link that is closed is closed, also when the other side hangs and reads nothing."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts.messages import Piece
from hanse.runtime import link as links
from hanse.runtime.link import Link, listen


class Seat:
    def __init__(self) -> None:
        self.link: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def accept(self, link: Link) -> "Seat":
        self.link.set_result(link)
        return self

    def received(self, link: Link, message: Any) -> None: ...

    def closed(self, link: Link, reason: str) -> None:
        self.gone.set_result(reason)


async def test_a_side_that_reads_nothing_does_not_keep_a_link_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(links, "LINGER_SECONDS", 0.05)
    seat = Seat()
    server = await listen(tmp_path / "x.sock", seat.accept)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, str(tmp_path / "x.sock"))
        link = await seat.link
        link.send(Piece(1, "x" * 10_000_000))
        link.close("it hangs")
        assert await asyncio.wait_for(seat.gone, 20) == "it hangs"
    server.close()
    await server.wait_closed()
