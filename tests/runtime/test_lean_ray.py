"""Ray's node on a machine where it does not start at once. Each in a process of its own, which has no cluster yet."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hanse.runtime import lean_ray, no_dashboard_agent

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

AGENT = """
import os, runpy, signal
attempt = len(os.listdir({folder!r}))
open(os.path.join({folder!r}, str(attempt)), "w").close()
if attempt < {failures}:
    os.kill(os.getppid(), signal.SIGKILL)
runpy.run_path({agent!r}, run_name="__main__")
"""
PROGRAM = """
import json, pathlib, sys, ray
from hanse.contracts import Unavailable
from hanse.runtime import cluster, lean_ray
from hanse.runtime.config import Configuration
lean_ray.AGENT = pathlib.Path(sys.argv[1])
def children():
    pids = [pid for each in pathlib.Path("/proc/self/task").glob("*/children") for pid in each.read_text().split()]
    return sorted(pathlib.Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids)
try:
    cluster.join_ray(Configuration.for_agents([], data=pathlib.Path(sys.argv[2])))
    said = ray.get(ray.remote(num_cpus=0)(lambda: "here").remote())
except Unavailable as error:
    said = str(error)
print(json.dumps(dict(said=said, children=children())))
"""


def start(folder: Path, failures: int) -> dict[str, Any]:
    """What a process says and has after Ray's node failed so often to start."""
    (attempts := folder / "attempts").mkdir()
    agent = folder / "agent.py"
    agent.write_text(AGENT.format(folder=str(attempts), failures=failures, agent=str(lean_ray.AGENT)))
    words = [sys.executable, "-c", PROGRAM, str(agent), str(folder / "data")]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=150, check=True)
    return json.loads(ran.stdout) | {"attempts": len(list(attempts.iterdir()))}


def test_a_node_that_did_not_start_is_started_again_and_nothing_of_it_is_left(tmp_path: Path):
    found = start(tmp_path, failures=1)
    assert (found["said"], found["attempts"]) == ("here", 2)
    assert found["children"] == ["gcs_server", "raylet"]


def test_a_node_that_never_starts_is_said_with_what_ray_said(tmp_path: Path):
    found = start(tmp_path, failures=9)
    assert found["attempts"] == 3
    assert found["children"] == []
    assert found["said"].startswith("Ray did not start on this machine in 3 attempts: ")


def test_a_raylet_says_why_it_ended():
    time = "[2026-11-23 05:25:06,900 C 15410 15410] (raylet) node_manager.cc:3576:  An unexpected system state."
    why = "Check failed: status.has_value() Timed out waiting for file /tmp/ray/session/metrics_agent_port_cec6"
    assert lean_ray.last_words(f"{time} {why}\n*** StackTrace Information ***\nmain\n") == why
    assert lean_ray.last_words("") is None


def test_the_agent_that_stands_for_the_dashboards_says_there_is_none_and_ends_with_its_raylet(tmp_path: Path):
    words = ["a/dashboard/agent.py", f"--session-dir={tmp_path}", "--node-id=12ab", "--head"]
    ran = subprocess.run([sys.executable, "-I", "-S", no_dashboard_agent.__file__, *words], input="", timeout=30)
    assert ran.returncode == 0
    said = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert said == {f"{port}_12ab": "-1" for port in no_dashboard_agent.PORTS}
