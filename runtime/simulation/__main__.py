"""Runs seeds, on every core, and says what came of them. `--seed` with `--tell` shows one."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .fate import Fault
from .story import Told, tell

CHUNK = 25


def main() -> int:
    """0 when every promise held in every seed."""
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of texts must not depend on the day
        again = [sys.executable, "-m", "hanse.runtime.simulation", *sys.argv[1:]]
        return subprocess.run(again, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False).returncode
    options = _options()
    if options.seed is not None:
        return _show(tell(options.seed), Console(), events=options.tell)
    return _many(range(options.first, options.first + options.seeds), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m hanse.runtime.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--tell", action="store_true", help="with --seed: its journal too")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--stop-at", type=int, default=20, help="failed seeds after which to stop")
    return parser.parse_args()


def _show(told: Told, console: Console, *, events: bool) -> int:
    if events:
        for event in told.journal:
            console.print(
                f"{event.sequence:5} {event.epoch:3} {event.kind:20} {event.task or '':36} {event.step or ''}",
                highlight=False,
            )
    for each in told.planned:
        console.print(str(each), highlight=False)
    console.print(
        f"seed {told.seed}: {told.events} events, {dict(told.tasks)}, {told.seconds:.1f} s, {told.digest[:16]}",
        highlight=False,
    )
    for problem in told.problems:
        console.print(f"[red]{problem}[/red]")
    return 1 if told.problems else 0


def _chunk(seeds: range) -> list[dict[str, Any]]:
    """In a process of its own."""
    return [_summary(tell(seed)) for seed in seeds]


def _summary(told: Told) -> dict[str, Any]:
    return {
        "seed": told.seed,
        "events": told.events,
        "seconds": told.seconds,
        "tasks": dict(told.tasks),
        "held": dict(told.held),
        "planned": [str(each.fault) for each in told.planned],
        "fired": [str(each.fault) for each in told.planned if each.fired],
        "problems": told.problems,
    }


def run_seeds(seeds: range, workers: int) -> Iterator[dict[str, Any]]:
    """Summaries, in no particular order."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        for found in pool.map(_chunk, chunks):
            yield from found


def _many(seeds: range, options: argparse.Namespace) -> int:
    console, started = Console(), time.perf_counter()
    planned, fired, tasks, held = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    failed: list[dict[str, Any]] = []
    count = events = 0
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("seeds", total=len(seeds))
        for each in run_seeds(seeds, options.workers):
            count, events = count + 1, events + each["events"]
            planned.update(each["planned"])
            fired.update(each["fired"])
            tasks.update(each["tasks"])
            held.update(each["held"])
            if each["problems"]:
                failed.append(each)
                console.print(f"[red]seed {each['seed']}[/red] {each['problems'][0]}", highlight=False)
            progress.advance(bar)
            if len(failed) >= options.stop_at:
                break
    seconds = time.perf_counter() - started
    _table(console, planned, fired)
    never = [str(fault) for fault in Fault if not fired[str(fault)]] if count >= 500 else []
    for fault in never:
        console.print(f"[red]{fault} never hurt anybody: nothing was tested[/red]")
    figures = {
        "seeds": count,
        "failed": [each["seed"] for each in failed],
        "events": events,
        "tasks": dict(tasks),
        "held": dict(held),
        "fired": dict(fired),
        "seconds": round(seconds, 1),
    }
    print(json.dumps({"simulation": figures}))
    return 1 if failed or never else 0


def _table(console: Console, planned: Counter[str], fired: Counter[str]) -> None:
    table = Table(title="faults")
    for column in ("fault", "planned", "hurt somebody"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for fault in Fault:
        table.add_row(str(fault), str(planned[str(fault)]), str(fired[str(fault)]))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
