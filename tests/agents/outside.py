"""Systems outside of the federation, on loopback: an HTTP service and a mail server, both real, both able to misbehave.

Both count what they did per key, so a test can look from outside whether an effect happened once.
"""

import asyncio
import email
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.policy import default as mail_policy
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass
class Service:
    """An HTTP service whose effects are deposits. `faults` are used up, one per request that is not a question."""

    keeps_keys: bool = False
    """Whether it does nothing twice for one key, as it should."""
    answers_questions: bool = True
    faults: deque[str] = field(default_factory=deque)
    done: Counter[str] = field(default_factory=Counter)
    """Effects per key."""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    heard: Callable[[str], object] = lambda key: None
    """Called with the key when a request arrives, before anything is done."""
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await self._read(reader):
                if not await self._answer(*request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str], bytes] | None:
        line = await reader.readline()
        if not line:
            return None
        method, path, _ = line.decode().split(" ")
        headers = {}
        while (line := (await reader.readline()).decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append((method, path, headers, body))
        return self.requests[-1]

    async def _answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        if path.startswith("/api/by-key?key="):
            if not self.answers_questions:
                return await self._say(writer, 500, {})
            key = unquote(path.removeprefix("/api/by-key?key="))
            return await self._say(writer, 200 if self.done[key] else 404, {"done": self.done[key]})
        fault = self.faults.popleft() if self.faults else ""
        if fault == "reset before":
            return self._reset(writer)
        if fault.endswith("not now"):
            return await self._say(writer, int(fault[:3]), {}, "Retry-After: 7")
        if fault == "refuse":
            return await self._say(writer, 422, {"reason": "no such account"})
        key = headers.get("idempotency-key", "")
        self.heard(key)
        if method != "GET" and not (self.keeps_keys and self.done[key]):
            self.done[key] += 1
        return await self._after(fault, writer, {"done": self.done[key], "body": body.decode()})

    async def _after(self, fault: str, writer: asyncio.StreamWriter, answer: Any) -> bool:
        """The effect has happened; what the client learns of it is another matter."""
        match fault:
            case "reset after":
                return self._reset(writer)
            case "hang after":
                await asyncio.sleep(3600)
            case "half after":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly a part")
                await writer.drain()
                return False
            case "drip after":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    writer.write(b".")
                    await writer.drain()
                    await asyncio.sleep(0.01)
            case "500 after":
                return await self._say(writer, 500, {"oh": "no"})
            case "redirect":
                return await self._say(writer, 302, {}, "Location: http://127.0.0.1:1/elsewhere")
            case "huge":
                return await self._say(writer, 200, "x" * 100_000)
            case "gzip":
                return await self._say(writer, 200, {}, "Content-Encoding: gzip")
            case "bad json":
                return await self._say(writer, 200, "\ud800 and NaN", raw=b'{"a": NaN}')
        return await self._say(writer, 200, answer)

    async def _say(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        body: Any,
        header: str = "X-Nothing: 1",
        raw: bytes | None = None,
    ) -> bool:
        data = raw or json.dumps(body).encode()
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n{header}\r\n\r\n"
        )
        writer.write(head.encode() + data)
        await writer.drain()
        return True

    def _reset(self, writer: asyncio.StreamWriter) -> bool:
        writer.transport.abort()
        return False


@asynccontextmanager
async def http_service(**options: Any) -> AsyncIterator[Service]:
    service = Service(**options)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(service.serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    service.url = f"http://127.0.0.1:{port}/api"
    yield service
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Post(Mailbox):
    """A mail server that delivers into a maildir. `faults` are used up, one per message."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.faults: deque[str] = deque()
        self.port = 0
        self.connections = 0

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if address.startswith("nobody@"):
            return "550 no such person"
        if address.startswith("later@"):
            return "450 come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # pyright: ignore
        match self.faults.popleft() if self.faults else "":
            case "refuse":
                return "554 we do not like it"
            case "later":
                return "451 come again"
            case "reset before":
                _transport(server).abort()
            case "reset after":
                self._deliver(server, session, envelope)
                _transport(server).abort()
            case "hang after":
                self._deliver(server, session, envelope)
                await asyncio.sleep(3600)
            case _:
                self._deliver(server, session, envelope)
        return "250 OK"

    def _deliver(self, server: SMTP, session: Session, envelope: Envelope) -> None:
        envelope.content = envelope.content or b""
        self.handle_message(self.prepare_message(session, envelope))

    def messages(self) -> list[Any]:
        paths = sorted((self.folder / "new").glob("*"))
        return [email.message_from_bytes(path.read_bytes(), policy=mail_policy) for path in paths]

    def delivered(self) -> Counter[str]:
        """Messages per Message-ID."""
        return Counter(str(message["Message-ID"]) for message in self.messages())


def _transport(server: SMTP) -> asyncio.Transport:
    assert server.transport is not None
    return server.transport  # pyright: ignore[reportReturnType]


@asynccontextmanager
async def mail_server(folder: Path) -> AsyncIterator[Post]:
    post = Post(folder)

    def connected() -> SMTP:
        post.connections += 1
        return SMTP(post, hostname="mail.test", loop=asyncio.get_running_loop())

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    post.port = server.sockets[0].getsockname()[1]
    yield post
    server.close()
