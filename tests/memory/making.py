"""Records and graphs for tests of hygiene, made in one line."""

from collections.abc import Iterable, Sequence
from typing import Any

from hanse.contracts import Tenant
from hanse.contracts.caller import Caller
from hanse.contracts.memory import Draft, Fact, Hit, Layer, Provenance, Record

NOW = 1_790_000_000_000
DAY = 86_400_000
CALLER = Caller(tenant=Tenant("t"), by="ada")


class Now:
    """A clock that stands."""

    def now_ms(self) -> int:
        return NOW

    def monotonic(self) -> float:
        return 0.0


def record(id: str, text: str = "something that is so", **given: Any) -> Record:
    times = {"created_ms": NOW, "updated_ms": NOW}
    derived = tuple(given.pop("derived_from", ()))
    provenance = given.pop("provenance", Provenance(by="ada", derived_from=derived))
    return Record(**{**times, "id": id, "tenant": Tenant("t"), "text": text, "provenance": provenance, **given})


def episode(id: str, text: str, position: int, **given: Any) -> Record:
    old = {"created_ms": NOW - 90 * DAY, "updated_ms": NOW - 90 * DAY}
    return record(id, text, **{"layer": Layer.EPISODIC, "episode": "e", "position": position, **old, **given})


def fact(entity: str, attribute: str, value: Any) -> Fact:
    return Fact(entity=entity, attribute=attribute, value=value)


def hits(*records: Record, vector: float = 0.0) -> list[Hit]:
    return [Hit(record=each, score=1, why="", parts={"vector": vector}) for each in records]


def draft(text: str, **given: Any) -> Draft:
    return Draft(text=text, **given)


class Derivations:
    """A graph of records in memory."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = {each.id: each for each in records}

    def record(self, id: str) -> Record | None:
        return self.records.get(id)

    def derived_from(self, id: str) -> list[str]:
        return [each.id for each in self.records.values() if id in each.provenance.derived_from]


def without(graph: Derivations, delete: Sequence[str], rewrite: dict[str, Record]) -> dict[str, Record]:
    """The records after an erasure was carried out."""
    return {id: rewrite.get(id, each) for id, each in graph.records.items() if id not in delete}
