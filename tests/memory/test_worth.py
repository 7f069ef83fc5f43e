"""What says nothing, and what only looks like it."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.memory.worth import objection


@pytest.mark.parametrize(
    "text",
    [
        "He works at night.",
        "My dog is called Max.",
        "I am 35 years old.",
        "Allergic to nuts.",
        "Thanks! By the way, I moved to Oslo.",
        "2,450.00",
        "Bis Freitag keine Lieferung.",
        "会议在星期一",
        "Пароль не меняли с 2019 года",
        "Order #W2378156 was delivered to 615 Lakeview Drive.",
        "Yes, the warranty covers water damage.",
        "Use tabs, not spaces.",
        "No further questions were asked by Ann.",
        "The customer service team in Oslo has 12 people.",
        "Our trademark was registered in 2019.",
        "Account 4417 was closed.",
        "Grzegorz Brzęczyszczykiewicz, Łękołody",
        "Strzyżewski prosi o faktury pocztą elektroniczną",
        "Ludwigshafen",
        "SKU 8310926033 is out of stock until week 47",
        "https://example.com/handbook/returns is the page on returns",
        "Error 0x80070057 on the label printer means that the tray is empty.",
    ],
)
def test_what_says_something_is_kept(text):
    assert objection(text) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Thank you so much!", "courtesy"),
        ("Okay, sounds good. Have a great day!", "courtesy"),
        ("hmm, not sure yet", "courtesy"),
        ("I will now search the database for relevant information.", "talk about work"),
        ("Step 3 completed successfully. Proceeding to the next step.", "talk about work"),
        ("As an AI language model, I cannot browse the internet.", "boilerplate"),
        ("This is an automated message, please do not reply.", "boilerplate"),
        ("[2026-01-02 10:00:00] INFO connection pool refreshed", "machine"),
        ('Traceback (most recent call last):\n  File "a.py", line 3, in f\nValueError: x', "machine"),
        ("<div class='nav'>\n</div>", "machine"),
        ('{"status": "ok", "items": []}', "machine"),
        ("sdkjfh skdjfh qpwoei zmxn", "no language"),
        ("ha ha ha ha ha ha ha ha", "repeats"),
        ("!!!!!!!! ????", "no words"),
        ("👍🎉", "no words"),
        ("eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0Zm9vYmFy", "encoded"),
    ],
)
def test_what_says_nothing_is_told_why(text, why):
    assert why in objection(text)


@given(st.text(min_size=1, max_size=2000))
def test_any_text_is_judged(text):
    assert isinstance(objection(text), str)


@pytest.mark.parametrize(
    "text",
    [
        "flour sugar eggs butter salt yeast milk water cream onion",
        "toimitus saapuu maanantaina varastosta suoraan asiakkaalle eika kuljettaja soita ennen",
        "teslimat cuma sabah arka kapiya gelecek ve kurye haber verecek ama",
        "bestellung kommt freitag frueh zur hintertuer und der fahrer ruft vorher an",
        "pesanan akan dikirim hari jumat pagi dan sopir menelepon pelanggan sebelum tiba",
        "mzigo utafika siku ya ijumaa asubuhi na dereva atapiga simu kabla ya kufika",
        "zamowienie przyjdzie w piatek rano od tylu i kierowca najpierw zadzwoni do klienta",
        "a pedido vai chegar na sexta de manha e o motorista liga antes",
    ],
)
def test_sentences_in_plain_letters_are_sentences_in_any_language(text):
    assert objection(text) == ""


@pytest.mark.parametrize("seed", range(20))
def test_words_with_their_letters_in_another_order_are_no_language(seed):
    words = [
        "committee",
        "wants",
        "every",
        "invoice",
        "printed",
        "yellow",
        "paper",
        "filed",
        "under",
        "customer",
        "name",
    ]
    chance = Random(seed)
    text = " ".join("".join(chance.sample(word, len(word))) for word in [*words, *words])
    assert "no language" in objection(text), text


def test_what_is_spelt_with_a_digit_is_no_number():
    assert objection("gr8 thx") != ""
    assert objection("Bay 8, thanks") == ""
