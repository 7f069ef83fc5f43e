"""The chain of `steps` on peers: ten durable steps in a row, 300 bytes of payload, so many chains at once.

Each peer is installed from PyPI, in a pinned version, into an environment of its own in a given folder, and runs there
alone, by the rules of its own documentation and with its default settings: `peer_chain`. DBOS and LangGraph keep their
steps in SQLite, or in PostgreSQL where `--server` says one; Microsoft Agent Framework in files, without fsync; AutoGen
core keeps none. Nothing of a peer comes near this environment. What was kept is counted where it lies afterwards.

    python -m tests.support.postgres python -m hanse.benchmarks.peers --peer dbos --peer langgraph --server URL
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

_DRIVER = "psycopg[binary,pool]==3.3.9"
PINNED = {
    "agent_framework": ("agent-framework-core==1.23.0",),
    "autogen": ("autogen-core==0.7.5", "autogen-ext[grpc]==0.7.5"),
    "dbos": ("dbos==3.4.0", _DRIVER),
    "langgraph": (
        "langgraph==1.2.22",
        "langgraph-checkpoint-sqlite==3.1.2",
        "langgraph-checkpoint-postgres==3.2.0",
        _DRIVER,
    ),
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


def measure(
    python: Path, peer: str, folder: Path, tasks: int, steps: int, concurrency: int, server: str = ""
) -> dict[str, Any]:
    """One row, with the columns of `steps`. Raises SystemExit with what the peer said when it failed."""
    with tempfile.TemporaryDirectory(dir=folder) as data:
        order = {"peer": peer, "folder": data, "tasks": tasks, "steps": steps, "concurrency": concurrency}
        order["server"] = server
        told = json.loads(_run([python, "-P", peer_chain.__file__, json.dumps(order | {"payload": PAYLOAD})], data))
    wanted = (tasks + peer_chain.WARM_UP) * steps
    if (kept := told["durable_steps"]) is not None and kept < wanted:
        raise SystemExit(f"{peer} has {kept} steps on disk, and did {wanted}")
    return {
        "peer": peer,
        "store": _store(peer, server, kept),
        "concurrency": concurrency,
        "tasks": tasks,
        "steps": steps,
        "steps_per_second": tasks * steps / told["seconds"],
        "ms_per_step_p50": percentile(told["times"], 0.5) / steps * 1000,
        "task_ms_p99": percentile(told["times"], 0.99) * 1000,
    }


def _store(peer: str, server: str, kept: int | None) -> str:
    if kept is None:
        return "none"
    if not peer_chain.PEERS[peer].postgresql:
        return "files"
    return "postgresql" if server else "sqlite"


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
    parser.add_argument("--server", default="", help="URL of a PostgreSQL server, for those that can keep steps there")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        folder.mkdir(parents=True, exist_ok=True)
        able = [peer for peer in sorted(PINNED) if peer_chain.PEERS[peer].postgresql or not options.server]
        there = {peer: environment(folder.absolute(), peer) for peer in options.peer or able}
        sizes = options.tasks, options.steps, options.concurrency
        rows = [
            measure(python, peer, folder.absolute(), *sizes, options.server)
            for _ in range(options.rounds)
            for peer, python in there.items()
        ]
    show("peers", rows, installed={peer: PINNED[peer] for peer in there})


if __name__ == "__main__":
    sys.exit(main())
