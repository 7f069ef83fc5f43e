"""Types are tested as types: pyright reads the files in `typing/` and finds just the errors that they announce."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "typing"
FILES = sorted(FOLDER.glob("*.py"))


@cache
def diagnostics() -> dict[Path, set[tuple[int, str]]]:
    """Line and rule of everything that pyright says, by file. Its Node comes with the wheel; nothing is downloaded."""
    command = [sys.executable, "-m", "pyright", "--outputjson", "--project", str(FOLDER)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode in (0, 1), f"pyright did not run:\n{done.stdout}\n{done.stderr}"
    found: dict[Path, set[tuple[int, str]]] = {file: set() for file in FILES}
    for each in json.loads(done.stdout)["generalDiagnostics"]:
        line, rule = each["range"]["start"]["line"] + 1, each.get("rule", each["message"])
        found[Path(each["file"]).resolve()].add((line, rule))
    return found


def announced(file: Path) -> set[tuple[int, str]]:
    lines = enumerate(file.read_text().splitlines(), 1)
    return {(number, match[1]) for number, line in lines if (match := re.search(r"# error: (\w+)$", line))}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_must_be_wrong_is_wrong_and_the_rest_is_right(file: Path):
    assert announced(file), "a file in which nothing must be wrong proves little"
    assert sorted(diagnostics()[file]) == sorted(announced(file))
