"""The mail connector against a real SMTP server on loopback that delivers into a maildir."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hanse.agents import Absent, Done
from hanse.agents.connectors import MailRefused, SmtpConnector, message_id
from hanse.contracts import HanseError, InvalidConfiguration, InvalidInput, OutcomeUnknown, Unavailable

from .outside import Post, http_service, mail_server

LETTER: dict[str, Any] = {
    "to": "anna@example.com",
    "subject": "Your order",
    "body": "It is coming.\n.\nGr\u00fc\u00dfe",
}


@pytest.fixture
async def post(tmp_path: Path) -> AsyncIterator[Post]:
    async with mail_server(tmp_path / "mail") as post:
        yield post


@pytest.fixture
async def mail(post: Post) -> AsyncIterator[SmtpConnector]:
    connector = mail_of(post, lookup_maildir=post.folder)
    yield connector
    await connector.close()


def letter(change: dict[str, Any]) -> dict[str, Any]:
    return LETTER | change


def mail_of(post: Post, **options: Any) -> SmtpConnector:
    defaults = {
        "host": "127.0.0.1",
        "port": post.port,
        "sender": "The Store <store@example.com>",
        "timeout_seconds": 0.3,
    }
    return SmtpConnector(**defaults | options)


async def test_a_message_arrives_as_it_was_written(post: Post, mail: SmtpConnector):
    sent = await mail.send("t/s1!0", **LETTER, reply_to="help@example.com")
    [message] = post.messages()
    assert sent.message_id == message["Message-ID"] == message_id("t/s1!0", "example.com")
    assert (message["From"], message["To"]) == ("The Store <store@example.com>", "anna@example.com")
    assert (message["Subject"], message["Reply-To"]) == ("Your order", "help@example.com")
    assert message.get_content().replace("\r\n", "\n").rstrip("\n") == LETTER["body"]


async def test_a_message_to_several_goes_to_all_or_to_nobody(post: Post, mail: SmtpConnector):
    sent = await mail.send("k", **letter({"to": ["anna@example.com", "Bert <bert@example.com>"]}))
    assert sent.to == ["anna@example.com", "bert@example.com"]
    with pytest.raises(MailRefused, match="550 no such person"):
        await mail.send("k2", **letter({"to": ["anna@example.com", "nobody@example.com"]}))
    with pytest.raises(Unavailable, match="450 come again"):
        await mail.send("k3", **letter({"to": ["later@example.com"]}))
    assert len(post.messages()) == 1


async def test_connections_are_used_again_and_replaced_when_the_server_has_closed_them(post: Post, mail: SmtpConnector):
    for number in range(3):
        await mail.send(f"k{number}", **LETTER)
    assert post.connections == 1
    mail._idle[0].close()
    await mail.send("k3", **LETTER)
    assert (post.connections, len(post.messages())) == (2, 4)


@pytest.mark.parametrize(
    ("fault", "told", "delivered"),
    [
        ("refuse", MailRefused, 0),
        ("later", Unavailable, 0),
        ("reset before", OutcomeUnknown, 0),
        ("reset after", OutcomeUnknown, 1),
        ("hang after", OutcomeUnknown, 1),
    ],
)
async def test_what_came_of_it_is_told_honestly_and_found_out_by_asking(
    post: Post, mail: SmtpConnector, fault: str, told: type[HanseError], delivered: int
):
    post.faults.append(fault)
    with pytest.raises(HanseError) as error:
        await mail.send("k", **LETTER)
    assert type(error.value) is told
    answer = await mail.reconcile("send", "k", LETTER)
    assert len(post.messages()) == delivered
    assert isinstance(answer, Done if delivered else Absent)


async def test_a_server_that_is_not_there_means_that_nothing_happened(unused_tcp_port: int):
    mail = SmtpConnector(host="127.0.0.1", port=unused_tcp_port, sender="a@example.com")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await mail.send("k", **LETTER)


async def test_a_mailbox_can_be_asked_over_http(post: Post, unused_tcp_port: int):
    async with http_service() as service:
        mail = mail_of(post, lookup_url=service.url + "/by-key?key={message_id}")
        service.done[message_id("k", "example.com").strip("<>")] = 1
        assert isinstance(await mail.reconcile("send", "k", LETTER), Done)
        assert isinstance(await mail.reconcile("send", "k2", LETTER), Absent)
    nobody = mail_of(post, lookup_url=f"http://127.0.0.1:{unused_tcp_port}/{{message_id}}")
    with pytest.raises(OutcomeUnknown):
        await nobody.reconcile("send", "k", LETTER)
    with pytest.raises(OutcomeUnknown, match="set `lookup_maildir` or `lookup_url`"):
        await mail_of(post).reconcile("send", "k", LETTER)


@pytest.mark.parametrize(
    "change",
    [
        {"to": "nobody"},
        {"to": []},
        {"to": "a@example.com, b@example.com"},
        {"to": "a@example.com\r\nBcc: b@example.com"},
        {"to": "\u00e4@example.com"},
        {"subject": "a\r\nBcc: b@example.com"},
        {"reply_to": "a\nb"},
        {"body": "half \ud800"},
    ],
)
async def test_what_is_no_message_is_refused_before_anything_is_sent(
    post: Post, mail: SmtpConnector, change: dict[str, Any]
):
    with pytest.raises(InvalidInput):
        await mail.send("k", **letter(change))
    assert post.connections == 0


@pytest.mark.parametrize(
    "options", [{"sender": "nobody"}, {"lookup_url": "http://a/"}, {"encryption": "rot13"}, {"x": 1}]
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]):
    with pytest.raises(InvalidConfiguration):
        SmtpConnector(**{"host": "a", "sender": "a@example.com"} | options)
