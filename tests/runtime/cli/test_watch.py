"""Following what happens, in one task and in all of them."""

from hanse.contracts import Submission
from hanse.runtime.cli.watch import Feed, events
from hanse.runtime.federation import Federation

from .shop import AGENTS

DEPOSIT = {"call": "ledger.deposit", "input": {"account": "ann", "cents": 5}}


async def test_the_events_of_a_task_end_with_its_end():
    async with Federation.in_process(AGENTS) as federation:
        task = await federation.client.submit(Submission(**DEPOSIT))
        seen = [event async for page in events(federation.client, task.id) for event in page]
    assert [seen[0].kind, seen[-1].kind] == ["task.submitted", "task.completed"]
    assert {event.task for event in seen} == {task.id}


async def test_a_feed_gives_every_event_of_every_shard_once():
    async with Federation.in_process(AGENTS, coordinator={"shards": 3}) as federation:
        client = federation.client
        tasks = {(await client.submit(Submission(**DEPOSIT, idempotency_key=str(number)))).id for number in range(12)}
        for task in tasks:
            await client.wait(task, 30)
        feed = Feed(client, 3)
        seen = []
        while page := await feed.page(0):
            seen += page
    ended = [event.task for event in seen if event.kind.ends_task]
    assert sorted(ended) == sorted(tasks)
    assert len({(event.task, event.sequence, event.kind) for event in seen if event.task}) == sum(
        event.task is not None for event in seen
    )
