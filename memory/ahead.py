"""Many regular expressions asked at once, ahead of each: may any of them be found in a text?

Python's engine tries every alternative at every character: fifty patterns take a tenth of a millisecond of a text in
which nothing is to be found, which is nearly every text. RE2 looks at each character once, however many patterns there
are. It knows no look-around and counts to a thousand only, so patterns go to it with less to hold them back: it may say
yes where there is nothing, and whoever asks looks with the patterns themselves then, but it never says no where one of
them is found.

Its letters, digits and spaces are those of ASCII. So a text with others is not asked about, but for signs such as `’`,
which stand in no pattern and are no letters, digits or spaces to either.
"""

import re
from collections.abc import Iterable

import re2

_LOOK_AROUND = re.compile(r"\(\?<?[=!][^()]*\)")
_MANY_TIMES = re.compile(r"\{(\d+),\d{4,}\}")
_NAMED = re.compile(r"\(\?P<\w+>")
_UNLIKE = re.compile(r"[^\t\n\f\r -~\x01]")
"""Characters that the two engines may take for different things."""
_SIGNS = str.maketrans(dict.fromkeys("‘’‚“”„‹›«»–—…•·€£¥°™®", "\x01"))
"""To both they are what a control character is: one of those that are left."""


class Ahead:
    """Knows of some patterns whether any of them may be found."""

    def __init__(self, patterns: Iterable[re.Pattern[str]]) -> None:
        self._slow, loose = list[re.Pattern[str]](), list[str]()
        for pattern in patterns:
            if (found := _loosened(pattern)) is None:
                self._slow.append(pattern)  # it cannot be asked ahead
            else:
                loose.append(found)
        self._any = re2.compile("|".join(loose), _options()) if loose else None

    def may_find(self, text: str) -> bool:
        """Never False where one of them is found."""
        signs = text if text.isascii() else text.translate(_SIGNS)
        if self._any is not None and (_UNLIKE.search(signs) or self._any.search(signs.encode())):
            return True
        return any(pattern.search(text) for pattern in self._slow)


def _loosened(pattern: re.Pattern[str]) -> str | None:
    """For RE2, found wherever the pattern is. None where there is no such thing."""
    known = re.IGNORECASE | re.MULTILINE | re.DOTALL | re.UNICODE
    if not re.search(r"\s|#", pattern.pattern):
        known |= re.VERBOSE  # there is nothing that it would leave out
    if pattern.flags & ~known or not pattern.pattern.translate(_SIGNS).isprintable():
        return None
    loose = _LOOK_AROUND.sub("", pattern.pattern).replace("(?i)", "").replace(r"\Z", "")
    loose = _NAMED.sub("(?:", _MANY_TIMES.sub(r"{\1,}", loose))
    flags = "ims" if pattern.flags & re.IGNORECASE else "ms"
    loose = f"(?{flags}:{loose})"  # `^`, `$` and `.` at and over every line: more than any pattern means
    try:
        re2.compile(loose, _options())
    except re2.error:
        return None
    return loose


def _options() -> re2.Options:
    options = re2.Options()
    options.never_capture = True
    options.log_errors = False
    return options
