"""What is known of a step's data, at its agent: from the token and from what the handler takes up, to its answer, its
receipt, its errors, and to the door that leads outside.
"""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from hanse.agents import Agent, Context
from hanse.agents.connector import Connector, ConnectorOptions, operation
from hanse.agents.values import opened, packed
from hanse.contracts import HanseError, InvalidInput, NotCleared, TokenInvalid, Unavailable, capability
from hanse.contracts.caller import Caller
from hanse.contracts.labels import IN_ERROR
from hanse.contracts.memory import Hit, Query, Recollection, Record

from .conftest import Start
from .desk import again, call_of, error, output


class Text(BaseModel):
    text: str = ""


class Shelf:
    """A memory that finds what is on it, and hears who asks."""

    def __init__(self, *labels: str) -> None:
        self.labels, self.callers = labels, list[Caller]()

    async def recall(self, query: Query, caller: Caller) -> Recollection:
        self.callers.append(caller)
        times: Any = {"created_ms": 1, "updated_ms": 1}
        record = Record(id="r1", tenant=caller.tenant, text="what was known", labels=self.labels, **times)
        return Recollection(hits=[Hit(record=record, score=1, why="it is all")], labels=[*self.labels, "of all"])


class Pipe(Connector):
    """Leads outside."""

    Options = ConnectorOptions

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    @operation(effect="irreversible")
    async def send(self, key: str, *, text: str) -> dict[str, Any]:
        """Is gone."""
        self.sent.append(text)
        return {"text": text}

    @operation(effect="read")
    async def look(self, key: str, *, text: str) -> dict[str, Any]:
        """Is seen by whoever is asked."""
        self.sent.append(text)
        return {"text": text}


class Clerk(Agent):
    """Reads and writes."""

    domain = "clerk"

    def __init__(self) -> None:
        super().__init__()
        self.goes, self.gate, self.begun = 0, asyncio.Event(), asyncio.Event()

    @capability(effect="reversible", compensation="note", labels=("pii",))
    async def note(self, request: Text, context: Context) -> Text:
        """Recall, and write down."""
        await context.memory.recall(request.text)
        await context.state.put("notes", "last", request.text)
        return Text(text=" ".join(context.labels))

    @capability(effect="irreversible")
    async def post(self, request: Text, context: Context) -> Text:
        """Recall when asked to, and send."""
        if request.text:
            await context.memory.recall(request.text)
        await context.connectors.pipe.send(text=request.text)
        return request

    @capability(effect="irreversible")
    async def stamp(self, request: Text, context: Context) -> Text:
        """Recall, and change for good what is one's own."""
        await context.memory.recall(request.text)
        await context.state.put("stamps", "last", request.text)
        return request

    @capability(effect="read", labels=("outward",))
    async def search(self, request: Text, context: Context) -> Text:
        """Recall, and ask strangers."""
        await context.memory.recall(request.text)
        await context.connectors.pipe.look(text=request.text)
        return request

    @capability(effect="reversible", compensation="note")
    async def keep(self, request: Text, context: Context) -> Text:
        """Keep what was given: a text, and how long it is."""
        await context.state.put("kept", "text", request.text)
        await context.state.put("kept", "length", len(request.text), labels=())
        await context.state.put("kept", "own", "ours", labels=("private",))
        return Text(text=await context.state.get("kept", "text"))

    @capability(effect="reversible", compensation="note")
    async def drop(self, request: Text, context: Context) -> Text:
        """Forget what was kept, and keep it in another place."""
        await context.state.put("moved", "text", await context.state.get("kept", request.text))
        await context.state.delete("kept", request.text)
        return request

    @capability(effect="reversible", compensation="note")
    async def keep_wrongly(self, request: Text, context: Context) -> Text:
        """Name one label as if it were several."""
        await context.state.put("kept", "text", request.text, labels="private")
        return request

    @capability(effect="read")
    async def show(self, request: Text, context: Context) -> Text:
        """What is kept under a key, or everything."""
        if request.text:
            return Text(text=str(await context.state.get("kept", request.text)))
        return Text(text=" ".join([str(value) async for _, value in context.state.scan("kept")]))

    @capability(effect="irreversible")
    async def send_kept(self, request: Text, context: Context) -> Text:
        """Send what was kept."""
        await context.connectors.pipe.send(text=await context.state.get("kept", request.text))
        return request

    @capability(effect="reversible", compensation="note")
    async def count(self, request: Text, context: Context) -> Text:
        """Recall in the first go only, and lose that one when somebody else counts meanwhile."""
        number = await context.state.get("notes", "count", default=0)
        if request.text:
            self.goes += 1
            if self.goes == 1:
                await context.memory.recall(request.text)
                self.begun.set()
                await self.gate.wait()
        await context.state.put("notes", "count", number + 1)
        return Text(text=str(number + 1))

    @capability(effect="read")
    async def fail(self, request: Text, context: Context) -> Text:
        """Recall, and fail."""
        await context.memory.recall(request.text)
        raise Unavailable("the pen broke", labels=["a word of its own"])


def parts(*labels: str) -> dict[str, Any]:
    return {"memory": Shelf(*labels), "connectors": {"pipe": Pipe()}}


TOOK = {"private": ["record r1"], "of all": ["what was recalled"]}


async def test_an_answer_says_what_was_taken_up_and_so_does_its_receipt(start: Start):
    engine = await start(Clerk, **parts("private"))
    call = call_of("clerk.note", {"text": "a"})
    first = await engine.execute(call)
    assert (first.labels, output(first)) == (TOOK, {"text": "of all pii private"})
    second = await engine.execute(again(call, award="x/s1#2", attempt=2))
    assert (second.replayed, second.labels) == (True, TOOK)


async def test_what_takes_nothing_up_says_nothing_and_keeps_nothing(start: Start, store: Any):
    engine = await start(Clerk, **parts())
    call = call_of("clerk.post", {"text": ""})
    assert (await engine.execute(call)).labels is None
    assert (await engine.execute(again(call, attempt=2))).labels is None
    assert store.read("receipt_labels", (call.key,)) == []


async def test_an_error_says_it_too_and_keeps_its_own_ids(start: Start):
    engine = await start(Clerk, **parts("private"))
    failed = error(await engine.execute(call_of("clerk.fail", {"text": "a"})))
    assert (failed.ids[IN_ERROR], failed.ids["labels"]) == (TOOK, ["a word of its own"])


async def test_what_a_lost_go_has_taken_up_counts_for_the_next_one(start: Start):
    clerk = Clerk()
    engine = await start(clerk, **parts("private"))
    slow = asyncio.create_task(engine.execute(call_of("clerk.count", {"text": "a"})))
    await clerk.begun.wait()
    assert (await engine.execute(call_of("clerk.count", {"text": ""}))).labels is None
    clerk.gate.set()
    said = await slow
    assert (output(said), clerk.goes, said.labels) == ({"text": "2"}, 2, TOOK)


async def test_who_is_asked_in_the_step_hears_what_the_token_says(start: Start):
    given = parts("private")
    engine = await start(Clerk, **given)
    caveats = {"labels": ["untrusted"], "cleared": []}
    said = await engine.execute(call_of("clerk.note", {"text": "a"}, caveats=caveats))
    assert given["memory"].callers[0].labels == ("pii", "untrusted")
    assert (said.labels, output(said)) == (TOOK, {"text": "of all pii private untrusted"})


@pytest.mark.parametrize("call", ["clerk.post", "clerk.stamp", "clerk.search"])
async def test_nothing_goes_outward_that_was_taken_up_since_the_award(start: Start, call: str):
    given = parts("untrusted")
    engine = await start(Clerk, **given)
    refused = error(await engine.execute(call_of(call, {"text": "a"})))
    assert isinstance(refused, NotCleared)
    assert "untrusted" in refused.ids[IN_ERROR]
    assert given["connectors"]["pipe"].sent == []
    labels = ["of all", "untrusted"]
    cleared = call_of(call, {"text": "a"}, caveats={"labels": labels, "cleared": labels})
    assert output(await engine.execute(cleared)) == {"text": "a"}


@pytest.mark.parametrize("cleared", [[], ["of all"], ["private"]])
async def test_what_came_with_the_input_goes_outward_only_where_the_token_clears_it(start: Start, cleared: list[str]):
    given = parts()
    engine = await start(Clerk, **given)
    caveats = {"labels": ["untrusted"], "cleared": cleared}
    refused = error(await engine.execute(call_of("clerk.post", {"text": ""}, caveats=caveats)))
    assert (type(refused), given["connectors"]["pipe"].sent) == (NotCleared, [])


async def test_a_token_that_clears_more_than_was_minted_is_none(start: Start):
    engine = await start(Clerk, **parts())
    call = call_of("clerk.post", {"text": ""}, caveats={"labels": ["untrusted"], "cleared": []})
    wide = call_of("clerk.post", {"text": ""}, caveats={"labels": ["untrusted"], "cleared": ["untrusted"]}, task="t")
    forged = call._replace(token=[wide.token[0], call.token[1]])
    with pytest.raises(HanseError) as caught:
        output(await engine.execute(forged))
    assert caught.value.code == TokenInvalid.code


HOW = "step s1 of task t1, state kept/text"


async def kept(start: Start, *labels: str, **given: Any):
    """A clerk that keeps a text which came with these labels."""
    engine = await start(Clerk, **(given or parts()))
    caveats = {"labels": [*labels], "cleared": []} if labels else {}
    said = await engine.execute(call_of("clerk.keep", {"text": "buy now"}, caveats=caveats, task="t1", step="s1"))
    assert (output(said), said.labels) == ({"text": "buy now"}, None), "one's own words are nothing new"
    return engine


@pytest.mark.parametrize("again_started", [False, True])
async def test_who_reads_what_was_kept_takes_up_its_labels_in_another_task_too(start: Start, again_started: bool):
    engine = await kept(start, "untrusted")
    if again_started:
        await engine.stop()
        engine = await start(Clerk, **parts())
    said = await engine.execute(call_of("clerk.show", {"text": "text"}))
    assert (output(said), said.labels) == ({"text": "buy now"}, {"untrusted": [HOW]})
    said = await engine.execute(call_of("clerk.show", {"text": "length"}))
    assert (output(said), said.labels) == ({"text": "7"}, None), "the handler vouched for it"
    said = await engine.execute(call_of("clerk.show", {"text": "own"}))
    assert (output(said), list(said.labels)) == ({"text": "ours"}, ["private"])
    said = await engine.execute(call_of("clerk.show", {}))
    assert (output(said), sorted(said.labels)) == ({"text": "7 ours buy now"}, ["private", "untrusted"])


async def test_what_was_kept_without_labels_has_none(start: Start):
    engine = await kept(start)
    said = await engine.execute(call_of("clerk.show", {"text": "text"}))
    assert (output(said), said.labels) == ({"text": "buy now"}, None)


async def test_labels_go_on_with_what_is_kept_again_and_go_with_what_is_forgotten(start: Start):
    engine = await kept(start, "untrusted")
    moved = await engine.execute(call_of("clerk.drop", {"text": "text"}))
    assert moved.labels == {"untrusted": [HOW]}
    engine._runner.rows._recent._rows.clear()
    value, _ = engine._runner.rows.row(("moved", "text"))
    assert opened(value) == (packed("buy now"), {"untrusted": (HOW,)})
    said = await engine.execute(call_of("clerk.show", {"text": "text"}))
    assert (output(said), said.labels) == ({"text": "None"}, None)


async def test_what_was_kept_goes_outward_only_where_the_token_clears_it(start: Start):
    given = parts()
    engine = await kept(start, "untrusted", **given)
    refused = error(await engine.execute(call_of("clerk.send_kept", {"text": "text"})))
    assert (type(refused), given["connectors"]["pipe"].sent) == (NotCleared, [])
    assert refused.ids[IN_ERROR] == {"untrusted": [HOW]}
    caveats = {"labels": ["untrusted"], "cleared": ["untrusted"]}
    assert output(await engine.execute(call_of("clerk.send_kept", {"text": "text"}, caveats=caveats)))
    assert given["connectors"]["pipe"].sent == ["buy now"]


async def test_one_label_in_the_place_of_several_is_refused_and_nothing_is_kept(start: Start):
    engine = await start(Clerk, **parts())
    refused = error(await engine.execute(call_of("clerk.keep_wrongly", {"text": "a"})))
    assert (type(refused), refused.detail) == (InvalidInput, 'labels are several texts. Write: labels=("private",)')
    assert output(await engine.execute(call_of("clerk.show", {"text": "text"}))) == {"text": "None"}
