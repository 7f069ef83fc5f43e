"""What every test gets: `hanse` is this checkout, here and in every process that a test starts; a machine that may be
busy with other things; and a place in the order in which workers share the tests (`pytest -n 3 --dist loadgroup`).

    vllm │ long ones │ other clusters │ crash points │ without a cluster │ long ones
    gw0, gw2 ──▶                                                          ◀── gw1

Tests with a cluster mostly wait, for processes that start, die and come back; those without one compute. So one worker
of three computes from the first minute on, while the others wait.
"""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

from .support.postgres import Server

ROOT = Path(__file__).resolve().parent.parent


def _is_this_checkout() -> bool:
    spec = find_spec("hanse")
    origin = spec.origin if spec else None
    return origin is not None and Path(origin).resolve() == ROOT / "__init__.py"


def _import_from_here() -> None:
    """A folder in which `hanse` is a link to the checkout: what the editable install does, with nothing installed."""
    path = ROOT / ".make" / "path"
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "hanse").exists():
        (path / "hanse").symlink_to(ROOT, target_is_directory=True)
    sys.path.insert(0, str(path))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])


if not _is_this_checkout():
    _import_from_here()

# How fast an example is made or runs says how busy the machine is, and nothing of what is tested.
settings.register_profile("hanse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hanse")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One PostgreSQL for all tests of this worker that need one. Who stops it starts it again."""
    server = Server()
    yield server
    server.close()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a cluster come first, file by file, so that each worker starts one cluster. What needs a model is
    one group, so that one worker has the engines. Long ones stand at both ends, so that nobody is left alone with one.
    """
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_place)


class _FromBothEnds(LoadGroupScheduling):
    """As pytest-xdist shares groups, but that the second worker, and every third from there, begins at the end: with
    tests that need no cluster. Two workers that both started clusters, one of them vLLM's, ran out of time.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        if int(node.gateway.id.removeprefix("gw")) % 3 == 1:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)  # with -p no:xdist nobody asks
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    return _FromBothEnds(config, log) if config.getoption("dist") == "loadgroup" else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Raises UsageError when pytest-xdist has not heard of the groups: each worker would start all clusters."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            if (group := _group(item)) and not item.nodeid.endswith(f"@{group}"):
                raise pytest.UsageError(
                    f"{item.nodeid} is not in group {group}: see pytest's version in pyproject.toml"
                )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """The last test that needed this worker's cluster ends it: an idle one still takes a fifth of a core."""
    yield
    if _group(item) and nextitem is not None and not _group(nextitem) and (ray := sys.modules.get("ray")):
        ray.shutdown()


def _place(item: pytest.Item) -> int:
    """In the order that is drawn above."""
    group, slow = _group(item), item.get_closest_marker("slow") is not None
    if group is None:
        return 5 if slow else 4
    if group == "vllm" or slow:
        return 0 if group == "vllm" else 1
    return 2 if group == item.path.name else 3


def _group(item: pytest.Item) -> str | None:
    """The tests that one worker runs in a row. A test's own mark goes before what its needs say."""
    if given := item.get_closest_marker("xdist_group"):
        return given.args[0]
    if item.get_closest_marker("vllm"):
        return "vllm"
    return item.path.name if item.get_closest_marker("ray") else None
