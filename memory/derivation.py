"""What was derived from what: the one walk over it that forgetting, telling and restoring share."""

from collections.abc import Iterable, Sequence

from .ports import Erasure, Graph


def closure(ids: Iterable[str], graph: Graph) -> list[str]:
    """What was derived from these, at any depth, the nearest first; without these. A circle does no harm.

    Some of it may have gone before.
    """
    seen, level, found = set(ids), list(dict.fromkeys(ids)), list[str]()
    while level:
        level = list(dict.fromkeys(child for id in level for child in graph.derived_from(id) if child not in seen))
        seen.update(level)
        found += level
    return found


def everything_derived(ids: Sequence[str], graph: Graph) -> Erasure:
    """The plan of an erasure when nobody can tell what a derived record has of its source: it goes too."""
    asked = list(dict.fromkeys(ids))
    return Erasure.of(asked, closure(asked, graph), graph)
