"""Snapshots: what a tenant has, as Parquet files at any place that `pyarrow.fs` knows, named by a manifest.

    PLACE/<name of the tenant>/manifest.json          format, tenant, sequence, head, files with SHA-256, seal
    PLACE/<name of the tenant>/records-<sequence>-<random>.parquet          every version, with its vector
    PLACE/<name of the tenant>/{derivations,tombstones,grants,receipts,certificates}-….parquet

They are copies for the day on which the log itself is lost; `restoring` brings one back. Nothing is opened from them.
Of the 2.3 s in which a tenant of 20,000 records opens from the log, its rows take 0.05 s, the records made of them
0.4 s and the indexes the rest, which no file could save; to read these files takes four times as long as to read the
log.

A file counts when the manifest names it with its hash; the manifest counts when its seal, keyed with a key of the
federation's own, is right. Anything else is torn, foreign or tampered with, and is not loaded. On a local disk each
file is written beside its place, synced, and put there whole.
"""

import asyncio
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from ..contracts import Corrupt, Faults, NoFaults, NotFound, StorageError, Tenant
from ..contracts.memory import OF_SNAPSHOT, Record
from . import faults as points
from .log import Kept

if TYPE_CHECKING:
    from pyarrow import Schema, Table
    from pyarrow.fs import FileSystem

FORMAT = 2
"""Of the files and the manifest; a snapshot of another one is refused."""
MANIFEST = "manifest.json"
RECORDS = "records"
ROWS = 20_000
"""Records of one file."""
_NESTED = ("payload", "fact", "provenance")
BESIDE: Mapping[str, Mapping[str, str]] = {
    "derivations": {"source": "text", "id": "text"},
    "tombstones": {"id": "text", "at_ms": "whole", "cause": "text", "reason": "text"},
    "grants": {"owner": "text", "reader": "text", "by": "text", "at_ms": "whole"},
    "receipts": {"key": "text", "salt": "bytes", "digest": "bytes", "body": "bytes", "at_ms": "whole"},
    "certificates": {"body": "bytes"},
}
"""What stands beside the records, by kind."""


class File(BaseModel):
    """One file of a snapshot."""

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    sha256: str
    bytes: int
    rows: int


class Manifest(BaseModel):
    """What a snapshot is made of."""

    model_config = ConfigDict(frozen=True)

    format: int
    tenant: Tenant
    sequence: int
    """Of the last journal entry whose writes it has for certain."""
    head: str
    """Hash of that entry: a log that goes on from there has it too."""
    at_ms: int
    files: list[File]
    seal: str = ""

    @property
    def records(self) -> int:
        """How many versions of records."""
        return sum(file.rows for file in self.files if file.kind == RECORDS)


class Part(NamedTuple):
    """Some rows of one kind: of records a `Kept` each, of what stands beside them a mapping."""

    kind: str
    rows: Sequence[Any]


class Mark(NamedTuple):
    """Where in the journal a snapshot was taken."""

    sequence: int
    head: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one tenant's files are."""

    system: "FileSystem"
    folder: str
    local: bool

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"


class Snapshot:
    """One that was checked, file by file. To be read while it is held; see `Snapshots.held`."""

    def __init__(self, manifest: Manifest, place: _Place) -> None:
        self.manifest = manifest
        self._place = place

    async def records(self) -> AsyncIterator[list[Kept]]:
        """All versions, by id and version. Raises Corrupt, StorageError."""
        for file in self.manifest.files:
            if file.kind == RECORDS:
                yield await _aside(_records, self._place, file, self.manifest.tenant)

    async def rows(self, kind: str) -> list[dict[str, Any]]:
        """What stands beside the records. Raises Corrupt, StorageError."""
        found: list[dict[str, Any]] = []
        for file in self.manifest.files:
            if file.kind == kind:
                found += await _aside(_rows, self._place, file)
        return found


class Snapshots:
    """The snapshots of one shard. Its work is done in threads; one at a time for each tenant."""

    def __init__(self, location: str | Path, key: bytes, faults: Faults | None = None) -> None:
        """`location` is a folder or a URI such as `s3://bucket/memory`; `key` seals the manifests."""
        self.location, self._key = str(location), key
        self._faults: Faults = faults or NoFaults()
        self._locks: dict[Tenant, asyncio.Lock] = {}
        self._discarded: dict[Tenant, int] = {}
        """Counts what was forgotten, so that a snapshot begun before is not kept after."""

    def forgotten(self, tenant: Tenant) -> int:
        """How often something was forgotten. To be asked before the records of a snapshot are read."""
        return self._discarded.get(tenant, 0)

    async def write(
        self, tenant: Tenant, mark: Mark, parts: AsyncIterable[Part], forgotten: int | None = None
    ) -> Manifest | None:
        """Writes a snapshot in place of the one before. None when something was forgotten since `forgotten` was asked,
        which the records may still have. Raises StorageError.
        """
        asked = self.forgotten(tenant) if forgotten is None else forgotten
        async with self._lock(tenant):
            place, files = await _aside(self._place, tenant), list[File]()
            async for part in parts:
                if asked != self.forgotten(tenant):
                    break
                files.append(await _aside(self._write_part, place, mark, part))
            if asked == self.forgotten(tenant):
                manifest = await _aside(self._finish, place, tenant, mark, files)
                if asked == self.forgotten(tenant):
                    return manifest
            await _aside(_delete, place)
            return None

    async def manifest(self, tenant: Tenant) -> Manifest | None:
        """Of the snapshot that is there. None when there is none, or none that is whole and ours."""
        try:
            return await _aside(self._manifest, tenant)
        except (Corrupt, NotFound):
            return None

    @asynccontextmanager
    async def held(self, tenant: Tenant) -> AsyncIterator[Snapshot]:
        """The snapshot of a tenant, checked from end to end; nobody replaces it meanwhile.

        Raises NotFound when there is none, Corrupt for one that is torn, changed or foreign, StorageError.
        """
        async with self._lock(tenant):
            manifest = await _aside(self._manifest, tenant)
            place = await _aside(self._place, tenant)
            for file in manifest.files:
                await _aside(_file, place, file)
            yield Snapshot(manifest, place)

    async def tenants(self) -> list[Tenant]:
        """Whose snapshots are there, by what their manifests say. Raises Corrupt for one that is torn or foreign."""
        return await _aside(self._tenants)

    async def discard(self, tenant: Tenant) -> int:
        """Deletes all files of a tenant. Returns how many there were."""
        self._discarded[tenant] = self._discarded.get(tenant, 0) + 1
        async with self._lock(tenant):
            return await _aside(lambda: _delete(self._place(tenant)))

    def _lock(self, tenant: Tenant) -> asyncio.Lock:
        return self._locks.setdefault(tenant, asyncio.Lock())

    # In a thread

    def _write_part(self, place: _Place, mark: Mark, part: Part) -> File:
        name = f"{part.kind}-{mark.sequence}-{secrets.token_hex(4)}.parquet"
        data = _parquet(_table(part))
        _put(place, name, data)
        self._faults.reach(points.SNAPSHOT_FILE)
        sha256 = hashlib.sha256(data).hexdigest()
        return File(kind=part.kind, name=name, sha256=sha256, bytes=len(data), rows=len(part.rows))

    def _finish(self, place: _Place, tenant: Tenant, mark: Mark, files: list[File]) -> Manifest:
        said = Manifest(format=FORMAT, tenant=tenant, files=files, **mark._asdict())
        manifest = said.model_copy(update={"seal": self._seal(said.model_dump(mode="json"))})
        data = orjson.dumps(manifest.model_dump(mode="json"))
        _put(place, MANIFEST, data, lambda: self._faults.reach(points.SNAPSHOT_MANIFEST))
        self._faults.reach(points.SNAPSHOT_DONE)
        _delete(place, keep={MANIFEST, *(file.name for file in files)})
        return manifest

    def _manifest(self, tenant: Tenant) -> Manifest:
        place = self._place(tenant)
        if (text := _get(place, MANIFEST)) is None:
            raise NotFound(f"there is no snapshot of {tenant} at {self.location}{self._others(place)}")
        manifest = self._checked(text)
        if manifest.tenant != tenant:
            raise Corrupt(f"the snapshot in {tenant}'s place at {self.location} is another tenant's")
        return manifest

    def _checked(self, text: bytes) -> Manifest:
        """The manifest, if its seal is ours. Raises Corrupt."""
        try:
            said = json.loads(text)
            seal = str(said.pop("seal"))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Corrupt(f"a manifest at {self.location} is none: it was torn") from None
        if not hmac.compare_digest(seal.encode(), self._seal(said).encode()):
            raise Corrupt(
                f"a snapshot at {self.location} has another seal: it was changed, or another federation wrote it. "
                "If so, give that one's secret.key: hanse memory restore --key FILE"
            )
        if said.get("format") != FORMAT:
            raise Corrupt(f"a snapshot at {self.location} is of format {said.get('format')}, and {FORMAT} is read here")
        try:
            return Manifest.model_validate(said | {"seal": seal})
        except ValidationError as error:
            raise Corrupt(f"a manifest at {self.location} says too little: {error.error_count()} fields") from None

    def _seal(self, said: Mapping[str, Any]) -> str:
        sealed = {name: value for name, value in said.items() if name != "seal"}
        return hmac.new(self._key, orjson.dumps(sealed, option=orjson.OPT_SORT_KEYS), hashlib.sha256).hexdigest()

    def _tenants(self) -> list[Tenant]:
        system, root, _ = self._root()
        manifests = (_get(_Place(system, folder, local=False), MANIFEST) for folder in _folders(system, root))
        return sorted(self._checked(text).tenant for text in manifests if text is not None)

    def _others(self, place: _Place) -> str:
        """A hint for somebody whose key is not the one that the folders are named by."""
        found = len([each for each in _folders(place.system, place.folder.rpartition("/")[0]) if each != place.folder])
        return f"; {found} folders there are of other tenants or of another federation's key" if found else ""

    def _place(self, tenant: Tenant) -> _Place:
        """Under a name that is a name everywhere, whatever the tenant is called, and that tells nothing of it."""
        own = hmac.new(self._key, tenant.encode(), hashlib.sha256).hexdigest()[:32]
        system, root, local = self._root()
        return _Place(system, f"{root}/{own}", local)

    def _root(self) -> "tuple[FileSystem, str, bool]":
        from pyarrow import ArrowInvalid, fs

        if "://" not in self.location:
            return fs.LocalFileSystem(), str(Path(self.location).absolute()), True
        try:
            system, path = fs.FileSystem.from_uri(self.location)
        except ArrowInvalid as error:
            raise StorageError(f"{self.location} is no place that pyarrow.fs knows: {error}") from error
        return system, path.rstrip("/"), isinstance(system, fs.LocalFileSystem)


async def _aside(work: Any, *arguments: Any) -> Any:
    """In a thread. The one border where the errors of disks and object stores become ours."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except Corrupt as error:
        error.about(of=OF_SNAPSHOT)
        raise
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


def _file(place: _Place, file: File) -> bytes:
    """What is in a file that a manifest names. Raises Corrupt for anything else."""
    data = _get(place, file.name)
    if data is None or hashlib.sha256(data).hexdigest() != file.sha256:
        what = "is not there" if data is None else "is not the one that its manifest names"
        raise Corrupt(f"the snapshot's file {file.name} {what}", file=file.name)
    return data


def _delete(place: _Place, keep: Collection[str] = ()) -> int:
    """Everything in the folder but what is to be kept, the manifest first: without it no file counts."""
    from pyarrow import fs

    found = place.system.get_file_info(fs.FileSelector(place.folder, allow_not_found=True))
    names = [info.base_name for info in found if info.type is fs.FileType.File and info.base_name not in keep]
    for name in sorted(names, key=lambda name: name != MANIFEST):
        place.system.delete_file(place.path(name))
    if place.local and names:
        _sync_folder(Path(place.folder))
    return len(names)


def _folders(system: "FileSystem", root: str) -> list[str]:
    from pyarrow import fs

    found = system.get_file_info(fs.FileSelector(root, allow_not_found=True))
    return [info.path for info in found if info.type is fs.FileType.Directory]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _table(part: Part) -> "Table":
    import pyarrow

    if part.kind != RECORDS:
        return pyarrow.Table.from_pylist(list(part.rows), schema=_schema(part.kind))
    return _table_of_records(part.rows)


def _table_of_records(records: Sequence[Kept]) -> "Table":
    """One row for each version: its fields as columns, what is nested as JSON, its vector as a list of halves."""
    import pyarrow

    rows = [_row(each.record) for each in records]
    vectors = [None if each.vector is None else each.vector.astype(numpy.float16) for each in records]
    table = pyarrow.Table.from_pylist(rows, schema=_schema(RECORDS))
    return table.append_column("vector", pyarrow.array(vectors, pyarrow.list_(pyarrow.float16())))


def _schema(kind: str) -> "Schema":
    import pyarrow

    text, whole, real, truth = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()
    if kind != RECORDS:
        kinds = {"text": text, "whole": whole, "bytes": pyarrow.binary()}
        return pyarrow.schema([(name, kinds[of]) for name, of in BESIDE[kind].items()])
    columns: dict[str, Any] = dict.fromkeys(Record.model_fields, text)
    columns |= dict.fromkeys(("importance", "confidence", "ttl_seconds"), real)
    columns |= dict.fromkeys(("position", "version", "valid_from_ms", "valid_to_ms", "expires_ms"), whole)
    columns |= dict.fromkeys(("created_ms", "updated_ms"), whole)
    columns |= {"pinned": truth, "labels": pyarrow.list_(text)}
    return pyarrow.schema(list(columns.items()))


def _row(record: Record) -> dict[str, Any]:
    row = record.model_dump(mode="json")
    return row | {name: None if row[name] is None else orjson.dumps(row[name]).decode() for name in _NESTED}


def _parquet(table: "Table") -> bytes:
    import pyarrow
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _rows(place: _Place, file: File) -> list[dict[str, Any]]:
    """Raises Corrupt for a file that has other columns, though its hash is right."""
    table = _read(place, file)
    if file.kind not in BESIDE or table.column_names != list(BESIDE[file.kind]):
        raise Corrupt(f"the snapshot's file {file.name} has no {file.kind}", file=file.name)
    return table.to_pylist()


def _records(place: _Place, file: File, tenant: Tenant) -> list[Kept]:
    """Raises Corrupt for what is no snapshot of this tenant, though its hash is right."""
    table = _read(place, file)
    vectors = table.column("vector").to_pylist()
    kept: list[Kept] = []
    for row, vector in zip(table.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
        nested = {name: None if row[name] is None else orjson.loads(row[name]) for name in _NESTED}
        record = Record.model_validate(row | nested)
        if record.tenant != tenant:
            raise Corrupt("a record of another tenant lies in a snapshot")
        kept.append(Kept(record, None if vector is None else numpy.asarray(vector, numpy.float32)))
    return kept


def _read(place: _Place, file: File) -> "Table":
    import pyarrow
    from pyarrow import parquet

    return parquet.read_table(pyarrow.BufferReader(_file(place, file)))
