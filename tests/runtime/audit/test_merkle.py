"""Merkle trees: the vectors of RFC 6962's reference implementation, and trees of every shape against the definition."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanse.runtime.audit.merkle import (
    EMPTY,
    TILE,
    Tree,
    consistency,
    inclusion,
    is_consistent,
    leaf_hash,
    peaks_of,
    root_from_inclusion,
    root_of,
)

ENTRIES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Of the first 0 to 8 entries, as certificate-transparency's own tests have them (RFC 6962 section 2.1)."""
PATHS = {
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
}
"""Audit paths of a leaf in a tree of so many, of the same origin."""
CONSISTENT = {
    (1, 1): (),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


def by_definition(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return sha256(b"\x01" + by_definition(entries[:split]) + by_definition(entries[split:])).digest()


class Plain:
    """Nodes straight from the entries."""

    def __init__(self, entries: list[bytes]) -> None:
        self._entries = entries

    def node(self, level: int, number: int) -> bytes:
        if len(entries := self._entries[number << level : (number + 1) << level]) < 1 << level:
            raise LookupError(level, number)
        return by_definition(entries)


def grown(entries: list[bytes]) -> Tree:
    tree = Tree()
    tree.extend([leaf_hash(entry) for entry in entries])
    return tree


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_those_of_the_reference(size: int):
    assert grown(ENTRIES[:size]).root.hex() == ROOTS[size]
    assert root_of(Plain(ENTRIES), size).hex() == ROOTS[size]


@pytest.mark.parametrize(("leaf", "size"), PATHS)
def test_the_paths_are_those_of_the_reference(leaf: int, size: int):
    path = inclusion(Plain(ENTRIES), leaf, size)
    assert tuple(each.hex() for each in path) == PATHS[leaf, size]
    assert root_from_inclusion(leaf, size, ENTRIES[leaf], path).hex() == ROOTS[size]


@pytest.mark.parametrize(("old", "new"), CONSISTENT)
def test_the_consistency_proofs_are_those_of_the_reference(old: int, new: int):
    proof = consistency(Plain(ENTRIES), old, new)
    assert tuple(each.hex() for each in proof) == CONSISTENT[old, new]


def test_every_leaf_of_every_small_tree_is_proved_and_no_other():
    entries = [b"%d" % number for number in range(40)]
    nodes = Plain(entries)
    for size in range(1, len(entries) + 1):
        root = by_definition(entries[:size])
        for leaf in range(size):
            path = inclusion(nodes, leaf, size)
            assert root_from_inclusion(leaf, size, entries[leaf], path) == root
            assert not proves(leaf, size, b"another", path, root)
            assert not proves(leaf ^ 1, size, entries[leaf], path, root)
            assert not path or not proves(leaf, size, entries[leaf], path[:-1], root)
            assert not proves(leaf, size, entries[leaf], [*path, root], root)


def proves(leaf: int, size: int, entry: bytes, path: list[bytes], root: bytes) -> bool:
    try:
        return root_from_inclusion(leaf, size, entry, path) == root
    except ValueError:
        return False


def test_every_pair_of_small_trees_is_consistent_and_no_rewritten_one():
    entries = [b"%d" % number for number in range(33)]
    nodes = Plain(entries)
    for new in range(1, len(entries) + 1):
        for old in range(1, new + 1):
            before, after = by_definition(entries[:old]), by_definition(entries[:new])
            proof = consistency(nodes, old, new)
            assert is_consistent(old, before, new, after, proof)
            rewritten = by_definition([b"!", *entries[1:old]])
            assert not is_consistent(old, rewritten, new, after, proof)
            assert not is_consistent(old, before, new, by_definition([b"!", *entries[1:new]]), proof)
            assert not is_consistent(old, before, new, after, [*proof, before])
            assert not proof or not is_consistent(old, before, new, after, proof[:-1])


@given(st.lists(st.integers(0, 600), min_size=1, max_size=4))
def test_a_tree_grows_the_same_however_its_leaves_come(portions: list[int]):
    entries = [b"%d" % number for number in range(sum(portions))]
    kept: dict[tuple[int, int], bytes] = {}
    tree = Tree(on_subtree=lambda level, number, root: kept.__setitem__((level, number), root))
    at = 0
    for portion in portions:
        tree.extend([leaf_hash(entry) for entry in entries[at : at + portion]])
        at += portion
    assert (tree.size, tree.root) == (at, by_definition(entries))
    assert set(kept) == {(8, number) for number in range(at // 256)}
    assert all(root == by_definition(entries[n << 8 : (n + 1) << 8]) for (_, n), root in kept.items())
    whole = at // TILE * TILE
    again = Tree(whole, peaks_of(Plain(entries), whole))
    again.extend([leaf_hash(entry) for entry in entries[whole:]])
    assert again.root == tree.root


def test_a_subtree_of_subtrees_is_told_too():
    told: list[tuple[int, int]] = []
    tree = Tree(on_subtree=lambda level, number, root: told.append((level, number)))
    tree.extend([b"\x00" * 32] * (1 << 16))
    assert told[-1] == (16, 0)
    assert len(told) == 257


def test_what_is_not_in_the_tree_has_no_path():
    assert grown([]).root == EMPTY
    for leaf, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="is not in a tree"):
            inclusion(Plain(ENTRIES), leaf, size)
        with pytest.raises(ValueError, match="is not in a tree"):
            root_from_inclusion(leaf, size, b"", [])
    for old, new in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="no proof leads"):
            consistency(Plain(ENTRIES), old, new)
