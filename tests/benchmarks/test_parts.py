"""The benchmark of parts: its sums are right, and what it counts is what a process took of a processor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hanse.benchmarks import parts
from hanse.benchmarks.machine import processor_seconds


def test_what_is_left_over_is_what_was_taken_less_what_is_named():
    named = [parts.Part("x", 2.0, coordinator=1, agent=3), parts.Part("y", 10.0, coordinator=0.5)]
    rows = parts.rows_of(named, {"coordinator": 100.0, "agents": 50.0})
    assert [row["what"] for row in rows] == ["x", "y", *parts.SUMS]
    assert [(row["coordinator_us"], row["agents_us"]) for row in rows] == [(2, 6), (5, 0), (7, 6), (100, 50), (93, 44)]


@pytest.mark.parametrize("rows", [parts.STEPS_A_TASK * parts.ENTRIES, parts.STEPS_A_TASK / 3])
def test_rows_are_of_256_tasks_at_a_time(rows: float):
    places = [int(parts._task(number, rows)[24:], 16) for number in range(round(256 * rows) * 3)]
    for generation in range(3):
        ours = places[round(256 * rows) * generation : round(256 * rows) * (generation + 1)]
        assert set(ours) == set(range(generation * 256, generation * 256 + 256))


def test_a_part_takes_what_it_does_and_not_how_long_it_waits():
    assert parts.alone(lambda: sum(range(20_000)), times=20, rounds=3) > 10
    assert parts.alone(lambda: os.sched_yield(), times=20, rounds=3) < parts.alone(lambda: sum(range(20_000)), 20, 3)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells")
def test_the_time_of_children_and_of_their_children_is_found():
    burns = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burns!r}])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == b"done\n"
        found = {pid: (title, seconds) for pid, title, seconds in processor_seconds(child.pid)}
        child.stdin.write(b"\n")
        child.stdin.close()
    assert child.pid in found
    assert len(found) == 2
    assert max(seconds for _, seconds in found.values()) >= 0.2
    assert all("python" in title for title, _ in found.values())
