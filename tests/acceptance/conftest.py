"""One Ray cluster for all tests that need one; each test has federations, data and names of its own."""

import itertools
from collections.abc import Iterator

import pytest

from hanse.runtime import actors, cluster
from hanse.runtime.config import Configuration
from hanse.runtime.gateway import proxy

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Real Ray, started once. Federations join it and leave it running."""
    import ray

    data = tmp_path_factory.mktemp("ray")
    started = cluster.join_ray(Configuration.for_agents([], data=data))
    yield
    if started:
        ray.shutdown()
        proxy.discard(data)


@pytest.fixture(scope="session", autouse=True)
def patient() -> Iterator[None]:
    """Clients wait longer for a process that comes back: on a machine that is busy it takes its time, and here it is
    not the time that counts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(actors, "PATIENCE_SECONDS", 90.0)
        patch.setattr(actors, "STATISTICS_SECONDS", 90.0)
        yield


@pytest.fixture
def name(ray_cluster: None) -> str:
    """A name, and so a Ray namespace, that no other federation has."""
    return f"test{next(_numbers)}"
