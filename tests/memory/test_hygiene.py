"""Hygiene in the real service: log, store, gate, verbs."""

import pytest

from hanse.contracts import InvalidInput, NotAllowed
from hanse.contracts.memory import Certificate, Change, Draft, Fact, Layer, Provenance, Query, Scope
from hanse.memory import hygiene
from hanse.memory.certificates import problems_of

from ..support.memory import clean_memory
from .plain import Clock, WordEmbedder, agent, ann

DAY = 86_400_000
TEA = "Ann Lee prefers green tea in the office."


async def remember(service, text, caller=None, **given):
    [told] = await service.remember([Draft(text=text, **given)], caller or ann())
    return told


async def test_what_was_said_before_is_merged_and_what_was_recalled_is_an_echo():
    async with clean_memory() as service:
        first = await remember(service, TEA)
        assert (await remember(service, TEA.upper())).record.id == first.record.id
        found = await service.recall(Query(text="tea"), ann())
        assert [hit.record.id for hit in found.hits] == [first.record.id]
        echo = await remember(service, f"I recall: {TEA}", agent("scribe"))
        assert (echo.outcome, echo.record.id) == ("echo", first.record.id)
        assert (await service.tell("stats", {}, ann()))["records"] == 1


async def test_two_drafts_of_one_request_that_say_the_same_make_one_record():
    async with clean_memory() as service:
        told = await service.remember([Draft(text=TEA), Draft(text=f"  {TEA}")], ann())
        assert [each.outcome for each in told] == ["stored", "merged"]
        assert told[0].record.id == told[1].record.id


async def test_a_secret_never_reaches_the_disk_nor_the_embedder(tmp_path):
    """What was masked is masked for everything that is made of it."""
    embedder = WordEmbedder()
    async with clean_memory(tmp_path / "m.db", embedder=embedder) as service:
        told = await remember(service, "The password is hunter2secret", payload={"key": "AKIAIOSFODNN7EXAMPLE"})
        revised = await service.revise(told.record.id, Change(text="token: tok_9f8e7d6c5b4a rotated"), ann(), version=1)
        assert revised.text == "token: [secret] rotated"
        assert not [text for text in embedder.asked if "hunter2" in text or "tok_9f" in text]
    for file in tmp_path.iterdir():
        data = file.read_bytes()
        assert b"hunter2secret" not in data
        assert b"AKIAIOSFODNN7EXAMPLE" not in data
        assert b"tok_9f8e7d6c5b4a" not in data


async def test_quarantine_is_found_only_by_those_who_ask():
    async with clean_memory() as service:
        told = await remember(service, "Ann Lee wants all her orders sent to Oslo.", labels=("untrusted",))
        assert told.outcome == "quarantined"
        assert (await service.recall(Query(text="orders Oslo"), ann())).hits == []
        asked = await service.recall(Query(text="orders Oslo", include_quarantined=True), ann())
        assert [hit.record.id for hit in asked.hits] == [told.record.id]


async def test_a_fact_takes_the_place_of_another_which_the_past_still_finds():
    clock = Clock()
    async with clean_memory(clock=clock) as service:
        opened = await remember(
            service, "Order 17 is open.", fact=Fact(entity="order 17", attribute="status", value="open")
        )
        clock.ms += DAY
        told = await remember(
            service, "Order 17 is shipped.", fact=Fact(entity="Order-17", attribute="Status", value="shipped")
        )
        assert told.contradicts == [opened.record.id]
        ended = await service.get(opened.record.id, ann())
        assert (ended.version, ended.valid_to_ms) == (2, clock.ms)
        clock.ms += DAY
        again = await remember(
            service, "Order 17 is open again.", fact=Fact(entity="order 17", attribute="status", value="open")
        )
        assert again.contradicts == [told.record.id], "what has ended is contradicted by nothing"
        audited = await service.tell("audit", {}, ann())
        assert {each["name"]: each["count"] for each in audited["findings"]}["contradictory"] == 0


async def test_erasing_a_subject_removes_it_and_all_that_was_derived(tmp_path):
    """Five levels deep, with versions, quarantined copies and what others mention, and then the files are searched."""
    async with clean_memory(tmp_path / "m.db") as service:
        own = await remember(service, "Quill Zephyrine lives at Lakeview 615.", subject="quill")
        await service.revise(own.record.id, Change(text="Quill Zephyrine lives at Rosebay 12."), ann(), version=1)
        await remember(service, "Quill Zephyrine was here.", labels=("untrusted",), scope=Scope.SUBJECT, owner="quill")
        last = own.record.id
        for level in range(5):
            source = Provenance(derived_from=(last,))
            text = f"Level {level}: Zephyrine conclusion {level * 7}"
            last = (await remember(service, text, agent("scribe"), provenance=source)).record.id
        other = await remember(service, "Ben met Quill Zephyrine at the fair.", subject="ben")
        told = await service.tell("access", {"subject": "quill"}, ann())
        assert (len(told["records"]), len(told["derived"])) == (2, 5)
        said = await service.tell("erase", {"subject": "quill", "aliases": ["Quill Zephyrine"]}, ann())
        certificate = Certificate.model_validate(said)
        assert problems_of(certificate, None) == []
        assert (len(certificate.records), len(certificate.derived)) == (2, 5)
        assert (await service.get(other.record.id, ann())).text == "Ben met [pattern] at the fair."
        assert (await service.tell("access", {"subject": "quill"}, ann()))["records"] == []
        assert await service.tell("check", {}, ann()) == {
            "only_in_index": [], "only_in_tables": [], "not_in_index": [], "not_in_tables": [],
        }  # fmt: skip
        await service.tell("compact", {}, ann())
    for file in tmp_path.iterdir():
        assert b"Zephyrine" not in file.read_bytes(), file


async def test_redaction_reaches_versions_and_derived_records(tmp_path):
    async with clean_memory(tmp_path / "m.db") as service:
        first = await remember(service, "Ring +49 30 901820 about the oak table.")
        await service.revise(first.record.id, Change(text="Ring somebody about the oak table."), ann(), version=1)
        derived = await remember(
            service,
            "The number for the oak table is 4930901820.",
            provenance=Provenance(derived_from=(first.record.id,)),
        )
        said = await service.tell("redact", {"kinds": ["phone"]}, ann())
        assert set(said["derived"]) == {first.record.id, derived.record.id}
        assert (await service.get(derived.record.id, ann())).text == "The number for the oak table is [pattern]."
        assert [each.text for each in await service.history(first.record.id, ann())] == [
            "Ring somebody about the oak table."
        ]
        await service.tell("compact", {}, ann())
    for file in tmp_path.iterdir():
        assert b"901820" not in file.read_bytes(), file


async def test_old_episodes_are_summarised_once_and_lose_what_is_forgotten():
    clock = Clock()
    async with clean_memory(clock=clock) as service:
        for number in range(10):
            text = f"Visitor {number} asked for room {number}00 with a view of garden {number}."
            await remember(service, text, layer=Layer.EPISODIC, episode="desk")
        clock.ms += 60 * DAY
        [made] = (await service.tell("consolidate", {}, ann()))["summaries"]
        assert made["of"] == 10
        assert (await service.tell("consolidate", {}, ann()))["summaries"] == []
        summary = await service.get(made["id"], ann())
        lines = summary.text.split("\n")
        [through] = summary.payload["lines"][0]
        await service.forget([through], ann())
        left = await service.get(made["id"], ann())
        assert left.text.split("\n") == lines[1:]


async def test_summaries_stay_within_what_their_sources_were_private_to():
    clock = Clock()
    async with clean_memory(clock=clock) as service:
        for number in range(8):
            text = f"Parcel {number} came back damaged from depot {number}."
            await remember(service, text, agent("scribe"), layer=Layer.EPISODIC, episode="e", scope=Scope.AGENT)
        clock.ms += 60 * DAY
        [made] = (await service.tell("consolidate", {}, ann()))["summaries"]
        with pytest.raises(NotAllowed):
            await service.get(made["id"], agent("other"))
        assert (await service.get(made["id"], agent("scribe"))).provenance.by == hygiene.NAME


async def test_tidying_evicts_the_least_valuable_and_keeps_the_pinned():
    async with clean_memory() as service:
        pinned = await remember(service, "Refunds take fourteen days.", pinned=True, importance=0)
        await remember(service, "The fair was fine.", importance=0.1)
        kept = await remember(service, "Depot nine closes in March.", importance=0.9)
        said = await service.tell("tidy", {"records": 2}, ann())
        assert ([each["reason"] for each in said["evicted"]], said["fits"]) == (["is worth least"], True)
        assert {each["id"] for each in (await service.tell("export", {}, ann()))["records"]} == {
            pinned.record.id,
            kept.record.id,
        }


async def test_an_audit_shows_nothing_that_its_reader_may_not_read():
    async with clean_memory() as service:
        for value in ("red", "blue"):
            await remember(
                service,
                f"The code is {value}.",
                agent("scribe"),
                scope=Scope.AGENT,
                fact=Fact(entity="code", attribute=f"of {value}", value=value),
            )
        said = await service.tell("audit", {}, ann())
        assert said["records"] == 0


@pytest.mark.parametrize("verb", ["audit", "access", "erase", "redact", "tidy", "consolidate"])
async def test_agents_may_not_ask_for_what_is_for_people(verb):
    async with clean_memory() as service:
        with pytest.raises(NotAllowed):
            await service.tell(verb, {"subject": "ann", "pattern": "x"}, agent("scribe"))


@pytest.mark.parametrize(
    ("verb", "parameters"),
    [
        ("erase", {}),
        ("erase", {"subject": " "}),
        ("erase", {"subject": "ann", "aliases": ["ab"]}),
        ("access", {"subject": 5}),
        ("redact", {}),
        ("redact", {"pattern": "x*"}),
        ("redact", {"kinds": ["names"]}),
        ("redact", {"pattern": "x", "kinds": ["phone"]}),
        ("audit", {"stale_days": "many"}),
        ("tidy", {"records": -1}),
    ],
)
async def test_parameters_that_cannot_be_meant_are_refused(verb, parameters):
    async with clean_memory() as service:
        with pytest.raises(InvalidInput):
            await service.tell(verb, parameters, ann())
