"""What is remembered is recalled, revised, listed and forgotten, by those who may."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hanse.contracts import (
    BudgetExhausted,
    Conflict,
    IdempotencyKey,
    InvalidInput,
    KeyReused,
    Kind,
    NotAllowed,
    NotFound,
    Tenant,
)
from hanse.contracts.memory import Change, Draft, Layer, Provenance, Query, Record, Scope, State
from hanse.contracts.wire import decode_event
from hanse.memory.ports import Decision, Sought
from hanse.memory.service import MemoryService, Settings
from hanse.memory.writing import Budget

from .plain import Clock, WordEmbedder, agent, ann, memory

KEY = IdempotencyKey("order-17")


async def remembered(service: MemoryService, text: str, caller: Any = None, **more: Any) -> Record:
    [result] = await service.remember([Draft(text=text, **more)], caller or ann())
    return result.record


async def texts(service: MemoryService, text: str, caller: Any = None, **more: Any) -> list[str]:
    found = await service.recall(Query(text=text, **more), caller or ann())
    return [hit.record.text for hit in found.hits]


# Remember and recall


async def test_what_was_remembered_is_recalled_at_once():
    async with memory() as service:
        await remembered(service, "the red kettle leaks")
        await remembered(service, "the blue kettle is fine")
        assert (await texts(service, "red kettle leaks", limit=1)) == ["the red kettle leaks"]


async def test_a_record_says_who_said_it_whatever_the_draft_says():
    async with memory() as service:
        said = Provenance(by="somebody else", agent=agent("shop").agent, document="letter.txt")
        record = await remembered(service, "a", agent("orders", task="t1"), provenance=said)
        said_so = {"by": "orders", "agent": "orders", "task": "t1", "document": "letter.txt"}
        assert record.provenance.model_dump(exclude_none=True, exclude_defaults=True) == said_so


async def test_what_the_caller_works_on_labels_what_it_says_and_what_was_derived_keeps_the_labels():
    async with memory() as service:
        source = await remembered(service, "from a mail", ann(labels=("untrusted",)))
        derived = await remembered(service, "made of it", provenance=Provenance(derived_from=(source.id,)))
        assert derived.labels == ("untrusted",)
        assert (await service.recall(Query(text="made"), ann())).labels == ["untrusted"]


async def test_what_is_derived_names_sources_that_are_there():
    async with memory() as service:
        for source in ("nothing", (await remembered(service, "b", ann("other"))).id):
            with pytest.raises(InvalidInput, match="not there"):
                await remembered(service, "a", provenance=Provenance(derived_from=(source,)))


async def test_the_newest_that_fits_is_found_without_words():
    async with memory(clock=(clock := Clock())) as service:
        for i in range(5):
            clock.ms += 1
            await remembered(service, f"note {i}", episode="e" if i % 2 else "f")
        assert await texts(service, "", limit=2, episodes=("e",)) == ["note 3", "note 1"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"payload": {"cents": {"gte": 100, "lt": 300}}}, {"b", "c"}),
        ({"payload": {"cents": 100.0}}, {"b"}),
        ({"payload": {"cents": "100"}}, set[str]()),
        ({"payload": {"open": True}}, {"a"}),
        ({"payload": {"open": 1}}, set[str]()),
        ({"payload": {"at": {"city": "Kiel"}}}, {"c"}),
        ({"payload": {"at": {"day": {"gt": "2026-01-02"}}}}, {"d"}),
        ({"payload": {"tags": ["x", "y"]}}, {"d"}),
        ({"payload": {"nothing": None}}, {"d"}),
        ({"labels": ("private", "x")}, {"b"}),
        ({"without_labels": ("private",)}, {"a", "d"}),
        ({"subjects": ("anna",)}, {"c"}),
        ({"layers": (Layer.EPISODIC,)}, {"d"}),
        ({"min_confidence": 0.5}, {"b", "c", "d"}),
        ({"scopes": (Scope.SUBJECT,)}, {"c"}),
    ],
)
async def test_filters_leave_what_they_say(filters: dict[str, Any], found: set[str]):
    async with memory() as service:
        drafts = [
            Draft(text="note a", payload={"cents": 50, "open": True}, confidence=0.2),
            Draft(text="note b", payload={"cents": 100}, labels=("private", "x")),
            Draft(
                text="note c",
                payload={"cents": 200.5, "at": {"city": "Kiel", "day": "2026-01-01"}},
                scope=Scope.SUBJECT,
                owner="anna",
                labels=("private",),
            ),
            Draft(
                text="note d",
                payload={"at": {"day": "2026-01-03"}, "tags": ["x", "y"], "nothing": None},
                layer=Layer.EPISODIC,
            ),
        ]
        await service.remember(drafts, ann())
        assert {text[-1] for text in await texts(service, "note", **filters)} == found
        assert {text[-1] for text in await texts(service, "", **filters)} == found


@pytest.mark.parametrize(
    "query",
    [
        {"text": "a", "payload": {"cents": {"gte": 1, "near": 2}}},
        {"text": "a", "payload": {"cents": {"gte": [1]}}},
        {"text": "a", "owners": tuple(map(str, range(200)))},
        {"text": "\ud800"},
        {"text": "a" * 40_000},
    ],
)
async def test_a_query_that_means_nothing_is_refused(query: dict[str, Any]):
    async with memory() as service:
        with pytest.raises(InvalidInput):
            await service.recall(Query(**query), ann())


@pytest.mark.parametrize(
    "draft",
    [
        {"text": " "},
        {"text": "a", "payload": {"a": float("nan")}},
        {"text": "a", "payload": {"a": "b" * 100_000}},
        {"text": "a", "subject": ""},
        {"text": "a", "owner": "anna"},
        {"text": "a", "scope": "subject"},
        {"text": "a", "valid_from_ms": 5, "valid_to_ms": 4},
        {"text": "a", "layer": "working", "ttl_seconds": 1e9},
    ],
)
async def test_a_draft_that_means_nothing_is_refused_and_nothing_of_its_batch_is_kept(draft: dict[str, Any]):
    async with memory() as service:
        with pytest.raises(InvalidInput):
            await service.remember([Draft(text="good"), Draft(**draft)], ann())
        assert await texts(service, "") == []


# Keys


async def test_the_same_key_stores_once():
    async with memory() as service:
        first = await service.remember([Draft(text="a"), Draft(text="b")], ann(), key=KEY)
        again = await asyncio.gather(
            *(service.remember([Draft(text="a"), Draft(text="b")], ann(), key=KEY) for _ in range(5))
        )
        assert {tuple(each.record.id for each in results) for results in [first, *again]} == {
            tuple(each.record.id for each in first)
        }
        assert len(await texts(service, "")) == 2


async def test_a_key_with_other_drafts_is_refused():
    async with memory() as service:
        await service.remember([Draft(text="a")], ann(), key=KEY)
        with pytest.raises(KeyReused):
            await service.remember([Draft(text="b")], ann(), key=KEY)


async def test_a_step_that_runs_again_takes_back_what_it_said_before():
    async with memory() as service:
        caller, key = agent("orders", task="t", step="s"), IdempotencyKey("t/s/memory.1")
        await service.remember([Draft(text="balance is 5")], caller, key=key)
        await service.remember([Draft(text="balance is 7")], caller, key=key)
        await service.remember([Draft(text="balance is 7")], caller, key=key)
        assert await texts(service, "balance") == ["balance is 7"]
        with pytest.raises(KeyReused):
            await service.remember([Draft(text="x")], agent("other", task="t", step="s2"), key=key)


async def test_what_was_forgotten_is_not_stored_again_by_its_key():
    async with memory() as service:
        [first] = await service.remember([Draft(text="a secret")], ann(), key=KEY)
        await service.forget([first.record.id], ann())
        [again] = await service.remember([Draft(text="a secret")], ann(), key=KEY)
        assert (again.record.id, again.reason) == (first.record.id, "it was forgotten since")
        assert await texts(service, "secret") == []


# Revise


async def test_a_revision_is_found_and_its_past_too():
    async with memory(clock=(clock := Clock())) as service:
        record = await remembered(service, "the door is green")
        then = clock.ms
        clock.ms += 1000
        await service.revise(record.id, Change(text="the door is red"), ann(), version=1)
        clock.ms += 1000
        assert await texts(service, "the door") == ["the door is red"]
        assert await texts(service, "the door", as_of_ms=then) == ["the door is green"]
        assert await texts(service, "the door", as_of_ms=clock.ms) == ["the door is red"]
        assert await texts(service, "the door", as_of_ms=then - 1) == []
        history = await service.history(record.id, ann())
        assert [(each.version, each.text, each.state) for each in history] == [
            (1, "the door is green", State.SUPERSEDED),
            (2, "the door is red", State.LIVE),
        ]


async def test_of_a_hundred_who_compare_and_set_each_change_is_kept(tmp_path: Path):
    async with memory(tmp_path / "m.sqlite") as service:
        record = await remembered(service, "counter", payload={"count": 0})

        async def count() -> None:
            while True:
                now = await service.get(record.id, ann())
                change = Change(payload={"count": now.payload["count"] + 1})
                try:
                    await service.revise(record.id, change, ann(), version=now.version)
                    return
                except Conflict:
                    await asyncio.sleep(0)

        await asyncio.gather(*(count() for _ in range(100)))
        last = await service.get(record.id, ann())
        assert (last.payload["count"], last.version) == (100, 101)


async def test_a_revision_with_a_key_is_made_once():
    async with memory() as service:
        record = await remembered(service, "a")
        for _ in range(2):
            revised = await service.revise(record.id, Change(text="b"), ann(), version=1, key=KEY)
            assert (revised.version, revised.text) == (2, "b")
        with pytest.raises(Conflict):
            await service.revise(record.id, Change(text="b"), ann(), version=1)


async def test_only_people_take_labels_away():
    async with memory() as service:
        record = await remembered(service, "a", labels=("untrusted",))
        kept = await service.revise(record.id, Change(labels=()), agent("orders"), version=1)
        assert kept.labels == ("untrusted",)
        assert (await service.revise(record.id, Change(labels=()), ann(), version=2)).labels == ()


# Access


async def test_what_an_agent_keeps_to_itself_nobody_else_reads_without_a_grant():
    async with memory() as service:
        mine, other = agent("orders"), agent("mail")
        record = await remembered(service, "my secret plan", mine, scope=Scope.AGENT)
        assert record.owner == "orders"
        assert await texts(service, "secret plan", mine) == ["my secret plan"]
        for caller in (other, ann()):
            assert await texts(service, "secret plan", caller) == []
            assert await texts(service, "", caller) == []
            with pytest.raises(NotAllowed):
                await service.get(record.id, caller)
            with pytest.raises(NotAllowed):
                await service.revise(record.id, Change(text="b"), caller, version=1)
        with pytest.raises(NotAllowed):
            await service.tell("grant", {"owner": "orders", "reader": "mail"}, other)
        await service.tell("grant", {"reader": "mail"}, mine)
        assert await texts(service, "secret plan", other) == ["my secret plan"]
        with pytest.raises(NotAllowed):
            await service.forget([record.id], other)
        await service.tell("grant", {"reader": "mail", "granted": False}, mine)
        assert await texts(service, "secret plan", other) == []


async def test_a_grant_outlives_a_restart(tmp_path: Path):
    path = tmp_path / "m.sqlite"
    async with memory(path) as service:
        await remembered(service, "my plan", agent("orders"), scope=Scope.AGENT)
        await service.tell("grant", {"reader": "mail"}, agent("orders"))
    async with memory(path) as service:
        assert await texts(service, "plan", agent("mail")) == ["my plan"]


async def test_what_belongs_to_a_task_stays_within_it():
    async with memory() as service:
        inside = agent("orders", task="t1")
        await remembered(service, "only here", inside, scope=Scope.TASK)
        assert await texts(service, "here", agent("mail", task="t1")) == ["only here"]
        assert await texts(service, "here", agent("orders", task="t2")) == []
        with pytest.raises(NotAllowed):
            await remembered(service, "x", inside, scope=Scope.TASK, owner="t2")


async def test_a_domain_speaks_for_itself():
    async with memory() as service:
        own = agent("orders", capability="orders.get")
        record = await remembered(service, "a rule", own, scope=Scope.DOMAIN)
        assert record.owner == "orders"
        other = agent("mail", capability="mail.send")
        assert await texts(service, "rule", other) == ["a rule"]
        with pytest.raises(NotAllowed):
            await service.revise(record.id, Change(text="b"), other, version=1)
        with pytest.raises(NotAllowed):
            await remembered(service, "x", other, scope=Scope.DOMAIN, owner="orders")


async def test_only_people_pin_and_what_is_pinned_only_people_change():
    async with memory() as service:
        record = await remembered(service, "never refund twice")
        with pytest.raises(NotAllowed):
            await service.pin(record.id, agent("orders"))
        with pytest.raises(NotAllowed):
            await remembered(service, "x", agent("orders"), pinned=True)
        pinned = await service.pin(record.id, ann())
        assert (pinned.pinned, pinned.version) == (True, 2)
        assert (await service.pin(record.id, ann())).version == 2
        for refused in (
            service.revise(record.id, Change(text="b"), agent("orders"), version=2),
            service.forget([record.id], agent("orders")),
        ):
            with pytest.raises(NotAllowed):
                await refused
        await service.forget([record.id], ann())


async def test_what_another_tenant_has_does_not_exist():
    async with memory() as service:
        record = await remembered(service, "ours")
        other = ann("rival")
        assert await texts(service, "ours", other) == []
        for refused in (
            service.get(record.id, other),
            service.history(record.id, other),
            service.revise(record.id, Change(text="b"), other, version=1),
            service.forget([record.id], other),
            service.pin(record.id, other),
        ):
            with pytest.raises(NotFound):
                await refused


async def test_a_tenant_is_named():
    async with memory() as service:
        for name in (" ", "a\nb", "x" * 201):
            with pytest.raises(InvalidInput, match="whose memory"):
                await service.recall(Query(text="a"), ann(name))


# Episodes


async def test_a_timeline_is_in_order_and_read_in_pages():
    async with memory(clock=(clock := Clock())) as service:
        for i in range(5):
            clock.ms += 1
            await remembered(service, f"line {i}", layer=Layer.EPISODIC, episode="talk")
        await remembered(service, "elsewhere", layer=Layer.EPISODIC)
        line = await service.timeline(ann(), episode="talk", limit=2)
        assert [(each.text, each.position) for each in line] == [("line 3", 3), ("line 4", 4)]
        line = await service.timeline(ann(), episode="talk", limit=2, before=3)
        assert [each.text for each in line] == ["line 1", "line 2"]
        assert [each.text for each in await service.timeline(ann(), limit=2)] == ["line 4", "elsewhere"]


async def test_places_in_an_episode_are_given_once_however_many_speak():
    async with memory() as service:
        drafts = [Draft(text=f"line {i}", layer=Layer.EPISODIC, episode="talk") for i in range(10)]
        await asyncio.gather(*(service.remember(drafts, ann()) for _ in range(5)))
        line = await service.timeline(ann(), episode="talk", limit=100)
        assert [each.position for each in line] == list(range(50))


# The gate


class Strict:
    """A gate that says what a test wants."""

    def __init__(self, **decisions: Decision) -> None:
        self.decisions = decisions
        self.seen: list[Any] = []

    def seeks(self, draft: Draft) -> Sought:
        return Sought()

    def judge(self, draft: Draft, caller: Any, near: Any, recalled_lately: Any, facts: Any) -> Decision:
        self.seen.append((draft.text, [hit.record.text for hit in near], [each.text for each in recalled_lately]))
        same = next((hit.record.id for hit in near if hit.record.text == draft.text), None)
        if same:
            return Decision("merged", "the same", same, change=Change(importance=0.9))
        return self.decisions.get(draft.text.split()[0], Decision())


async def test_what_the_gate_merges_is_one_record_also_within_a_batch_and_among_writers():
    async with memory(gate=Strict()) as service:
        results = await service.remember([Draft(text="twice said"), Draft(text="twice said")], ann())
        assert [each.outcome for each in results] == ["stored", "merged"]
        await asyncio.gather(*(service.remember([Draft(text="often said")], ann()) for _ in range(10)))
        assert sorted(await texts(service, "")) == ["often said", "twice said"]
        found = await service.recall(Query(text="often said", limit=1), ann())
        assert found.hits[0].record.importance == 0.9


async def test_what_is_quarantined_is_found_by_those_who_ask_for_it():
    async with memory(gate=Strict(junk=Decision("quarantined", "worth nothing"))) as service:
        await remembered(service, "junk mail")
        assert await texts(service, "junk mail") == []
        assert await texts(service, "junk mail", include_quarantined=True) == ["junk mail"]


async def test_the_gate_sees_what_was_recalled_lately_and_nothing_of_what_the_caller_may_not_read():
    async with memory(gate=(gate := Strict())) as service:
        await remembered(service, "open word", agent("orders"))
        await remembered(service, "own word", agent("orders"), scope=Scope.AGENT)
        await texts(service, "word", agent("orders"))
        await remembered(service, "The word is open.", agent("mail"))
        _, near, lately = gate.seen[-1]
        assert (near, lately) == (["open word"], ["open word"])


async def test_whoever_recalls_does_not_wait_for_a_large_batch_to_be_judged():
    begun = asyncio.Event()

    class Telling(Strict):
        def judge(self, draft: Draft, caller: Any, near: Any, recalled_lately: Any, facts: Any) -> Decision:
            if draft.text == "thing 5":
                begun.set()
            return super().judge(draft, caller, near, recalled_lately, facts)

    async with memory(gate=(gate := Telling())) as service:
        await remembered(service, "first word")
        writing = asyncio.create_task(service.remember([Draft(text=f"thing {n}") for n in range(500)], ann()))
        await begun.wait()
        assert await texts(service, "first word") == ["first word"]
        assert not writing.done()
        assert len(gate.seen) < 450
        assert len(await writing) == 500


# Limits and degraded service


async def test_a_tenant_may_have_a_budget_of_its_own():
    settings = Settings(budget=Budget(records=1), budgets={Tenant("shop"): Budget(records=2)})
    async with memory(settings=settings) as service:
        for text in ("first word", "second thing"):
            await remembered(service, text)
        with pytest.raises(BudgetExhausted, match="keeps 2 records"):
            await remembered(service, "third idea")
        await remembered(service, "first word", ann("bank"))
        with pytest.raises(BudgetExhausted, match="keeps 1 records"):
            await remembered(service, "second thing", ann("bank"))
        assert (await service.tell("stats", {}, ann()))["budget"]["records"] == 2


async def test_a_tenant_keeps_no_more_than_its_budget():
    async with memory(settings=Settings(budget=Budget(records=2))) as service:
        first = await remembered(service, "a")
        await remembered(service, "b")
        with pytest.raises(BudgetExhausted):
            await remembered(service, "c")
        await service.forget([first.id], ann())
        await remembered(service, "c")


async def test_without_an_embedder_words_find_and_vectors_come_later(tmp_path: Path):
    embedder = WordEmbedder()
    embedder.away = True
    async with memory(tmp_path / "m.sqlite", embedder=embedder, started=True) as service:
        record = await remembered(service, "the red kettle")
        assert record.embedding is None
        found = await service.recall(Query(text="red kettle"), ann())
        assert [hit.record.id for hit in found.hits] == [record.id]
        assert "embedder" in found.degraded
        embedder.away = False
        assert await service.upkeep.fill(record.tenant)
        now = await service.get(record.id, ann())
        assert (now.embedding, now.version) == ("words-1", 1)
        assert (await service.recall(Query(text="red kettle"), ann())).degraded == ""


async def test_another_embedder_makes_its_own_vectors(tmp_path: Path):
    path = tmp_path / "m.sqlite"
    async with memory(path) as service:
        record = await remembered(service, "the red kettle")
    async with memory(path, embedder=WordEmbedder("words-2", 16)) as service:
        assert await texts(service, "red kettle") == ["the red kettle"]
        assert await service.upkeep.fill(record.tenant)
        assert (await service.get(record.id, ann())).embedding == "words-2"
        assert await texts(service, "red kettle") == ["the red kettle"]


async def test_a_rebuild_needs_no_embedder(tmp_path: Path):
    path, embedder = tmp_path / "m.sqlite", WordEmbedder()
    async with memory(path) as service:
        await remembered(service, "the red kettle")
    async with memory(path, embedder=embedder) as service:
        await service.tell("rebuild", {}, ann())
        assert embedder.asked == []
        assert await texts(service, "red kettle") == ["the red kettle"]


async def test_rebuilds_at_once_lose_nothing_that_is_written_meanwhile():
    async with memory() as service:
        said = [f"kettle number {number}" for number in range(30)]
        await remembered(service, said[0])
        rebuilds = (service.tell("rebuild", {}, ann()) for _ in range(5))
        await asyncio.gather(*rebuilds, *(remembered(service, text) for text in said[1:]))
        assert not any((await service.check(ann().tenant)).values())
        assert set(await texts(service, "kettle", limit=50)) == set(said)


async def test_a_verb_that_there_is_not_names_those_there_are():
    async with memory() as service:
        with pytest.raises(NotFound, match="stats"):
            await service.tell("sing", {}, ann())


@pytest.mark.parametrize("reason", ["asked for by mail", ""])
async def test_why_something_was_forgotten_is_kept_and_told_to_people(tmp_path: Path, reason: str):
    """Also of what was derived, and after a restart."""
    async with memory(tmp_path / "m.sqlite") as service:
        [told] = await service.remember([Draft(text="a")], ann())
        sources = Provenance(derived_from=(told.record.id,))
        [derived] = await service.remember([Draft(text="b", provenance=sources)], ann())
        await service.forget([told.record.id], ann(), reason=reason)
        [event] = [each for each in entries(service) if each["cause"] == "asked"]
        assert event.get("reason", "") == reason
    async with memory(tmp_path / "m.sqlite") as service:
        for id in (told.record.id, derived.record.id):
            with pytest.raises(NotFound, match=f"gone \\(asked, .*\\){': ' + reason if reason else ''} \\(record"):
                await service.history(id, ann())
            with pytest.raises(NotFound, match="no such record"):
                await service.history(id, agent("scribe"))
        with pytest.raises(InvalidInput):
            await service.forget([told.record.id], ann(), reason="x" * 2001)


def entries(service: MemoryService) -> list[dict[str, Any]]:
    """What the journal says of what was forgotten."""
    found = (decode_event(entry) for _, entry, _ in service.log._store.read("entries", (0, 100)))
    return [dict(each.data) for each in found if each.kind == Kind.MEMORY_FORGOTTEN]
