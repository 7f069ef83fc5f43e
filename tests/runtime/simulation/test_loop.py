"""The simulated loop: a dead process runs no more, and a finished story leaves nothing for the collector to run."""

import asyncio
import contextlib
import gc

from hanse.runtime.simulation.loop import Process, VirtualLoop, run_to_end


async def _waits_for_ever(said: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        said.append("first")
        with contextlib.suppress(GeneratorExit):
            await asyncio.sleep(0)
        said.append("last")


def test_what_was_left_in_the_middle_ends_with_the_story() -> None:
    loop, said = VirtualLoop(), list[str]()
    process = Process("somebody", loop)

    async def story() -> None:
        process.spawn(_waits_for_ever(said))
        await asyncio.sleep(1)
        process.kill()

    run_to_end(loop, story(), judge=lambda: said.append("judged"))
    before = list(said)
    gc.collect()
    assert before == said == ["judged", "first", "last"], "a dead process does nothing while anybody looks"
