"""The federation's secret key: what its tokens, journal heads and bundles are signed with.

It is made at the first start and is there whole or not at all: an empty one, left by a crash between making the file
and filling it, would sign with what everybody knows.
"""

import secrets
from pathlib import Path

from ..contracts import Corrupt
from .files import write_first

FILE = "secret.key"
BYTES = 32


def root_key(data: Path) -> bytes:
    """That of a data folder: random bytes which only this user may read, made now where there are none.

    Raises Corrupt for a file that is too short to be a key.
    """
    path = data / FILE
    if not path.exists():
        write_first(path, secrets.token_bytes(BYTES), 0o600)
    return read_secret_key(path)


def known_key(data: Path) -> bytes | None:
    """The same, for whoever only looks: None where there is none. Raises Corrupt."""
    path = data / FILE
    return read_secret_key(path) if path.exists() else None


def read_secret_key(path: Path) -> bytes:
    """Raises Corrupt for a file that is too short to be a key, and OSError when it cannot be read."""
    key = path.read_bytes()
    if len(key) < BYTES:
        text = f"{path.name} has {len(key)} bytes, and a key has {BYTES}. Bring it back from a copy of the data folder"
        raise Corrupt(text, path=str(path))
    return key
