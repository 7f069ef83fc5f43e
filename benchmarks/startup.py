"""From `hanse up` to the first finished task, and down again: what a person waits for."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .machine import percentile, show

CONFIGURATION = """version: 1
federation: {name: startup, data: ./var}
agents:
  - class: hanse.benchmarks.steps:North
  - class: hanse.benchmarks.steps:South
  - class: hanse.benchmarks.steps:East
gateway: {host: 127.0.0.1, port: 0, open_on_loopback: true}
"""


def once(folder: Path) -> dict[str, float]:
    started = time.perf_counter()
    _hanse(folder, "up")
    up = time.perf_counter() - started
    _hanse(folder, "call", "north.put", '{"number": 0, "payload": "x"}')
    first = time.perf_counter() - started
    began = time.perf_counter()
    _hanse(folder, "down")
    return {"up_seconds": up, "first_task_seconds": first, "down_seconds": time.perf_counter() - began}


def _hanse(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "hanse.runtime.cli", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"hanse {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="after a first one that warms the disk cache")
    parser.add_argument("--folder", default=".")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        (folder / "hanse.yaml").write_text(CONFIGURATION)
        runs = [once(folder) for _ in range(1 + options.rounds)][1:]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show("startup", [{name: percentile([each[name] for each in runs], 0.5) for name in runs[0]}])


if __name__ == "__main__":
    main()
