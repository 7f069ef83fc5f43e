"""Models of the hub, each at one commit: what its name means may change there from one day to the next.

`organisation/model@COMMIT` says which. Without a commit the first one that is found is written down in `hub.json` with
the digest of its content, and is the one from then on: what comes after it is another model, and is taken when somebody
says so.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..contracts import Digest, ModelUnavailable
from .files import write_whole

_log = logging.getLogger(__name__)

LOCK = "hub.json"
INSTALL = "Install it with: pip install 'hanse[models]'"
_NAME = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>.*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_hub(source: str) -> bool:
    """Whether it is a hub id, with or without a commit."""
    return _NAME.fullmatch(source) is not None


@dataclass(frozen=True, slots=True)
class Hub:
    """Snapshots in the hub's local cache, and from the hub itself where that is allowed."""

    cache: Path
    """Folder of the lock."""
    downloads: bool

    def snapshot(self, source: str, patterns: Sequence[str]) -> Path:
        """The folder of the commit that `source` names, or that it was at first. Raises ModelUnavailable."""
        name = _NAME.fullmatch(source)
        assert name is not None
        commit = name["revision"]
        if commit is not None and not _COMMIT.fullmatch(commit):
            raise absent(
                f"{source}: {commit!r} is no commit, and what else may stand there can change",
                "Write the commit's 40 hex digits behind the @, as the hub shows them, or leave it out",
                source,
            )
        return self._found(source, name["id"], commit or self._locked(source).get("commit"), patterns)

    def keep(self, source: str, folder: Path, digest: Digest) -> None:
        """Writes down which commit and content a source is, at first; raises ModelUnavailable when it is not that."""
        known, now = self._locked(source), {"commit": folder.name, "digest": digest}
        if not known:
            _log.info("%s is %s from now on", source, folder.name, extra={"action": "hub.locked"})
            self._write({**self._read(), source: now})
        elif known["digest"] != digest:
            raise absent(
                f"{source} is not what it was: its content at commit {folder.name} has the digest {digest}, and had "
                f"{known['digest']}",
                f"Fetch it anew: hf download {_id(source)} --revision {folder.name} --force-download. If it is to be "
                f"another one, take {source} out of {self.cache / LOCK}",
                source,
            )

    def _found(self, source: str, id: str, commit: str | None, patterns: Sequence[str]) -> Path:
        try:
            from huggingface_hub import snapshot_download
        except ModuleNotFoundError as error:
            raise absent(f"{source}: huggingface_hub is not installed", INSTALL, source) from error
        offline = os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")
        fetch, carried = self.downloads and not offline, list(patterns)
        try:
            return Path(snapshot_download(id, revision=commit, allow_patterns=carried, local_files_only=not fetch))
        except Exception as error:
            raise absent(
                f"{source} {_why_not(error, commit, fetch)}", _how(id, commit, self.downloads, offline), source
            ) from error

    def _locked(self, source: str) -> Mapping[str, str]:
        return self._read().get(source, {})

    def _read(self) -> dict[str, Any]:
        lock = self.cache / LOCK
        try:
            found = json.loads(lock.read_bytes()) if lock.exists() else {}
            if all(each.keys() == {"commit", "digest"} for each in found.values()):
                return found
        except (OSError, ValueError, AttributeError):
            pass
        raise absent(f"{lock}, which says what the models of the hub are, is damaged", "Restore it, or remove it", LOCK)

    def _write(self, locked: Mapping[str, Any]) -> None:
        """Whole or not at all."""
        write_whole(self.cache / LOCK, json.dumps(locked, indent=1, sort_keys=True).encode())


def absent(detail: str, remedy: str, source: str) -> ModelUnavailable:
    """Weights that are not there, or not as they should be."""
    return ModelUnavailable(detail, remedy=remedy, source=source)


def _id(source: str) -> str:
    return source.partition("@")[0]


def _why_not(error: Exception, commit: str | None, fetch: bool) -> str:
    at = f" at commit {commit}" if commit else ""
    if fetch:
        return f"could not be fetched{at}: {type(error).__name__}: {error}"
    return f"is not in the local cache of the hub{at}"


def _how(id: str, commit: str | None, downloads: bool, offline: bool) -> str:
    download = f"hf download {id}" + (f" --revision {commit}" if commit else "")
    fetch = f"Fetch it on a machine with a network: {download}. Or write its folder as the source"
    if offline:
        return f"{fetch}. HF_HUB_OFFLINE is set, so nothing is fetched from here"
    return fetch if downloads else f"{fetch}. Or allow it to be fetched: models: {{downloads: true}}"
