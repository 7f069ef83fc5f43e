"""The README is a chain of small programs, and this runs them: what it shows is what happens.

A Python block is a file: its first line says its name (`# ledger.py`). All of them stand in one folder, and each is run
as a program there, so a later one may import an earlier one. A `text` block after a program, before the next heading,
is exactly what it prints. `<!-- ray -->` above a block says that it starts a cluster.
"""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hanse.contracts import Plan

from .support.tree import ROOT

README = ROOT / "README.md"
PICTURE = "┌"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int
    needs: str
    """What the comment above it says: `ray`, or nothing."""
    prints: str | None
    """The `text` block that follows a program."""

    @property
    def file(self) -> str:
        named = re.match(r"# (\w+\.py)\n", self.text)
        assert named, f"README.md:{self.line}: the first line of a Python block is its file's name, as `# ledger.py`"
        return named[1]


def _blocks(tokens: list[Token]) -> list[Block]:
    fences = [(place, token) for place, token in enumerate(tokens) if token.type == "fence"]
    return [
        Block(
            token.info,
            token.content,
            token.map[0] + 1 if token.map else 0,
            _needs(tokens, place),
            _prints(tokens, place),
        )
        for place, token in fences
    ]


def _needs(tokens: list[Token], place: int) -> str:
    above = tokens[place - 1]
    return above.content.strip("<!-> \n") if above.type == "html_block" else ""


def _prints(tokens: list[Token], place: int) -> str | None:
    for token in tokens[place + 1 :]:
        if token.type == "heading_open" or token.type == "fence":
            return token.content if token.info == "text" else None
    return None


@cache
def _read() -> list[Block]:
    return _blocks(MarkdownIt().parse(README.read_text()))


def _in(language: str):
    """One test for each block of a language, marked with what the block needs."""
    return pytest.mark.parametrize(
        "block",
        [
            pytest.param(block, id=f"line {block.line}", marks=getattr(pytest.mark, block.needs) if block.needs else ())
            for block in _read()
            if block.language == language
        ],
    )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every Python file of the README."""
    place = tmp_path_factory.mktemp("readme")
    for block in _read():
        if block.language == "python":
            (place / block.file).write_text(block.text)
    return place


@_in("python")
def test_a_program_runs_and_prints_what_the_readme_says(block: Block, desk: Path):
    done = subprocess.run(
        [sys.executable, block.file], cwd=desk, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
    )
    if done.returncode:
        pytest.fail(f"README.md:{block.line} ({block.file}) fails:\n{done.stdout}\n{done.stderr}", pytrace=False)
    assert block.prints is None or done.stdout == block.prints


@_in("bash")
def test_a_command_is_one_that_exists(block: Block):
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
    commands: list[list[str]] = []
    for line in block.text.splitlines():
        match shlex.split(line, comments=True):
            case ["make", target, *_]:
                assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
            case ["hanse", *words]:
                commands.append([word for word in words if re.fullmatch(r"[a-z-]+", word)][:2])
    assert _unknown(commands) == []


ASK_FOR_HELP = """
import contextlib, io, json, sys
from hanse.runtime.cli import main

def helps(words):
    sys.argv = ["hanse", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            main()
        except SystemExit as ended:
            return not ended.code

commands = json.load(sys.stdin)
print(json.dumps([each for each in commands if not any(helps(each[:length]) for length in range(len(each), 0, -1))]))
"""


def _unknown(commands: list[list[str]]) -> list[list[str]]:
    """`hanse tasks list --json` exists when `hanse tasks list --help` does. All are asked in one process."""
    asked = [sys.executable, "-c", ASK_FOR_HELP]
    done = subprocess.run(asked, input=json.dumps(commands), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_command_that_does_not_exist_is_found():
    assert _unknown([["tasks", "list"], ["no-such"], ["tasks", "no-such"], []]) == [["no-such"], []]


@_in("json")
def test_json_is_json_and_a_plan_is_a_plan(block: Block):
    value = json.loads(block.text)
    if "steps" in value:
        Plan.parse(value)


@_in("yaml")
def test_yaml_is_a_configuration(block: Block, tmp_path: Path):
    from hanse.runtime.config import load  # here: the other blocks do not need the loader to be sound

    (tmp_path / "hanse.yaml").write_text(block.text)
    environment = {"HANSE_TOKEN": "secret", "HANSE_STORE": "postgresql://db/hanse"}
    found = load(tmp_path / "hanse.yaml", environment=environment)
    assert found.agents or found.store


def test_every_block_is_of_a_kind_that_is_tested():
    known = {"python", "bash", "json", "yaml", "text"}
    assert [f"line {block.line}: {block.language}" for block in _read() if block.language not in known] == []


def test_the_agent_on_the_first_screen_stays_small():
    agent = next(block for block in _read() if block.language == "python")
    code = [line for line in agent.text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(code) <= 27, "the README promises an agent in some 25 lines"


def test_the_first_screen_shows_the_flow_and_the_two_commands():
    first = "\n".join(README.read_text().splitlines()[:40])
    assert not [wanted for wanted in (PICTURE, "make run", "make test") if wanted not in first]


def test_links_into_the_repository_lead_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert not [link for link in links if not (ROOT / link).exists()]


WORDS = {
    *("agent", "capability", "contract", "effect", "coordinator", "task", "plan", "step", "call for proposals", "bid"),
    *("award", "token", "journal", "receipt", "approval", "budget", "tier", "memory", "tenant"),
}


def test_every_word_of_the_vocabulary_leads_to_a_file_that_speaks_of_it():
    """That the file exists is what the test of links says."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| (\[`[^|]+) \|$", README.read_text(), re.MULTILINE)
    homes = {word: re.findall(r"\(([^)]+)\)", files) for words, files in rows for word in words.split(", ")}
    assert set(homes) == WORDS
    assert not [(word, file) for word, files in homes.items() for file in files if not _speaks_of(word, ROOT / file)]


def _speaks_of(word: str, file: Path) -> bool:
    return word.replace(" ", "") in re.sub(r"[\s_]", "", file.read_text()).lower()
