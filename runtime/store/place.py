"""Where the stores of a federation are: in files of its data folder, or in a database that the folder names.

A store has a name, such as `coordinator-0`, `models` or `agents/till`, and nothing else here knows what that becomes.
"""

import json
import os
from asyncio import Future
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ...contracts import Conflict, Corrupt, InvalidConfiguration, StorageError, Store
from ..address import Address
from ..files import write_whole
from .reading import StoreReader
from .sqlite import SqliteStore, translated

_SUFFIX = ".sqlite"
ADDRESS = "store.json"
"""In the data folder: which database holds its stores."""


class OpenStore(Store, Protocol):
    """A store that this process writes."""

    def scrub(self) -> "Future[None]":
        """Done when what was deleted before can be read nowhere any more. Raises StorageError."""
        ...

    def compact(self) -> "Future[None]":
        """The same, and the room that it took is given back. Commits wait meanwhile."""
        ...


class Reader(Protocol):
    """A store to look at, whether or not somebody has it open for writing. Nobody is fenced off by it."""

    def has(self, table: str) -> bool: ...

    def problems(self) -> list[str]:
        """What the database itself finds wrong with the files and indexes. It may read all of them."""
        ...

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a named query. Raises StorageError."""
        ...

    def close(self) -> None: ...


class Place(Protocol):
    """All stores of one federation."""

    def open(self, name: str, schema: str, *, secure_delete: bool = False) -> OpenStore:
        """For writing, made when it is not there; whoever had it open before is fenced off. Raises StorageError."""
        ...

    def reader(self, name: str, schema: str) -> Reader:
        """Raises StorageError, also where there is no such store, and Corrupt."""
        ...

    def names(self) -> list[str]:
        """Of all stores that are there, sorted."""
        ...

    def where(self, name: str) -> str:
        """For people: a file or an address."""
        ...


class Folder:
    """Files of a data folder. Keeps the `Place` port."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def open(self, name: str, schema: str, *, secure_delete: bool = False) -> OpenStore:
        return SqliteStore.open(self._path(name), schema, secure_delete=secure_delete)

    def reader(self, name: str, schema: str) -> Reader:
        path = self._path(name)
        with translated(str(path)):
            if not path.is_file():
                raise StorageError("there is no such store", path=str(path))
        return StoreReader(path, schema)

    def names(self) -> list[str]:
        # Unlike rglob, walk passes over a folder that somebody removes meanwhile.
        found = (Path(folder, file) for folder, _, files in os.walk(self.data) for file in files)
        return sorted(self._name(path) for path in found if path.suffix == _SUFFIX and path.is_file())

    def where(self, name: str) -> str:
        return str(self._path(name))

    def _path(self, name: str) -> Path:
        return self.data / f"{name}{_SUFFIX}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self.data).as_posix().removesuffix(_SUFFIX)


def place_of(data: Path) -> Place:
    """Of the federation whose data folder this is. Raises Corrupt, and InvalidConfiguration without `psycopg`."""
    address = _address(data)
    return Folder(data) if address is None else _database(address)


def settled(data: Path, address: Address | None) -> Place:
    """The place that a configuration names, which the folder says from now on.

    Raises Conflict when the stores are somewhere else already: a federation that began anew would not know its tasks.
    """
    known = _address(data)
    if address is None and known is not None:
        raise Conflict(
            f"the stores of {data} are in a database, and the configuration names none. Write: store: {{url: …}}"
        )
    if address is not None and known != address:
        _check_nothing_is_left(data, known, address)
        # For nobody else's eyes: an address may hold a password.
        write_whole(data / ADDRESS, json.dumps(asdict(address)).encode(), 0o600)
    return place_of(data)


def _check_nothing_is_left(data: Path, known: Address | None, address: Address) -> None:
    """The same database may be reached under another address, or with another password."""
    if known is None and Folder(data).names():
        raise Conflict(f"there are stores in {data}, and the configuration names a database: take another data folder")
    if known is not None and known.federation != address.federation:
        raise Conflict(f"the stores of {data} are those of {known.federation}, not of {address.federation}")


def _address(data: Path) -> Address | None:
    path = data / ADDRESS
    try:
        return Address(**json.loads(path.read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Corrupt(f"{path} does not say where the stores are: {error}") from error


def _database(address: Address) -> Place:
    try:
        from .database import Database
    except ModuleNotFoundError as error:
        raise InvalidConfiguration("store: needs psycopg. Write: pip install 'hanse[postgresql]'") from error
    return Database(address.url, address.federation)


def in_memory_store(schema: str) -> OpenStore:
    """One that ends with the process, and that nobody else can open."""
    return SqliteStore.open(":memory:", schema)
