"""The head of a journal: how long it is, its last hash, the root of its tree; kept elsewhere, signed.

The signature is Ed25519 (RFC 8032) rather than an HMAC, because whoever checks a head must not be able to make one:
an auditor has the public key and nothing else. The private key is derived from the federation's root key, so it needs
no file of its own, and signing the same head twice gives the same bytes.

What is signed is text, so that it can be checked with other tools:

    hanse audit head v1
    FEDERATION
    JOURNAL
    SEQUENCE
    HASH (64 hex digits)
    ROOT (64 hex digits)
    UNIX MILLISECONDS

each line ended by a line feed.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ...contracts import InvalidInput, JsonObject
from ...contracts.events import milliseconds, timestamp


@dataclass(frozen=True, slots=True)
class Head:
    """An entry that somebody kept: what a journal must still hold."""

    sequence: int
    hash: bytes
    journal: str | None = None
    """Of several."""
    root: bytes | None = None
    """Of the tree of all entries up to this one, where it is known."""

    @staticmethod
    def parse(text: str) -> "Head":
        """`SEQUENCE:HASH`, or `JOURNAL:SEQUENCE:HASH` where there are several. Raises InvalidInput."""
        found = re.fullmatch(r"(?:([^:]+):)?(\d+):([0-9a-fA-F]{64})", text.strip())
        if found is None:
            raise InvalidInput(
                f"{text!r} is no head. Write SEQUENCE:HASH, or JOURNAL:SEQUENCE:HASH, as verify prints it"
            )
        return Head(int(found[2]), bytes.fromhex(found[3]), found[1])


@dataclass(frozen=True, slots=True)
class SignedHead:
    """What is handed to anchors."""

    federation: str
    journal: str
    sequence: int
    """Of the last entry, from 1; also the number of leaves of the tree."""
    hash: bytes
    """Of the chain, 32 bytes."""
    root: bytes
    """Of the Merkle tree over all entries, 32 bytes."""
    at_ms: int
    """When it was signed, unix milliseconds. It informs; nothing is ordered by it."""
    key: bytes
    """The public key, 32 bytes. It says which key to look for, not which to trust."""
    signature: bytes

    @property
    def head(self) -> Head:
        return Head(self.sequence, self.hash, self.journal, self.root)

    def to_data(self) -> JsonObject:
        return {
            "federation": self.federation,
            "journal": self.journal,
            "sequence": self.sequence,
            "hash": self.hash.hex(),
            "root": self.root.hex(),
            "at": timestamp(self.at_ms),
            "key": self.key.hex(),
            "signature": self.signature.hex(),
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> "SignedHead":
        """Raises InvalidInput for what is no head. Whether the signature is good, `is_signed_by` says."""
        try:
            return SignedHead(
                _line(data["federation"]),
                _line(data["journal"]),
                int(data["sequence"]),
                _bytes(data["hash"], 32),
                _bytes(data["root"], 32),
                milliseconds(data["at"]),
                _bytes(data["key"], 32),
                _bytes(data["signature"], 64),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is no signed head: {type(error).__name__}: {str(error)[:200]}") from error

    def is_signed_by(self, key: bytes) -> bool:
        """Whether the holder of the private key of `key` signed exactly this."""
        text = signed_text(self.federation, self.journal, self.sequence, self.hash, self.root, self.at_ms)
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(self.signature, text)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """Signs the heads of one federation."""

    def __init__(self, federation: str, root_key: bytes) -> None:
        """`root_key` is the federation's own, at least 32 random bytes."""
        self.federation = federation
        seed = hmac.digest(root_key, b"hanse audit key\x00", "sha256")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign_text(self, text: bytes) -> bytes:
        """The signature of something else, whose first line must say what it is."""
        return self._key.sign(text)

    def sign(self, journal: str, sequence: int, hash: bytes, root: bytes, at_ms: int) -> SignedHead:
        signature = self._key.sign(signed_text(self.federation, journal, sequence, hash, root, at_ms))
        return SignedHead(self.federation, journal, sequence, hash, root, at_ms, self.public, signature)


def signed_text(federation: str, journal: str, sequence: int, hash: bytes, root: bytes, at_ms: int) -> bytes:
    """The bytes that are signed. Times count in whole milliseconds, so they survive being written as text."""
    lines = ("hanse audit head v1", federation, journal, sequence, hash.hex(), root.hex(), at_ms)
    return "".join(f"{line}\n" for line in lines).encode()


def read_key(text: str) -> bytes:
    """A public key: 64 hex digits, or the path of a file that holds them. Raises InvalidInput."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
        return bytes.fromhex(text.strip())
    try:
        return _bytes(Path(text).read_text(encoding="ascii").strip(), 32)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{text!r} is no public key. Give the 64 hex digits that hanse audit key prints, or a file with them"
        ) from error


def _line(text: str) -> str:
    """A name on a line of its own: with a line feed in it, two heads could have the same signed text."""
    if "\n" in text:
        raise ValueError("a name has no line feed")
    return text


def _bytes(text: str, count: int) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != count:
        raise ValueError(f"{count} bytes, not {len(found)}")
    return found
