"""The parts beside coordinators and hosts: which there are, and what makes each in the process that it gets."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contracts.pool import Embedder, Models
from .actors import memory_way, models_client
from .assembly import World, namespace_of
from .client import Shard
from .config import Configuration
from .memory_client import memory_name, reader_name
from .models_assembly import NAME as MODELS
from .models_assembly import make_models
from .statistics_part import NAME as STATISTICS
from .statistics_part import make_statistics

if TYPE_CHECKING:
    from .memory_part import MemoryPart
    from .memory_reader_part import MemoryReaderPart


class PartOf(NamedTuple):
    """One of them."""

    name: str
    make: Any
    roams: bool = False
    """It keeps nothing, so where the stores are in a database it may be on any node."""


def parts_of(configuration: Configuration) -> Sequence[PartOf]:
    models = [PartOf(MODELS, make_models)] if configuration.models is not None else []
    statistics = [PartOf(STATISTICS, make_statistics)] if configuration.federation.statistics else []
    return [*models, *_memory(configuration.memory_shards, configuration.memory_readers), *statistics]


def _memory(shards: int, readers: int) -> Sequence[PartOf]:
    writing = [PartOf(memory_name(shard), partial(_memory_beside_pool, shard=shard)) for shard in range(shards)]
    reading = [
        PartOf(reader_name(shard, number), partial(_reader_beside_shard, shard=shard), roams=True)
        for shard in range(shards)
        for number in range(readers)
    ]
    return [*writing, *reading]


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


def _reader_beside_shard(
    configuration: Configuration, world: World, fail: Callable[[BaseException], None], shard: int
) -> "MemoryReaderPart":
    return memory_reader(configuration, world, fail, shard, memory_way(namespace_of(configuration), shard))


def memory_reader(
    configuration: Configuration,
    world: World,
    fail: Callable[[BaseException], None],
    shard: int,
    way: Shard,
    embedder: Embedder | None = None,
) -> "MemoryReaderPart":
    """A reader of a shard of the memory, to which `way` leads. `embedder` stands in for the one in this process."""
    from .memory_reader_part import MemoryReaderPart

    return MemoryReaderPart(configuration, world, fail, shard=shard, way=way, embedder=embedder)
