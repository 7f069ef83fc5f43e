"""The parts beside coordinators and hosts: which there are, and what makes each in the process that it gets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..contracts.pool import Embedder, Models
from .actors import models_client
from .assembly import World, namespace_of
from .config import Configuration
from .memory_client import memory_name
from .models_assembly import NAME as MODELS
from .models_assembly import make_models
from .statistics_part import NAME as STATISTICS
from .statistics_part import make_statistics

if TYPE_CHECKING:
    from .memory_part import MemoryPart


def parts_of(configuration: Configuration) -> Sequence[tuple[str, Any]]:
    """Name and maker of each."""
    models = [(MODELS, make_models)] if configuration.models is not None else []
    statistics = [(STATISTICS, make_statistics)] if configuration.federation.statistics else []
    return [*models, *_memory(configuration.memory_shards), *statistics]


def _memory(shards: int) -> Sequence[tuple[str, Any]]:
    return [(memory_name(shard), partial(_memory_beside_pool, shard=shard)) for shard in range(shards)]


def _memory_beside_pool(
    configuration: Configuration, world: World, fail: Callable[[BaseException], None], shard: int
) -> "MemoryPart":
    """In a process of Ray's, from which the model pool can be reached if there is one."""
    models = models_client(namespace_of(configuration)) if configuration.models is not None else None
    return memory_shard(configuration, world, fail, shard, models=models)


def memory_shard(
    configuration: Configuration,
    world: World,
    fail: Callable[[BaseException], None],
    shard: int,
    embedder: Embedder | None = None,
    models: Models | None = None,
) -> "MemoryPart":
    """A shard of the memory. `embedder` stands in for the one in this process; `models` write its summaries."""
    from .memory_part import MemoryPart

    return MemoryPart(configuration, world, fail, shard=shard, embedder=embedder, models=models)
