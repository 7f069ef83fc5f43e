"""Windows: the pieces of a text that a head looks at one by one.

One vector for a long tool output drowns a sentence that does not belong there, so each sentence and line is a window
of its own, and so are two neighbours together, for what is said in two halves. Lines of a word or two are joined until
they could say something: whoever writes one word a line is read all the same.
"""

import re
import unicodedata
from itertools import pairwise, zip_longest

MAX_WINDOWS = 2_000
CHARACTERS = 600
"""Of one window: about what the embedder sees of it."""
WORDS = 4
"""Fewer say nothing by themselves."""
_END = re.compile(r"(?<=[.!?;。！？])\s+|[\r\n\u2028\u2029]+|(?<=>)\s+|\s+(?=<)")
_OVERLAP = 100


def windows(text: str) -> list[str]:
    """In the order of the text, none twice, without signs that cannot be seen and with compatible letters as one."""
    text = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    pieces = _joined([part for piece in _END.split(text) for part in _cut(piece.strip()) if part])
    pairs = (f"{one} {other}" for one, other in pairwise(pieces))
    both = [piece for pair in zip_longest(pieces, pairs) for piece in pair]
    return list(dict.fromkeys(piece for piece in both if piece)) or [text[:CHARACTERS]]


def _cut(piece: str) -> list[str]:
    """A piece without an end of sentence, in parts that overlap."""
    step = CHARACTERS - _OVERLAP
    return [piece[at : at + CHARACTERS] for at in range(0, max(1, len(piece) - _OVERLAP), step)]


def _joined(pieces: list[str]) -> list[str]:
    joined: list[str] = []
    short = ""
    for piece in pieces:
        short = f"{short} {piece}".strip()
        if len(short.split()) >= WORDS or len(short) > CHARACTERS // 2:
            joined.append(short)
            short = ""
    return [*joined, short] if short else joined
