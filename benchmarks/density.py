"""What one more small agent costs that shares a process: time until it is ready, and memory."""

import argparse
import asyncio
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..runtime.assembly import World, agent_keys, make_host
from ..runtime.config import AgentEntry, Configuration
from .machine import show
from .steps import North


async def ready(agents: int, data: Path) -> dict[str, float]:
    """Seconds until that many agents are ready in this process, and its resident memory in MB."""
    entries = [AgentEntry.model_validate({"class": North, "name": f"north{i}", "host": "one"}) for i in range(agents)]
    configuration = Configuration.for_agents(entries, data=data)
    started = time.perf_counter()
    host = make_host(configuration, "one", agent_keys(configuration, "one", bytes(32)), World.real(), _raise)
    await host.start([])
    seconds = time.perf_counter() - started
    memory = _resident_mb()
    await host.stop()
    return {"seconds": seconds, "mb": memory}


def _raise(error: BaseException) -> None:
    raise error


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def _in_a_process_of_its_own(agents: int, folder: str) -> dict[str, float]:
    place = tempfile.mkdtemp(dir=folder)
    try:
        command = [sys.executable, "-m", __spec__.name, "--one", str(agents), "--data", f"{place}/data"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--folder", default=".")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(asyncio.run(ready(options.one, options.data))))
        return
    few, many = (_in_a_process_of_its_own(count, options.folder) for count in (1, 1 + options.agents))
    row = {
        "agents_more": options.agents,
        "ms_per_agent": (many["seconds"] - few["seconds"]) / options.agents * 1000,
        "mb_per_agent": (many["mb"] - few["mb"]) / options.agents,
    }
    show("density", [row])


if __name__ == "__main__":
    main()
