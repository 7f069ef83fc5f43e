"""A mail server that keeps letters in a maildir: what the mail connector talks to while trying things out.

It speaks as much of SMTP (RFC 5321) as a client needs to hand over a letter, on loopback, and acknowledges a letter
only when it is on disk. Each letter that comes is a file of its own, also one that came before: so the folder shows
whether something was sent twice.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from ..contracts import InvalidConfiguration, Unavailable
from .config import LOOPBACK, Configuration, SmtpConnector
from .files import sync_folder

MAX_LINE = 64 * 1024
MAX_LETTER = 16 * 1024 * 1024
"""Bytes."""


class Mailbox:
    """Listens from `async with` to its end."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self._host, self._port = host, port
        self._count = 0
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()

    @classmethod
    def of(cls, configuration: Configuration, folder: Path) -> Self:
        """In the place of the server that the configuration's mail connector names. Raises InvalidConfiguration."""
        mail = next((each for each in configuration.connectors.values() if isinstance(each, SmtpConnector)), None)
        if mail is None:
            raise InvalidConfiguration("there is no mail to keep: no connector has kind: smtp")
        if mail.host not in LOOPBACK:
            raise InvalidConfiguration(f"mail goes to {mail.host}, which is not this machine. Write host: 127.0.0.1")
        return cls(folder, mail.host, mail.port)

    def asked_by(self, configuration: Configuration) -> Configuration:
        """The configuration whose mail connector looks here for a letter that is in doubt."""
        looking = {"lookup_maildir": self.folder.absolute()}
        connectors = {
            name: each.model_copy(update=looking) if isinstance(each, SmtpConnector) else each
            for name, each in configuration.connectors.items()
        }
        return configuration.model_copy(update={"connectors": connectors})

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        for box in ("tmp", "new", "cur"):
            (self.folder / box).mkdir(parents=True, exist_ok=True)
        self._count = len(list(letters(self.folder)))
        try:
            self._server = await asyncio.start_server(self._accept, self._host, self._port, limit=MAX_LINE)
        except OSError as error:
            raise Unavailable(f"port {self._port} is taken, so mail cannot be kept: {error.strerror}") from error
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self._talks.add(talk)
        try:
            await _Talk(reader, writer, self._keep).run()
        except (ConnectionError, asyncio.IncompleteReadError, ValueError, asyncio.CancelledError):
            pass  # a letter that was not acknowledged was not taken
        finally:
            self._talks.discard(talk)
            writer.close()

    def _keep(self, letter: bytes) -> None:
        """On disk when this returns, under the next number, whole from the moment it can be seen."""
        self._count += 1
        name = f"{self._count:06d}.eml"
        with (self.folder / "tmp" / name).open("wb") as file:
            file.write(letter)
            file.flush()
            os.fsync(file.fileno())
        (self.folder / "tmp" / name).rename(self.folder / "new" / name)
        sync_folder(self.folder / "new")


def letters(folder: Path) -> Iterator[Path]:
    """The letters that came, in order."""
    yield from sorted((folder / "new").glob("*.eml"))


def deliveries(folder: Path) -> Counter[str]:
    """How often each letter came, by its Message-ID; a letter without one counts by its file."""
    return Counter(_read(path)["Message-ID"] or path.name for path in letters(folder))


def _read(path: Path) -> EmailMessage:
    return message_from_bytes(path.read_bytes(), policy=policy.default)  # pyright: ignore[reportReturnType, reportCallIssue, reportArgumentType]


class _Talk:
    """One connection of one client."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: Callable[[bytes], None]
    ) -> None:
        self._reader, self._writer, self._keep = reader, writer, keep
        self._recipients: list[bytes] = []

    async def run(self) -> None:
        await self._say("220 hanse mailbox")
        while line := await self._reader.readline():
            verb = line.strip().partition(b" ")[0].upper()
            if verb == b"QUIT":
                return await self._say("221 goodbye")
            await self._say(await self._answer(verb, line.strip()))

    async def _answer(self, verb: bytes, line: bytes) -> str:
        match verb:
            case b"EHLO" | b"HELO":
                return f"250-hanse\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE {MAX_LETTER}"
            case b"MAIL" | b"RSET":
                self._recipients.clear()
                return "250 ok"
            case b"RCPT":
                self._recipients.append(line)
                return "250 ok"
            case b"DATA" if self._recipients:
                return await self._letter()
            case b"DATA":
                return "503 say RCPT first"
            case b"NOOP":
                return "250 ok"
        return "502 this server only takes letters"

    async def _letter(self) -> str:
        await self._say("354 end with a dot")
        lines = list[bytes]()
        size = 0
        while (line := await self._reader.readline()) not in (b".\r\n", b".\n"):
            if not line.endswith(b"\n"):
                raise ConnectionError("the letter broke off")
            size += len(line)
            lines.append(line[1:] if line.startswith(b".") else line)
        self._recipients.clear()
        if size > MAX_LETTER:
            return "552 the letter is too long"
        await asyncio.to_thread(self._keep, b"".join(lines))
        return "250 taken"

    async def _say(self, text: str) -> None:
        self._writer.write(text.encode() + b"\r\n")
        await self._writer.drain()
