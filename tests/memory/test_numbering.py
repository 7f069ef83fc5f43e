"""Ids of records sort in the order in which they were given."""

import random

from hanse.contracts.ids import MAX_SHARDS
from hanse.memory.numbering import Numbering
from hanse.runtime.world import SystemEntropy

from .plain import Clock


def test_ids_sort_as_they_were_given_whatever_the_clock_does():
    clock, chance = Clock(), random.Random(1)
    numbering = Numbering(clock, SystemEntropy())
    given: list[str] = []
    for _ in range(3 * MAX_SHARDS):
        clock.ms += chance.choice((-5, 0, 0, 0, 0, 1)) if len(given) > MAX_SHARDS + 10 else 0
        given.append(numbering.next())
    assert given == sorted(set(given))
