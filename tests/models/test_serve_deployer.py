"""What Ray Serve says about a tier, in its own words, and what the keeper hears."""

from collections.abc import Sequence
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve._private.common import ReplicaState
from ray.serve.exceptions import BackPressureError
from ray.serve.schema import ApplicationStatus

from hanse.contracts import InvalidInput, ModelUnavailable, Overloaded
from hanse.models import serve_deployer
from hanse.models.deployer import Deployed
from hanse.models.serve_deployer import ServeDeployer
from hanse.models.serve_door import translated
from hanse.models.stages import Stage
from hanse.models.tier import Kind, Tier

TIER = Tier("planner", Kind.GENERATE, "tiny", min_replicas=2)


@pytest.fixture
def deployer(monkeypatch: pytest.MonkeyPatch) -> ServeDeployer:
    monkeypatch.setattr(serve_deployer, "announced", lambda key: Stage.LOADING if key == "shop-tier-planner" else None)
    return ServeDeployer("shop")


def application(status: ApplicationStatus, states: Sequence[ReplicaState] = (), message: str = "") -> dict[str, Any]:
    deployment = {"replicas": [{"state": state} for state in states], "message": message}
    return {
        "status": status,
        "message": "",
        "deployments": {"Replica:planner": deployment, "OpenAiIngress": {"replicas": []}},
    }


@pytest.mark.parametrize("status", [ApplicationStatus.DELETING, ApplicationStatus.NOT_STARTED])
def test_one_that_goes_is_gone(deployer: ServeDeployer, status: ApplicationStatus) -> None:
    assert deployer._how(TIER, application(status)) is None
    assert deployer._how(TIER, None) is None


def test_one_that_starts_says_how_far_it_is(deployer: ServeDeployer) -> None:
    found = deployer._how(TIER, application(ApplicationStatus.DEPLOYING, [ReplicaState.STARTING] * 2))
    assert found == Deployed(running=0, wanted=2, stage=Stage.LOADING)


def test_those_that_run_are_counted(deployer: ServeDeployer) -> None:
    states = [ReplicaState.RUNNING, ReplicaState.STARTING]
    found = deployer._how(TIER, application(ApplicationStatus.UNHEALTHY, states))
    assert found == Deployed(running=1, wanted=2)


def test_one_that_cannot_start_says_why_in_a_line(deployer: ServeDeployer) -> None:
    message = "The deployment failed to start 2 times in a row.\nTraceback:\n  File x\nValueError: no such dtype\n"
    found = deployer._how(TIER, application(ApplicationStatus.DEPLOY_FAILED, message=message))
    assert found == Deployed(wanted=2, failed=True, message="ValueError: no such dtype")


def test_errors_of_serve_become_ours() -> None:
    full = translated(BackPressureError(num_queued_requests=9, max_queued_requests=9), "planner")
    assert isinstance(full, Overloaded)
    gone = translated(RayActorError(), "planner")
    assert isinstance(gone, ModelUnavailable)
    assert gone.ids["gone"] == "replica"
    own = translated(RayTaskError("f", "traceback", InvalidInput("no")), "planner")
    assert isinstance(own, InvalidInput)
