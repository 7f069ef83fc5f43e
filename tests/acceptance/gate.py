"""A gate in the test's process at which a handler in another process waits: so a test knows that the handler runs, in
which process, and lets it go on when it wants. Everybody learns by the connection that the other is gone."""

import asyncio
import os
from typing import Self

PATIENCE_SECONDS = 60


class Visitor:
    """A handler that waits, or has waited."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        self.pid = pid
        self._reader, self._writer = reader, writer

    def let_in(self) -> None:
        self._writer.write(b"come in\n")

    def send_away(self) -> None:
        self._writer.close()

    async def left(self) -> None:
        """Returns when it waits no more: let in, canceled or dead."""
        await self._reader.read()


class Gate:
    """Listens from `async with` to its end."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[Visitor] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._arrive, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    @property
    def port(self) -> int:
        return self._server.sockets[0].getsockname()[1]

    async def visitor(self) -> Visitor:
        """The next one. Raises TimeoutError when nobody comes."""
        return await asyncio.wait_for(self._arrived.get(), PATIENCE_SECONDS)

    async def _arrive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._arrived.put_nowait(Visitor(reader, writer, int(await reader.readline())))


async def pass_gate(port: int) -> None:
    """What the handler does: says who it is and waits. Raises ConnectionError when the gate is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{os.getpid()}\n".encode())
        if not await reader.readline():
            raise ConnectionError("the gate is closed")
    finally:
        writer.close()
