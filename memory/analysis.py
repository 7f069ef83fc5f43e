"""Words of a text, as the text index knows them: lower case, stop words left out, stemmed, each as a number.

The number is the word's hash in this process: the index lives in memory only, and sixty-four bits keep a million words
apart (the chance that any two meet is below one in ten million). So the index holds no words at all.
"""

import re
import threading
import unicodedata
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import chain, pairwise

_FUNCTION_WORDS = """
a about above after again against all am an and any are as at be because been before being below between both but by
can could did do does doing down during each few for from further had has have having he her here hers herself him
himself his how i if in into is it its itself just me more most my myself no nor not now of off on once only or
other our ours ourselves out over own same she should so some such than that the their theirs them themselves then
there these they this those through to too under until up very was we were what when where which while who whom why
will with would you your yours yourself yourselves s t d m ll re ve don doesn didn isn wasn aren weren won wouldn
couldn shouldn hasn haven hadn
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English function words, after the list of the Snowball project, and what is left of a contraction when it is cut at
its apostrophe. In another language they are just rare words.
"""

LONGEST_WORD = 64
"""Characters of a word that count: what is longer is no word, and a key of many would cost as much as a text."""
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
"""Scripts that put no space between words: Thai, Lao, Burmese, Khmer, Kana, Han."""


def terms(text: str) -> list[int]:
    """In order, with repetitions; without stop words."""
    return [term for word in words(text) if (term := _term(word)) is not None]


def terms_beginning(text: str, initials: Collection[str]) -> set[int]:
    """Those of words that begin with one of some characters, which a stem begins with, too."""
    return {term for word in words(text) if word[0] in initials and (term := _term(word)) is not None}


def words(text: str) -> Iterator[str]:
    """As they stand in the text, in lower case. In scripts without spaces every two neighbouring characters are one."""
    if text.isascii():
        return iter(_WORD.findall(text.lower()))
    found = _WORD.findall(unicodedata.normalize("NFKC", text).lower())
    return chain.from_iterable((word,) if word.isascii() else _parts(word) for word in found)


def stem(word: str) -> str:
    """Of an English word (Snowball); other words mostly stay as they are."""
    return _stemmers().english.stemWord(word)


def _parts(word: str) -> Iterator[str]:
    end = 0
    for run in _UNSPACED.finditer(word):
        yield from filter(None, (word[end : run.start()],))
        yield from map("".join, pairwise(run[0])) if len(run[0]) > 1 else run[0]
        end = run.end()
    yield from filter(None, (word[end:],))


def _term(word: str) -> int | None:
    """What holds a digit is neither stemmed nor kept ready: it may be somebody's number."""
    if len(word) > LONGEST_WORD:
        word = word[:LONGEST_WORD]
    return _stemmed(word) if word.isalpha() else hash(word)


@lru_cache(maxsize=1 << 15)
def _stemmed(word: str) -> int | None:
    return None if word in STOP_WORDS else hash(stem(word))


class _Stemmers(threading.local):
    """One for each thread: a stemmer works in a buffer of its own."""

    def __init__(self) -> None:
        import Stemmer

        self.english = Stemmer.Stemmer("english", 0)


@lru_cache(maxsize=1)
def _stemmers() -> _Stemmers:
    return _Stemmers()
