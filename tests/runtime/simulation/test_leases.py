"""A dead holder's reservation: back after its lease where nothing was done, kept where something may have been."""

import asyncio
from random import Random

from hanse.contracts import Budget, Event, Kind, Submission
from hanse.runtime.budgets import LEASE_SECONDS
from hanse.runtime.execution import Run, fold
from hanse.runtime.simulation.loop import Process, VirtualLoop, run_to_end
from hanse.runtime.simulation.town import HOSTS, Town


def after_a_death(call: str, input: dict[str, object], seconds: float) -> tuple[Run, list[Event]]:
    """The task, so long after all hosts died with its step in their hands and nobody started them again."""
    loop = VirtualLoop()
    town = Town(loop, Random(1))

    async def story() -> None:
        town.start_all()
        people = Process("people", loop)
        client = town.client(people)
        plan = {"steps": [{"id": "s", "call": call, "input": input}]}
        await asyncio.sleep(1)
        town.network.delay = 5
        submitting = people.spawn(client.submit(Submission(plan=plan, budget=Budget(cents=5))))
        while not any(event.kind is Kind.STEP_AWARDED for event in town.events()):  # noqa: ASYNC110 - it is the disk
            await asyncio.sleep(0.1)
        for host in HOSTS:
            process, town.processes[host] = town.processes[host], Process(host, loop)
            process.kill()
        town.network.delay = 0.0002
        await asyncio.sleep(seconds)
        submitting.cancel()

    run_to_end(loop, story())
    found = [event for event in town.events() if event.task is not None]
    run = fold(iter(found))
    assert run is not None
    return run, found


def test_what_changed_nothing_comes_back_after_its_lease():
    run, _ = after_a_death("mill.grind", {"number": 1}, LEASE_SECONDS + 30)
    assert (run.reserved_cents, run.spent_cents, str(run.status)) == (0, 0, "working")


def test_before_its_lease_is_over_it_stays():
    run, _ = after_a_death("mill.grind", {"number": 1}, LEASE_SECONDS / 2)
    assert run.reserved_cents == 0.5


def test_what_may_have_been_done_stays_reserved_until_it_is_known():
    run, found = after_a_death("crier.cry", {"words": "hear"}, LEASE_SECONDS + 30)
    assert run.reserved_cents == 2
    assert found[-1].kind is Kind.STEP_INTERRUPTED
