"""Prompts: files with a name, a version, the inputs they need, tests, and a digest.

    ---
    name: extract
    version: "1"
    inputs:
      task: what to take out
    tests:
      - inputs: {task: the total}
        contains: [the total]
    ---
    # system
    You take data out of sources.
    # user
    {{task}}

The file is split into turns before it is filled, and each input is put in once, as it is: nothing in an input can add a
turn or ask for another input. `defaults:` says what stands for inputs that are left out; a version that says nothing of
it takes those of the version before.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from ..contracts import Digest, InvalidConfiguration, InvalidInput, NotFound, digest
from ..contracts.pool import Message, PromptView

FOLDER = Path(__file__).parent / "prompts"
MAX_INPUT_CHARS = 1_000_000

_PARTS = re.compile(r"\A---\n(.*?\n)---\n(.*)\Z", re.DOTALL)
_TURN = re.compile(r"^# (system|user|assistant)\n", re.MULTILINE)
_PLACE = re.compile(r"\{\{(\w+)\}\}")

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of one prompt."""

    name: str
    version: str
    inputs: Mapping[str, str]
    """Name to what it is."""
    turns: tuple[tuple[Role, str], ...]
    tests: tuple[Mapping[str, Any], ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    """What stands for inputs that are left out."""

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> Digest:
        """Of the words: another version with the same words has the same one."""
        defaults = {"defaults": dict(self.defaults)} if self.defaults else {}
        return digest({"inputs": sorted(self.inputs), "turns": [list(turn) for turn in self.turns], **defaults})

    def render(self, inputs: Mapping[str, str]) -> tuple[Message, ...]:
        """The messages. Raises InvalidInput for an input that is missing, unknown, no text or too long."""
        inputs = {**self.defaults, **inputs}
        self._check(inputs)
        return tuple(Message(role=role, content=_filled(text, inputs)) for role, text in self.turns)

    def after(self, earlier: "Prompt") -> "Prompt":
        """With the earlier version's defaults where this one has none."""
        own = {name: text for name, text in earlier.defaults.items() if name in self.inputs} | dict(self.defaults)
        return replace(self, defaults=own)

    def failures(self) -> list[str]:
        """What the prompt's own tests find wrong with it."""
        return [failure for number, test in enumerate(self.tests, 1) for failure in self._fails(number, test)]

    def _check(self, inputs: Mapping[str, str]) -> None:
        missing, unknown = sorted(self.inputs.keys() - inputs), sorted(inputs.keys() - self.inputs)
        if missing or unknown:
            raise InvalidInput(
                f"prompt {self.id} takes {', '.join(self.inputs)}. "
                f"Missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
                prompt=self.id,
            )
        for name, text in inputs.items():
            if not isinstance(text, str) or len(text) > MAX_INPUT_CHARS:
                raise InvalidInput(f"{name} of prompt {self.id} is text of at most {MAX_INPUT_CHARS} characters")

    def _fails(self, number: int, test: Mapping[str, Any]) -> Iterable[str]:
        try:
            text = "\n".join(message.content or "" for message in self.render(test.get("inputs", {})))
        except InvalidInput as error:
            yield f"test {number}: {error.detail}"
            return
        for words in test.get("contains", ()):
            if words not in text:
                yield f"test {number}: {words!r} is not in the messages"
        for words in test.get("lacks", ()):
            if words in text:
                yield f"test {number}: {words!r} is in the messages"


def read_prompt(text: str, where: str) -> Prompt:
    """A prompt from its file's text. Raises InvalidConfiguration that says what is wrong with it."""
    parts = _PARTS.match(text)
    if parts is None:
        raise InvalidConfiguration(f"{where}: a prompt begins with `---`, its name, version and inputs, and `---`")
    try:
        head = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        raise InvalidConfiguration(f"{where}: {str(error).splitlines()[0]}") from None
    prompt = _prompt(head, _turns(parts[2], where), where)
    _check_places(prompt, where)
    return prompt


class PromptBook:
    """All prompts, by name and version."""

    def __init__(self, prompts: Iterable[Prompt], shadows: Mapping[str, str] | None = None) -> None:
        """`shadows` names the version of a prompt that only runs beside. Raises InvalidConfiguration for two prompts of
        one name and version, and for a shadow that is not there or leaves its prompt without a current version.
        """
        self._prompts: dict[str, dict[str, Prompt]] = {}
        self._shadows = dict(shadows or {})
        for prompt in prompts:
            if prompt.version in self._prompts.setdefault(prompt.name, {}):
                raise InvalidConfiguration(f"there are two prompts {prompt.id}")
            self._prompts[prompt.name][prompt.version] = prompt
        self._prompts = {name: _handed_on(versions) for name, versions in self._prompts.items()}
        for name, version in self._shadows.items():
            self._check_shadow(name, version)

    @classmethod
    def load(cls, *folders: Path, shadows: Mapping[str, str] | None = None) -> "PromptBook":
        """Those that ship with Hanse and those of further folders, `*.md` each. Blocks. Raises InvalidConfiguration,
        also for a folder or a file that cannot be read, and for a prompt that its own tests find wrong.
        """
        files = [file for folder in (FOLDER, *folders) for file in _files(folder)]
        return cls((_tested(read_prompt(_read(file), str(file)), file) for file in files), shadows)

    def find(self, name: str) -> Prompt:
        """By `name@version`, or the current version by `name`. Raises NotFound, naming what there is."""
        name, _, version = name.partition("@")
        versions = self._prompts.get(name, {})
        version = version or self._current(name)
        if version not in versions:
            known = ", ".join(sorted(prompt.id for each in self._prompts.values() for prompt in each.values()))
            raise NotFound(f"there is no prompt {name}{f'@{version}' if version else ''}. There is {known}")
        return versions[version]

    def shadow_of(self, prompt: Prompt) -> Prompt | None:
        """The version that runs beside this one, if any does."""
        version = self._shadows.get(prompt.name)
        return None if version in (None, prompt.version) else self._prompts[prompt.name][cast("str", version)]

    def views(self) -> list[PromptView]:
        return [
            PromptView(
                name=prompt.name,
                version=prompt.version,
                digest=prompt.digest,
                inputs=dict(prompt.inputs),
                current=prompt.version == self._current(prompt.name),
                shadow=self._shadows.get(prompt.name) == prompt.version,
            )
            for versions in self._prompts.values()
            for prompt in versions.values()
        ]

    def __iter__(self):
        return (prompt for versions in self._prompts.values() for prompt in versions.values())

    def _check_shadow(self, name: str, version: str) -> None:
        versions = sorted(self._prompts.get(name, {}), key=_order)
        if version not in versions:
            there = f"It has {', '.join(versions)}" if versions else f"There is {', '.join(sorted(self._prompts))}"
            raise InvalidConfiguration(f"prompt {name!r} has no version {version!r} to run beside another. {there}")
        if versions == [version]:
            raise InvalidConfiguration(f"prompt {name!r} has no version but {version!r}, which so runs beside nothing")

    def _current(self, name: str) -> str:
        """The highest that is no shadow: 10 is above 9."""
        versions = [each for each in self._prompts.get(name, {}) if each != self._shadows.get(name)]
        return max(versions, key=_order, default="")


def _handed_on(versions: Mapping[str, Prompt]) -> dict[str, Prompt]:
    """In their order, each with what it takes from the one before."""
    found: list[Prompt] = []
    for version in sorted(versions, key=_order):
        found.append(versions[version].after(found[-1]) if found else versions[version])
    return {prompt.version: prompt for prompt in found}


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidConfiguration(f"there is no folder {folder}")
    return sorted(folder.glob("*.md"))


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidConfiguration(f"{file} cannot be read: {reason}") from None


def _tested(prompt: Prompt, file: Path) -> Prompt:
    if failures := prompt.failures():
        raise InvalidConfiguration(f"{file}: {failures[0]}")
    return prompt


def _filled(text: str, inputs: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda place: inputs[place[1]], text)


def _turns(body: str, where: str) -> tuple[tuple[Role, str], ...]:
    before, *rest = _TURN.split(body)
    if before.strip() or not rest:
        raise InvalidConfiguration(f"{where}: every text belongs to a turn: `# system`, `# user` or `# assistant`")
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return tuple((cast("Role", role), text.strip()) for role, text in pairs)


def _prompt(head: Any, turns: tuple[tuple[Role, str], ...], where: str) -> Prompt:
    if not isinstance(head, dict) or not {"name", "version", "inputs"} <= cast("dict[str, Any]", head).keys():
        raise InvalidConfiguration(f"{where}: a prompt says its name, version and inputs")
    if unknown := head.keys() - {"name", "version", "inputs", "defaults", "tests"}:
        raise InvalidConfiguration(f"{where}: a prompt has no {sorted(unknown)[0]!r}")
    inputs, defaults, tests = head["inputs"] or {}, head.get("defaults") or {}, head.get("tests") or []
    if not isinstance(inputs, dict) or not isinstance(tests, list) or not isinstance(defaults, dict):
        raise InvalidConfiguration(f"{where}: inputs and defaults are names with what they are, tests a list")
    if wrong := [name for name, text in defaults.items() if name not in inputs or not isinstance(text, str)]:
        raise InvalidConfiguration(f"{where}: a default is a text for an input, and {wrong[0]!r} is none")
    return Prompt(str(head["name"]), str(head["version"]), inputs, turns, tuple(tests), defaults)


def _check_places(prompt: Prompt, where: str) -> None:
    places = {name for _, text in prompt.turns for name in _PLACE.findall(text)}
    if wrong := places ^ prompt.inputs.keys():
        raise InvalidConfiguration(f"{where}: {sorted(wrong)[0]!r} is an input and has a place in the text, or neither")


def _order(version: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in version.split(".")]
