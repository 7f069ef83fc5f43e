"""What a person is shown to judge a step in seconds: rows of a label and a value, the gravest first.

Made of the contract, the rule and the very arguments, by rules and nothing else: no word here was written by a model.
What a model or a stranger wrote can only be a value in a row that says what it is.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson

from ..contracts import Contract, Effect, JsonObject, StepStatus
from .approvals import Ruling
from .checker import resolve_schema
from .execution import Run, StepRun

MAX_ARGUMENTS, MAX_BEFORE, MAX_TEXT = 12, 8, 160


def material(run: Run, step: StepRun, contract: Contract, ruling: Ruling) -> list[JsonObject]:
    """The rows for one question."""
    return [{"label": label, "value": value} for label, value in _rows(run, step, contract, ruling)]


def _rows(run: Run, step: StepRun, contract: Contract, ruling: Ruling) -> Iterator[tuple[str, str]]:
    yield "does", f"{contract.full_name}: {_line(contract.description)}"
    yield "changes", _effect(contract)
    if ruling.amount is not None:
        yield "amount", f"{ruling.amount:g}"
    yield "rule", ruling.words
    for label, sources in sorted(run.material(step).items()):
        yield f"label {label}", _cut("; ".join(sources))
    yield from _arguments(contract, step.input)
    for place in run.path:
        yield "part of", f"{place['call']}, step {place['step']} of task {place['task']}"
    yield "asked by", run.by or "nobody who gave a name"
    if run.labels:
        yield "task labels", _cut(", ".join(f"{name}={value}" for name, value in run.labels.items()))
    if run.input is not None and run.input != step.input:
        yield "task input", _text(run.input)
    yield "done before", _before(run)
    yield "price", f"{contract.price_cents:g} cents"
    yield "if denied", _denied(run, step)


def _effect(contract: Contract) -> str:
    if contract.effect is Effect.REVERSIBLE and contract.compensation is not None:
        return f"something that {contract.compensation.capability} can undo; risk {contract.risk}"
    if contract.effect is Effect.IRREVERSIBLE:
        return f"something that cannot be undone; risk {contract.risk}"
    return f"nothing; risk {contract.risk}"


def _arguments(contract: Contract, input: Any) -> Iterator[tuple[str, str]]:
    """By the schema's own order, each under its title."""
    if not isinstance(input, Mapping):
        yield "input", _text(input)
        return
    given, known = cast("Mapping[str, Any]", input), _properties(contract)
    names = [name for name in known if name in given] + [name for name in given if name not in known]
    for name in names[:MAX_ARGUMENTS]:
        yield f"input {name}", _text(given[name])
    if len(names) > MAX_ARGUMENTS:
        yield "input", f"and {len(names) - MAX_ARGUMENTS} more"


def _properties(contract: Contract) -> Mapping[str, Any]:
    return resolve_schema(contract.input_schema, contract.input_schema).get("properties", {})


def _before(run: Run) -> str:
    done = [step for step in run.steps.values() if step.status is StepStatus.COMPLETED and step.undoes is None]
    calls = [f"{step.id} ({step.call})" for step in done if step.members is None]
    more = f" and {len(calls) - MAX_BEFORE} more" if len(calls) > MAX_BEFORE else ""
    return ", ".join(calls[:MAX_BEFORE]) + more if calls else "nothing"


def _denied(run: Run, step: StepRun) -> str:
    if step.optional:
        return "the plan goes on without this step"
    count = run.undoable
    return "the task ends" + (f", and {count} done before are undone" if count else "; nothing has to be undone")


def _line(text: str) -> str:
    return _cut(text.strip().partition("\n")[0])


def _text(value: Any) -> str:
    return _cut(value if isinstance(value, str) else orjson.dumps(value).decode())


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
