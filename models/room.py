"""Whether a tier fits: bundles of resources against what is free on each node, before Ray is asked to place them.

A tier that did not fit would wait inside Serve and hold what it got meanwhile; here it waits and holds nothing, and it
can be said what it waits for.
"""

from collections.abc import Iterable, Mapping, Sequence

from .tier import GIB, Tier
from .vllm_tier import bundles

Free = dict[str, float]
_TINY = 1e-6


def fits(tier: Tier, nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether all bundles of the replicas that it needs to begin find a node. First fit, largest memory first."""
    free = [dict(node) for node in nodes]
    wanted = [each for _ in range(max(1, tier.min_replicas)) for each in bundles(tier)]
    return all(_put(each, free) for each in sorted(wanted, key=_memory, reverse=True))


def shortage(tier: Tier, nodes: Sequence[Mapping[str, float]]) -> tuple[str, str]:
    """What is missing, in words, and what to do about it."""
    if tier.accelerator and not any(node.get(f"accelerator_type:{tier.accelerator}") for node in nodes):
        return (
            f"no node has a free accelerator {tier.accelerator}",
            f"Add a node with one, or leave out accelerator: {tier.accelerator} to run on processors",
        )
    return f"needs {_needs(tier)} on one node; {_best(nodes)}", (
        "Give it less memory_gb, take another tier out, or add a node"
    )


def _put(bundle: Mapping[str, float], free: list[Free]) -> bool:
    for node in free:
        if all(node.get(name, 0.0) + _TINY >= amount for name, amount in bundle.items()):
            for name, amount in bundle.items():
                node[name] -= amount
            return True
    return False


def _memory(bundle: Mapping[str, float]) -> float:
    return bundle.get("memory", 0.0)


def _needs(tier: Tier) -> str:
    each = f"{tier.memory_gb:g} GiB and {tier.cpus:g} processors"
    devices = f" and {tier.devices * tier.gpus:g} accelerators" if tier.devices else ""
    return each + devices + (f", {tier.min_replicas} times" if tier.min_replicas > 1 else "")


def _best(nodes: Iterable[Mapping[str, float]]) -> str:
    best = max(nodes, key=_memory, default={})
    return f"the most that one has free is {_memory(best) / GIB:.1f} GiB and {best.get('CPU', 0):g} processors"
