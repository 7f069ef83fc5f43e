"""Proving what happened: the chain of every journal, its Merkle tree, heads kept outside, proofs, bundles, compaction.

It reads journals and never decides anything in a task. What an entry means is the business of contracts and execution.
"""

# A data folder
# One journal
from .chain import Audit, verify
from .folder import Audited, Progress, audit, journals

# What is kept of it elsewhere
from .head import Head, SignedHead, Signer

__all__ = [
    # A data folder
    "Audited",
    "Progress",
    "audit",
    "journals",
    # One journal
    "Audit",
    "verify",
    # What is kept of it elsewhere
    "Head",
    "SignedHead",
    "Signer",
]
