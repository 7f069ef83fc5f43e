"""The semantic cache: an answer that was given to words of the same meaning.

Only the last message of the user may differ, and only in its wording; everything else has to be the same, as in the
exact cache, and is the *place* in which an ask looks. Vectors lie in a flat FAISS index per tenant and place, so that a
search cannot find anything of another tenant, and finds the nearest exactly.

Vectors are blind to what matters most: "refund order 17" and "refund order 18" are the same to them, and so are "may be
sent" and "may not be sent". So besides the threshold, both texts must have the same numbers, identifiers, names, quoted
words and negations.
"""

import hashlib
import re
from typing import TYPE_CHECKING, Any

from ..contracts import Tenant
from ..contracts.pool import Answer
from .cache import Shelf

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

LOOKED_AT = 8
"""Nearest neighbours of which the first that says the same is taken."""

_FACT = re.compile(r"\w*\d[\w.,:/#-]*|(?<=[\w,;] )[A-Z]\w+|[A-Z]{2,}|\"[^\"]+\"|'[^'\s][^']*'|`[^`]+`")
_NEGATION = re.compile(
    r"\b(?:no|not|never|none|without|except|unless|neither|nor|cannot|exclude|excluding|only|before|after|more|less|"
    r"above|below|over|under|all|any|least|most|first|last|minimum|maximum|increase|decrease|cancel|keep|from|to)\b"
    r"|n['’]t\b",
    re.IGNORECASE,
)


def facts_of(text: str) -> str:
    """What must not differ between texts of one meaning: a digest of its numbers, names, quotations and turning words.

    Turning words keep their order, because `from Bonn to Kiel` is another way than `from Kiel to Bonn`.
    """
    facts = [found.strip(".,:/").lower() for found in _FACT.findall(text)]
    turns = [found.lower() for found in _NEGATION.findall(text)]
    return hashlib.sha256("\0".join([*facts, "|", *turns]).encode(errors="replace")).hexdigest()


class _Place:
    """The vectors of one tenant and place. Numbers are those of FAISS."""

    def __init__(self, dimensions: int) -> None:
        import faiss

        self.index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimensions))
        self.keys: dict[int, tuple[str, str]] = {}
        """Number to the key on the shelf and the facts of the text."""


class SemanticCache:
    """Answers by meaning. Vectors come in with length one."""

    def __init__(self, shelf: Shelf, threshold: float) -> None:
        self._shelf, self._threshold = shelf, threshold
        self._places: dict[tuple[Tenant, str], _Place] = {}
        self._where: dict[tuple[Tenant, str], tuple[str, int]] = {}
        self._numbers = 0
        shelf.on_drop(self._forget)

    def knows(self, tenant: Tenant, place: str) -> bool:
        """Whether there is anything to be found there."""
        return (tenant, place) in self._places

    def get(self, tenant: Tenant, place: str, text: str, vector: "NDArray[float32]") -> Answer | None:
        """The answer to the nearest text that is near enough and says the same."""
        found = self._places.get((tenant, place))
        if found is None:
            return None
        scores, numbers = found.index.search(vector.reshape(1, -1), min(LOOKED_AT, len(found.keys)))
        facts = facts_of(text)
        for score, number in zip(scores[0], numbers[0], strict=True):
            if score < self._threshold or int(number) not in found.keys:
                break
            key, known = found.keys[int(number)]
            if known == facts and (answer := self._shelf.get(tenant, key)) is not None:
                return answer
        return None

    def put(self, tenant: Tenant, place: str, text: str, vector: "NDArray[float32]", answer: Answer) -> None:
        """Keeps an answer for texts of the same meaning, in the room of an older one with the very same words."""
        key = f"{place}/{hashlib.sha256(text.encode(errors='replace')).hexdigest()}"
        if not self._shelf.put(tenant, key, answer):
            return
        here = self._places.get((tenant, place)) or _Place(vector.shape[-1])
        self._places[tenant, place] = here
        self._numbers += 1
        here.index.add_with_ids(vector.reshape(1, -1), _ids(self._numbers))
        here.keys[self._numbers] = (key, facts_of(text))
        self._where[tenant, key] = (place, self._numbers)

    def vectors(self, tenant: Tenant) -> int:
        return sum(place.index.ntotal for (owner, _), place in self._places.items() if owner == tenant)

    def _forget(self, tenant: Tenant, key: str) -> None:
        where = self._where.pop((tenant, key), None)
        if where is None:
            return
        place, number = where
        here = self._places[tenant, place]
        here.index.remove_ids(_ids(number))
        del here.keys[number]
        if not here.keys:
            del self._places[tenant, place]


def _ids(number: int) -> Any:
    import numpy

    return numpy.array([number], dtype=numpy.int64)
