"""How Ray Serve does what a keeper needs.

Serve reads its settings from the environment when it is imported, so this module is imported by who uses it, when it
does.
"""

import asyncio
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import ray
from ray import serve
from ray._private.state import available_resources_per_node
from ray.autoscaler.sdk import request_resources
from ray.serve._private.common import ReplicaState
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus

from .builds import Builds, last_line
from .deployer import Deployed
from .door import Door
from .serve_door import ServeDoor
from .source import Weights
from .stages import Stage, announced, forget
from .tier import Tier
from .vllm_tier import Prepare, bundles, deployment_name


class ServeDeployer:
    """Applications of the Serve instance that is there, one for each tier, without a route: only handles reach them."""

    def __init__(self, prefix: str, prepare: Prepare | None = None) -> None:
        """`prepare` runs first in each replica's process: a function of a module."""
        self._prefix = prefix
        self._builds = Builds(prepare)

    def engine(self) -> bool:
        return find_spec("vllm") is not None

    async def up(self) -> bool:
        return await asyncio.to_thread(_running)

    async def deploy(self, tier: Tier, weights: Weights) -> None:
        await asyncio.to_thread(self._deploy, tier, weights)

    async def remove(self, tier: Tier) -> None:
        await asyncio.to_thread(self._remove, tier)

    async def deployed(self, tiers: Sequence[Tier]) -> dict[str, Deployed | None]:
        return await asyncio.to_thread(self._deployed, tiers)

    async def free(self) -> list[dict[str, float]]:
        return await asyncio.to_thread(_free)

    async def wish(self, tier: Tier) -> None:
        await asyncio.to_thread(_wish, bundles(tier) * max(1, tier.min_replicas))

    def door(self, tier: Tier) -> Door:
        return ServeDoor(self._name(tier), deployment_name(tier), tier.name)

    def _name(self, tier: Tier) -> str:
        return application_name(self._prefix, tier.name)

    def _stage(self, tier: Tier) -> Stage:
        """A process that says nothing yet is being started; what one said that is gone counts no more."""
        said = announced(self._name(tier))
        return Stage.LOADING if said in (None, Stage.READY) else said

    def _deploy(self, tier: Tier, weights: Weights) -> None:
        name = self._name(tier)
        forget(name)
        self._builds.begin(name, tier, weights)

    def _remove(self, tier: Tier) -> None:
        name = self._name(tier)
        self._builds.end(name)
        if _running():
            serve.delete(name, _blocking=False)

    def _deployed(self, tiers: Sequence[Tier]) -> dict[str, Deployed | None]:
        """What is being built is looked at first: the application may be there a moment later."""
        builds = {tier.name: self._builds.look(self._name(tier)) for tier in tiers}
        found = _applications()
        return {tier.name: builds[tier.name] or self._how(tier, found.get(self._name(tier))) for tier in tiers}

    def _how(self, tier: Tier, application: Mapping[str, Any] | None) -> Deployed | None:
        if application is None or application["status"] in (ApplicationStatus.DELETING, ApplicationStatus.NOT_STARTED):
            return None
        deployment = application["deployments"].get(deployment_name(tier), {})
        states = [replica["state"] for replica in deployment.get("replicas", ())]
        running = states.count(ReplicaState.RUNNING)
        return Deployed(
            running=running,
            wanted=max(tier.min_replicas, running),
            failed=application["status"] == ApplicationStatus.DEPLOY_FAILED,
            message=last_line(deployment.get("message") or application["message"]),
            stage=None if running or not states else self._stage(tier),
        )


def application_name(prefix: str, tier: str) -> str:
    """Of a tier's Serve application."""
    return f"{prefix}-tier-{tier}"


def _running() -> bool:
    return _client() is not None


def _client() -> Any:
    """Of Ray Serve; None while it does not run. Asking for it in a process without Ray would start a cluster."""
    return _get_global_client(raise_if_no_controller_running=False) if ray.is_initialized() else None


def _applications() -> Mapping[str, Any]:
    """By name, as plain data. To make Serve's own types of it, as `serve.status` does, would hold this process up for
    some 90 ms at each look: they pickle the class that routes requests.
    """
    client = _client()
    return client.get_serve_details()["applications"] if client else {}


def _free() -> list[dict[str, float]]:
    return [dict(node) for node in available_resources_per_node().values()]


def _wish(wanted: list[dict[str, float]]) -> None:
    request_resources(bundles=wanted)
