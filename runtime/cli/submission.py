"""What people type and what files hold, turned into a submission: inputs, plans, labels."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...contracts import InvalidInput, JsonObject, Submission
from ...contracts.schema import fitted
from ..checker import resolve_schema

SUBMITTED = frozenset(Submission.model_fields)


def input_of(words: Sequence[str], schema: Mapping[str, Any] | None = None) -> Any:
    """The input that the words of a command line mean: JSON, `@file`, `-` for standard input, or `key=value` each.

    A value is JSON where it reads as such, unless the schema wants text there. Raises InvalidInput.
    """
    if not words:
        return {}
    if len(words) == 1 and (words[0] == "-" or words[0][:1] in "@{["):
        return _document(words[0])
    return {key: _value(key, text, dict(schema or {})) for key, text in map(_pair, words)}


def submission_of(data: Mapping[str, Any]) -> Submission:
    """Raises InvalidInput that says where."""
    return fitted(Submission, dict(data))


def read_plan_file(path: str) -> JsonObject:
    """Fields of a submission from a file, JSON or YAML: a plan as it is, or `plan` with `input`, `budget` and so on."""
    data = _document(path if path == "-" else f"@{path}")
    if not isinstance(data, dict):
        raise InvalidInput(f"{path}: a plan is an object with steps")
    return {"plan": data} if "steps" in data else data


def json_of(text: str | None, name: str) -> Any:
    """The value of an option, or None when it is not given. Raises InvalidInput that names the option."""
    return None if text is None else _json(text, name)


def labels_of(words: Sequence[str]) -> dict[str, str]:
    """`key=value` each. Raises InvalidInput."""
    return dict(map(_pair, words))


def _document(word: str) -> Any:
    """What `@file`, `-` or literal JSON hold."""
    if word[0] in "{[":
        return _json(word, "the input")
    name = "standard input" if word == "-" else word[1:]
    text = _read(word)
    return _yaml(text, name) if name.endswith((".yaml", ".yml")) else _json(text, name)


def _read(word: str) -> str:
    try:
        return sys.stdin.read() if word == "-" else Path(word[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidInput(f"{word[1:]} cannot be read: {reason}") from None


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"{name} is not JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _yaml(text: str, name: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise InvalidInput(f"{name} is not YAML: {' '.join(str(error).split())}") from None


def _pair(word: str) -> tuple[str, str]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise InvalidInput(f"{word!r:.80} is not key=value. Write key=value for each field, JSON, or @file")
    return key, text


def _value(key: str, text: str, schema: JsonObject) -> Any:
    wanted = resolve_schema(schema.get("properties", {}).get(key, {}), schema)
    if _types(wanted, schema) == {"string"}:
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def _types(schema: JsonObject, root: JsonObject) -> set[str]:
    """JSON types but null. `a: str | None` given on a command line is text."""
    options = schema.get("anyOf") or [schema]
    found = {str(resolve_schema(each, root).get("type")) for each in options}
    return found - {"null"}
