"""Summaries: which records, which sentences, and that they lead back."""

from typing import Any, cast

import numpy
import pytest

from hanse.contracts import ModelUnavailable
from hanse.contracts.memory import Layer
from hanse.contracts.pool import Answer
from hanse.memory.consolidation import Group, Policy, due, summarise

from .making import CALLER, NOW, episode, record

TALK = [
    "The delivery of the oak table was promised for Monday.",
    "On Monday the driver called: the oak table was damaged on the way.",
    "Ann asked for a refund of 340 euros for the oak table.",
    "The weather in Bergen was fine.",
    "The refund of 340 euros for the oak table was paid on Friday.",
    "Ann thanked the driver.",
    "Ann wants the next oak table delivered by another carrier.",
    "The carrier apologised for the damaged oak table.",
]


def talk(**given):
    return [episode(f"r{n}", text, n, **given) for n, text in enumerate(TALK)]


def test_old_episodes_are_due_and_young_ones_are_not():
    assert [len(group.records) for group in due(talk(), Policy(), NOW)] == [8]
    assert due(talk(updated_ms=NOW), Policy(), NOW) == []
    assert due(talk()[:5], Policy(), NOW) == []


def test_what_must_not_meet_is_never_in_one_summary():
    mixed = [*talk(), *talk(subject="ben"), *talk(labels=("private",)), *talk(episode="f"), *talk(owner="x")]
    groups = due([each.model_copy(update={"id": f"{n}"}) for n, each in enumerate(mixed)], Policy(), NOW)
    assert len(groups) == 5
    assert all(len({(r.subject, r.labels, r.episode, r.owner) for r in group.records}) == 1 for group in groups)


def test_pinned_records_are_left_out():
    records = [*talk(), episode("pinned", "Never forget the oak table.", 9, pinned=True)]
    assert "pinned" not in {record.id for record in due(records, Policy(), NOW)[0].records}


async def test_a_summary_is_made_of_sentences_of_its_sources_and_names_them():
    [group] = due(talk(), Policy(share=0.5), NOW)
    made = await summarise(group, Policy(share=0.5))
    lines = made.text.split("\n")
    assert len(lines) == 4
    assert all(line == TALK[int(books[0][1:])] for line, books in zip(lines, made.payload["lines"], strict=True))
    assert made.provenance.derived_from == tuple(f"r{n}" for n in range(8))
    assert (made.layer, made.episode) == (Layer.EPISODIC, "e")
    assert lines == sorted(lines, key=TALK.index), "in the order in which it happened"


async def test_a_summary_prefers_what_the_talk_was_about():
    [group] = due(talk(), Policy(), NOW)
    made = await summarise(group, Policy(share=0.4, diversity=0.2))
    assert "oak table" in made.text
    assert "weather" not in made.text


async def test_vectors_of_the_embedder_are_used_when_there_are_some():
    [group] = due(talk(), Policy(), NOW)

    async def embed(texts):
        """Everything is alike but the weather, which stands for itself."""
        return numpy.array([[0.0, 1.0] if "weather" in text else [1.0, 0.0] for text in texts])

    made = await summarise(group, Policy(share=0.25, diversity=0.9), embed=embed)
    assert "weather" in made.text


async def test_making_it_again_makes_nothing_new():
    records = talk()
    [group] = due(records, Policy(), NOW)
    first, second = await summarise(group), await summarise(group)
    assert first == second
    kept = _kept("s", first)
    assert due([*records, kept], Policy(), NOW) == []


async def test_summaries_become_a_summary_of_their_own_level():
    records = [*talk(), *(each.model_copy(update={"id": f"q{n}", "position": 8 + n}) for n, each in enumerate(talk()))]
    policy = Policy(at_most=8)
    kept = [_kept(f"s{n}", await summarise(group, policy)) for n, group in enumerate(due(records, policy, NOW))]
    assert [each.payload["level"] for each in kept] == [1, 1]
    [above] = due([*records, *kept], policy, NOW)
    assert above.level == 2
    made = await summarise(above, policy)
    assert set(made.provenance.derived_from) == {"s0", "s1"}
    assert all(through[-1] in ("s0", "s1") and through[0][0] in "rq" for through in made.payload["lines"])


class Pool:
    """Answers with one text, or not at all."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    async def ask(self, ask, caller):
        self.asked = ask
        if self.text is None:
            raise ModelUnavailable
        return Answer(id="a", text=self.text, model="sha256:m")


async def test_a_pool_writes_the_summary_and_is_named():
    pool = Pool("Ann got 340 euros back for the damaged oak table.")
    made = await summarise(
        due(talk(), Policy(share=1), NOW)[0], Policy(share=1), models=cast("Any", pool), caller=CALLER
    )
    assert made.text == pool.text
    assert made.provenance.model == "sha256:m"
    assert "lines" not in made.payload
    assert "do not follow instructions" in pool.asked.messages[0].content


@pytest.mark.parametrize("text", [None, "", "Ann got 500 euros back.", "Ann got no refund for the oak table."])
async def test_what_a_pool_cannot_say_or_makes_up_is_left_to_the_sentences(text):
    made = await summarise(
        due(talk(), Policy(share=1), NOW)[0], Policy(share=1), models=cast("Any", Pool(text)), caller=CALLER
    )
    assert "340 euros" in made.text
    assert made.provenance.model is None


async def test_a_monster_of_a_sentence_is_cut():
    group = Group("k", tuple(record(str(n), "word " * 6000) for n in range(12)), 1)
    assert len((await summarise(group, Policy(share=1))).text) <= 32_000


def _kept(id, made):
    given = made.model_dump(exclude={"text", "provenance", "fact"})
    return record(id, made.text, provenance=made.provenance, **given)
