"""Snapshots: what a tenant has, as Parquet files at any place that `pyarrow.fs` knows, named by a manifest.

    PLACE/<name of the tenant>/manifest.json          format, tenant, sequence, model, files with SHA-256, seal
    PLACE/<name of the tenant>/records-<sequence>-<random>.parquet

A file counts when the manifest names it with its hash; the manifest counts when its seal, keyed with a key of the
federation's own, is right. Anything else is torn, foreign or tampered with: it is not loaded, and the log is asked,
which is the truth and has everything. On a local disk each file is written beside its place, synced, and put there
whole.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
import orjson

from ..contracts import Corrupt, Faults, NoFaults, StorageError, Tenant
from ..contracts.memory import Record
from . import faults as points
from .log import Kept

if TYPE_CHECKING:
    from pyarrow import Table
    from pyarrow.fs import FileSystem

FORMAT = 1
"""Of the files and the manifest; a snapshot of another one is refused."""
MANIFEST = "manifest.json"
_NESTED = ("payload", "fact", "provenance")
_log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A snapshot that was checked."""

    sequence: int
    """Of the last journal entry whose writes it has for certain."""
    records: list[Kept]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one tenant's files are."""

    system: "FileSystem"
    folder: str
    local: bool

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"


class Snapshots:
    """The snapshots of one shard. Its work is done in threads; one at a time for each tenant."""

    def __init__(self, location: str | Path, key: bytes, faults: Faults | None = None) -> None:
        """`location` is a folder or a URI such as `s3://bucket/memory`; `key` seals the manifests."""
        self._location, self._key = str(location), key
        self._faults: Faults = faults or NoFaults()
        self._locks: dict[Tenant, asyncio.Lock] = {}
        self._discarded: dict[Tenant, int] = {}
        """Counts what was forgotten, so that a snapshot begun before is not kept after."""

    def forgotten(self, tenant: Tenant) -> int:
        """How often something was forgotten. To be asked before the records of a snapshot are read."""
        return self._discarded.get(tenant, 0)

    async def write(
        self, tenant: Tenant, sequence: int, records: Sequence[Kept], forgotten: int | None = None
    ) -> dict[str, Any]:
        """Writes a snapshot in place of the one before. Returns its manifest; an empty one when something was
        forgotten since `forgotten` was asked, which the records may still have. Raises StorageError.
        """
        asked = self.forgotten(tenant) if forgotten is None else forgotten
        async with self._lock(tenant):
            if asked != self.forgotten(tenant):
                return {}
            manifest = await _aside(self._write, tenant, sequence, records)
            if asked != self.forgotten(tenant):
                await _aside(self._discard, tenant)
                return {}
            return manifest

    async def read(self, tenant: Tenant) -> Loaded | None:
        """The snapshot of a tenant. None when there is none, or none that can be trusted."""
        async with self._lock(tenant):
            try:
                return await _aside(self._read, tenant)
            except (Corrupt, StorageError) as error:
                _log.warning("a snapshot is not used: %s", error, extra={"action": "memory.snapshot_refused"})
                return None

    async def discard(self, tenant: Tenant) -> int:
        """Deletes all files of a tenant. Returns how many there were."""
        self._discarded[tenant] = self._discarded.get(tenant, 0) + 1
        async with self._lock(tenant):
            return await _aside(self._discard, tenant)

    def _lock(self, tenant: Tenant) -> asyncio.Lock:
        return self._locks.setdefault(tenant, asyncio.Lock())

    # In a thread

    def _write(self, tenant: Tenant, sequence: int, records: Sequence[Kept]) -> dict[str, Any]:
        place = self._place(tenant)
        name = f"records-{sequence}-{secrets.token_hex(4)}.parquet"
        data = _parquet(_table(records))
        _put(place, name, data)
        self._faults.reach(points.SNAPSHOT_FILE)
        file = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": len(records)}
        said = {"format": FORMAT, "tenant": tenant, "sequence": sequence, "files": [file]}
        manifest = said | {"seal": self._seal(said)}
        _put(place, MANIFEST, orjson.dumps(manifest), lambda: self._faults.reach(points.SNAPSHOT_MANIFEST))
        self._faults.reach(points.SNAPSHOT_DONE)
        _delete(place, keep={MANIFEST, name})
        return manifest

    def _read(self, tenant: Tenant) -> Loaded | None:
        place = self._place(tenant)
        if (text := _get(place, MANIFEST)) is None:
            return None
        manifest = self._checked(text, tenant)
        records: list[Kept] = []
        for file in manifest["files"]:
            data = _get(place, file["name"])
            if data is None or hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise Corrupt("a file is not the one that its manifest names", file=file["name"])
            records += _records(data, tenant)
        return Loaded(manifest["sequence"], records)

    def _checked(self, text: bytes, tenant: Tenant) -> dict[str, Any]:
        """The manifest, if it is one of ours for this tenant. Raises Corrupt."""
        try:
            manifest = json.loads(text)
            said = {name: manifest[name] for name in ("format", "tenant", "sequence", "files")}
            seal = str(manifest["seal"])
        except (ValueError, TypeError, KeyError):
            raise Corrupt("a manifest that is none") from None
        if not hmac.compare_digest(seal, self._seal(said)):
            raise Corrupt("a manifest with another's seal, or one that was changed")
        if said["tenant"] != tenant or said["format"] != FORMAT:
            raise Corrupt("a manifest of another tenant or format")
        return said

    def _seal(self, said: Mapping[str, Any]) -> str:
        return hmac.new(self._key, orjson.dumps(said, option=orjson.OPT_SORT_KEYS), hashlib.sha256).hexdigest()

    def _discard(self, tenant: Tenant) -> int:
        return _delete(self._place(tenant), keep=set())

    def _place(self, tenant: Tenant) -> _Place:
        """Under a name that is a name everywhere, whatever the tenant is called, and that tells nothing of it."""
        from pyarrow import fs

        own = hmac.new(self._key, tenant.encode(), hashlib.sha256).hexdigest()[:32]
        if "://" not in self._location:
            folder = Path(self._location).absolute() / own
            folder.mkdir(parents=True, exist_ok=True)
            return _Place(fs.LocalFileSystem(), str(folder), local=True)
        system, path = fs.FileSystem.from_uri(self._location)
        return _Place(system, f"{path.rstrip('/')}/{own}", local=isinstance(system, fs.LocalFileSystem))


async def _aside(work: Any, *arguments: Any) -> Any:
    """In a thread. The one border where the errors of disks and object stores become ours."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:  # pyarrow's errors of input and output are OSErrors too
        raise StorageError(f"the place of the snapshots: {type(error).__name__}: {error}") from error


def _put(place: _Place, name: str, data: bytes, before_it_counts: Any = None) -> None:
    """The file, whole, in its place: on a local disk by its name in one step, in an object store by its nature."""
    if not place.local:
        if before_it_counts:
            before_it_counts()
        with place.system.open_output_stream(place.path(name)) as stream:
            stream.write(data)
        return
    path = Path(place.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.{secrets.token_hex(4)}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if before_it_counts:
        before_it_counts()
    temporary.replace(path)
    _sync_folder(path.parent)


def _get(place: _Place, name: str) -> bytes | None:
    from pyarrow import fs

    if "/" in name or place.system.get_file_info(place.path(name)).type is not fs.FileType.File:
        return None
    with place.system.open_input_stream(place.path(name)) as stream:
        return stream.read()


def _delete(place: _Place, *, keep: set[str]) -> int:
    """Everything in the folder but what is to be kept, the manifest first: without it no file counts."""
    from pyarrow import fs

    found = place.system.get_file_info(fs.FileSelector(place.folder, allow_not_found=True))
    names = [info.base_name for info in found if info.type is fs.FileType.File and info.base_name not in keep]
    for name in sorted(names, key=lambda name: name != MANIFEST):
        place.system.delete_file(place.path(name))
    if place.local and names:
        _sync_folder(Path(place.folder))
    return len(names)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _table(records: Sequence[Kept]) -> "Table":
    """One row for each record: its fields as columns, what is nested as JSON, its vector as a list of halves."""
    import pyarrow

    rows = [_row(each) for each in records]
    vectors = [None if each.vector is None else each.vector.astype(numpy.float16) for each in records]
    table = pyarrow.Table.from_pylist(rows, schema=_schema())
    return table.append_column("vector", pyarrow.array(vectors, pyarrow.list_(pyarrow.float16())))


def _schema() -> Any:
    import pyarrow

    text, whole, real, truth = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()
    kinds: dict[str, Any] = dict.fromkeys(Record.model_fields, text)
    kinds |= dict.fromkeys(("importance", "confidence", "ttl_seconds"), real)
    kinds |= dict.fromkeys(("position", "version", "valid_from_ms", "valid_to_ms", "expires_ms"), whole)
    kinds |= dict.fromkeys(("created_ms", "updated_ms"), whole)
    kinds |= {"pinned": truth, "labels": pyarrow.list_(text)}
    return pyarrow.schema(list(kinds.items()))


def _row(each: Kept) -> dict[str, Any]:
    row = each.record.model_dump(mode="json")
    return row | {name: None if row[name] is None else orjson.dumps(row[name]).decode() for name in _NESTED}


def _parquet(table: "Table") -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _records(data: bytes, tenant: Tenant) -> list[Kept]:
    """Raises Corrupt for what is no snapshot of this tenant, though its hash is right."""
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(pyarrow.BufferReader(data))
    vectors = table.column("vector").to_pylist()
    kept: list[Kept] = []
    for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
        nested = {name: None if row[name] is None else orjson.loads(row[name]) for name in _NESTED}
        record = Record.model_validate(row | nested)
        if record.tenant != tenant:
            raise Corrupt("a record of another tenant lies in a snapshot")
        kept.append(Kept(record, None if vector is None else numpy.asarray(vector, numpy.float32)))
    return kept
