"""Putting tiers' applications together, in a process beside the pool's that ends when there is nothing left to build.

`ray.serve.llm` loads vLLM and torch before it builds anything: measured, eight seconds of one processor and 600 MB. The
pool's process, which answers everybody, has neither to spare. Tiers that start side by side share one such process.
"""

import logging
from typing import Any

import ray
from ray import serve
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .deployer import Deployed
from .source import Weights
from .stages import Stage
from .tier import Tier
from .vllm_tier import HARMLESS, Prepare

STOP_SECONDS = 10.0


class Builds:
    """Those under way, by the names of their applications. Every method blocks for a call to the cluster at most."""

    def __init__(self, prepare: Prepare | None) -> None:
        self._prepare = prepare
        self._builder: Any = None
        self._under_way: dict[str, ray.ObjectRef[None]] = {}

    def begin(self, name: str, tier: Tier, weights: Weights) -> None:
        """Its replicas come after it."""
        if self._builder is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)  # vLLM is here
            self._builder = _Builder.options(scheduling_strategy=here, runtime_env={"env_vars": HARMLESS}).remote()
        self._under_way[name] = self._builder.build.remote(name, tier, weights, self._prepare)

    def look(self, name: str) -> Deployed | None:
        """How it goes. None where it is done, or was never begun."""
        if (build := self._under_way.get(name)) is None:
            return None
        if not ray.wait([build], timeout=0)[0]:
            return Deployed(stage=Stage.BUILDING)
        self._over(name)
        try:
            ray.get(build)
        except Exception as error:
            return Deployed(failed=True, message=last_line(str(error)))
        return None

    def end(self, name: str) -> None:
        """Afterwards nothing more of it comes. What else is being built fails, and is begun anew by who wants it."""
        if (build := self._under_way.get(name)) is not None:
            self._kill()
            ray.wait([build], timeout=STOP_SECONDS)
            self._over(name)

    def _over(self, name: str) -> None:
        del self._under_way[name]
        if not self._under_way:
            self._kill()

    def _kill(self) -> None:
        if self._builder is not None:
            ray.kill(self._builder)
            self._builder = None


@ray.remote(num_cpus=0, max_restarts=0)
class _Builder:
    def build(self, name: str, tier: Tier, weights: Weights, prepare: Prepare | None) -> None:
        """Without a route: only handles reach it."""
        from .vllm_server import application

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        target = serve.RunTarget(application(tier, weights, name, prepare), name=name, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False, wait_for_ingress_deployment_creation=False)


def last_line(message: str) -> str:
    """Ray reports a whole traceback; its last line names the error."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""
