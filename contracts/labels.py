"""Labels: what is known of data, such as `private` or `untrusted`, and where that comes from.

A label travels with whatever is made of the data: from a recalled record to the step that recalled it, to every step
whose input, condition or list is made of that one's output, to child tasks and back, to what is remembered, to what
an agent keeps in its state and from there to whoever reads it. `after` only orders, so nothing travels by it. Nothing
takes a label away: that a person lets labelled material go outward holds for one step with one input. Only the code of
an agent may vouch for what it keeps (`context.state.put(..., labels=())`).

Each label keeps where it comes from, for the person who is asked: `record 0192…, step s1`, the nearest place last.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

PRIVATE = "private"
"""Not for everybody's eyes."""
UNTRUSTED = "untrusted"
"""Says what it says by nobody's authority: it may not decide that something happens."""
OUTWARD = "outward"
"""Of a contract, and never of data: what goes into this capability leaves the house, whatever its effect says."""

ANY_BUT, NOT = "*", "-"
"""Of what a token clears, where its data has no label yet: `["*", "-untrusted"]` is whatever its handler may take up,
but for that."""

Marks = Mapping[str, tuple[str, ...]]
"""Label to where it comes from."""
NO_MARKS: Marks = MappingProxyType({})

IN_BEGINNING = IN_ERROR = "data_labels"
"""Where an error, among its ids, carries the labels of what was taken up before it, and the beginning of a task those
of all that it was begun with. (`labels` are a task's own names and values there.)"""

MAX_SOURCES = 8
"""Places that one label keeps: enough for a person to see what it is about, and bounded however much is recalled."""
_MAX_TEXT = 300


def joined(*marks: Marks) -> Marks:
    """All labels of all of these. Where each comes from stands in the order in which it was met."""
    given = [each for each in marks if each]
    if len(given) < 2:
        return given[0] if given else NO_MARKS
    found: dict[str, dict[str, None]] = {}
    for each in given:
        for label, sources in each.items():
            found.setdefault(label, {}).update(dict.fromkeys(sources))
    return {label: tuple(sources)[:MAX_SOURCES] for label, sources in found.items()}


def placed(marks: Marks, where: str) -> Marks:
    """The same, come from further away."""
    return {label: tuple(f"{each}, {where}"[:_MAX_TEXT] for each in sources) for label, sources in marks.items()}


def marked(labels: Iterable[str], source: str) -> Marks:
    """All of these from one place."""
    return dict.fromkeys(labels, (source,))


def of_task(labels: Iterable[str]) -> Marks:
    """What a task's own labels say of the data that it was begun with: those with a meaning, whatever their value."""
    return marked([each for each in (PRIVATE, UNTRUSTED) if each in frozenset(labels)], "label of the task")


def concerning(labels: Iterable[str]) -> frozenset[str]:
    """Those without which nobody would have to ask before the data goes outward: `untrusted`, alone or with `private`.
    What is private and nothing else goes where the plan says.
    """
    known = frozenset(labels)
    return known & {UNTRUSTED, PRIVATE} if UNTRUSTED in known else frozenset()


def to_data(marks: Marks) -> dict[str, list[str]]:
    """In the order of the labels, so that equal marks have equal bytes."""
    return {label: list(marks[label]) for label in sorted(marks)}


def noted(marks: Marks, name: str = "labels") -> dict[str, dict[str, list[str]]]:
    """As an event or an answer has them under a name. Nothing where there are none: most have none, and say nothing."""
    return {name: to_data(marks)} if marks else {}


def marks_of(data: Any) -> Marks:
    """What somebody says that it has taken up. They may say anything; what is no label is left out."""
    if not isinstance(data, dict):
        return NO_MARKS
    given = cast("dict[Any, Any]", data).items()
    return {label: _sources(each) for label, each in given if isinstance(label, str) and label} or NO_MARKS


def _sources(data: Any) -> tuple[str, ...]:
    listed = cast("Iterable[Any]", data) if isinstance(data, list | tuple) else ()
    return tuple(dict.fromkeys(each[:_MAX_TEXT] for each in listed if isinstance(each, str)))[:MAX_SOURCES]
