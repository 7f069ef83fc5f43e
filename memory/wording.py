"""Words of a text, as hygiene compares them: what it says, what must not differ, and in which order.

Two texts say the same when one brings no content word that the other lacks, and nothing at all that turns a statement
round: a number, a negation, a name. That is stricter than any similarity of vectors, which hardly sees the difference
between 500 and 600, and cheap enough for every write.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import NamedTuple

KEPT_WORDINGS = 8192
"""Texts whose words are kept ready; those near to what is written are looked at again and again."""

KEPT_STEMS = 1 << 15
"""Words of which what is known is kept ready."""
KEY_LETTERS = 5
"""Letters from the beginning that all forms of a word have in common."""

_WORD = re.compile(r"[^\W_]+(?:['’.,:@/#&+-][^\W_]+)*")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n+")
_CONTRACTED = re.compile(r"(?:n't|'(?:s|m|d|ll|re|ve))$")
_INVISIBLE = dict.fromkeys([*range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, 0xFEFF, 0xAD])


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is written as text."""
    return frozenset(text.split())


FUNCTION_WORDS = word_set(
    "a about above after again all also am an and any anyone are as at be because been before being below between both "
    "but by can could did do does doing done down during each either else ever every few for from further get gets got "
    "had has have having he her here hers herself him himself his how i if in into is it its itself just let lot made "
    "make makes many may me might more most much must my myself of off on once only or other our ours ourselves out "
    "over own per quite rather really same shall she should since so some such than that the their theirs them "
    "themselves then there these they this those through till to too toward towards under until up upon us very via "
    "was we were what whatever when where whether which while who whom whose why will with within would yet you your "
    "yours yourself yourselves im ive id ill youre youve youll theyre weve were hes shes thats whats theres"
)
"""English words that hold a sentence together. In another language they simply count as content."""

FRAMING_WORDS = word_set(
    "accord accordingly actually afore already apparently basically based client context conversation customer earlier "
    "essentially explain indicate indicated inform information know known memory memories mention mentioned mention "
    "note noted particular person previous previously quote reading recall recalled record recorded records recollect "
    "refer remember remembered reminder report reported restate retrieve retrieved said saved say saying says "
    "speaker state stated state stored summarise summarize summary tell telling tells thing think told user "
    "self relevant reminder again back basically certainly clearly following given simply speak spoken"
)
"""Words that say who says it, or that it was said before: they make no statement new."""

LINKING_WORDS = word_set(
    "accordingly additionally approximately consequently furthermore moreover previously regarding therefore whereas"
)
"""Long words for some of the short ones that hold a sentence together: also, so, about, before, since."""

_SAME = (
    "affect impact; aim goal objective; allow permit; ask request solicit; attempt try endeavor endeavour; ability "
    "capability; additional added; appoint designate; begin start commence initiate began begun; buy purchase bought; "
    "change modify; choice selection option; choose pick chose chosen; clear evident apparent; combine consolidate; "
    "consider deem; correct accurate exact; count enumerate; decide determine; end terminate; enough sufficient; "
    "expect anticipate; fair equitable; fast quick expeditious; finish finalize finalise complete; first initial; "
    "give provide furnish gave given; hasten expedite; help aid assist assistance facilitate; helpful advantageous; "
    "keep retain maintain kept; large substantial; learn ascertain; live reside; lose forfeit; meet convene; method "
    "methodology; move relocate; need require requirement; now currently; often frequently; payment remuneration; "
    "plane aircraft; practical practicable viable; prevent preclude; prompt timely; publish promulgate; see observe; "
    "rest remainder; send transmit sent; show demonstrate exhibit; size magnitude; skill proficiency; stay remain; "
    "stop discontinue; use utilize utilise utilization; want wish desire; women females"
)
"""Words that are told apart by how plain they are and by nothing else, with their irregular forms: after the guidelines
of plainlanguage.gov (Use simple words and phrases, a work of the United States government), single words only, and none
of which the one can be news where the other was said: of `monitor` and `watch` somebody may have bought either."""

NEGATIONS = word_set(
    "no not never none nobody nothing neither nor without cannot except unless longer anymore former formerly stopped "
    "quit hardly barely instead cancel cancelled canceled"
)

_SMALL = (
    "zero - two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_NUMBERS = {word: str(number) for number, word in enumerate(_SMALL.split(" ")) if word != "-"} | {
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "hundred": "100",
    "thousand": "1000",
}


class Token(NamedTuple):
    """What is known of one word, whatever stands around it."""

    word: str
    """In small letters, numbers in one spelling."""
    stem: str | None
    """None when it says nothing by itself."""
    sense: str | None
    """Its stem, or that of the plainest word that says the same. None where the stem is."""
    mark: str
    """A number or a negation that it is; else empty."""
    negates: bool
    name: str | None
    """Its sense where it stands with a capital: a name is spelt and not counted."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One text, taken apart."""

    words: tuple[str, ...]
    """All of them, in order and small letters."""
    stems: frozenset[str]
    """Of its content words."""
    pairs: frozenset[tuple[str, str]]
    """Content stems that follow one another: the order of what is said."""
    marks: frozenset[str]
    """What must not differ between texts that say the same: numbers and negations."""
    names: frozenset[str]
    """Stems of words that stand with a capital inside a sentence."""
    denied: frozenset[str]
    """Content stems that follow a negation somewhere: `never drinks` denies `drink`."""
    affirmed: frozenset[str]
    """Content stems that stand somewhere without one."""
    keys: frozenset[str]
    """What its content stems begin with: a text that says all of this one has all of its keys."""

    def adds_nothing_to(self, other: "Wording") -> bool:
        """Whether it brings no content word that the other lacks, and nothing that turns what that says round."""
        return self.keys <= other.keys and not self.new_beside(other) and not self.turns(other)

    def new_beside(self, *others: "Wording") -> frozenset[str]:
        """Content stems that none of the others has, nor another form of the word: `prefer` and `preferred` are one."""
        new = self.stems.difference(*(other.stems for other in others))
        return frozenset(word for word in new if not any(_has_form(word, other.stems) for other in others))

    def turns(self, *others: "Wording") -> frozenset[str]:
        """Numbers, negations and names here that none of the others has, and words that are denied, or not denied, here
        and in none of the others that have them.
        """
        known = frozenset[str]().union(*(other.marks | other.stems for other in others))
        denied = self.denied.difference(*(other.denied for other in others))
        affirmed = self.affirmed.difference(*(other.affirmed for other in others))
        return ((self.marks | self.names) - known) | ((denied | affirmed) & known)

    def shared_order(self, *others: "Wording") -> float:
        """Share of its neighbouring content stems that are neighbours in one of the others too, in [0, 1]."""
        if not self.pairs:
            return 1.0 if not self.new_beside(*others) else 0.0
        known = frozenset[tuple[str, str]]().union(*(other.pairs for other in others))
        return len(self.pairs & known) / len(self.pairs)


@lru_cache(KEPT_WORDINGS)
def wording(text: str) -> Wording:
    """The words of a text."""
    parts = sentences(text)
    said = [tokens_of(part) for part in parts]
    tokens = list(chain.from_iterable(said))
    content = [token.sense for token in tokens if token.sense is not None]
    denied = Counter(chain.from_iterable(map(_denied, said)) if any(token.negates for token in tokens) else ())
    stems = frozenset(content)
    return Wording(
        words=tuple([token.word for token in tokens]),
        stems=stems,
        pairs=frozenset(pairwise(content)),
        marks=frozenset([token.mark for token in tokens if token.mark]),
        names=frozenset() if text.islower() else frozenset(chain.from_iterable(map(_names, parts))),
        denied=frozenset(denied),
        affirmed=frozenset(w for w, n in Counter(content).items() if n > denied[w]) if denied else stems,
        keys=frozenset([stem[:KEY_LETTERS] for stem in stems]),
    )


@lru_cache(KEPT_WORDINGS)
def tokens_of(sentence: str) -> Sequence[Token]:
    """Its words, in order."""
    return _tokens(sentence)


def keys_of(text: str) -> frozenset[str]:
    """The keys of its wording, without the rest of that."""
    return keys_in(_tokens(text))


def keys_in(tokens: Iterable[Token]) -> frozenset[str]:
    return frozenset([token.sense[:KEY_LETTERS] for token in tokens if token.sense is not None])


def forget_texts() -> None:
    """No text is kept ready: some of them may have been erased."""
    wording.cache_clear()
    tokens_of.cache_clear()


def _has_form(word: str, stems: frozenset[str]) -> bool:
    """Whether a word that differs in its ending alone is among the stems. Numbers have no forms."""
    return word.isalpha() and len(word) >= 5 and any(_is_form(word, each) for each in stems if each[:5] == word[:5])


def _is_form(one: str, other: str) -> bool:
    """At least five letters and three quarters of the longer word are the same from the beginning."""
    shared = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return shared >= max(5, 0.75 * max(len(one), len(other)))


def without_frame(text: str) -> str:
    """The text without the words before a colon that only say that it was said before: `As a reminder: …`."""
    frame, colon, rest = text.partition(":")
    if not colon or not rest.strip() or any(map(str.isdigit, frame)):
        return text
    words = _words(frame)
    framing = any(stem(word) in FRAMING_WORDS or word in FRAMING_WORDS for word in words)
    return rest if framing and len(words) <= 6 and not set(_names_in(frame)) else text


def plain_text(text: str) -> str:
    """One spelling of the same text: compatibility forms, invisible characters, white space and case are gone."""
    visible = text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_INVISIBLE)
    return " ".join(visible.replace("’", "'").split()).casefold()


def fingerprint(text: str) -> str:
    """The same for texts of the same words, however they are spaced, capitalised and punctuated."""
    return hashlib.blake2b(" ".join(wording(text).words).encode(), digest_size=16).hexdigest()


def sentences(text: str) -> list[str]:
    """Sentences and lines, without white space around them."""
    return [part for each in _SENTENCE.split(text) if (part := each.strip())]


def is_content(word: str) -> bool:
    """Whether a word, in small letters, says something by itself."""
    word = _CONTRACTED.sub("", word)
    if word in FUNCTION_WORDS or word in LINKING_WORDS:
        return False
    return word not in FRAMING_WORDS and stem(word) not in FRAMING_WORDS


def sense(word: str) -> str:
    """The stem of the word, or of the plainest that says the same."""
    found = stem(word)
    return _SENSES.get(found, found)


def stem(word: str) -> str:
    """The word without its plainest endings: plural, past, progressive. Weak on purpose: over-stemming merges.

    After the S-stemmer (Harman, How effective is suffixing?, JASIS 1991), with `-ed` and `-ing` of longer words.
    """
    return _stemmed(word) if word.isalpha() else _plainly_stemmed(word)


@lru_cache(KEPT_STEMS)
def _stemmed(word: str) -> str:
    """Of a word that holds no digit, as `analysis` keeps them ready: what does may be somebody's number."""
    return _plainly_stemmed(word)


def _plainly_stemmed(word: str) -> str:
    if any(character.isdigit() for character in word):
        return word
    word = _CONTRACTED.sub("", word)
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return _single(word.removesuffix(ending) + instead)
    return _single(word)


_ENDINGS = (("eed", "eed"), ("ies", "y"), ("sses", "ss"), ("ing", ""), ("ied", "y"), ("ed", ""), ("s", ""))


def _single(word: str) -> str:
    """`stopp` is `stop`, and `live` is `liv`, so that `lived` and `lives` meet."""
    if word.endswith("ss"):
        return word
    if len(word) > 3 and word[-1] == word[-2] and word[-1].isalpha():
        return word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def _words(text: str) -> list[str]:
    return [token.word for token in _tokens(text)]


def _tokens(text: str) -> list[Token]:
    plain = text.lower() if text.isascii() else plain_text(text)
    return [_kept_token(word) if word.isalpha() else _token(word) for word in _WORD.findall(plain)]


@lru_cache(KEPT_STEMS)
def _kept_token(word: str) -> Token:
    """Of a word of letters alone: what holds a digit may be somebody's number."""
    return _token(word)


def _token(spelt: str) -> Token:
    word = _number(spelt)
    if any(map(str.isdigit, spelt)):
        return Token(
            word, word, word, word, _negates(word), spelt
        )  # no list has words with digits, and they have no forms
    return Token(
        word=word,
        stem=stem(word) if is_content(word) else None,
        sense=sense(word) if is_content(word) else None,
        mark=_mark(word),
        negates=_negates(word),
        name=sense(spelt) if is_content(spelt) else None,
    )


def _number(word: str) -> str:
    """`three` is 3, and `1,000.0` is 1000: a number has many spellings."""
    if not word[0].isdecimal():
        return _NUMBERS.get(word, word)
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", word):
        word = word.replace(",", "")
    if re.fullmatch(r"\d+\.0+", word):
        return word.partition(".")[0]
    return word


def _mark(word: str) -> str:
    if any(map(str.isdigit, word)) or word in NEGATIONS:
        return word
    return "not" if word.endswith("n't") else ""


def _negates(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def _denied(sentence: Sequence[Token]) -> Iterator[str]:
    """Of each negation the first content word of the next three."""
    for place, token in enumerate(sentence):
        if token.negates:
            following = (each.sense for each in sentence[place + 1 : place + 4] if each.sense is not None)
            if (denied := next(following, None)) is not None and denied not in NEGATIONS:
                yield denied


def _names_in(text: str) -> Iterator[str]:
    return chain.from_iterable(map(_names, sentences(text)))


def _names(sentence: str) -> Iterator[str]:
    for word in _WORD.findall(sentence)[1:]:
        if word[0].isupper() and not word.isupper():
            plain = plain_text(word)
            token = _kept_token(plain) if plain.isalpha() else _token(plain)
            if token.name is not None:
                yield token.name


_SENSES = {stem(word): stem(group.split()[0]) for group in _SAME.split(";") for word in group.split()}
