"""`cluster.yaml` is one that Ray's cluster launcher takes."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(cluster))


def test_every_ray_process_asks_for_a_token_and_reports_nothing(cluster: dict[str, Any]) -> None:
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    starts = [command for command in commands if "ray start" in command]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in each and "--disable-usage-stats" in each for each in starts)
    assert "~/.ray/auth_token" in cluster["file_mounts"]


def test_nothing_of_ray_listens_to_the_world(cluster: dict[str, Any]) -> None:
    head = next(command for command in cluster["head_start_ray_commands"] if "--head" in command)
    assert "--dashboard-host=127.0.0.1" in head
