"""YAML that remembers its lines: plain data, the line of every key and item, and `${NAME}` filled in.

Why not a plain YAML load: an error about a configuration helps when it names the line, and parsers drop it. Why
references are taken out before YAML sees them: `{token: ${HANSE_TOKEN}}` is what people write and `{`, `}` mean
something to YAML; and a value put in before parsing could change the structure of the file.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from ..contracts import InvalidConfiguration

Path = tuple[str | int, ...]

MAX_CHARACTERS = 1024 * 1024
MAX_PARTS = 100_000
"""Keys and items, aliases written out. Bounds what a few lines of nested aliases can become."""

_REFERENCE = re.compile(r"\$\$\{[^}\n]*\}|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}")
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Private-use characters around a reference's number while YAML parses: text to YAML, and in nobody's file."""
_PLACE = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


class FromEnvironment(str):
    """Text that came from environment variables and from no default: what it holds is not in the file."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'${…}'"


@dataclass(frozen=True)
class Document:
    """Plain data and where each part of it stands."""

    name: str
    data: Any
    lines: Mapping[Path, int] = field(repr=False)

    def line_of(self, path: Sequence[str | int]) -> int:
        """The line of the deepest part of `path` that stands in the file; other parts are skipped."""
        return self.lines.get(self.known(path), 1)

    def known(self, path: Sequence[str | int]) -> Path:
        """`path` without the parts that are not in the file (a union's tag, a missing key)."""
        found: Path = ()
        for part in path:
            found = (*found, part) if (*found, part) in self.lines else found
        return found

    def wrong(self, detail: str, *path: str | int) -> InvalidConfiguration:
        return wrong(self.name, self.line_of(path), detail)


def parse(text: str, environment: Mapping[str, str], name: str = "hanse.yaml") -> Document:
    """Raises InvalidConfiguration, with the line, for bad YAML, a double key or a variable that is not set."""
    if len(text) > MAX_CHARACTERS:
        raise wrong(name, 1, f"is longer than {MAX_CHARACTERS} characters")
    marked, references = _take_out(text, name)
    return _Reader(name, references, environment).read(marked)


def wrong(name: str, line: int, detail: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"{name}:{line}: {detail}", file=name, line=line)


def place(path: Sequence[str | int]) -> str:
    """`agents[0].host` for a path."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _take_out(text: str, name: str) -> tuple[str, list[re.Match[str]]]:
    if _OPEN in text or _CLOSE in text:
        raise wrong(name, 1, "has a character from the private-use area, U+E000 or U+E001. Leave it out")
    references = list(_REFERENCE.finditer(text))
    numbers = iter(range(len(references)))
    return _REFERENCE.sub(lambda _: f"{_OPEN}{next(numbers)}{_CLOSE}", text), references


@dataclass
class _Reader:
    name: str
    references: Sequence[re.Match[str]]
    environment: Mapping[str, str]
    lines: dict[Path, int] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)

    def read(self, text: str) -> Document:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            data = None if node is None else self._value(node, (), loader.construct_object)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise wrong(self.name, 1, f"is not YAML: {error}") from None
        finally:
            loader.dispose()
        return Document(self.name, data, self.lines)

    def _syntax(self, error: yaml.MarkedYAMLError) -> InvalidConfiguration:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return wrong(self.name, line, f"is not YAML here: {error.problem or error.context}")

    def _value(self, node: yaml.Node, path: Path, scalar: Callable[[yaml.Node], Any]) -> Any:
        self.lines.setdefault(path, _line(node))
        if len(self.lines) > MAX_PARTS:
            raise wrong(self.name, _line(node), f"has more than {MAX_PARTS} keys and items")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, scalar)
        if id(node) in self._open:
            raise wrong(self.name, _line(node), "an alias stands inside of what it names")
        self._open.add(id(node))
        try:
            inside = self._mapping if isinstance(node, yaml.MappingNode) else self._list
            return inside(node, path, scalar)
        finally:
            self._open.remove(id(node))

    def _list(self, node: yaml.Node, path: Path, scalar: Callable[[yaml.Node], Any]) -> list[Any]:
        return [self._value(item, (*path, i), scalar) for i, item in enumerate(node.value)]

    def _mapping(self, node: yaml.Node, path: Path, scalar: Callable[[yaml.Node], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in self._pairs(node):
            if key.value in found:
                first = self.lines[(*path, key.value)]
                raise wrong(self.name, _line(key), f"{key.value!r} is given twice, first in line {first}. Keep one")
            self.lines[(*path, key.value)] = _line(key)
            found[key.value] = self._value(value, (*path, key.value), scalar)
        return found

    def _pairs(self, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise wrong(self.name, _line(key), "a key is a word")
            if key.value == "<<":
                raise wrong(self.name, _line(key), "merging with << is not done here. Write the keys out")
            if _PLACE.search(key.value):
                raise wrong(self.name, _line(key), "a key cannot come from the environment. Write it out")
            yield key, value

    def _scalar(self, node: yaml.ScalarNode, scalar: Callable[[yaml.Node], Any]) -> Any:
        if "${" in node.value:
            raise wrong(self.name, _line(node), "has a ${ that names no variable. Write ${NAME} or ${NAME:-default}")
        numbers = _PLACE.findall(node.value)
        if not numbers:
            return scalar(node)
        used = {number: self._filled(self.references[int(number)], _line(node)) for number in numbers}
        text = _PLACE.sub(lambda match: used[match[1]], node.value)
        return FromEnvironment(text) if all(isinstance(part, FromEnvironment) for part in used.values()) else text

    def _filled(self, reference: re.Match[str], line: int) -> str:
        name, default = reference[1], reference[2]
        if name is None:
            return reference[0][1:]
        if value := self.environment.get(name):
            return FromEnvironment(value)
        if default is None:
            raise wrong(
                self.name,
                line,
                f"the environment variable {name} is not set, or empty. Set it, or write ${{{name}:-default}}",
            )
        return default


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
