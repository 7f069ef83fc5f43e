"""Telling whether another process is dead."""

import asyncio
import os
import sys

import pytest

from hanse.agents.process import identity, is_dead

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="only Linux tells")
TELL = "from hanse.agents.process import identity; import json; print(json.dumps(identity()), flush=True); input()"


def test_this_process_is_not_dead():
    assert identity() == identity()
    assert not is_dead(identity())


async def test_a_process_is_dead_when_it_was_killed_even_before_it_is_collected():
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TELL, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout
    owner = __import__("json").loads(await child.stdout.readline())
    assert not is_dead(owner)
    child.kill()
    await child.wait()
    assert is_dead(owner)


def test_another_process_under_the_same_number_is_not_the_same():
    owner = identity()
    assert owner
    assert is_dead((*owner[:3], "1"))


@pytest.mark.parametrize("owner", [None, 1, [], ["boot", "namespace", 1, "1"], "text"])
def test_when_in_doubt_it_may_live(owner: object):
    assert not is_dead(owner)
