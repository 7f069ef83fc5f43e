"""The data that ships with the store: the documents it starts with, 74 customers' tasks, and what each must leave.

From the retail domain of tau2-bench by Sierra Research, MIT; see `data/LICENSE`.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from .documents import DocumentSet

_FOLDER = Path(__file__).with_name("data")


def initial(path: str | Path | None = None) -> DocumentSet:
    """The document set the store starts with: the shipped one, or that of a JSON file, gzipped or plain."""
    return _decoded(Path(path).read_bytes()) if path else _shipped("db")


def tasks() -> list[dict[str, Any]]:
    """The customers' tasks: what each says, and the actions that answer it."""
    return _shipped("tasks")


def expected() -> dict[str, dict[str, Any]]:
    """By task id: for each action whether it is refused and why, and the documents that are changed afterwards."""
    return _shipped("expected")


def _shipped(name: str) -> Any:
    return _decoded((_FOLDER / f"{name}.json.gz").read_bytes())


def _decoded(data: bytes) -> Any:
    return json.loads(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
