"""How fast the memory recalls and takes in, how many tenants it holds, and Chroma and LanceDB on the same vectors.

Rows that begin with `service` are of the whole of it; see `memory_service`. The others show what of that is whose.

    python -m hanse.benchmarks.memory --records 100000
    pip install chromadb lancedb          # to have them in the same table; those that are absent are left out

Texts are drawn word by word, as often as the words of the shipped store's conversations are said there, with a tail of
rare ones; vectors are mixtures of those of real sentences with noise, because embedding a hundred thousand texts takes
minutes. Every record belongs to one of three teams; the filter keeps one. `hybrid` is index and tables together, words,
vectors and neighbours; `cold` filters are new to the tables each time. Times are of one call, one after the other.
"""

import argparse
import asyncio
import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts.ids import Tenant
from ..contracts.memory import Layer, Query, Record
from ..memory.access import EVERYTHING
from ..memory.index import TenantIndex
from ..memory.log import Kept
from ..memory.projection import Projection
from ..memory.tables import Database
from ..memory.vectors import VectorIndex
from ..models.embedder import LocalEmbedder
from ..models.encoder import OnnxEncoder
from . import memory_service
from .embedder import _shipped_texts as shipped_texts
from .machine import percentile, show
from .memory_service import settle

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
TEAMS = 3
TURNS = 20
"""Records of one episode."""
LIMIT = 10


@dataclass
class Data:
    records: list[Record]
    vectors: Any
    questions: list[str]
    asked: Any
    """Vectors of the questions."""

    @property
    def now_ms(self) -> int:
        return START_MS + DAY_MS * 100


async def drawn(count: int, questions: int, embedder: LocalEmbedder) -> Data:
    """Texts and vectors by chance, the same every time."""
    generator, sentences = np.random.default_rng(7), shipped_texts()
    said = " ".join(sentences).split()
    real = await embedder.embed(sentences[:1500])
    records = [_record(i, _text(said, generator)) for i in range(count)]
    asked = [" ".join(each.split()[:10]) + "?" for each in sentences[-questions:]]
    return Data(records, _mixed(real, count, generator), asked, await embedder.embed(asked))


def _text(said: Sequence[str], generator: np.random.Generator) -> str:
    places = generator.integers(0, len(said), int(generator.integers(8, 36)))
    words = [str(said[place]) for place in places]
    return " ".join([*words, f"r{int(generator.zipf(1.3)) % 1_000_000}"])


def _mixed(real: Any, count: int, generator: np.random.Generator) -> Any:
    """Each of three real ones, somewhere between them."""
    vectors = np.empty((count, real.shape[1]), np.float32)
    for start in range(0, count, 4096):
        size = min(4096, count - start)
        shares = generator.dirichlet([1, 1, 1], size).astype(np.float32)
        parents = real[generator.integers(0, len(real), (size, 3))]
        mixed = np.einsum("ij,ijk->ik", shares, parents) + generator.normal(0, 0.015, (size, real.shape[1]))
        vectors[start : start + size] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return vectors


def _record(number: int, text: str, tenant: str = "benchmark") -> Record:
    at_ms = START_MS + number * 1000
    return Record(
        id=f"{number:08d}",
        tenant=Tenant(tenant),
        text=text,
        layer=Layer.EPISODIC,
        episode=f"e{number // TURNS}",
        position=number % TURNS,
        payload={"team": number % TEAMS},
        created_ms=at_ms,
        updated_ms=at_ms,
    )


def timed(calls: Iterator[Callable[[], Any]], found: list[Any] | None = None) -> dict[str, float]:
    """Wall and processor time of each call, in milliseconds. What they return goes to `found`."""
    wall, processor = list[float](), list[float]()
    for call in calls:
        started, used = time.perf_counter(), time.thread_time()
        result = call()
        wall.append((time.perf_counter() - started) * 1000)
        processor.append((time.thread_time() - used) * 1000)
        if found is not None:
            found.append(result)
    print(".", end="", flush=True)
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    figures = {f"ms_{name}": percentile(wall, share) for name, share in shares.items()}
    return figures | {"processor_ms_p50": percentile(processor, 0.5)}


def take_in(data: Data, database: Database) -> tuple[Projection, dict[str, Any]]:
    """Everything one by one, and then the graph that is made beside it."""
    projection = Projection(TenantIndex(data.vectors.shape[1]), database)
    pairs = zip(data.records, data.vectors, strict=True)
    times = timed((lambda pair=pair: projection.put(Kept(*pair))) for pair in pairs)
    settle(projection.index)
    return projection, {"what": "take in one record, without embedding it", **times}


def hybrid(data: Data, projection: Projection) -> Iterator[dict[str, Any]]:
    third, rounds = {"team": 1}, [*zip(data.questions, data.asked, strict=True)]

    def search(text: str, vector: Any, **filters: Any) -> None:
        projection.search(Query(text=text, limit=LIMIT, **filters), vector, EVERYTHING, data.now_ms)

    search(*rounds[0], payload=third)
    yield {"what": "hybrid", **timed((lambda each=each: search(*each)) for each in rounds)}
    yield {
        "what": "hybrid, a third",
        **timed((lambda each=each: search(*each, payload=third)) for each in rounds),
    }
    fresh = enumerate(rounds, 1)
    yield {
        "what": "hybrid, a third, cold",
        **timed((lambda i=i, each=each: search(*each, payload=third, min_confidence=i / 1e6)) for i, each in fresh),
    }
    yield {"what": "hybrid, words only", **timed((lambda each=each: search(each[0], None)) for each in rounds)}


def vectors_alone(data: Data) -> Iterator[dict[str, Any]]:
    """FAISS as the memory uses it, against comparing all; then the peers."""
    index = VectorIndex(data.vectors.shape[1])
    for row, vector in enumerate(data.vectors):
        index.put(row, vector)
    while index.building:
        time.sleep(0.05)
    third = np.arange(len(data.vectors)) % TEAMS == 1

    def search_here(vector: Any, filtered: bool) -> list[int]:
        return index.search(vector, LIMIT, third if filtered else None)[0].tolist()

    for name, search in chain([("memory", search_here)], _peers(data)):
        for what, filtered in ((f"vectors: {name}", False), (f"vectors: {name}, a third", True)):
            found = list[list[int]]()
            times = timed(((lambda v=v, f=filtered, s=search: s(v, f)) for v in data.asked), found)
            yield {"what": what, **times, "recall": _recall(data, found, third if filtered else None)}


def _recall(data: Data, found: Sequence[list[int]], may: Any) -> str:
    cosines = data.asked @ data.vectors.T
    if may is not None:
        cosines[:, ~may] = -2
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :LIMIT]
    return f"{np.mean([len(set(a) & set(b.tolist())) / LIMIT for a, b in zip(found, nearest, strict=True)]):.4f}"


def _peers(data: Data) -> Iterator[tuple[str, Callable[[Any, bool], list[int]]]]:
    folder = tempfile.mkdtemp()
    try:
        for make in (_chroma, _lancedb):
            try:
                yield make(data, folder)
            except ImportError as absent:
                print(f"left out: {absent.name} (pip install {absent.name})")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _chroma(data: Data, folder: str) -> tuple[str, Callable[[Any, bool], list[int]]]:
    chromadb = importlib.import_module("chromadb")
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    space = {"hnsw:space": "ip"}
    collection = chromadb.PersistentClient(f"{folder}/chroma", settings).create_collection("records", metadata=space)
    for start in range(0, len(data.records), 5000):
        part = data.records[start : start + 5000]
        collection.add(
            ids=[each.id for each in part],
            embeddings=data.vectors[start : start + 5000],
            metadatas=[dict(each.payload) for each in part],
        )

    def search(vector: Any, filtered: bool) -> list[int]:
        found = collection.query(
            query_embeddings=[vector], n_results=LIMIT, where={"team": 1} if filtered else None, include=[]
        )
        return [int(id) for id in found["ids"][0]]

    return "Chroma", search


def _lancedb(data: Data, folder: str) -> tuple[str, Callable[[Any, bool], list[int]]]:
    lancedb, pyarrow = importlib.import_module("lancedb"), importlib.import_module("pyarrow")
    size = data.vectors.shape[1]
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(data.vectors.ravel()), size)
    columns = {"number": np.arange(len(data.records)), "team": np.arange(len(data.records)) % TEAMS, "vector": vectors}
    table = lancedb.connect(f"{folder}/lancedb").create_table("records", pyarrow.table(columns))

    def search(vector: Any, filtered: bool) -> list[int]:
        query = table.search(vector).distance_type("dot").select(["number"]).limit(LIMIT)
        query = query.where("team = 1", prefilter=True) if filtered else query
        return query.to_arrow()["number"].to_pylist()

    return "LanceDB", search


async def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        async with LocalEmbedder(OnnxEncoder(Path(folder)), workers=os.cpu_count() or 1) as embedder:
            data = await drawn(options.records, options.queries, embedder)
            rows = [await _small(data, embedder, Path(folder), options.tenants)]
            rows += [row async for row in memory_service.large(data, embedder, _made(Path(folder) / "large"))]
    database = Database()
    projection, taken = take_in(data, database)
    rows += [taken, *hybrid(data, projection)]
    nbytes = getattr(projection.index, "nbytes", 0)
    projection.close()
    database.close()
    del projection
    rows += vectors_alone(data) if options.peers else ()
    figures = {name: rows[0].pop(name) for name in [*rows[0]] if name.endswith("_mb") or name.startswith("open")}
    columns = dict.fromkeys(name for row in rows for name in row)
    shown = [{name: row.get(name, "") for name in columns} for row in rows]
    return shown, {"index_mb": nbytes / 1e6, "tenants": figures, "records": options.records}


async def _small(data: Data, embedder: LocalEmbedder, folder: Path, tenants: int) -> dict[str, Any]:
    return await memory_service.many(data, embedder, _made(folder / "small"), tenants)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    shown = [row for row in rows if row["ms_p50"] and row["ms_p99"]]
    figure = Figure(figsize=(8, 0.4 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh([row["what"] for row in shown], [row["ms_p50"] for row in shown], label="p50")
    axes.plot([row["ms_p99"] for row in shown], [row["what"] for row in shown], "k|", markersize=12, label="p99")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds per question")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="in the one large tenant")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--tenants", type=int, default=1000, help="of a hundred records each")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="vectors alone, and peers")
    parser.add_argument("--folder", default=".", help="where the logs lie")
    parser.add_argument("--plot", type=Path, help="a picture of the times, such as memory.svg")
    options = parser.parse_args()
    rows, figures = asyncio.run(measure(options))
    show("memory", rows, **figures)
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
