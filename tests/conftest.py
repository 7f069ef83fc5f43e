"""What every test gets: `hanse` is this checkout, here and in every process that a test starts; a machine that may be
busy with other things; and a place in the order in which two workers share the tests (`pytest -n 2 --dist loadgroup`).
"""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
    """Tests that need a cluster come first, file by file: nobody is left alone with a long one at the end, and each
    worker starts one cluster. What needs a model is one group, so that one worker has the engines."""
    for item in items:
        if group := _group(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _group(item) is None)


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


def _group(item: pytest.Item) -> str | None:
    """The tests that one worker runs in a row. A test's own mark goes before what its needs say."""
    if given := item.get_closest_marker("xdist_group"):
        return given.args[0]
    if item.get_closest_marker("vllm"):
        return "vllm"
    return item.path.name if item.get_closest_marker("ray") else None
