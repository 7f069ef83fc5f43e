"""How far a replica has come. It says so in the cluster's key-value store, because nobody can ask it while it is being
made.
"""

from enum import StrEnum

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

_NAMESPACE = b"hanse-stages"


class Stage(StrEnum):
    """In the order in which they come."""

    BUILDING = "putting its application together"
    LOADING = "starting a process with the engine's program"
    STARTING = "loading the weights"
    READY = "ready"

    @property
    def progress(self) -> float:
        """Roughly how much of the time to readiness has passed when it begins."""
        return {Stage.BUILDING: 0.02, Stage.LOADING: 0.2, Stage.STARTING: 0.5, Stage.READY: 1.0}[self]


def announce(key: str, stage: Stage) -> None:
    """Called in the replica's process."""
    _internal_kv_put(key, stage.value, overwrite=True, namespace=_NAMESPACE)


def announced(key: str) -> Stage | None:
    """The last stage that a replica announced under this key. Blocks for a call to the cluster's head."""
    said = _internal_kv_get(key, namespace=_NAMESPACE)
    return Stage(said.decode()) if said else None


def forget(key: str) -> None:
    _internal_kv_del(key, namespace=_NAMESPACE)
