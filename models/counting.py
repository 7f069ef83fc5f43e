"""Counts a prompt's tokens as the engine would, without asking it: its tokenizer and its chat template lie beside the
weights. A question to a replica for each ask would cost more than all else that the pool does about it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from ..contracts.schema import JsonObject


class TokenCounter:
    """Of one model. A template is the model's, so it runs in a sandbox."""

    def __init__(self, tokenizer: Any, template: str, names: JsonObject) -> None:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(template)
        self._tokenizer = tokenizer
        self._names = names

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """None for a model that says in another way how its prompts are made. Blocks."""
        try:
            from tokenizers import Tokenizer

            settings = json.loads((folder / "tokenizer_config.json").read_text())
            template = _template_of(folder, settings)
            names = {name: _text(settings.get(name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
            return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), template, names)
        except Exception:  # missing files and packages, templates with words that we do not know
            return None

    def count(self, messages: Sequence[JsonObject]) -> int:
        """Raises what the template raises: a conversation that it does not take."""
        return len(self._tokenizer.encode(self.text(messages), add_special_tokens=False).ids)

    def text(self, messages: Sequence[JsonObject]) -> str:
        """The prompt that is made of them."""
        return self._template.render(messages=messages, add_generation_prompt=True, tools=None, **self._names)


def _template_of(folder: Path, settings: JsonObject) -> str:
    file = folder / "chat_template.jinja"
    template = file.read_text() if file.is_file() else settings["chat_template"]
    if not isinstance(template, str):
        raise TypeError("several templates")
    return template


def _text(token: Any) -> str:
    """A special token is written as text, or as an object with its content."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
