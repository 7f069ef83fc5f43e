"""The chain of `steps` on peers: ten durable steps in a row, 300 bytes of payload, so many chains at once.

Each peer is installed from PyPI, in a pinned version, into an environment of its own in a given folder, and runs there
alone, by the rules of its own documentation and with its default settings, on SQLite: `peer_chain`. Nothing of it
comes near this environment. That its steps were durable is counted in its database afterwards.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import peer_chain
from .machine import percentile, show
from .steps import PAYLOAD

PINNED = {
    "dbos": ("dbos==3.4.0",),
    "langgraph": ("langgraph==1.2.22", "langgraph-checkpoint-sqlite==3.1.2"),
}


def environment(folder: Path, peer: str) -> Path:
    """The interpreter of the peer's own environment, which is made where it is not there yet."""
    home = folder / f"{peer}-environment"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINNED[peer]])
        (home / "ready").touch()
    return python


def measure(python: Path, peer: str, folder: Path, tasks: int, steps: int, concurrency: int) -> dict[str, Any]:
    """One row, with the columns of `steps`. Raises SystemExit with what the peer said when it failed."""
    with tempfile.TemporaryDirectory(dir=folder) as data:
        order = {"peer": peer, "folder": data, "tasks": tasks, "steps": steps, "concurrency": concurrency}
        told = json.loads(_run([python, "-P", peer_chain.__file__, json.dumps(order | {"payload": PAYLOAD})], data))
    wanted = (tasks + peer_chain.WARM_UP) * steps
    if told["durable_steps"] < wanted:
        raise SystemExit(f"{peer} has {told['durable_steps']} steps in its database, and did {wanted}")
    return {
        "peer": peer,
        "concurrency": concurrency,
        "tasks": tasks,
        "steps": steps,
        "steps_per_second": tasks * steps / told["seconds"],
        "ms_per_step_p50": percentile(told["times"], 0.5) / steps * 1000,
        "task_ms_p99": percentile(told["times"], 0.99) * 1000,
    }


def _run(command: list[Any], folder: Any = None) -> str:
    """What it prints. It sees no PYTHONPATH: a peer must not find this checkout."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, command)], cwd=folder, env=own, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout.splitlines()[-1] if done.stdout else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=sorted(PINNED), action="append", help="once for each; all when left out")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2, help="of all peers, which take turns")
    parser.add_argument("--folder", type=Path, help="on a real disk; environments there are kept for the next time")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        folder.mkdir(parents=True, exist_ok=True)
        there = {peer: environment(folder.absolute(), peer) for peer in options.peer or sorted(PINNED)}
        sizes = options.tasks, options.steps, options.concurrency
        rows = [
            measure(python, peer, folder.absolute(), *sizes)
            for _ in range(options.rounds)
            for peer, python in there.items()
        ]
    show("peers", rows, installed={peer: PINNED[peer] for peer in there})


if __name__ == "__main__":
    sys.exit(main())
