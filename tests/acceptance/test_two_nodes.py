"""A federation over two Ray nodes: `two_nodes.py`, in a process of its own, because a process talks to one cluster."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]

HEALTH = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""A lost node is noticed after 1.5 to 6 s. Ray's own settings take 15 to 65 s."""


def test_a_federation_over_two_nodes(tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **HEALTH, **token, "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop(ENABLE_RAY_CLUSTERS_ENV_VAR, None)  # set where a cluster of one machine was started
    inner = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",  # nodes are started in that process: what they leave to the collector is said, and fails nobody
        "default::pytest.PytestUnraisableExceptionWarning",
        str(Path(__file__).with_name("two_nodes.py")),
    ]
    ended = subprocess.run(inner, env=environment, capture_output=True, text=True, timeout=580)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
