"""The mail server for trying things out, talked to by a real client."""

import asyncio
from email.message import EmailMessage

import aiosmtplib
import pytest

from hanse.contracts import InvalidConfiguration, Unavailable
from hanse.runtime.config import Configuration
from hanse.runtime.mailbox import Mailbox, deliveries, letters


def letter(id: str, body: str = "hello\n") -> EmailMessage:
    made = EmailMessage()
    made["Message-ID"], made["From"], made["To"], made["Subject"] = f"<{id}@shop>", "a@shop", "ann@example.com", "Hi"
    made.set_content(body)
    return made


async def send(port: int, *made: EmailMessage) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port) as client:
        for each in made:
            await client.send_message(each)


async def test_a_letter_that_was_taken_is_a_file(tmp_path):
    async with Mailbox(tmp_path) as mailbox:
        await send(mailbox.port, letter("1"), letter("2"))
    assert [path.name for path in letters(tmp_path)] == ["000001.eml", "000002.eml"]
    assert b"hello" in next(letters(tmp_path)).read_bytes()


async def test_a_letter_that_comes_twice_is_seen_twice(tmp_path):
    async with Mailbox(tmp_path) as mailbox:
        await send(mailbox.port, letter("1"), letter("2"))
        await send(mailbox.port, letter("1"))
    assert deliveries(tmp_path) == {"<1@shop>": 2, "<2@shop>": 1}


async def test_it_goes_on_counting_where_it_stopped(tmp_path):
    for id in "12":
        async with Mailbox(tmp_path) as mailbox:
            await send(mailbox.port, letter(id))
    assert len(list(letters(tmp_path))) == 2


async def test_a_line_that_is_a_dot_is_part_of_the_letter(tmp_path):
    async with Mailbox(tmp_path) as mailbox:
        await send(mailbox.port, letter("1", "a\n.\n..b\n"))
    body = next(letters(tmp_path)).read_bytes().partition(b"\r\n\r\n")[2]
    assert body == b"a\r\n.\r\n..b\r\n"


async def test_several_clients_at_once(tmp_path):
    async with Mailbox(tmp_path) as mailbox:
        await asyncio.gather(*(send(mailbox.port, letter(str(number))) for number in range(20)))
    assert len(deliveries(tmp_path)) == 20


async def test_a_letter_that_breaks_off_is_not_taken(tmp_path):
    async with Mailbox(tmp_path) as mailbox:
        reader, writer = await asyncio.open_connection("127.0.0.1", mailbox.port)
        await reader.readline()
        for line in (b"HELO x", b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", b"DATA", b"half"):
            writer.write(line + b"\r\n")
        writer.write_eof()
        assert b"354" in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert not list(letters(tmp_path))


async def test_what_it_does_not_know_it_says(tmp_path):
    async with Mailbox(tmp_path) as mailbox:
        reader, writer = await asyncio.open_connection("127.0.0.1", mailbox.port)
        writer.write(b"VRFY ann\r\nDATA\r\nNOOP\r\nQUIT\r\n")
        said = [line.split()[0] for line in (await reader.read()).splitlines()]
        writer.close()
        await writer.wait_closed()
    assert said == [b"220", b"502", b"503", b"250", b"221"]


async def test_a_taken_port_is_named(tmp_path):
    async with Mailbox(tmp_path) as first:
        with pytest.raises(Unavailable, match=f"port {first.port} is taken"):
            async with Mailbox(tmp_path, port=first.port):
                pass


def test_the_connector_looks_in_it_for_letters_in_doubt(tmp_path):
    mail = {"kind": "smtp", "host": "127.0.0.1", "port": 2525, "sender": "a@shop"}
    configuration = Configuration.for_agents([], connectors={"mail": mail})
    asked = Mailbox.of(configuration, tmp_path).asked_by(configuration)
    assert asked.connectors["mail"].model_dump()["lookup_maildir"] == tmp_path


def test_it_stands_where_the_configuration_sends_mail_if_that_is_here(tmp_path):
    mail = {"kind": "smtp", "host": "127.0.0.1", "port": 2525, "sender": "a@shop"}
    Mailbox.of(Configuration.for_agents([], connectors={"mail": mail}), tmp_path)
    with pytest.raises(InvalidConfiguration, match="no connector has kind: smtp"):
        Mailbox.of(Configuration.for_agents([]), tmp_path)
    with pytest.raises(InvalidConfiguration, match="is not this machine"):
        Mailbox.of(Configuration.for_agents([], connectors={"mail": {**mail, "host": "mail.example.com"}}), tmp_path)
