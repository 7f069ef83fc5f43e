"""Mail over SMTP (RFC 5321). Every message has a Message-ID made of its effect's key, so it can be found again.

The protocol has one moment of doubt, and RFC 5321 section 6.1 names it: after the last line of the message, until
the server says 250. A connection that breaks before that moment has delivered nothing; one that breaks in it may have
delivered all. Then the mailbox is asked for the Message-ID: a maildir (`lookup_maildir`) or whatever serves
`lookup_url`.
"""

import asyncio
import datetime
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import aiosmtplib
import httpx
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from ...contracts import InvalidInput, JsonObject, OutcomeUnknown, Permanent, TimedOut, Unavailable
from ..connector import Absent, Answer, Connector, ConnectorOptions, Done, operation


class MailRefused(Permanent):
    """The mail server refused the message for good. `reply` is its code."""

    code = "mail.refused"


class Sent(BaseModel):
    """A message that the server took."""

    model_config = ConfigDict(frozen=True)

    message_id: str
    to: list[str]
    """The addresses it went to."""


class SmtpOptions(ConnectorOptions):
    host: str
    port: int = Field(default=25, ge=1, le=65535)
    sender: str = Field(min_length=3)
    """Address that mail comes from."""
    username: str | None = None
    password: SecretStr | None = None
    encryption: Literal["none", "starttls", "tls"] = "none"
    max_connections: int = Field(default=4, gt=0)
    lookup_maildir: Path | None = None
    """Where the server delivers, when it is on this machine."""
    lookup_url: str | None = None
    """Answers 200 when the message is there and 404 when not. Example: `http://127.0.0.1:8025/messages/{message_id}`"""

    @field_validator("sender")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if len(_addresses("From", value)) != 1:
            raise ValueError("write one address, such as store@example.com")
        return value

    @field_validator("lookup_url")
    @classmethod
    def _has_id(cls, value: str | None) -> str | None:
        if value is not None and not ("{message_id}" in value and value.startswith(("http://", "https://"))):
            raise ValueError(
                "write {message_id} where the id goes, such as http://127.0.0.1:8025/messages/{message_id}"
            )
        return value


class SmtpConnector(Connector):
    """One mail server. `timeout_seconds` is for each of the two halves of a delivery: the envelope, and the message."""

    Options = SmtpOptions
    options: SmtpOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._domain = self.options.sender.rpartition("@")[2].rstrip(">")
        self._idle: list[aiosmtplib.SMTP] = []
        self._free = asyncio.Semaphore(self.options.max_connections)

    @operation()
    async def send(
        self, key: str, *, to: str | list[str], subject: str, body: str, reply_to: str | None = None
    ) -> Sent:
        """Sends one text message to all recipients, or to none: one who is refused stops it before it is sent."""
        recipients = _recipients(to)
        message = self._message(key, recipients, subject, body, reply_to)
        async with self._free, self._enveloped(recipients) as server:
            await self._deliver(server, message)
        return Sent(message_id=message_id(key, self._domain), to=recipients)

    @property
    def timeout_seconds(self) -> float:
        return 2 * self.options.timeout_seconds + 1

    @property
    def askable(self) -> bool:
        return bool(self.options.lookup_maildir or self.options.lookup_url)

    async def reconcile(self, operation: str, key: str, request: JsonObject) -> Answer:
        wanted = message_id(key, self._domain)
        if not await self._is_there(wanted):
            return Absent()
        return Done(Sent(message_id=wanted, to=_recipients(request["to"])).model_dump())

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for server in idle:
            server.close()

    # Sending

    def _message(self, key: str, to: list[str], subject: str, body: str, reply_to: str | None) -> bytes:
        headers = {"From": self.options.sender, "To": ", ".join(to), "Subject": subject, "Reply-To": reply_to}
        message = EmailMessage(policy=SMTP)
        try:
            for name, value in headers.items():
                if value is not None:
                    message[name] = value
            message.set_content(body)
            message["Message-ID"] = message_id(key, self._domain)
            message["Date"] = format_datetime(datetime.datetime.now(datetime.UTC))
            return message.as_bytes()
        except (ValueError, MessageError, UnicodeError) as error:
            raise InvalidInput(f"no message can be made of this: {error}") from None

    async def _deliver(self, server: aiosmtplib.SMTP, message: bytes) -> None:
        """The message itself: only an answer of the server says what came of it."""
        try:
            await server.data(message, timeout=self.options.timeout_seconds)
        except aiosmtplib.SMTPResponseException as error:
            raise _refused(error) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise OutcomeUnknown(f"the message was sent and not answered: {type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def _enveloped(self, recipients: list[str]) -> AsyncIterator[aiosmtplib.SMTP]:
        """A connection on which sender and recipients are accepted."""
        with _translated():
            async with asyncio.timeout(self.options.timeout_seconds):
                server = await self._old(recipients) or await self._new(recipients)
        try:
            yield server
        except BaseException:
            server.close()
            raise
        self._idle.append(server)

    async def _old(self, recipients: list[str]) -> aiosmtplib.SMTP | None:
        """A connection that was used before, if the server still wants it. Nothing has been sent when it does not."""
        while self._idle:
            server = self._idle.pop()
            try:
                await self._envelope(server, recipients)
                return server
            except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPSenderRefused, OSError):
                server.close()
        return None

    async def _new(self, recipients: list[str]) -> aiosmtplib.SMTP:
        options = self.options
        server = aiosmtplib.SMTP(
            hostname=options.host,
            port=options.port,
            username=options.username,
            password=options.password.get_secret_value() if options.password else None,
            local_hostname=self._domain,
            timeout=options.timeout_seconds,
            use_tls=options.encryption == "tls",
            start_tls=options.encryption == "starttls",
        )
        await server.connect()
        await self._envelope(server, recipients)
        return server

    async def _envelope(self, server: aiosmtplib.SMTP, recipients: list[str]) -> None:
        try:
            await server.mail(_addresses("From", self.options.sender)[0])
            for recipient in recipients:
                await server.rcpt(recipient)
        except BaseException:
            server.close()
            raise

    # Looking up

    async def _is_there(self, wanted: str) -> bool:
        if self.options.lookup_maildir:
            return await asyncio.to_thread(_is_in_maildir, self.options.lookup_maildir, wanted)
        if self.options.lookup_url:
            return await self._is_at_url(self.options.lookup_url, wanted)
        raise OutcomeUnknown("nobody can be asked; set `lookup_maildir` or `lookup_url`")

    async def _is_at_url(self, template: str, wanted: str) -> bool:
        url = template.replace("{message_id}", quote(wanted.strip("<>"), safe=""))
        try:
            async with httpx.AsyncClient(timeout=self.options.timeout_seconds, trust_env=False) as client:
                status = (await client.get(url)).status_code
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"the mailbox could not be asked: {type(error).__name__}: {error}") from error
        if status not in (200, 404):
            raise OutcomeUnknown(f"asked for a message, the mailbox answers {status}")
        return status == 200


def message_id(key: str, domain: str) -> str:
    """The Message-ID of an effect's message. The same for every try."""
    return f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@{domain}>"


@contextmanager
def _translated() -> Iterator[None]:
    """The one border where aiosmtplib's errors become ours, for all that comes before the message."""
    try:
        yield
    except aiosmtplib.SMTPResponseException as error:
        raise _refused(error) from error
    except TimeoutError as error:
        raise TimedOut("the mail server did not answer in time; the message was not sent") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise Unavailable(f"the mail server cannot be reached: {type(error).__name__}: {error}") from error


def _refused(error: aiosmtplib.SMTPResponseException) -> Unavailable | MailRefused:
    """RFC 5321 section 4.2.1: 4yz is for now, 5yz is for good. Either way the server did not take the message."""
    text = f"the mail server answers {error.code} {error.message}"
    return Unavailable(text, reply=error.code) if error.code < 500 else MailRefused(text, reply=error.code)


def _recipients(to: str | list[str]) -> list[str]:
    """The bare addresses. Raises InvalidInput for what is none."""
    found = [_addresses("To", each) for each in ([to] if isinstance(to, str) else to)]
    if not found or any(len(each) != 1 for each in found):
        raise InvalidInput(f"{to!r} is not one address or a list of addresses, in ASCII")
    return [each[0] for each in found]


def _addresses(header: str, value: str) -> list[str]:
    """The addresses in a header's text; none when it is not what a header may hold."""
    try:
        message = EmailMessage(policy=SMTP)
        message[header] = value
        parsed = message[header]
    except (ValueError, IndexError, MessageError):
        return []
    found = [address.addr_spec for address in parsed.addresses]
    return found if not parsed.defects and all("@" in each and each.isascii() for each in found) else []


def _is_in_maildir(folder: Path, wanted: str) -> bool:
    return any(_id_of(path) == wanted for box in ("new", "cur") for path in (folder / box).glob("*"))


def _id_of(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return BytesHeaderParser(policy=SMTP).parse(file)["Message-ID"]
    except FileNotFoundError:  # it was moved from new to cur meanwhile, and cur is looked through next
        return None
