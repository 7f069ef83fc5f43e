"""What is found, what is left alone, and that masking reaches every part of a record."""

import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.contracts import InvalidInput, Tenant
from hanse.memory.redaction import EMAIL, KINDS, ON_WRITE, Masks, Pattern, Redactor, Values
from hanse.runtime.config import Maskable, Memory

from .making import fact, record

everything = Redactor(region="US")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to ann.lee+x@mail.example.co.uk.", "write to [e-mail]."),
        ("mailto:ann@example.com,bob@mail.local; c@müller.de!", "mailto:[e-mail],[e-mail]; [e-mail]!"),
        ("<o'neil@example.com> (jörg@example.org)", "<[e-mail]> ([e-mail])"),
        ("call +49 30 901820 or (415) 555-2671", "call [phone] or [phone]"),
        ("card 4111 1111 1111 1111, thanks", "card [card], thanks"),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("my password is hunter2!", "my password is [secret]!"),
        ("export DB_PASSWORD=s3cr3tPass", "export DB_PASSWORD=[secret]"),
        ("key AKIAIOSFODNN7EXAMPLE in use", "key [secret] in use"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[secret]"),
        ("see https://user:pa55word@host.example/x", "see https://user:[secret]/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIB\n-----END RSA PRIVATE KEY-----", "[secret]"),
        ("Authorization: Bearer abcdefghijklmnop1234.xyz", "Authorization: Bearer [secret]"),
    ],
)
def test_what_should_not_be_kept_is_masked(text, masked):
    assert everything.mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order #W2378156 of 2026-10-01 at 12:30:44 for 1,299.00 USD",
        "0192f0c1-7a1b-7def-8123-456789abcdef",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "the password is strict about length, the token was lost",
        "item 1234567890123452 is no card",
        "@ann on the forum, 3@5 pieces",
        "no a..b@example.com, no a@-b.com, no @example.com, no ann@localhost",
        "version 10.2.33.4, room 12-34",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text):
    assert everything.mask(text) == text


def test_a_record_is_masked_in_all_that_it_says():
    dirty = record(
        "r1",
        "ask ann@example.com",
        payload={"ann@example.com": ["bob@example.com", {"n": 5}]},
        fact=fact("ann", "mail", "ann@example.com"),
    )
    clean = everything.clean(dirty)
    assert "@" not in clean.model_dump_json()
    assert clean.payload == {"[e-mail]": ["[e-mail]", {"n": 5}]}
    assert everything.clean(clean) is clean


@pytest.mark.parametrize("text", ["@" * 30_000, "a@" * 15_000, "a." * 15_000 + "@", "x" * 30_000 + "@" + "y." * 9])
def test_no_text_takes_long_to_be_looked_through_for_addresses(text):
    begun = time.process_time()
    Redactor((EMAIL,)).find(text)
    assert time.process_time() - begun < 2


def test_what_is_masked_on_write_is_a_tenants_own_choice_but_for_secrets():
    masks = Masks(tenants={Tenant("strict"): ("e-mail", "phone"), Tenant("open"): ()}, region="DE")
    text = "ann@example.com, 030 901820, 4111 1111 1111 1111, my password is hunter2!"
    said = {tenant: masks(record("r", text), Tenant(tenant)).text for tenant in ("other", "strict", "open")}
    assert said == {
        "other": "ann@example.com, 030 901820, [card], my password is [secret]!",
        "strict": "[e-mail], [phone], 4111 1111 1111 1111, my password is [secret]!",
        "open": "ann@example.com, 030 901820, 4111 1111 1111 1111, my password is [secret]!",
    }


def test_the_configuration_knows_the_same_kinds():
    assert get_args(Maskable) == KINDS
    assert Memory().mask == ON_WRITE


def test_unknown_kinds_are_refused():
    with pytest.raises(InvalidInput, match="Known: secret"):
        Redactor(["secrets"])


def test_a_pattern_finds_and_masks():
    pattern = Pattern(r"w\d{7}")
    assert pattern.values("orders #W2378156, #w2378157") == ["W2378156", "w2378157"]
    assert pattern.mask("order #W2378156!") == "order #[pattern]!"


@pytest.mark.parametrize("pattern", ["", "(", "x*", r"\b", "a" * 501, r"(?=x)", r"(a)\1"])
def test_a_pattern_that_cannot_be_meant_is_refused(pattern):
    with pytest.raises(InvalidInput):
        Pattern(pattern)


def test_no_pattern_takes_longer_than_its_text():
    """With Python's own engine this one would take longer than the universe is old."""
    assert Pattern("(a+)+b").values("a" * 20_000) == []


def test_values_are_found_in_any_spelling():
    mask = Values(["+49 (30) 9018", "Ann Lee"]).mask
    assert mask("call 49309018 or 49-30 9018; ANN-LEE") == "call [pattern] or [pattern]; [pattern]"
    assert mask("Annie Lee, 493090181") == "Annie Lee, 493090181"


@given(st.text(max_size=500))
def test_masking_twice_is_masking_once(text):
    once = everything.mask(text)
    assert everything.mask(once) == once


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_card_is_found_wherever_it_stands(before, after):
    assert "4111111111111111" not in everything.mask(f"{before} 4111111111111111 {after}")
