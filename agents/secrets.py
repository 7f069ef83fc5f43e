"""Keeping secrets out of texts: of logs, of errors, and so of journals."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr


def secrets_in(value: Any) -> Iterator[str]:
    """Every secret inside options, however deep."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        yield from secrets_in(dict(value))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from secrets_in(each)


def without(secrets: Iterable[str], text: str) -> str:
    """The text with every secret blotted out."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "•••")
    return text
