"""Certificates of erasure: what was erased, when and at whose word, signed, and kept for as long as the log is.

What an erasure owes is written with it, in one commit; the certificate itself is signed and kept when what was erased
has left the files, also after a crash in between. It has ids and counts, and of each erased record the digest that the
journal had of it: its salt is gone, so that nobody finds out the text by trying texts.

What is signed is text, so that it can be checked with other tools: the first line says what it is.

    hanse memory certificate v1
    DIGEST (sha256:… over the certificate's other fields, as canonical JSON)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..contracts import Digest, Tenant, digest
from ..contracts.memory import Certificate
from .ports import Erasure

_NOT_SIGNED = {"digest", "key", "signature", "pending"}


class Signer(Protocol):
    """Signs on behalf of the federation, with Ed25519."""

    public: bytes
    """The public key, 32 bytes."""

    def sign_text(self, text: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """A part of an erasure that gets a certificate of its own."""

    erasure: Erasure
    subject: str | None = None
    masked: bool = False
    """Nothing went: what was left of records is what counts."""


def unsigned(
    id: str,
    tenant: Tenant,
    claim: Claim,
    places: Mapping[str, int],
    digests: Mapping[str, str],
    *,
    by: str,
    at_ms: int,
    entry: int | None = None,
    reason: str = "",
) -> Certificate:
    """The certificate that a claim is owed. It says nothing yet of snapshots, and nobody has signed it."""
    erasure = claim.erasure
    records, derived = sorted(erasure.delete), sorted({*erasure.derived, *erasure.rewrite})
    return Certificate(
        id=id,
        tenant=tenant,
        subject=claim.subject,
        at_ms=at_ms,
        by=by,
        reason=reason,
        entry=entry,
        records=records,
        derived=derived,
        digests={each: digests[each] for each in (*records, *derived) if each in digests},
        places={"rewritten": len(erasure.rewrite)} if claim.masked else dict(places),
        digest="",
    )


def sealed(owed: Certificate, places: Mapping[str, int], signer: Signer | None) -> Certificate:
    """The certificate, with what was cleaned beside the store. Without a signer it has a digest alone."""
    whole = owed.model_copy(update={"places": dict(sorted({**owed.places, **places}.items()))})
    whole = whole.model_copy(update={"digest": digest_of(whole)})
    if signer is None:
        return whole
    signature = signer.sign_text(signed_text(whole)).hex()
    return whole.model_copy(update={"key": signer.public.hex(), "signature": signature})


def digest_of(certificate: Certificate) -> Digest:
    """Over everything in it but the digest itself, who signed that, and why nobody has yet, as canonical JSON."""
    return digest(certificate.model_dump(mode="json", exclude=_NOT_SIGNED))


def signed_text(certificate: Certificate) -> bytes:
    return f"hanse memory certificate v1\n{certificate.digest}\n".encode()


def problems_of(certificate: Certificate, key: bytes | None) -> list[str]:
    """What is wrong with it; nothing when it says what the holder of the key signed.

    Without a key it need only fit the one that it names itself.
    """
    if certificate.pending:
        return [f"it is not issued yet: {certificate.pending}. Ask for {certificate.id} again"]
    if certificate.digest != digest_of(certificate):
        return ["it does not say what it said when it was made: its digest is another"]
    if not certificate.signature:
        return ["nobody signed it: it was made by a memory that ends with its process"]
    if key is not None and certificate.key != key.hex():
        return [f"another federation's key signed it: {certificate.key[:16]}…"]
    return [] if _is_signed(certificate) else ["its signature is not that of its key"]


def _is_signed(certificate: Certificate) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(certificate.key))
        key.verify(bytes.fromhex(certificate.signature), signed_text(certificate))
    except (InvalidSignature, ValueError):
        return False
    return True
