"""Finds and masks what should not be kept: secrets, card numbers, e-mail addresses, telephone numbers, and patterns.

The work is done by libraries that others keep: `detect-secrets` for tokens and keys (its patterns alone: nothing is
asked over the network), `phonenumbers` for telephone numbers, `python-stdnum` for the check digit of cards, and
`email-validator` for addresses: it finds none in a text, so it judges whatever stands around an `@`. A mask names the
kind, `[e-mail]`, so that a reader knows that something was there.

Patterns that callers give are RE2's, by way of pyarrow: their time grows with the text alone, so that no pattern can
keep the memory busy for ever.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar, cast

import phonenumbers
from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.ip_public import IPPublicDetector
from email_validator import EmailNotValidError, validate_email
from stdnum import luhn

from ..contracts import InvalidInput, Tenant
from ..contracts.memory import Draft, Fact
from .ahead import Ahead

SECRET, CARD, EMAIL, PHONE, PATTERN = "secret", "card", "e-mail", "phone", "pattern"
KINDS = (SECRET, CARD, EMAIL, PHONE)
ON_WRITE = (SECRET, CARD)
"""What is masked in all that is written, unless the configuration asks for more."""
MAX_PATTERN = 500
"""Characters of a pattern that a caller gives."""

_LOCAL_CHARACTERS = 64
"""Before an `@` at most (RFC 5321, section 4.5.3.1.1)."""
_LOCAL = re.compile(r"\w[\w.!#$%&'*+/=?^`{|}~-]*\Z")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,63}(?![\w-])")
"""What may be an address: the characters around an `@`. Whether it is one, `email-validator` says."""
_DIGITS = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,}(?!\w)")
_CARD_LENGTHS = (16, 15, 19, 18, 17, 14, 13)
"""Digits, the usual ones first."""
_ISSUERS = re.compile(r"^(?:4|5[1-5]|2[2-7]|3[0-9]|6)")
"""First digits of the schemes that issue payment cards (ISO/IEC 7812)."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.{0,20000}?(?:-----END [^-]{0,60}-----|\Z)", re.DOTALL
)
_ASSIGNED = re.compile(
    r"(?i)\b(?:\w{0,30}[_-])?(?:pass(?:word|wd|phrase|code)?|pwd|secret(?:[_ -]?key)?|api[_ -]?key|access[_ -]?"
    r"(?:key|token)|auth[_ -]?token|bearer(?:[_ -]?token)?|token|private[_ -]?key|client[_ -]?secret|pin)\b[\"']?"
    r"\s{0,3}(?::=|=>|[:=]|\bis\b|\bwas\b)\s{0,3}[\"'`]?(?P<secret>[^\s\"'`,;]{4,200})"
)
"""`password is hunter2`, `API_KEY=…`: detect-secrets wants quotes, people leave them out."""
_TOKEN_CHARACTERS = re.compile(r"[\w.+/=~-]*")
_BEARER = re.compile(r"(?i)\bbearer\s+(?P<secret>[A-Za-z0-9._~+/=-]{16,4000})")


_OPEN, _CLOSE = "\uf8f0", "\uf8f1"
"""Characters for private use, with which RE2 marks what it found: it tells no positions by itself."""
_NO_BRACKETS = str.maketrans({_OPEN: "?", _CLOSE: "?"})


class Finding(NamedTuple):
    """A piece of a text that is to be masked."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterable[Finding]]
Kept = TypeVar("Kept", bound=Draft)


class Redactor:
    """Masks some kinds of things in texts, in typed payloads and in facts."""

    def __init__(self, kinds: Sequence[str] = KINDS, *, region: str | None = None) -> None:
        """`region` is the country, such as `DE`, whose telephone numbers are written without a prefix; without it only
        those with a `+` are found. Raises InvalidInput for a kind that is not known.
        """
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise InvalidInput(f"nothing is known of {unknown[0]!r}. Known: {', '.join(KINDS)}")
        finders: Mapping[str, Finder] = {
            SECRET: _secrets,
            CARD: _cards,
            EMAIL: _emails,
            PHONE: lambda text: _phones(text, region),
        }
        self._finders = [finders[kind] for kind in kinds]

    def find(self, text: str) -> list[Finding]:
        """What there is, in order and without overlaps; where two overlap, both become the one that begins first."""
        found = sorted(finding for finder in self._finders for finding in finder(text))
        return list(_joined(found))

    def mask(self, text: str) -> str:
        """The text with `[KIND]` in place of each finding."""
        return masked(text, self.find(text))

    def values(self, text: str) -> list[str]:
        """What there is, as it stands."""
        return [text[finding.start : finding.end] for finding in self.find(text)]

    def clean(self, record: Kept) -> Kept:
        """A draft or a record with everything masked that it says: text, payload, fact. The same one if nothing was."""
        return rewritten(record, self.mask)


class Masks:
    """What every write passes, tenant by tenant. Secrets have no business in a memory, whatever is asked for."""

    def __init__(
        self,
        kinds: Sequence[str] = ON_WRITE,
        *,
        region: str | None = None,
        tenants: Mapping[Tenant, Sequence[str]] | None = None,
    ) -> None:
        """`kinds` of all tenants but those in `tenants`; `region` as for `Redactor`. Raises InvalidInput."""
        self._all = _with_secrets(kinds, region)
        self._own = {tenant: _with_secrets(each, region) for tenant, each in (tenants or {}).items()}

    def __call__(self, draft: Kept, tenant: Tenant) -> Kept:
        return self._own.get(tenant, self._all).clean(draft)


def _with_secrets(kinds: Sequence[str], region: str | None) -> Redactor:
    return Redactor(tuple(dict.fromkeys((SECRET, *kinds))), region=region)


class Pattern:
    """What a caller wants to be masked, as a regular expression of RE2. Finds without regard to case."""

    def __init__(self, pattern: str) -> None:
        """Raises InvalidInput for what is no such expression, and for one that finds nothing in particular."""
        if not 1 <= len(pattern) <= MAX_PATTERN:
            raise InvalidInput(f"a pattern has 1 to {MAX_PATTERN} characters, not {len(pattern)}")
        self._pattern = f"(?i){pattern}"
        if _OPEN + _CLOSE in self._bracketed("a b"):
            raise InvalidInput(f"the pattern {pattern!r} also finds nothing at all. Write what it should find")

    def values(self, text: str) -> list[str]:
        """What it finds in a text, in order."""
        return [text[finding.start : finding.end] for finding in self.find(text)]

    def find(self, text: str) -> list[Finding]:
        """Where it finds something, in order."""
        before, *rest = self._bracketed(text.translate(_NO_BRACKETS)).split(_OPEN)
        found, at = list[Finding](), len(before)
        for each in rest:
            inside, _, behind = each.partition(_CLOSE)
            found += [Finding(at, at + len(inside), PATTERN)] if inside else []
            at += len(inside) + len(behind)
        return found

    def mask(self, text: str) -> str:
        return masked(text, self.find(text))

    def _bracketed(self, text: str) -> str:
        """The text with each finding between two characters that no text has."""
        import pyarrow
        import pyarrow.compute

        replace: Any = pyarrow.compute.replace_substring_regex  # pyright: ignore[reportAttributeAccessIssue]
        try:
            found = replace(pyarrow.array([text]), self._pattern, rf"{_OPEN}\0{_CLOSE}")
        except pyarrow.ArrowInvalid as error:
            raise InvalidInput(f"not a regular expression of RE2: {str(error)[:200]}") from None
        return cast("str", found[0].as_py())


class Values:
    """Masks given values however they are written: case, and what stands between digits and words, do not matter."""

    def __init__(self, values: Iterable[str]) -> None:
        spellings = sorted({value for each in values if (value := each.strip())}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_any_spelling, spellings))) if spellings else None

    def mask(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(f"[{PATTERN}]", text)

    def values(self, text: str) -> list[str]:
        return [] if self._pattern is None else [match[0] for match in self._pattern.finditer(text)]


def rewritten(record: Kept, mask: Callable[[str], str]) -> Kept:
    """A draft or a record with `mask` applied to all that it says. The same one if nothing changes."""
    changed: dict[str, Any] = {
        "text": mask(record.text).strip() or "[removed]",
        "payload": _deep(record.payload, mask),
        "fact": _fact(record.fact, mask) if record.fact else None,
    }
    same = all(getattr(record, name) == value for name, value in changed.items())
    return record if same else record.model_copy(update=changed)


def masked(text: str, findings: Sequence[Finding]) -> str:
    """The text with `[KIND]` in place of each finding. They are in order and do not overlap."""
    if not findings:
        return text
    parts, at = list[str](), 0
    for finding in findings:
        parts += (text[at : finding.start], f"[{finding.kind}]")
        at = finding.end
    return "".join((*parts, text[at:]))


def _deep(value: Any, mask: Callable[[str], str]) -> Any:
    """Keys too: somebody's address may be one."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(key): _deep(each, mask) for key, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_deep(each, mask) for each in cast("Sequence[Any]", value)]
    return value


def _fact(fact: Fact, mask: Callable[[str], str]) -> Fact:
    value = mask(fact.value) if isinstance(fact.value, str) else fact.value
    return Fact(entity=mask(fact.entity), attribute=mask(fact.attribute), value=value)


def _joined(found: Sequence[Finding]) -> Iterator[Finding]:
    last: Finding | None = None
    for finding in found:
        if last is not None and finding.start < last.end:
            last = last._replace(end=max(last.end, finding.end))
            continue
        if last is not None:
            yield last
        last = finding
    if last is not None:
        yield last


def _secrets(text: str) -> Iterator[Finding]:
    if not _any_secret().may_find(text):
        return
    for match in _PRIVATE_KEY.finditer(text):
        yield Finding(match.start(), match.end(), SECRET)
    for pattern in _secret_patterns():
        for match in pattern.finditer(text):
            yield _whole_token(text, match)
    for pattern in (_ASSIGNED, _BEARER):
        for match in pattern.finditer(text):
            if _looks_secret(value := match["secret"]):
                start = match.start("secret")
                yield Finding(start, start + len(value.rstrip(".!?)")), SECRET)


def _whole_token(text: str, match: re.Match[str]) -> Finding:
    """A pattern of detect-secrets may end within a token, or have the secret alone as its group."""
    group = next((number for number in range(1, (match.re.groups or 0) + 1) if match[number]), 0)
    inside = group and len(match[group]) >= max(5, 0.3 * len(match[0]))
    start, end = match.span(group if inside else 0)
    rest = _TOKEN_CHARACTERS.match(text, end)
    return Finding(start, end if inside or rest is None else len(text[: rest.end()].rstrip(".")), SECRET)


def _looks_secret(value: str) -> bool:
    """A password has something that a word of prose has not: `the password is strict` gives nothing away."""
    value = value.rstrip(".!?)")
    return len(value) >= 4 and (bool(re.search(r"\d|[^\w\s-]", value)) or _is_of_mixed_case(value))


def _is_of_mixed_case(value: str) -> bool:
    return value != value.lower() and value != value.upper() and not value.istitle()


@cache
def _any_secret() -> Ahead:
    return Ahead([_PRIVATE_KEY, *_secret_patterns(), _ASSIGNED, _BEARER])


@cache
def _secret_patterns() -> tuple[re.Pattern[str], ...]:
    """Of detect-secrets' detectors that know one issuer's format. Those that go by entropy alone take every id."""
    detectors = get_mapping_from_secret_type_to_class().values()
    known = [each for each in detectors if issubclass(each, RegexBasedDetector) and each is not IPPublicDetector]
    return tuple(pattern for each in known for pattern in cast("Any", each).denylist)


def _cards(text: str) -> Iterator[Finding]:
    """Other numbers may stand before and behind a card's, with no more than a space between."""
    for match in _DIGITS.finditer(text):
        places = [match.start() + at for at, character in enumerate(match[0]) if character.isdigit()]
        starts = [n for n, place in enumerate(places) if n == 0 or places[n - 1] != place - 1]
        yield from (Finding(*span, CARD) for n in starts if (span := _card_at(text, places[n:])))


def _card_at(text: str, places: Sequence[int]) -> tuple[int, int] | None:
    """Where the card's number ends that begins at the first of these digits."""
    for length in _CARD_LENGTHS:
        ends = len(places) == length or (len(places) > length and places[length] != places[length - 1] + 1)
        digits = "".join(text[place] for place in places[:length])
        if ends and digits.isascii() and _ISSUERS.match(digits) and luhn.is_valid(digits):
            return places[0], places[length - 1] + 1
    return None


def _emails(text: str) -> Iterator[Finding]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text[max(0, at - _LOCAL_CHARACTERS) : at])
        domain = _DOMAIN.match(text, at + 1)
        if local and domain and _is_address(f"{local[0]}@{domain[0]}"):
            yield Finding(at - len(local[0]), domain.end(), EMAIL)
        at = text.find("@", at + 1)


def _is_address(candidate: str) -> bool:
    """By its syntax alone: nothing is asked over the network. A name of one's own house, such as `mail.local`, would be
    refused as none that can be reached from everywhere, so it is looked at as a part of one that can.
    """
    try:
        validate_email(f"{candidate}.com", check_deliverability=False)
    except EmailNotValidError:
        return False
    return True


def _phones(text: str, region: str | None) -> Iterator[Finding]:
    if len(re.findall(r"\d", text)) < 6:
        return
    for match in phonenumbers.PhoneNumberMatcher(text, region):
        yield Finding(match.start, match.end, PHONE)


def _any_spelling(value: str) -> str:
    """`+49 (30) 90` is found as `493090` too, and `Ann Lee` as `ann-lee`."""
    pieces = re.findall(r"\w+", value)
    if not pieces:
        return re.escape(value)
    digits = "".join(pieces)
    if digits.isdecimal() and len(digits) >= 4:
        inner = r"[\s().+/-]{0,3}".join(digits)
    else:
        inner = r"[\W_]{1,3}".join(map(re.escape, pieces))
    return rf"(?i:(?<!\w){inner}(?!\w))"
