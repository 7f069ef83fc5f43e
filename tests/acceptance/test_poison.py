"""A step that kills its agent's process, on real Ray with real SIGKILLs: found after five, beside twenty others.
Fault F34, goal G13."""

from collections import Counter
from pathlib import Path

import pytest

from hanse import Federation
from hanse.contracts import Kind, TaskStatus

from .kitchen import Taster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


async def test_the_poisoned_one_is_held_and_everybody_else_is_served(name: str, tmp_path: Path):
    async with Federation.local(agents=[Taster], data=tmp_path, federation={"name": name}) as federation:
        dishes = [{"name": f"dish-{number}", "poisoned": number == 10} for number in range(21)]
        tasks = [await federation.submit(call="taster.taste", input=dish) for dish in dishes]
        poisoned = tasks.pop(10)
        assert Counter([(await task.wait(200)).status for task in tasks]) == {TaskStatus.COMPLETED: 20}
        view = await federation.client.wait(poisoned.id, 200)
        assert [held.why for held in view.held] == ["poisoned"]
        events = await federation.client.events(poisoned.id)
        assert [event.data["deaths"] for event in events if event.kind is Kind.STEP_SUSPECTED] == [1, 2, 3, 4, 5]
        assert await federation.call("taster.taste", {"name": "another"}, timeout_seconds=60)
        await federation.client.resume(poisoned.id, "give_up")
        assert (await poisoned.wait(60)).status is TaskStatus.FAILED
