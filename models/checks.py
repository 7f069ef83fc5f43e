"""Checks: what is wrong with a proposal, given the whole ask. Exact, with the place and what to write there.

`STRUCTURE` looks at every answer, because without it there is none: its size, its tool calls, its schema. The others
are validators like those of `validators`, and policy says when they look.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import orjson

from ..contracts.pool import Postcondition, ToolCall
from .proposal import Finding, Proposal
from .schemas import problems

Check = Callable[[Proposal], list[Finding]]

ECHO_WORDS = 12
"""So many words in a row of the instructions are no coincidence."""


def schema(proposal: Proposal) -> list[Finding]:
    """The answer fits the ask's JSON Schema, choices (`enum`) included."""
    if proposal.ask.answer is None or proposal.raw.tool_calls:
        return []
    if proposal.unreadable:
        cut = " It was cut off: answer in fewer words." if proposal.raw.finish_reason == "length" else ""
        return [Finding(proposal.unreadable + cut)]
    return [Finding(detail, at or "/") for at, detail in problems(proposal.data, proposal.ask.answer)]


def tools(proposal: Proposal) -> list[Finding]:
    """Calls name tools of the ask, with arguments that fit, as often as `tool_choice` says."""
    calls = proposal.raw.tool_calls
    return [*_chosen(proposal, calls), *(finding for call in calls for finding in _call(proposal, call))]


STRUCTURE: dict[str, Check] = {"tools": tools, "schema": schema}


def endless(proposal: Proposal, max_chars: int) -> list[Finding]:
    """An answer of more characters than may be."""
    if proposal.chars <= max_chars:
        return []
    return [Finding(f"the answer has {proposal.chars} characters, and at most {max_chars} are taken. Write less")]


def echo(proposal: Proposal) -> list[Finding]:
    """The answer gives away the instructions: a long run of words of a system message."""
    said = _words(proposal.text)
    if len(said) < ECHO_WORDS:
        return []
    runs = {tuple(said[at : at + ECHO_WORDS]) for at in range(len(said) - ECHO_WORDS + 1)}
    secret = [_words(each.content or "") for each in proposal.ask.messages if each.role == "system"]
    known = (tuple(words[at : at + ECHO_WORDS]) for words in secret for at in range(len(words) - ECHO_WORDS + 1))
    found = next((run for run in known if run in runs), None)
    return [Finding(f"the answer repeats its instructions: {' '.join(found)[:80]!r}…")] if found else []


def postconditions(proposal: Proposal) -> list[Finding]:
    """What the ask says must hold of the data."""
    if proposal.unreadable:
        return []
    rules = proposal.ask.postconditions
    return [finding for rule in rules if (finding := _postcondition(rule, proposal)) is not None]


ADVICE: dict[str, Check] = {"echo": echo, "postconditions": postconditions}


def _chosen(proposal: Proposal, calls: Sequence[ToolCall]) -> list[Finding]:
    choice = proposal.ask.tool_choice
    if choice == "none" and calls:
        return [Finding("no tool may be called here. Answer in words")]
    if choice == "required" and not calls:
        return [Finding(f"a tool has to be called: {_names(proposal)}")]
    if isinstance(choice, dict):
        wanted = choice.get("function", {}).get("name", choice.get("name"))
        if [call.name for call in calls] != [wanted]:
            return [Finding(f"the tool to call is {wanted!r}, once")]
    return []


def _call(proposal: Proposal, call: ToolCall) -> list[Finding]:
    known = {tool.name: tool for tool in proposal.ask.tools}
    if call.name not in known:
        return [Finding(f"there is no tool {call.name[:60]!r}. There is {_names(proposal)}")]
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError as error:
        return [Finding(f"the arguments of {call.name} are no JSON: {error.msg}")]
    wanted = known[call.name].parameters or {"type": "object"}
    return [Finding(f"arguments of {call.name}: {detail}", at or "/") for at, detail in problems(arguments, wanted)]


def _names(proposal: Proposal) -> str:
    return ", ".join(tool.name for tool in proposal.ask.tools) or "none"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


_NOWHERE = object()


def _postcondition(rule: Postcondition, proposal: Proposal) -> Finding | None:
    found = _at(proposal.data, rule.at)
    if found is _NOWHERE:
        return Finding("is not there", rule.at or "/")
    detail = _RULES[rule.rule](found, rule, proposal)
    return Finding(detail, rule.at or "/") if detail else None


def _equals(found: Any, rule: Postcondition, proposal: Proposal) -> str:
    wanted = _wanted(rule.value, proposal.data)
    return "" if found == wanted else f"is {found!r:.60}, and has to be {wanted!r:.60}"


def _at_least(found: Any, rule: Postcondition, proposal: Proposal) -> str:
    return _compared(found, _wanted(rule.value, proposal.data), "at least", lambda one, other: one >= other)


def _at_most(found: Any, rule: Postcondition, proposal: Proposal) -> str:
    return _compared(found, _wanted(rule.value, proposal.data), "at most", lambda one, other: one <= other)


def _compared(found: Any, wanted: Any, words: str, holds: Callable[[Any, Any], bool]) -> str:
    try:
        return "" if holds(found, wanted) else f"is {found!r:.60}, and has to be {words} {wanted!r:.60}"
    except TypeError:
        return f"is {found!r:.60}, which cannot be compared with {wanted!r:.60}"


def _sum_of(found: Any, rule: Postcondition, proposal: Proposal) -> str:
    """To a thousandth, because amounts in JSON are binary fractions."""
    parts = [part for at in rule.value or () for part in _all_at(proposal.data, str(at))]
    if not all(_is_number(part) for part in (found, *parts)):
        return "cannot be added up: not everything is a number"
    total = sum(parts)
    return "" if abs(found - total) < 0.001 else f"is {found}, and its parts add up to {total:g}"


def _in_sources(found: Any, rule: Postcondition, proposal: Proposal) -> str:
    text = " ".join(str(found).split()).casefold()
    stands = any(text in " ".join(source.split()).casefold() for source in proposal.ask.sources)
    return "" if stands else f"{found!r:.60} does not stand in the sources. Copy it word for word"


def _unique(found: Any, rule: Postcondition, proposal: Proposal) -> str:
    members = [orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in found] if isinstance(found, list) else []
    return "" if len(set(members)) == len(members) else "names something twice"


_RULES: dict[str, Callable[[Any, Postcondition, Proposal], str]] = {
    "equals": _equals,
    "at_least": _at_least,
    "at_most": _at_most,
    "sum_of": _sum_of,
    "in_sources": _in_sources,
    "unique": _unique,
}


def _wanted(value: Any, data: Any) -> Any:
    if isinstance(value, dict) and set(cast("dict[str, Any]", value)) == {"$at"}:
        return _at(data, str(value["$at"]))
    return value


def _at(data: Any, at: str) -> Any:
    found = _all_at(data, at)
    return found[0] if found else _NOWHERE


def _all_at(data: Any, at: str) -> list[Any]:
    """What a JSON pointer names. A `*` in it names all members: `/lines/*/cents`."""
    found = [data]
    for part in at.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = [inner for each in found for inner in _inner(each, name)]
    return found


def _inner(value: Any, name: str) -> list[Any]:
    if isinstance(value, dict):
        return [value[name]] if name in value else []
    if isinstance(value, list):
        members = cast("list[Any]", value)
        if name == "*":
            return members
        return [members[int(name)]] if name.isdecimal() and int(name) < len(members) else []
    return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
